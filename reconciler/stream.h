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

/* Actions. */
void reconciler_open_stream(
    struct rec_reconciler *rec);                    /* ends with RECONCILER_STARTED or _TAKEN */
void reconciler_resume(struct rec_reconciler *rec); /* behind the checkpoint, or a rebuild */
void reconciler_stream(struct rec_reconciler *rec); /* what a replay left for the stream */
void reconciler_stall(struct rec_reconciler *rec);  /* until NATS answers again */

/* For struct rec_apply_events; arg is the reconciler. */
void reconciler_stream_stored(void *arg, hw_lsn lsn);
void reconciler_stream_moved(void *arg, hw_lsn lsn);
void reconciler_stream_pause(void *arg, bool pause);
void reconciler_stream_failed(void *arg, const struct hw_error *err);

/* How long ago, in seconds, what is confirmed was all that had been committed. */
double reconciler_stream_lag(const struct rec_reconciler *rec);

#endif
