#include "reconciler/publish/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/points.h"
#include "common/clock.h"
#include "common/log.h"
#include "nats/hidden.h"
#include "nats/objstore.h"
#include "reconciler/publish/hidden.h"

enum {
    CHECKPOINT_EVERY_MS = 20,   /* while transactions keep coming */
    PROGRESS_EVERY_MS = 1000,   /* while only the log's end moves: a shutdown waits for it */
    QUEUE_MOST = 16384,         /* changes waiting before the source is paused … */
    BLOBS_MOST = 256,           /* … or objects on their way … */
    BLOB_BYTES_MOST = 32 << 20, /* … or their bytes */
    PULSE_MS = 1000,            /* how often the loop notes that it turns … */
    FROZEN_MS = 4000,           /* … and after a standstill of this length the slot may be lost */
};

struct rec_tx;

/* One entry to publish. */
struct rec_change {
    struct rec_write write; /* must be first: publish_waiting casts */
    struct rec_tx *tx;
    struct rec_entry *entry;
    char *value; /* NULL: a delete marker */
    size_t size;
    char *signature; /* or NULL */
    uint64_t ticket; /* of the ledger */
};

struct rec_tx {
    struct rec_apply *apply;
    uint64_t serial;
    struct hw_fence fence;
    int64_t committed_at; /* Unix nanoseconds; 0: not to be measured */
    bool repair; /* of a comparison: it moves no position, and is published whatever stands there */
    bool releases; /* when it is done, checkpoints are no longer held */
    int64_t rev;
    char nonce[40];
    struct rec_change *changes;
    size_t count, cap;
    size_t published; /* changes[0 .. published - 1] are done, in flight or waiting for their key */
    size_t undone;    /* changes that are neither acknowledged nor found needless yet */
    size_t blobs;     /* objects that are not yet acknowledged */
    size_t refs;      /* acknowledgements to come, plus one while it is queued */
    bool abandoned;   /* by a reset */
    struct rec_tx *next;
};

struct blob_put {
    struct rec_tx *tx;
    char hex[HW_DIGEST_HEX_MAX];
    size_t size; /* bytes that were sent; 0 while the object is fetched from the database */
};

struct rec_apply {
    struct rec_apply_config config;
    struct rec_apply_events events;
    uint64_t serial;
    struct rec_tx *open;         /* begun, not yet committed */
    struct rec_tx *release;      /* to be committed behind the open one */
    struct rec_tx *first, *last; /* committed, in commit order */
    struct rec_tx *cursor;       /* the first of them that is not published whole */
    size_t in_flight;            /* publishes of entries */
    size_t queued;               /* changes of committed transactions that are not done */
    size_t blobs, blob_bytes;    /* objects on their way, of all transactions */
    bool paused;
    bool failed;
    bool hold; /* no checkpoint until rec_apply_release */

    hw_lsn told;                   /* the last position that was given to events.moved */
    hw_lsn reached;                /* the stream will bring no transaction up to here */
    struct rec_checkpoint applied; /* everything up to it is acknowledged */
    hw_lsn changed;               /* end of the last transaction with changes that applied covers */
    struct rec_checkpoint stored; /* the one that stands in KV */
    struct rec_checkpoint sent;   /* in flight, while checkpoint_busy */
    bool checkpoint_busy;
    uint64_t checkpoint_ticket;
    int64_t checkpoint_at; /* when the last one was stored, hw_loop_now() */
    uint64_t generation;   /* counts resets: an acknowledgement from before one is too late */
    struct hw_timer checkpoint_timer;

    int64_t pulse_at; /* when the loop was last known to turn, hw_loop_now() */
    struct hw_timer pulse_timer;

    struct hw_error failure; /* told from the loop: whoever is told may be our caller */
    struct hw_timer failure_timer;
};

static void pump(struct rec_apply *apply);
static void on_entry_ack(void *arg, const struct hw_ack *ack);

static void tell_failure(void *arg)
{
    struct rec_apply *apply = arg;

    apply->events.failed(apply->events.arg, &apply->failure);
}

static void fail(struct rec_apply *apply, const struct hw_error *err)
{
    if (apply->failed)
        return;
    apply->failed = true;
    apply->failure = *err;
    hw_timer_stop(&apply->checkpoint_timer);
    hw_timer_start(apply->config.loop, &apply->failure_timer, 0, tell_failure, apply);
}

/*
 * A process that was stopped and continued does not know that it was away. PostgreSQL drops a
 * connection that says nothing for 10 s (wal_sender_timeout, cdc/pg_source.c), and another
 * reconciler may lead by then. So a loop that stood still for longer than 4 s publishes nothing
 * more, and everything begins anew.
 */
static bool frozen(struct rec_apply *apply)
{
    const int64_t still = hw_loop_now() - apply->pulse_at;
    struct hw_error err;

    if (still <= FROZEN_MS)
        return false;
    hw_fail(&err, HW_ESTOPPED, "this process stood still for %lld ms: another may lead by now",
            (long long)still);
    fail(apply, &err);
    return true;
}

static void pulse(void *arg)
{
    struct rec_apply *apply = arg;

    if (apply->failed || frozen(apply))
        return;
    apply->pulse_at = hw_loop_now();
    hw_timer_start(apply->config.loop, &apply->pulse_timer, PULSE_MS, pulse, apply);
}

/* ---- transactions ---- */

static void unref(struct rec_tx *tx)
{
    if (--tx->refs > 0)
        return;
    for (size_t i = 0; i < tx->count; i++) {
        free(tx->changes[i].value);
        free(tx->changes[i].signature);
    }
    free(tx->changes);
    free(tx);
}

static struct rec_change *add_change(struct rec_tx *tx, const char *key)
{
    struct rec_entry *entry = rec_sink_entry(tx->apply->config.sink, key);
    struct rec_change *change;

    if (entry->last_tx == tx->serial) {
        change = &tx->changes[entry->last_change];
        free(change->value);
        free(change->signature);
    } else {
        if (tx->count == tx->cap) {
            tx->cap = tx->cap > 0 ? tx->cap + tx->cap / 2 : 4;
            tx->changes = hw_realloc(tx->changes, tx->cap * sizeof(*tx->changes));
        }
        rec_entry_touch(entry, tx->serial, tx->count);
        change = &tx->changes[tx->count++];
    }
    *change = (struct rec_change){.tx = tx, .entry = entry};
    return change;
}

static struct rec_tx *new_tx(struct rec_apply *apply, struct hw_fence fence)
{
    struct rec_tx *tx = hw_alloc(sizeof(*tx));

    tx->apply = apply;
    tx->serial = ++apply->serial;
    tx->fence = fence;
    tx->refs = 1;
    return tx;
}

static void want_object(struct rec_tx *tx, const char *hex, size_t size);

static void remove_key(struct rec_tx *tx, const char *key)
{
    struct rec_change *change = add_change(tx, key);
    const char *node = hw_desired_node(key);

    if (node != NULL)
        change->signature = rec_signature(tx->apply->config.signer, node, NULL, tx->fence);
}

static void set(struct rec_tx *tx, const struct hw_desired *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(HW_KEY_DESIRED "%s", row->node);
    struct rec_change *change = add_change(tx, key);

    change->value = hw_desired_write(row, tx->fence, &change->size);
    change->signature = rec_signature(tx->apply->config.signer, row->node, row, tx->fence);
    want_object(tx, row->digest + strlen("sha256:"), (size_t)row->size);
}

static void tell_node(struct rec_tx *tx, const struct hw_decided *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(HW_KEY_DECIDED "%s", row->node);
    struct rec_change *change = add_change(tx, key);

    change->value = hw_decided_write(row, tx->fence, &change->size);
}

void rec_apply_begin(struct rec_apply *apply, struct hw_fence fence, int64_t committed_at)
{
    rec_apply_rollback(apply);
    apply->open = new_tx(apply, fence);
    apply->open->committed_at = committed_at;
}

void rec_apply_set(struct rec_apply *apply, const struct hw_desired *row)
{
    set(apply->open, row);
}

void rec_apply_tell(struct rec_apply *apply, const struct hw_decided *row)
{
    tell_node(apply->open, row);
}

void rec_apply_remove(struct rec_apply *apply, const char *key)
{
    remove_key(apply->open, key);
}

void rec_apply_changelog(struct rec_apply *apply, int64_t rev, const char *nonce)
{
    apply->open->rev = rev;
    snprintf(apply->open->nonce, sizeof(apply->open->nonce), "%s", nonce);
}

/* Acknowledgements of its publishes still come, and then do nothing but free it. */
static void abandon(struct rec_tx *tx)
{
    tx->abandoned = true;
    unref(tx);
}

void rec_apply_rollback(struct rec_apply *apply)
{
    struct rec_tx *tx = HW_TAKE(apply->open);

    if (tx != NULL)
        abandon(tx);
}

bool rec_apply_touched(const struct rec_apply *apply, const struct rec_entry *entry, int64_t rev)
{
    return entry->rev > rev || (apply->open != NULL && entry->last_tx == apply->open->serial);
}

static void regulate(struct rec_apply *apply)
{
    const bool full = apply->queued > QUEUE_MOST || apply->blobs > BLOBS_MOST ||
                      apply->blob_bytes > BLOB_BYTES_MOST;
    const bool roomy = apply->queued <= QUEUE_MOST / 2 && apply->blobs <= BLOBS_MOST / 2 &&
                       apply->blob_bytes <= BLOB_BYTES_MOST / 2;

    if (apply->failed || (apply->paused ? !roomy : !full))
        return;
    apply->paused = !apply->paused;
    apply->events.pause(apply->events.arg, apply->paused);
}

static void commit(struct rec_tx *tx)
{
    struct rec_apply *apply = tx->apply;

    tx->undone = tx->count;
    apply->queued += tx->count;
    if (apply->last != NULL)
        apply->last->next = tx;
    else
        apply->first = tx;
    apply->last = tx;
    if (apply->cursor == NULL)
        apply->cursor = tx;
    pump(apply);
}

void rec_apply_commit(struct rec_apply *apply)
{
    struct rec_tx *tx = HW_TAKE(apply->open);

    for (size_t i = 0; i < tx->count; i++)
        rec_entry_commit(tx->changes[i].entry, tx->rev);
    commit(tx);
    if (apply->release != NULL)
        commit(HW_TAKE(apply->release));
}

/* ---- repairs ---- */

struct rec_tx *rec_apply_repair(struct rec_apply *apply, struct hw_fence fence)
{
    struct rec_tx *tx = new_tx(apply, fence);

    tx->repair = true;
    return tx;
}

void rec_apply_repair_set(struct rec_tx *repair, const struct hw_desired *row)
{
    set(repair, row);
}

void rec_apply_repair_tell(struct rec_tx *repair, const struct hw_decided *row)
{
    tell_node(repair, row);
}

void rec_apply_repair_remove(struct rec_tx *repair, const struct rec_entry *entry)
{
    remove_key(repair, entry->key);
}

void rec_apply_repair_object(struct rec_tx *repair, const char *hex, size_t size)
{
    want_object(repair, hex, size);
}

void rec_apply_repair_commit(struct rec_tx *repair)
{
    commit(repair);
}

void rec_apply_release(struct rec_apply *apply, int64_t rev, const char *nonce)
{
    struct rec_tx *tx = rec_apply_repair(apply, (struct hw_fence){0});

    tx->releases = true;
    tx->rev = rev;
    snprintf(tx->nonce, sizeof(tx->nonce), "%s", nonce);
    /* The comparison may have passed over a key because of a transaction that is still coming in.
     */
    if (apply->open != NULL)
        apply->release = tx;
    else
        commit(tx);
}

/* ---- objects ---- */

static void end_put(struct blob_put *put, const struct hw_error *err)
{
    struct rec_tx *tx = put->tx;
    struct rec_apply *apply = tx->apply;

    if (!tx->abandoned) {
        rec_sink_object(apply->config.sink, put->hex)->arriving = false;
        tx->blobs--;
        apply->blobs--;
        apply->blob_bytes -= put->size;
        if (err == NULL)
            pump(apply);
        else
            fail(apply, err);
    }
    free(put);
    unref(tx);
}

static void on_blob_ack(void *arg, const struct hw_ack *ack)
{
    if (ack->status == HW_OK)
        HW_POINT("after-blob-put");
    end_put(arg, ack->status == HW_OK ? NULL : &ack->err);
}

/* The object counts as there from now on. An entry of a later transaction that refers to it is
 * published behind this transaction, which waits until the object is acknowledged. */
static struct blob_put *new_put(struct rec_tx *tx, const char *hex)
{
    struct blob_put *put = hw_alloc(sizeof(*put));

    put->tx = tx;
    snprintf(put->hex, sizeof(put->hex), "%s", hex);
    struct rec_object *object = rec_sink_object(tx->apply->config.sink, hex);

    object->there = object->arriving = true;
    tx->refs++;
    tx->blobs++;
    tx->apply->blobs++;
    return put;
}

static enum hw_status put_object(struct blob_put *put, const void *data, size_t size,
                                 struct hw_error *err)
{
    struct rec_apply *apply = put->tx->apply;
    const enum hw_status status = hw_obj_put(apply->config.nats, apply->config.bucket, put->hex,
                                             data, size, on_blob_ack, put, err);

    if (status != HW_OK)
        return status;
    put->size = size;
    apply->blob_bytes += size;
    return HW_OK;
}

static void on_fetched(void *arg, enum hw_status status, const void *data, size_t size,
                       const struct hw_error *err)
{
    struct blob_put *put = arg;
    struct rec_apply *apply = put->tx->apply;
    struct hw_error own;

    if (put->tx->abandoned || status != HW_OK) {
        end_put(put, err);
        return;
    }
    if (put_object(put, data, size, &own) != HW_OK)
        end_put(put, &own);
    else
        regulate(apply);
}

/* A row refers to the object: has it fetched where NATS lacks it. */
static void want_object(struct rec_tx *tx, const char *hex, size_t size)
{
    struct rec_apply *apply = tx->apply;
    struct rec_object *object = rec_sink_object(apply->config.sink, hex);

    object->used = rec_sink_comparison(apply->config.sink);
    if (object->there)
        return;
    rec_fetch_want(apply->config.fetch, hex, size, on_fetched, new_put(tx, hex));
    regulate(apply);
}

enum hw_status rec_apply_blob(struct rec_apply *apply, const char *hex, const void *data,
                              size_t size, struct hw_error *err)
{
    struct blob_put *put;
    enum hw_status status;

    if (rec_sink_object(apply->config.sink, hex)->there)
        return HW_OK;
    put = new_put(apply->open, hex);
    status = put_object(put, data, size, err);
    if (status != HW_OK) {
        struct rec_object *object = rec_sink_object(apply->config.sink, hex);

        object->there = object->arriving = false;
        put->tx->blobs--;
        apply->blobs--;
        unref(put->tx);
        free(put);
        return status;
    }
    regulate(apply);
    return HW_OK;
}

/* ---- entries ---- */

/*
 * Exactly one entry for each transaction and key, whatever was killed in between: an entry with the
 * same fence is this transaction's own, from an attempt before a crash, and one with a newer fence
 * says what came after it. Where the key was never written (seq 0), even a removal is published: a
 * node may still run an entry that NATS has lost.
 */
static bool needless(const struct rec_change *change)
{
    const struct rec_entry *entry = change->entry;

    return !change->tx->repair && entry->seq != 0 &&
           hw_fence_compare(entry->fence, change->tx->fence) >= 0;
}

static void change_done(struct rec_change *change)
{
    free(HW_TAKE(change->value));
    free(HW_TAKE(change->signature));
    change->tx->undone--;
    change->tx->apply->queued--;
    rec_entry_end(change->entry);
}

static void publish(struct rec_change *change)
{
    struct rec_apply *apply = change->tx->apply;
    struct rec_entry *entry = change->entry;
    struct hw_error err;
    natsMsg *msg = NULL;

    rec_entry_begin(entry, &change->write);
    if (frozen(apply))
        return;
    if (needless(change)) {
        change_done(change);
        return;
    }
    if (hw_entry_message(apply->config.bucket, entry->key, change->value, change->size,
                         &change->tx->fence, change->signature, &msg, &err) != HW_OK) {
        fail(apply, &err);
        return;
    }
    if (hw_nats_publish(apply->config.nats, msg, entry->hidden ? HW_SEQ_NONE : entry->seq,
                        on_entry_ack, change, &err) != HW_OK) {
        fail(apply, &err);
        return;
    }
    change->ticket = rec_ledger_publish(apply->config.ledger);
    change->tx->refs++;
    apply->in_flight++;
}

static void publish_or_wait(struct rec_change *change)
{
    struct rec_entry *entry = change->entry;

    if (entry->in_flight == NULL)
        publish(change);
    else
        rec_entry_wait(entry, &change->write);
}

/* The key is free: publishes the writes that wait for it, in their order. */
static void publish_waiting(struct rec_entry *entry, struct rec_apply *apply)
{
    struct rec_write *next;

    while (entry->in_flight == NULL && !apply->failed && (next = rec_entry_next(entry)) != NULL)
        publish((struct rec_change *)next);
}

static void note_written(const struct rec_change *change, uint64_t seq)
{
    rec_entry_written(change->entry, seq, change->tx->fence, change->value == NULL);
}

/* What was written to a hidden key is acknowledged. False: it was not kept, and is written anew, or
 * cannot be. */
static bool is_kept(struct rec_change *change, uint64_t seq)
{
    struct rec_apply *apply = change->tx->apply;
    struct hw_error err;
    bool kept;

    if (rec_hidden_check_kept(apply->config.nats, apply->config.bucket, change->entry, seq, &kept,
                              &err) != HW_OK) {
        fail(apply, &err);
        return false;
    }
    if (!kept)
        publish(change);
    return kept;
}

/*
 * The key has another sequence number than we expected: someone wrote it. With our own fence it is
 * an earlier attempt of ours that was never acknowledged. With a newer fence another reconciler
 * leads, and we must stop. Anything else is a stranger's, and is written over. An entry without a
 * fence may hide one of the first two, so the newest fence in the key's history counts.
 */
static void resolve_conflict(struct rec_change *change)
{
    struct rec_apply *apply = change->tx->apply;
    struct hw_kv_entry found = {0};
    struct hw_error err;
    enum hw_status status;

    const char *key = change->entry->key;
    uint64_t hidden = 0;
    status = hw_kv_get(apply->config.nats, apply->config.bucket, key, &found, &err);
    if (status == HW_ENOENT)
        status = hw_hidden_find(apply->config.nats, apply->config.bucket, key, &hidden, &err);
    if (status == HW_ENOENT) {
        rec_entry_expect(change->entry, HW_SEQ_NONE);
        publish(change);
        return;
    }
    if (status == HW_OK && hidden != 0)
        status = hw_kv_get_at(apply->config.nats, apply->config.bucket, hidden, &found, &err);
    if (status != HW_OK) {
        fail(apply, &err);
        return;
    }
    rec_entry_show(change->entry);
    struct hw_fence fence = hw_entry_of(&found).fence;
    const uint64_t seq = found.seq;
    const bool fenced = hw_entry_of(&found).fenced;
    hw_kv_entry_clear(&found);
    if (!fenced && hw_entry_newest_fence(apply->config.nats, apply->config.bucket, key, &fence,
                                         &err) != HW_OK) {
        fail(apply, &err);
        return;
    }
    const int order = hw_fence_compare(fence, change->tx->fence);
    if (order > 0) {
        hw_fail(&err, HW_ECONFLICT,
                "key %s carries a newer fence than %s: another reconciler is ahead", key,
                HW_LSN(change->tx->fence.lsn));
        fail(apply, &err);
    } else if (hidden != 0) {
        rec_entry_expect(change->entry, seq);
        if (rec_hidden_free_key(apply->config.nats, apply->config.bucket, change->entry, seq,
                                order == 0, &err) == HW_OK)
            publish(change);
        else
            fail(apply, &err);
    } else if (order == 0) {
        rec_ledger_own(apply->config.ledger, seq);
        note_written(change, seq);
        change_done(change);
    } else {
        hw_log_warn("repairing a key that someone else wrote", HW_S("key", key),
                    HW_I("revision", (int64_t)seq), HW_L("lsn", change->tx->fence.lsn));
        rec_entry_expect(change->entry, seq);
        publish(change);
    }
}

static void count(const struct rec_tx *tx)
{
    struct rec_counts *counts = tx->apply->config.counts;

    counts->entries++;
    if (tx->committed_at != 0)
        hw_histogram_observe(&counts->published, (double)(hw_clock_now() - tx->committed_at) / 1e9);
}

static void on_entry_ack(void *arg, const struct hw_ack *ack)
{
    struct rec_change *change = arg;
    struct rec_tx *tx = change->tx;
    struct rec_apply *apply = tx->apply;

    if (!tx->abandoned) {
        apply->in_flight--;
        rec_ledger_end(apply->config.ledger, change->ticket, ack->status == HW_OK ? ack->seq : 0);
        if (ack->status == HW_OK && (!change->entry->hidden || is_kept(change, ack->seq))) {
            HW_POINT("after-publish");
            count(tx);
            note_written(change, ack->seq);
            change_done(change);
        } else if (ack->status == HW_OK) {
            /* It is on its way again, or that has failed. */
        } else if (ack->status == HW_ECONFLICT) {
            resolve_conflict(change);
        } else {
            fail(apply, &ack->err);
        }
        if (!apply->failed)
            publish_waiting(change->entry, apply);
        pump(apply);
    }
    unref(tx);
}

/* ---- the checkpoint ---- */

static void store_checkpoint(struct rec_apply *apply);

/* A transaction with changes is told of only when its checkpoint is stored: a comparison that waits
 * for it begins to work then, and would delay the checkpoint. */
static void tell_moved(struct rec_apply *apply)
{
    const bool owed = !apply->hold && apply->stored.fence.lsn < apply->changed;
    const hw_lsn lsn = owed ? apply->stored.fence.lsn : apply->applied.fence.lsn;

    if (lsn <= apply->told)
        return;
    apply->told = lsn;
    apply->events.moved(apply->events.arg, lsn);
}

struct checkpoint_put {
    struct rec_apply *apply;
    uint64_t generation;
};

static void on_checkpoint_ack(void *arg, const struct hw_ack *ack)
{
    struct checkpoint_put *put = arg;
    struct rec_apply *apply = put->apply;
    const bool current = put->generation == apply->generation;

    free(put);
    if (!current || apply->failed)
        return;
    apply->checkpoint_busy = false;
    rec_ledger_end(apply->config.ledger, apply->checkpoint_ticket,
                   ack->status == HW_OK ? ack->seq : 0);
    if (ack->status == HW_ECONFLICT) {
        rec_apply_defend_checkpoint(apply);
        return;
    }
    if (ack->status != HW_OK) {
        fail(apply, &ack->err);
        return;
    }
    HW_POINT("before-feedback");
    apply->stored = apply->sent;
    apply->stored.seq = ack->seq;
    apply->checkpoint_at = hw_loop_now();
    apply->events.stored(apply->events.arg, apply->stored.fence.lsn);
    tell_moved(apply);
    store_checkpoint(apply);
}

static void on_checkpoint_timer(void *arg)
{
    store_checkpoint(arg);
}

/* Stores the applied position, at once or when the last checkpoint is old enough. */
static void store_checkpoint(struct rec_apply *apply)
{
    const bool behind = hw_fence_compare(apply->stored.fence, apply->applied.fence) < 0;
    const bool news = apply->first != NULL || apply->stored.fence.lsn < apply->changed ||
                      apply->stored.rev != apply->applied.rev || apply->stored.seq == 0 ||
                      apply->stored.fence.epoch != apply->applied.fence.epoch;
    const int64_t every = news ? CHECKPOINT_EVERY_MS : PROGRESS_EVERY_MS;
    const int64_t due = apply->checkpoint_at + every - hw_loop_now();
    struct checkpoint_put *put;
    struct hw_error err;
    natsMsg *msg = NULL;

    if (!behind || apply->applied.fence.lsn == HW_LSN_NONE || apply->checkpoint_busy ||
        apply->hold || apply->failed || frozen(apply))
        return;
    if (due > 0 && apply->checkpoint_at != 0) {
        hw_timer_start(apply->config.loop, &apply->checkpoint_timer, due, on_checkpoint_timer,
                       apply);
        return;
    }
    HW_POINT("before-checkpoint");
    HW_AUTO_FREE char *value = rec_checkpoint_value(&apply->applied);
    put = hw_alloc(sizeof(*put));
    *put = (struct checkpoint_put){.apply = apply, .generation = apply->generation};
    if (hw_entry_message(apply->config.bucket, HW_KEY_CHECKPOINT, value, strlen(value),
                         &apply->applied.fence, NULL, &msg, &err) != HW_OK ||
        hw_nats_publish(apply->config.nats, msg, apply->stored.seq, on_checkpoint_ack, put, &err) !=
            HW_OK) {
        free(put);
        fail(apply, &err);
        return;
    }
    apply->checkpoint_ticket = rec_ledger_publish(apply->config.ledger);
    apply->sent = apply->applied;
    apply->checkpoint_busy = true;
}

/* Another leader's checkpoint is never older than the one that we stored, for a leader's first act
 * is to store ours again (claim.h). */
void rec_apply_defend_checkpoint(struct rec_apply *apply)
{
    struct rec_checkpoint found = {0};
    struct hw_error err;
    enum hw_status status;

    if (apply->checkpoint_busy || apply->failed)
        return; /* its acknowledgement will show the same */
    status = rec_checkpoint_read(apply->config.nats, apply->config.bucket, &found, &err);
    if (found.hidden == 0 && status == HW_OK && found.seq == apply->stored.seq)
        return;
    if (found.hidden != 0) {
        hw_fail(&err, HW_ESTOPPED,
                "nats-server does not find the key %s by its name any more: looking at it anew",
                HW_KEY_CHECKPOINT);
        fail(apply, &err);
    } else if (status == HW_OK && hw_fence_compare(found.fence, apply->stored.fence) >= 0) {
        hw_fail(&err, HW_ECONFLICT, "another reconciler wrote the checkpoint: it leads");
        fail(apply, &err);
    } else if (status == HW_OK || status == HW_ENOENT || status == HW_ECORRUPT) {
        hw_log_warn("repairing the checkpoint, which someone else wrote",
                    HW_S("key", HW_KEY_CHECKPOINT), HW_I("revision", (int64_t)found.seq));
        apply->stored = (struct rec_checkpoint){.seq = found.seq};
        apply->checkpoint_at = 0;
        store_checkpoint(apply);
    } else {
        fail(apply, &err);
    }
}

/* ---- moving on ---- */

static void move(struct rec_apply *apply, hw_lsn lsn)
{
    if (lsn > apply->applied.fence.lsn)
        apply->applied.fence.lsn = lsn;
}

static void know(struct rec_apply *apply, const struct rec_tx *tx)
{
    if (tx->rev <= apply->applied.rev)
        return;
    apply->applied.rev = tx->rev;
    snprintf(apply->applied.nonce, sizeof(apply->applied.nonce), "%s", tx->nonce);
}

static void retire(struct rec_apply *apply)
{
    while (apply->first != NULL && apply->first != apply->cursor && apply->first->undone == 0) {
        struct rec_tx *tx = apply->first;
        const bool releases = tx->releases;

        apply->first = tx->next;
        if (apply->first == NULL)
            apply->last = NULL;
        if (!tx->repair)
            move(apply, tx->fence.lsn);
        if (!tx->repair && tx->count > 0)
            apply->changed = tx->fence.lsn;
        if (!tx->repair || releases)
            know(apply, tx);
        unref(tx);
        if (releases) {
            apply->hold = false;
            apply->events.released(apply->events.arg);
        }
    }
    if (apply->first == NULL)
        move(apply, apply->reached);
    tell_moved(apply);
}

/* Publishes in commit order, until the window is full or an object is not acknowledged yet. */
static void pump(struct rec_apply *apply)
{
    while (apply->cursor != NULL && apply->cursor->blobs == 0 && !apply->failed) {
        struct rec_tx *tx = apply->cursor;

        while (tx->published < tx->count && apply->in_flight < apply->config.window &&
               !apply->failed)
            publish_or_wait(&tx->changes[tx->published++]);
        if (tx->published < tx->count)
            break;
        apply->cursor = tx->next;
    }
    if (apply->failed)
        return;
    retire(apply);
    store_checkpoint(apply);
    regulate(apply);
}

void rec_apply_progress(struct rec_apply *apply, hw_lsn lsn)
{
    if (lsn > apply->reached)
        apply->reached = lsn;
    retire(apply);
    store_checkpoint(apply);
}

hw_lsn rec_apply_position(const struct rec_apply *apply)
{
    return apply->applied.fence.lsn;
}

const struct rec_checkpoint *rec_apply_stored(const struct rec_apply *apply)
{
    return &apply->stored;
}

bool rec_apply_paused(const struct rec_apply *apply)
{
    return apply->paused;
}

bool rec_apply_busy(const struct rec_apply *apply)
{
    return apply->first != NULL || apply->open != NULL || apply->checkpoint_busy ||
           (!apply->hold && apply->stored.rev != apply->applied.rev);
}

/* ---- life ---- */

struct rec_apply *rec_apply_new(const struct rec_apply_config *config,
                                const struct rec_apply_events *events)
{
    struct rec_apply *apply = hw_alloc(sizeof(*apply));

    apply->config = *config;
    apply->events = *events;
    return apply;
}

static void forget(struct rec_apply *apply)
{
    rec_apply_rollback(apply);
    if (apply->release != NULL)
        abandon(HW_TAKE(apply->release));
    while (apply->first != NULL) {
        struct rec_tx *tx = apply->first;

        apply->first = tx->next;
        abandon(tx);
    }
    apply->last = apply->cursor = NULL;
    apply->in_flight = apply->queued = apply->blobs = apply->blob_bytes = 0;
    apply->checkpoint_busy = false;
    apply->generation++;
    hw_timer_stop(&apply->checkpoint_timer);
    hw_timer_stop(&apply->failure_timer);
    hw_timer_stop(&apply->pulse_timer);
}

void rec_apply_reset(struct rec_apply *apply, const struct rec_checkpoint *stored,
                     const struct rec_checkpoint *applied, bool hold)
{
    forget(apply);
    apply->hold = hold;
    apply->stored = *stored;
    apply->applied = *applied;
    apply->reached = apply->told = apply->changed = HW_LSN_NONE;
    apply->checkpoint_at = 0;
    apply->paused = false;
    apply->failed = false;
    apply->pulse_at = hw_loop_now();
    pulse(apply);
}

void rec_apply_free(struct rec_apply *apply)
{
    if (apply == NULL)
        return;
    apply->failed = true;
    forget(apply);
    free(apply);
}
