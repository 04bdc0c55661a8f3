/*
 * The reconciler: takes the lead by holding the slot, decides how to go on (resume from the
 * checkpoint, or read a snapshot), and then keeps NATS equal to what was committed.
 */
#ifndef REC_RECONCILER_H
#define REC_RECONCILER_H

#include <stdint.h>

#include "common/loop.h"
#include "common/status.h"

struct rec_config {
    const char *database; /* libpq URI or connection string */
    const char *nats;
    const char *bucket; /* reports go to <bucket>_reports */
    const char *slot;
    int64_t replicas, history, window;
};

struct rec_reconciler;

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **reconciler,
                                    struct hw_error *err) HW_CHECKED;
/* Reads a snapshot and compares everything, as soon as it leads. */
void rec_reconciler_resync(struct rec_reconciler *reconciler);
/* Finishes what is under way (at most timeout_ms), running the loop. */
void rec_reconciler_drain(struct rec_reconciler *reconciler, int64_t timeout_ms);
void rec_reconciler_stop(struct rec_reconciler *reconciler); /* NULL is fine */

#endif
