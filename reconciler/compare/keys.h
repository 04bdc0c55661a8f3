/*
 * The keys in NATS, held against the snapshot. The system may go on changing while verify looks, so
 * a key that is not what the snapshot says may be what a later change made of it: that is looked up
 * before it counts as a difference.
 */
#ifndef RECONCILER_COMPARE_KEYS_H
#define RECONCILER_COMPARE_KEYS_H

#include "reconciler/compare/differences.h"
#include "reconciler/compare/session.h"
#include "reconciler/compare/snapshot.h"

/* Reads every key, and looks up what changed meanwhile. */
enum hw_status rec_keys_compare(struct rec_snapshot *snapshot, struct rec_session *session,
                                struct hw_error *err) HW_CHECKED;
/* Tells what differs then, sorted by node. */
void rec_keys_tell(struct rec_snapshot *snapshot, struct rec_session *session,
                   struct rec_differences *differences);

#endif
