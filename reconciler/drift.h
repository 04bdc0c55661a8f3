/*
 * Drift: NATS holds something else than the database says, because somebody else wrote, deleted or
 * damaged it. This file says how the leader notices writes that are not its own, and when it
 * compares all of NATS with the database (compare/comparison.h): whenever it begins to lead, when
 * drift was noticed, when it is asked to, and at an interval. One comparison runs at a time.
 */
#ifndef RECONCILER_DRIFT_H
#define RECONCILER_DRIFT_H

#include "reconciler/state.h"

/* Has a comparison begin within ms, unless one is due earlier. Where one runs, another one follows
 * it. why is logged, and must live on. Does nothing while the stream does not run: every stream
 * begins with a comparison. */
void reconciler_compare_within(struct rec_reconciler *rec, int64_t ms, const char *why);

/* Drift was noticed: compares soon, but not more often than every two seconds. Also for
 * struct rec_objects_events. */
void reconciler_drift_noticed(void *rec);

/* For struct rec_ledger: message seq of the bucket's stream is not ours. */
void reconciler_drift_foreign(void *rec, uint64_t seq);

/* For struct rec_apply_events: everything that a comparison wrote is acknowledged. */
void reconciler_drift_repaired(void *rec);

#endif
