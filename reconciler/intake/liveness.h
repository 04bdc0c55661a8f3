/*
 * Signs of life: what agents say under <bucket>.alive.<node>, without an answer and not kept by
 * anyone, is gathered and goes into SQL by headwater.hear(), one statement every few seconds. With
 * it goes how long has been listened, for silence counts only while somebody listens.
 */
#ifndef RECONCILER_INTAKE_LIVENESS_H
#define RECONCILER_INTAKE_LIVENESS_H

#include "common/loop.h"
#include "common/status.h"
#include "nats/connection.h"
#include "reconciler/counts/counts.h"

struct rec_liveness;

/* Starts listening, and writing over a connection of its own. */
enum hw_status rec_liveness_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                  const char *bucket, struct rec_counts *counts,
                                  struct rec_liveness **liveness, struct hw_error *err) HW_CHECKED;
void rec_liveness_stop(struct rec_liveness *liveness); /* NULL is fine */

#endif
