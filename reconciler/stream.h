/*
 * The slot's stream: opening it, which takes the lead; taking committed transactions from it into
 * apply; confirming to PostgreSQL what apply has stored; and holding it while NATS is away.
 *
 * Whoever holds the slot leads. PostgreSQL lets one connection read a slot, and drops the hold when
 * that connection ends, so the slot is a lock that needs no clock and no other server. A reconciler
 * that finds the slot taken stands by and asks again.
 *
 * A position is confirmed only when the checkpoint that covers it stands in NATS. After a crash the
 * slot therefore gives at least everything behind the checkpoint once more, and the fences tell
 * which of that was published already: each transaction appears exactly once.
 */
#ifndef RECONCILER_STREAM_H
#define RECONCILER_STREAM_H

#include "reconciler/state.h"

/* The actions of the table in reconciler.c. open_stream takes the slot, and ends with
 * RECONCILER_STARTED or RECONCILER_TAKEN. resume goes on behind the checkpoint, or begins a
 * rebuild. stream goes on with the slot after a replay. stall holds the stream until NATS answers
 * again. */
void reconciler_open_stream(struct rec_reconciler *rec);
void reconciler_resume(struct rec_reconciler *rec);
void reconciler_stream(struct rec_reconciler *rec);
void reconciler_stall(struct rec_reconciler *rec);

/* For struct cdc_handler's silent: looks whether the backend still streams, and begins anew where
 * it does not. */
void reconciler_stream_quiet(void *arg, int pid, int64_t ms);

/* For struct rec_apply_events; arg is the reconciler. */
void reconciler_stream_stored(void *arg, hw_lsn lsn);
void reconciler_stream_moved(void *arg, hw_lsn lsn);
void reconciler_stream_pause(void *arg, bool pause);
void reconciler_stream_failed(void *arg, const struct hw_error *err);

/* The lag in seconds: for how long there have been commits that are not confirmed; 0: there are
 * none. */
double reconciler_stream_lag(const struct rec_reconciler *rec);

#endif
