/*
 * Signs of life: agents publish under <bucket>.alive.<node>, which nobody answers and no stream
 * keeps. The names that were heard go into SQL by headwater.hear(), in one statement every 3 s,
 * each with the instances of the agents that gave a sign of life for it, and with them how long
 * this process has listened: a node counts as silent only for the time in which somebody listened.
 */
#ifndef RECONCILER_INTAKE_LIVENESS_H
#define RECONCILER_INTAKE_LIVENESS_H

#include "base/status.h"
#include "common/loop.h"
#include "nats/connection.h"
#include "reconciler/counts/counts.h"

struct rec_liveness;

/* Starts listening, and writing over a connection of its own (see intake.h for why). */
enum hw_status rec_liveness_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                  const char *bucket, struct rec_counts *counts,
                                  struct rec_liveness **liveness, struct hw_error *err) HW_CHECKED;
void rec_liveness_stop(struct rec_liveness *liveness); /* NULL is fine */

#endif
