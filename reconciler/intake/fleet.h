/*
 * The fleet: how many nodes are in which state. The view headwater.fleet is read once, and from
 * then on only the nodes that changed, so that the cost does not grow with the fleet.
 */
#ifndef RECONCILER_INTAKE_FLEET_H
#define RECONCILER_INTAKE_FLEET_H

#include <libpq-fe.h>

#include "pg/database.h"
#include "reconciler/counts/counts.h"

struct rec_fleet;
struct rec_fleet *rec_fleet_new(void);
void rec_fleet_free(struct rec_fleet *fleet); /* NULL is fine */

/* Forgets everything: the next query reads the whole view again. */
void rec_fleet_clear(struct rec_fleet *fleet);

/* The statement to ask with, valid until the next call; its result goes to rec_fleet_take. When the
 * statement fails, the next one asks for the same again. */
struct hw_db_query rec_fleet_query(struct rec_fleet *fleet);
void rec_fleet_take(struct rec_fleet *fleet, const PGresult *result, struct rec_counts *counts);

#endif
