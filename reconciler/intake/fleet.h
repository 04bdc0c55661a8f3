/*
 * How many nodes are in which state: the view headwater.fleet read once, and from then on the nodes
 * that changed. What it costs depends on how many they are, not on the fleet.
 */
#ifndef RECONCILER_INTAKE_FLEET_H
#define RECONCILER_INTAKE_FLEET_H

#include <libpq-fe.h>

#include "pg/database.h"
#include "reconciler/counts/counts.h"

struct rec_fleet;
struct rec_fleet *rec_fleet_new(void);
void rec_fleet_free(struct rec_fleet *fleet); /* NULL is fine */

/* Forgets what was read: the next time, all is. */
void rec_fleet_clear(struct rec_fleet *fleet);

/* The statement that asks, for one after another; valid until the next call. What it answers is for
 * rec_fleet_take; where it fails, the next one asks again. */
struct hw_db_query rec_fleet_query(struct rec_fleet *fleet);
void rec_fleet_take(struct rec_fleet *fleet, const PGresult *result, struct rec_counts *counts);

#endif
