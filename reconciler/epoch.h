/*
 * Raises the epoch where somebody has seen a newer fence than this reconciler would write.
 *
 * Every entry carries a fence: the epoch, and the position in the log of the transaction that made
 * it. Whoever keeps an entry (NATS, a node's disk) refuses one with an older fence, so that a late
 * or doubled write does no harm. Within one history of the database positions only grow. But a
 * database that is restored from a backup begins again at an older position, and then nothing that
 * it commits would be newer than what stands in NATS and on the nodes. The epoch counts such
 * histories: it is raised by one, and every new entry is newer than every old one again.
 *
 * The survey finds most of this by the checkpoint (recovery.h). This file has the two cases that
 * show themselves later: entries in NATS that are newer than the checkpoint knows, and nodes that
 * report an entry which neither NATS nor the database knows, because both were lost.
 */
#ifndef RECONCILER_EPOCH_H
#define RECONCILER_EPOCH_H

#include "reconciler/state.h"

/* Both are called when all entries are loaded, and their newest fence is in rec->newest. The first
 * chooses a rebuild in the epoch of that fence, where it is higher than the recovery's, and in the
 * next epoch, where the fence is of log that a promotion lost. The second
 * chooses a rebuild in the next epoch, where the fence is ahead of the database, whose log ends at
 * end. */
void reconciler_epoch_of_checkpoint(struct rec_reconciler *rec);
void reconciler_epoch_of_log(struct rec_reconciler *rec, hw_lsn end);

/* Raises the epoch, by beginning anew, where a report named a fence that is newer than ours. */
void reconciler_epoch_heed(struct rec_reconciler *rec);

/* The callback for rec_reports_start: a report names this fence. */
void reconciler_epoch_reported(void *rec, struct hw_fence fence);

#endif
