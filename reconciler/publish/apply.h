/*
 * Apply writes transactions to the sink, with exactly one revision in NATS for every transaction
 * and key, whatever was killed in between.
 *
 *   begin ─▶ change… ─▶ commit ─▶ [blobs acknowledged] ─▶ entries published ─▶ all acknowledged
 *                                                              │
 *            checkpoint ◀── in commit order ◀──────────────────┘
 *
 * Of several changes of a key in one transaction, the last one counts. Each entry is published with
 * the sequence number that its key must have, so that NATS refuses it when somebody else has
 * written the key, and with the fence of its transaction. Where the key carries that fence already,
 * or a newer one, nothing is published: this is how a transaction that the log gives a second time,
 * after a crash, is known. While a publish of a key is under way, the next change of that key
 * waits; other keys go on. Nothing here blocks, and the number of publishes under way is bounded.
 *
 * The bookkeeping of positions: a transaction is done when all its entries are acknowledged. The
 * position moves to its end when all transactions before it are done as well. The checkpoint with
 * that position is published next, and only what an acknowledged checkpoint covers is confirmed to
 * PostgreSQL. So the log still has everything that no checkpoint covers.
 */
#ifndef RECONCILER_PUBLISH_APPLY_H
#define RECONCILER_PUBLISH_APPLY_H

#include "cdc/source.h"
#include "nats/kv.h"
#include "reconciler/counts/counts.h"
#include "reconciler/publish/checkpoint.h"
#include "reconciler/publish/decided.h"
#include "reconciler/publish/desired.h"
#include "reconciler/publish/fetch.h"
#include "reconciler/publish/ledger.h"
#include "reconciler/publish/signature.h"
#include "reconciler/publish/sink.h"

struct rec_apply;
struct rec_tx;

struct rec_apply_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *bucket;
    struct rec_sink *sink;
    struct rec_fetch *fetch;   /* brings objects that the sink lacks */
    struct rec_ledger *ledger; /* of the entries' stream */
    struct rec_counts *counts;
    struct hw_signer *signer; /* signs desired entries; NULL: they are not signed */
    size_t window;            /* publishes in flight at most */
};

struct rec_apply_events {
    /* The checkpoint that covers everything up to lsn is acknowledged: confirm it. */
    void (*stored)(void *arg, hw_lsn lsn);
    /* Everything that was handed over up to lsn is acknowledged. So is the checkpoint that covers
     * those changes, unless checkpoints are held. */
    void (*moved)(void *arg, hw_lsn lsn);
    /* Everything that was handed over before rec_apply_release is acknowledged, and checkpoints are
     * no longer held. */
    void (*released)(void *arg);
    /* Too much waits: pause the source (true). There is room again: let it go on (false). */
    void (*pause)(void *arg, bool pause);
    /* Apply cannot go on. HW_ECONFLICT: another reconciler is ahead of us; any other status: NATS
     * failed. Nothing more is published; start again from the stored checkpoint. Called from the
     * loop, never from within a call below. */
    void (*failed)(void *arg, const struct hw_error *err);
    void *arg;
};

struct rec_apply *rec_apply_new(const struct rec_apply_config *config,
                                const struct rec_apply_events *events);
void rec_apply_free(struct rec_apply *apply); /* after hw_nats_close */

/*
 * Forgets all work and starts anew. stored is the checkpoint that stands in NATS; where there is no
 * valid one, only its seq counts. applied is where the work goes on. With hold, no checkpoint is
 * stored until rec_apply_release, because NATS does not hold yet what the database says. Late
 * acknowledgements of the forgotten work do no harm.
 */
void rec_apply_reset(struct rec_apply *apply, const struct rec_checkpoint *stored,
                     const struct rec_checkpoint *applied, bool hold);

/* ---- a transaction from the stream, one at a time ---- */
/* committed_at: Unix nanoseconds, from which the time to the acknowledgement is measured; 0: it is
 * not measured. */
void rec_apply_begin(struct rec_apply *apply, struct hw_fence fence, int64_t committed_at);
void rec_apply_set(struct rec_apply *apply, const struct hw_desired *row);
void rec_apply_tell(struct rec_apply *apply, const struct hw_decided *row);
/* key: one that rec_sink_has_key takes. */
void rec_apply_remove(struct rec_apply *apply, const char *key);
/* Hands over an object that entries of this transaction, or later ones, point to. hex: of its
 * digest. An object that was neither handed over nor is in NATS is fetched when an entry points to
 * it. */
enum hw_status rec_apply_blob(struct rec_apply *apply, const char *hex, const void *data,
                              size_t size, struct hw_error *err) HW_CHECKED;
/* The newest changelog row of the transaction. */
void rec_apply_changelog(struct rec_apply *apply, int64_t rev, const char *nonce);
void rec_apply_commit(struct rec_apply *apply);
void rec_apply_rollback(struct rec_apply *apply); /* forgets what was begun, if anything */

/* No transaction that commits up to lsn is still to come: the checkpoint may follow when all is
 * applied. */
void rec_apply_progress(struct rec_apply *apply, hw_lsn lsn);

/* ---- repairs: what a comparison found to differ, begun and committed in one go ---- */
struct rec_tx *rec_apply_repair(struct rec_apply *apply, struct hw_fence fence);
void rec_apply_repair_set(struct rec_tx *repair, const struct hw_desired *row);
void rec_apply_repair_tell(struct rec_tx *repair, const struct hw_decided *row);
void rec_apply_repair_remove(struct rec_tx *repair, const struct rec_entry *entry);
void rec_apply_repair_object(struct rec_tx *repair, const char *hex, size_t size);
void rec_apply_repair_commit(struct rec_tx *repair);

/* Did a streamed transaction newer than rev touch the entry? Then a snapshot of rev says nothing
 * about the entry. */
bool rec_apply_touched(const struct rec_apply *apply, const struct rec_entry *entry, int64_t rev);

/* Ends the hold of checkpoints once everything so far is acknowledged. rev and nonce are of the
 * newest row of changelog in the snapshot; they count unless a newer transaction was streamed. */
void rec_apply_release(struct rec_apply *apply, int64_t rev, const char *nonce);

/* Someone else wrote the checkpoint's key: writes over it, or fails with HW_ECONFLICT where another
 * reconciler did. Blocks. */
void rec_apply_defend_checkpoint(struct rec_apply *apply);

/* The position up to which everything is acknowledged. */
hw_lsn rec_apply_position(const struct rec_apply *apply);
/* The checkpoint that stands in KV, as far as it was acknowledged. */
const struct rec_checkpoint *rec_apply_stored(const struct rec_apply *apply);

/* Has it asked for a pause that still holds? */
bool rec_apply_paused(const struct rec_apply *apply);

/* Is anything under way, or the checkpoint behind? */
bool rec_apply_busy(const struct rec_apply *apply);

#endif
