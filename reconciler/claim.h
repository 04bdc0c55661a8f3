/*
 * The claim: how a new leader takes hold of the bucket.
 *
 * The replication slot is the lock of the lead: PostgreSQL gives it to one connection at a time.
 * But a leader that stood still (a stopped process, a machine that slept) does not know that its
 * slot went to another one, and may still have publishes under way. So a new leader first writes
 * the checkpoint's key once more. Every later write to that key names the sequence number that it
 * expects there, so from then on the old leader's next checkpoint is refused, and with it
 * everything that it would have confirmed.
 */
#ifndef RECONCILER_CLAIM_H
#define RECONCILER_CLAIM_H

#include "reconciler/state.h"

/* Stores the checkpoint once more, or a deletion marker where there is no valid one. HW_ECONFLICT:
 * somebody has written the key since the survey read it. Blocks. */
enum hw_status reconciler_claim(struct rec_reconciler *rec, struct hw_error *err) HW_CHECKED;

/*
 * Makes the epoch of a rebuild known, with the history that it stands for, before the rebuild
 * writes its first entry. The rebuild itself stores a checkpoint only when all its entries are
 * written. Should the database's history change once more before that, the next rebuild sees here
 * that this epoch is used, and takes another one. Blocks.
 */
enum hw_status reconciler_claim_epoch(struct rec_reconciler *rec, struct hw_error *err) HW_CHECKED;

/* Lets apply begin where the recovery says: behind the checkpoint, or for a rebuild at position 0.
 * A rebuild stores no checkpoint until a comparison is through. */
void reconciler_begin_apply(struct rec_reconciler *rec);

#endif
