/*
 * Applying transactions to the sink: exactly one KV revision for every transaction and node.
 *
 *   begin ─▶ change… ─▶ commit ─▶ [blobs acknowledged] ─▶ entries published ─▶ all acknowledged
 *                                                              │
 *            checkpoint ◀── in commit order ◀──────────────────┘
 *
 * Changes are coalesced to the last state of a node; each entry is published with the sequence that
 * its key must have (compare and set) and the fence of its transaction; an entry whose key already
 * carries that fence, or a newer one, is left alone. A key with a publish in flight makes the next
 * change of the same key wait; other keys go on. Everything is asynchronous within a bounded
 * window.
 */
#ifndef REC_APPLY_H
#define REC_APPLY_H

#include "cdc/source.h"
#include "common/kv.h"
#include "reconciler/checkpoint.h"
#include "reconciler/desired.h"
#include "reconciler/sink.h"

struct rec_apply;

struct rec_apply_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *bucket;
    struct rec_sink *sink;
    size_t window; /* publishes in flight at most */
};

struct rec_apply_events {
    /* The checkpoint that covers everything up to lsn is acknowledged: confirm it. */
    void (*stored)(void *arg, hw_lsn lsn);
    /* Room again, or none: let the source go on, or pause it. */
    void (*pause)(void *arg, bool pause);
    /* It cannot go on: HW_ECONFLICT when another reconciler is ahead of us, else NATS failed.
     * Nothing more is published; start again from the stored checkpoint. Called from the loop,
     * never from within a call below. */
    void (*failed)(void *arg, const struct hw_error *err);
    void *arg;
};

struct rec_apply *rec_apply_new(const struct rec_apply_config *config,
                                const struct rec_apply_events *events);
void rec_apply_free(struct rec_apply *apply); /* after hw_nats_close */

/*
 * Forgets all work and starts anew. stored is the checkpoint that stands in KV (its seq alone
 * counts where it means nothing); applied is where the work goes on: the same one to resume, or,
 * before a snapshot, one with no LSN yet, which rec_apply_progress will give it. Late
 * acknowledgements of the forgotten work do no harm.
 */
void rec_apply_reset(struct rec_apply *apply, const struct rec_checkpoint *stored,
                     const struct rec_checkpoint *applied);

/* ---- a transaction from the stream, one at a time ---- */
void rec_apply_begin(struct rec_apply *apply, struct hw_fence fence);
void rec_apply_set(struct rec_apply *apply, const struct rec_desired *row);
void rec_apply_remove(struct rec_apply *apply, const char *node);
/* An object that entries of this transaction, or later ones, point to. hex: of its digest. */
enum hw_status rec_apply_blob(struct rec_apply *apply, const char *hex, const void *data,
                              size_t size, struct hw_error *err) HW_CHECKED;
/* The newest changelog row of the transaction. */
void rec_apply_changelog(struct rec_apply *apply, int64_t rev, const char *nonce);
/* With moves_checkpoint false (pieces of a snapshot) the position stays where it was. */
void rec_apply_commit(struct rec_apply *apply, bool moves_checkpoint);
void rec_apply_rollback(struct rec_apply *apply); /* forgets the one that was begun, if any */

/* What a snapshot says of the changelog, for the checkpoint that rec_apply_progress will store. */
void rec_apply_describe(struct rec_apply *apply, int64_t rev, const char *nonce);

/* Nothing that commits up to lsn is still to come: the checkpoint may follow when all is applied.
 */
void rec_apply_progress(struct rec_apply *apply, hw_lsn lsn);

/* Has it asked for a pause that still holds? */
bool rec_apply_paused(const struct rec_apply *apply);

/* Is anything under way, or the checkpoint behind? */
bool rec_apply_busy(const struct rec_apply *apply);

#endif
