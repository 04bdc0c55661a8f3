#include "reconciler/reconciler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "common/json.h"
#include "common/kv.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/objstore.h"
#include "common/pg.h"
#include "reconciler/apply.h"
#include "reconciler/blob.h"
#include "reconciler/reports.h"
#include "reconciler/sink.h"
#include "reconciler/snapshot.h"

#define TABLES         "headwater.desired,headwater.blob,headwater.changelog"
#define MESSAGE_PREFIX "headwater"

enum {
    RETRY_FIRST_MS = 250,
    RETRY_MOST_MS = 5000,
    STANDBY_MS = 500,
    STALLED_MS = 500,
};

enum state {
    WAITING,   /* for PostgreSQL and NATS, or for another try */
    PREPARING, /* looking at server, slot, checkpoint */
    LEADING,   /* opening the stream, which takes the slot */
    LOADING,   /* reading what stands in the sink */
    READING,   /* a snapshot of the database */
    STREAMING, /* the normal case */
    STALLED,   /* the sink failed; the stream is held until it is back */
};

enum event {
    SERVERS_UP,    /* both can be reached */
    TAKEN,         /* another reconciler holds the slot */
    PREPARED,      /* nothing speaks against streaming */
    STARTED,       /* the slot is ours */
    LOADED,        /* the sink's state is known, and the checkpoint covers what was confirmed */
    LOADED_RESYNC, /* … is known, and a snapshot must be read */
    READ,          /* the snapshot's differences are handed over */
    SINK_FAILED,
    LOST, /* whatever else went wrong, or must begin anew */
};

struct rec_reconciler {
    struct hw_loop *loop;
    struct rec_config config;
    char *reports_bucket;
    enum state state;
    struct hw_timer retry;
    int64_t retry_ms;
    bool draining, stopping;

    struct hw_pg *pg; /* for looking; the stream, snapshots and reports have their own */
    struct hw_nats *nats;
    struct rec_sink *sink;
    struct rec_apply *apply;
    struct rec_reports *reports;
    struct cdc_source *source;
    struct rec_snapshot *snapshot;
    struct hw_kv_watch *key_watch; /* while loading */
    struct hw_obj_list *object_list;
    bool keys_loaded, objects_loaded;

    struct cdc_server server;
    struct rec_checkpoint checkpoint; /* as read from the sink */
    bool checkpoint_valid;
    bool resync;            /* a snapshot is due … */
    const char *resync_why; /* … for this reason */
    bool resync_wanted;     /* someone asked for one */
    uint64_t epoch;
    struct hw_fence newest;   /* seen in the sink's entries */
    struct rec_moment moment; /* of the snapshot behind which the stream goes on; lsn 0: none */
    bool skipping;            /* a transaction that the snapshot has seen */
    bool standby_told, trouble_told;
};

static void happen(struct rec_reconciler *rec, enum event event);

/* ---- failures: logged here, once ---- */

static void lose(struct rec_reconciler *rec, const struct hw_error *err)
{
    if (rec->stopping || rec->state == WAITING)
        return;
    if (!rec->trouble_told || err->status != HW_EUNAVAIL)
        hw_log_warn("cannot go on, starting again", HW_S("slot", rec->config.slot), HW_E(err));
    rec->trouble_told = true;
    happen(rec, LOST);
}

/* ---- waiting ---- */

static void wait_ms(struct rec_reconciler *rec, int64_t ms);

static void look_again(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != WAITING || !hw_pg_up(rec->pg) || !hw_nats_up(rec->nats))
        return; /* whichever is away calls when it comes */
    if (hw_pg_idle(rec->pg))
        happen(rec, SERVERS_UP);
    else
        wait_ms(rec, RETRY_FIRST_MS); /* an answer to an earlier question is still to come */
}

static void wait_ms(struct rec_reconciler *rec, int64_t ms)
{
    hw_timer_start(rec->loop, &rec->retry, ms / 2 + random() % (ms / 2 + 1), look_again, rec);
}

/* Lets go of everything that belongs to leading. */
static void let_go(struct rec_reconciler *rec)
{
    static const struct rec_checkpoint none;

    cdc_source_close(HW_TAKE(rec->source));
    rec_snapshot_free(HW_TAKE(rec->snapshot));
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    hw_obj_list_stop(HW_TAKE(rec->object_list));
    rec_reports_stop(HW_TAKE(rec->reports));
    rec_moment_clear(&rec->moment);
    rec_apply_reset(rec->apply, &none, &none);
    rec_sink_clear(rec->sink);
}

static void begin_again(struct rec_reconciler *rec)
{
    let_go(rec);
    wait_ms(rec, rec->retry_ms);
    rec->retry_ms = 2 * rec->retry_ms < RETRY_MOST_MS ? 2 * rec->retry_ms : RETRY_MOST_MS;
}

static void stand_by(struct rec_reconciler *rec)
{
    if (!rec->standby_told)
        hw_log_info("another reconciler leads, standing by", HW_S("slot", rec->config.slot));
    rec->standby_told = true;
    let_go(rec);
    wait_ms(rec, STANDBY_MS);
}

/* ---- preparing ---- */

static void on_looked(void *arg, const struct hw_pg_outcome *outcome);

static void look_at_server(struct rec_reconciler *rec)
{
    const char *const values[] = {rec->config.slot, TABLES};
    char rev[24];
    const char *const rev_values[] = {rev};
    const struct hw_pg_query queries[] = {
        {.sql = cdc_server_sql, .count = 2, .values = values},
        {.sql = "SELECT nonce::text FROM headwater.changelog WHERE rev = $1",
         .count = 1,
         .values = rev_values},
    };
    struct hw_error err;

    snprintf(rev, sizeof(rev), "%lld", (long long)rec->checkpoint.rev);
    if (hw_pg_run(rec->pg, HW_PG_SEPARATE, queries, HW_COUNT(queries), NULL, on_looked, rec,
                  &err) != HW_OK)
        lose(rec, &err);
}

static enum hw_status ensure_buckets(struct rec_reconciler *rec, struct hw_error *err)
{
    HW_AUTO_FREE char *from = hw_sprintf("$KV.%s.cfg.desired.>", rec->config.bucket);
    HW_AUTO_FREE char *to = hw_sprintf("%s.desired.>", rec->config.bucket);
    const struct hw_kv_config desired = {
        .bucket = rec->config.bucket,
        .description = "Headwater: desired configuration, written by the reconciler alone",
        .history = (int)rec->config.history,
        .replicas = (int)rec->config.replicas,
        .allow_rollup = true,
        .republish_from = from,
        .republish_to = to,
    };
    const struct hw_kv_config reports = {
        .bucket = rec->reports_bucket,
        .description = "Headwater: what nodes report and propose",
        .history = 1,
        .replicas = (int)rec->config.replicas,
    };
    struct hw_kv_stream stream;

    if (hw_kv_ensure(rec->nats, &desired, &stream, err) != HW_OK ||
        hw_kv_ensure(rec->nats, &reports, &stream, err) != HW_OK ||
        hw_obj_ensure(rec->nats, rec->config.bucket, (int)rec->config.replicas, err) != HW_OK)
        return err->status;
    return HW_OK;
}

/* HW_OK also when there is none; a broken one is logged and counts as none. */
static enum hw_status read_checkpoint(struct rec_reconciler *rec, struct rec_checkpoint *checkpoint,
                                      bool *valid, struct hw_error *err)
{
    const enum hw_status status =
        rec_checkpoint_read(rec->nats, rec->config.bucket, checkpoint, err);

    if (status != HW_OK && status != HW_ENOENT && status != HW_ECORRUPT)
        return status;
    if (status == HW_ECORRUPT)
        hw_log_warn("the checkpoint is unreadable", HW_S("bucket", rec->config.bucket), HW_E(err));
    *valid = status == HW_OK;
    return HW_OK;
}

static void prepare(struct rec_reconciler *rec)
{
    struct hw_error err;

    if (ensure_buckets(rec, &err) != HW_OK ||
        read_checkpoint(rec, &rec->checkpoint, &rec->checkpoint_valid, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    look_at_server(rec);
}

static void on_slot_created(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err = outcome->err;

    if (rec->state != PREPARING)
        return;
    if (outcome->status != HW_OK) {
        cdc_slot_advise(outcome->sqlstate, &err);
        hw_fail_in(&err, "creating slot %s", rec->config.slot);
        lose(rec, &err);
        return;
    }
    hw_log_info("created the replication slot", HW_S("slot", rec->config.slot),
                HW_S("lsn", PQgetvalue(outcome->results[0], 0, 0)));
    look_at_server(rec);
}

static void create_slot(struct rec_reconciler *rec)
{
    const char *const values[] = {rec->config.slot};
    const struct hw_pg_query query = {.sql = cdc_slot_create_sql, .count = 1, .values = values};
    struct hw_error err;

    if (hw_pg_run(rec->pg, HW_PG_SEPARATE, &query, 1, NULL, on_slot_created, rec, &err) != HW_OK)
        lose(rec, &err);
}

/*
 * May the stream go on behind the checkpoint? The checkpoint must be of this history of the
 * database, and cover what the slot was told to forget.
 */
static void decide(struct rec_reconciler *rec, const char *nonce)
{
    const struct rec_checkpoint *c = &rec->checkpoint;
    const char *other_history = NULL;

    rec->resync = true;
    rec->epoch = c->fence.epoch > 0 ? c->fence.epoch : 1;
    if (!rec->checkpoint_valid) {
        rec->resync_why = "no checkpoint in NATS";
        return;
    }
    if (c->system_id != rec->server.system_id)
        other_history = "the checkpoint is of another database cluster";
    else if (c->timeline != rec->server.timeline)
        other_history = "the database is on another timeline";
    else if (c->fence.lsn > rec->server.current)
        other_history = "the checkpoint is ahead of the database, which was restored";
    else if (c->rev > 0 && strcmp(nonce, c->nonce) != 0)
        other_history = "the database does not know the checkpoint's last change";
    if (other_history != NULL) {
        rec->epoch++;
        rec->resync_why = other_history;
    } else if (c->fence.lsn < rec->server.slot_confirmed) {
        rec->resync_why = "the slot has gone on behind the checkpoint";
    } else if (rec->resync_wanted) {
        rec->resync_why = "asked for";
    } else {
        rec->resync = false;
    }
}

static void on_looked(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err = outcome->err;
    const PGresult *nonce;
    enum hw_status status = outcome->status;

    if (rec->state != PREPARING)
        return;
    if (outcome->failed == 0 || status == HW_EUNAVAIL) {
        lose(rec, &err);
        return;
    }
    status = cdc_server_read(outcome->results[0], &rec->server, &err);
    if (status == HW_OK)
        status = cdc_server_check(&rec->server, rec->config.slot, false, &err);
    if (status == HW_ECONFLICT) {
        happen(rec, TAKEN);
        return;
    }
    if (status == HW_OK && outcome->status != HW_OK) {
        err = outcome->err;
        status = outcome->status;
    }
    if (status != HW_OK) {
        lose(rec, &err);
        return;
    }
    if (!rec->server.slot_exists) {
        create_slot(rec);
        return;
    }
    nonce = outcome->results[1];
    decide(rec, PQntuples(nonce) == 1 ? PQgetvalue(nonce, 0, 0) : "");
    happen(rec, PREPARED);
}

/* ---- leading: the stream ---- */

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    rec->skipping = false;
    if (tx->lsn <= rec->moment.lsn) {
        if (!rec_moment_sees(&rec->moment, tx->xid)) {
            rec->resync_wanted = true;
            return hw_fail(err, HW_ECONFLICT,
                           "transaction %u was finishing its commit while the snapshot was read: "
                           "it is read again",
                           tx->xid);
        }
        rec->skipping = true;
        return HW_OK;
    }
    if (rec->moment.lsn != HW_LSN_NONE) {
        rec_apply_progress(rec->apply, rec->moment.lsn);
        rec_moment_clear(&rec->moment);
    }
    rec_apply_begin(rec->apply, (struct hw_fence){.epoch = rec->epoch, .lsn = tx->lsn});
    return HW_OK;
}

static enum hw_status take_desired(struct rec_reconciler *rec, const struct cdc_transaction *tx,
                                   const struct cdc_change *change, struct hw_error *err)
{
    struct rec_desired row;
    const char *node;

    switch (change->action) {
    case CDC_INSERT:
    case CDC_UPDATE:
        if (rec_desired_from_columns(change->columns, tx->committed_at, &row, err) != HW_OK)
            return err->status;
        /* A blob is streamed once, when its row is made; a snapshot reads it again. */
        if (!rec_sink_has_object(rec->sink, row.digest + strlen("sha256:"))) {
            rec->resync_wanted = true;
            return hw_fail(err, HW_ESTOPPED, "node %s is to run %s, which NATS has lost", row.node,
                           row.digest);
        }
        rec_apply_set(rec->apply, &row);
        return HW_OK;
    case CDC_DELETE:
        if (hw_json_unpack(change->identity, err, "{s:s}", "node", &node) != HW_OK) {
            err->status = HW_EPROTO;
            return hw_fail_in(err, "a row deleted from headwater.desired");
        }
        rec_apply_remove(rec->apply, node);
        return HW_OK;
    default:
        rec->resync_wanted = true;
        return hw_fail(err, HW_EPROTO, "headwater.desired was truncated: a snapshot is due");
    }
}

static enum hw_status take_blob(struct rec_reconciler *rec, const struct cdc_change *change,
                                struct hw_error *err)
{
    const char *digest, *encoding, *content;
    struct rec_blob blob;
    enum hw_status status;
    size_t len;

    if (change->action != CDC_INSERT)
        return HW_OK;
    if (hw_json_unpack(change->columns, err, "{s:s, s:s, s:s%}", "digest", &digest, "encoding",
                       &encoding, "content", &content, &len) != HW_OK ||
        strncmp(digest, "sha256:", 7) != 0) {
        hw_fail_in(err, "a streamed row of headwater.blob");
        return err->status = HW_EPROTO;
    }
    status = rec_blob_decode(encoding, content, len, &blob, err);
    if (status != HW_OK)
        return status;
    status = rec_apply_blob(rec->apply, digest + 7, blob.data, blob.size, err);
    rec_blob_clear(&blob);
    return status;
}

static enum hw_status take_changelog(struct rec_reconciler *rec, const struct cdc_change *change,
                                     struct hw_error *err)
{
    const char *nonce;
    json_int_t rev;

    if (change->action != CDC_INSERT)
        return HW_OK;
    if (hw_json_unpack(change->columns, err, "{s:I, s:s}", "rev", &rev, "nonce", &nonce) != HW_OK) {
        err->status = HW_EPROTO;
        return hw_fail_in(err, "a streamed row of headwater.changelog");
    }
    rec_apply_changelog(rec->apply, rev, nonce);
    return HW_OK;
}

static enum hw_status take_message(struct rec_reconciler *rec, const struct cdc_change *change,
                                   struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    struct hw_error ignored;
    const char *command;

    if (hw_json_parse_object(change->content, change->content_len, &root, &ignored) != HW_OK ||
        hw_json_unpack(root, &ignored, "{s:s}", "command", &command) != HW_OK) {
        hw_log_warn("passing over a message that is no command", HW_S("slot", rec->config.slot),
                    HW_E(&ignored));
        return HW_OK;
    }
    if (strcmp(command, "resync") != 0)
        return HW_OK;
    rec->resync_wanted = true;
    return hw_fail(err, HW_ESTOPPED, "a resync was asked for in SQL");
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->skipping)
        return HW_OK;
    if (change->action == CDC_MESSAGE)
        return take_message(rec, change, err);
    if (strcmp(change->table, "desired") == 0)
        return take_desired(rec, tx, change, err);
    if (strcmp(change->table, "blob") == 0)
        return take_blob(rec, change, err);
    if (strcmp(change->table, "changelog") == 0)
        return take_changelog(rec, change, err);
    return HW_OK;
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    (void)tx;
    (void)err;
    if (!rec->skipping)
        rec_apply_commit(rec->apply, true);
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != STREAMING || position < rec->moment.lsn)
        return;
    rec_moment_clear(&rec->moment);
    rec_apply_progress(rec->apply, position);
}

static void on_source_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (err->status == HW_ESTOPPED) {
        hw_log_info("starting again", HW_S("slot", rec->config.slot), HW_S("why", err->message));
        happen(rec, LOST);
    } else if (err->status == HW_ECONFLICT && rec->state == LEADING) {
        happen(rec, TAKEN);
    } else {
        lose(rec, err);
    }
}

static void on_started(void *arg)
{
    happen(arg, STARTED);
}

static void lead(struct rec_reconciler *rec)
{
    const struct cdc_pg_options options = {
        .conninfo = rec->config.database,
        .slot = rec->config.slot,
        .start = rec->resync ? rec->server.slot_confirmed : rec->checkpoint.fence.lsn,
        .tables = TABLES,
        .message_prefix = MESSAGE_PREFIX,
        .application_name = "headwater-reconciler: stream",
    };
    const struct cdc_handler handler = {
        .started = on_started,
        .begin = on_begin,
        .change = on_change,
        .commit = on_commit,
        .progress = on_progress,
        .failed = on_source_failed,
        .arg = rec,
    };
    struct hw_error err;

    if (cdc_pg_open(rec->loop, &options, &handler, &rec->source, &err) != HW_OK)
        lose(rec, &err);
}

/* ---- loading: what stands in the sink ---- */

static void loaded(struct rec_reconciler *rec)
{
    if (!rec->keys_loaded || !rec->objects_loaded)
        return;
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    hw_obj_list_stop(HW_TAKE(rec->object_list));
    /* Entries of an epoch that the checkpoint does not know: it was lost, or put back. */
    if (rec->newest.epoch > rec->epoch) {
        rec->epoch = rec->newest.epoch;
        rec->resync = true;
        rec->resync_why = "entries are newer than the checkpoint's epoch";
    }
    /* Of this epoch nothing can be ahead of the database, and nothing would be written over it. */
    if (rec->newest.epoch == rec->epoch && rec->newest.lsn > rec->server.current) {
        rec->epoch++;
        rec->resync = true;
        rec->resync_why = "entries are ahead of the database, which was restored";
    }
    happen(rec, rec->resync ? LOADED_RESYNC : LOADED);
}

static void on_key(void *arg, struct hw_kv_entry *found)
{
    struct rec_reconciler *rec = arg;
    struct rec_entry *entry;

    if (strncmp(found->key, REC_DESIRED_PREFIX, strlen(REC_DESIRED_PREFIX)) != 0)
        return;
    entry = rec_sink_entry(rec->sink, found->key + strlen(REC_DESIRED_PREFIX));
    entry->seq = found->seq;
    entry->deleted = found->deleted;
    entry->fenced = found->fenced;
    entry->fence = found->fenced ? found->fence : (struct hw_fence){0};
    entry->hash =
        rec->resync && !found->deleted ? rec_desired_hash_of_value(found->value, found->size) : 0;
    if (hw_fence_compare(entry->fence, rec->newest) > 0)
        rec->newest = entry->fence;
}

static void on_keys_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec->keys_loaded = true;
    loaded(rec);
}

static void on_object(void *arg, const char *name, size_t size)
{
    struct rec_reconciler *rec = arg;

    (void)size;
    rec_sink_add_object(rec->sink, name);
}

static void on_objects_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec->objects_loaded = true;
    loaded(rec);
}

static void on_load_failed(void *arg, const struct hw_error *why)
{
    struct rec_reconciler *rec = arg;

    lose(rec, why);
}

static void load(struct rec_reconciler *rec)
{
    const struct hw_kv_watch_events key_events = {
        .entry = on_key, .caught_up = on_keys_loaded, .restarting = on_load_failed, .arg = rec};
    const struct hw_obj_list_events object_events = {
        .entry = on_object, .done = on_objects_loaded, .arg = rec};
    struct rec_checkpoint now = {0};
    struct hw_error err;
    bool valid;

    cdc_source_pause(rec->source, true);
    hw_log_info("leading", HW_S("slot", rec->config.slot));
    /* Whoever led before may have moved the checkpoint while we waited for the slot. */
    if (read_checkpoint(rec, &now, &valid, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    if (now.seq != rec->checkpoint.seq) {
        happen(rec, LOST);
        return;
    }
    rec->keys_loaded = rec->objects_loaded = false;
    rec->newest = (struct hw_fence){0};
    if (hw_kv_watch_start(rec->nats, rec->config.bucket, REC_DESIRED_PREFIX ">", &key_events,
                          &rec->key_watch, &err) != HW_OK ||
        hw_obj_list_start(rec->nats, rec->config.bucket, &object_events, &rec->object_list, &err) !=
            HW_OK ||
        rec_reports_start(rec->loop, rec->nats, rec->config.database, rec->reports_bucket,
                          &rec->reports, &err) != HW_OK)
        lose(rec, &err);
}

/* ---- reading a snapshot ---- */

static void on_snapshot_done(void *arg, size_t nodes, size_t written)
{
    struct rec_reconciler *rec = arg;

    rec->moment = rec_snapshot_take_moment(rec->snapshot);
    hw_log_info("compared NATS with a snapshot", HW_S("slot", rec->config.slot),
                HW_L("lsn", rec->moment.lsn), HW_I("epoch", (int64_t)rec->epoch),
                HW_I("nodes", (int64_t)nodes), HW_I("written", (int64_t)written));
    rec_apply_describe(rec->apply, rec->moment.rev, rec->moment.nonce);
    rec_snapshot_free(HW_TAKE(rec->snapshot));
    happen(rec, READ);
}

static void on_snapshot_failed(void *arg, const struct hw_error *err)
{
    lose(arg, err);
}

static void begin_apply(struct rec_reconciler *rec)
{
    struct rec_checkpoint stored = rec->checkpoint;
    struct rec_checkpoint applied = rec->checkpoint;

    if (rec->resync) {
        stored = (struct rec_checkpoint){.seq = rec->checkpoint.seq};
        applied = (struct rec_checkpoint){.fence.epoch = rec->epoch,
                                          .system_id = rec->server.system_id,
                                          .timeline = rec->server.timeline};
    }
    rec_apply_reset(rec->apply, &stored, &applied);
}

static void read_snapshot(struct rec_reconciler *rec)
{
    const struct rec_snapshot_events events = {
        .done = on_snapshot_done, .failed = on_snapshot_failed, .arg = rec};
    struct hw_error err;

    hw_log_info("resync: reading a snapshot of the database", HW_S("slot", rec->config.slot),
                HW_S("why", rec->resync_why), HW_I("epoch", (int64_t)rec->epoch));
    begin_apply(rec);
    if (rec_snapshot_start(rec->loop, rec->config.database, rec->apply, rec->sink, rec->epoch,
                           &events, &rec->snapshot, &err) != HW_OK)
        lose(rec, &err);
}

/* ---- streaming ---- */

static void resume(struct rec_reconciler *rec)
{
    hw_log_info("resuming behind the checkpoint", HW_S("slot", rec->config.slot),
                HW_L("lsn", rec->checkpoint.fence.lsn), HW_I("epoch", (int64_t)rec->epoch));
    begin_apply(rec);
}

static void stream(struct rec_reconciler *rec)
{
    if (!rec->resync) {
        resume(rec);
        cdc_source_confirm(rec->source, rec->checkpoint.fence.lsn);
    }
    hw_log_info("streaming", HW_S("slot", rec->config.slot),
                HW_I("nodes", (int64_t)rec_sink_count(rec->sink)),
                HW_I("objects", (int64_t)rec_sink_objects(rec->sink)));
    rec->retry_ms = RETRY_FIRST_MS;
    rec->standby_told = rec->trouble_told = false;
    /* What the snapshot handed over may still fill the window. */
    cdc_source_pause(rec->source, rec_apply_paused(rec->apply));
}

static void on_stored(void *arg, hw_lsn lsn)
{
    struct rec_reconciler *rec = arg;

    hw_log_debug("checkpoint stored", HW_S("slot", rec->config.slot), HW_L("lsn", lsn));
    /* The first one behind a snapshot: NATS has acknowledged all of it. */
    if (rec->resync)
        rec->resync_wanted = false;
    if (rec->source != NULL)
        cdc_source_confirm(rec->source, lsn);
}

static void on_apply_pause(void *arg, bool pause)
{
    struct rec_reconciler *rec = arg;

    if (rec->state == READING)
        rec_snapshot_pause(rec->snapshot, pause);
    else if (rec->state == STREAMING && !rec->draining)
        cdc_source_pause(rec->source, pause);
}

static void on_apply_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != READING && rec->state != STREAMING)
        return; /* the loss of NATS was told already */
    if (err->status == HW_ECONFLICT) {
        lose(rec, err);
        return;
    }
    hw_log_warn("NATS failed; the slot is kept until it is back", HW_S("slot", rec->config.slot),
                HW_E(err));
    rec->trouble_told = true;
    happen(rec, SINK_FAILED);
}

/* ---- stalled: the slot is kept, status goes on being sent, until the sink answers again ---- */

static void try_sink(void *arg)
{
    struct rec_reconciler *rec = arg;
    struct rec_checkpoint checkpoint = {0};
    struct hw_error err;
    bool valid;

    if (rec->state != STALLED)
        return;
    if (hw_nats_up(rec->nats) && read_checkpoint(rec, &checkpoint, &valid, &err) == HW_OK) {
        rec->retry_ms = RETRY_FIRST_MS;
        happen(rec, LOST);
        return;
    }
    hw_timer_start(rec->loop, &rec->retry, STALLED_MS, try_sink, rec);
}

static void stall(struct rec_reconciler *rec)
{
    if (!hw_pg_up(rec->pg)) {
        happen(rec, LOST);
        return;
    }
    cdc_source_pause(rec->source, true);
    hw_timer_start(rec->loop, &rec->retry, STALLED_MS, try_sink, rec);
}

/* ---- the states ---- */

static const struct transition {
    enum state from;
    enum event event;
    enum state to;
    void (*action)(struct rec_reconciler *rec);
    const char *comment;
} transitions[] = {
    {WAITING, SERVERS_UP, PREPARING, prepare, "look at server, slot and checkpoint"},
    {PREPARING, TAKEN, WAITING, stand_by, "one leads, the others wait for the slot"},
    {LEADING, TAKEN, WAITING, stand_by, "another one was quicker"},
    {PREPARING, PREPARED, LEADING, lead, "open the stream: the slot is the lock"},
    {LEADING, STARTED, LOADING, load, "hold the stream, read what stands in NATS"},
    {LOADING, LOADED, STREAMING, stream, "the checkpoint covers what was confirmed"},
    {LOADING, LOADED_RESYNC, READING, read_snapshot, "it does not, or someone asked"},
    {READING, READ, STREAMING, stream, "go on behind the snapshot, without a gap"},
    {STREAMING, SINK_FAILED, STALLED, stall, "NATS is away: keep the slot"},
    {READING, SINK_FAILED, WAITING, begin_again, "NATS is away: compare again later"},
    {PREPARING, LOST, WAITING, begin_again, "try again, a little later"},
    {LEADING, LOST, WAITING, begin_again, "the slot is taken, or the server went away"},
    {LOADING, LOST, WAITING, begin_again, "try again, a little later"},
    {READING, LOST, WAITING, begin_again, "try again, a little later"},
    {STREAMING, LOST, WAITING, begin_again, "start anew from the stored checkpoint"},
    {STALLED, LOST, WAITING, begin_again, "NATS is back, or the server went away"},
};

static void happen(struct rec_reconciler *rec, enum event event)
{
    if (rec->stopping)
        return;
    for (size_t i = 0; i < HW_COUNT(transitions); i++) {
        if (transitions[i].from != rec->state || transitions[i].event != event)
            continue;
        hw_log_debug(transitions[i].comment, HW_S("slot", rec->config.slot));
        rec->state = transitions[i].to;
        transitions[i].action(rec);
        return;
    }
}

/* ---- servers ---- */

static void on_pg_up(void *arg)
{
    look_again(arg);
}

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct rec_reconciler *rec = arg;

    if (rec->stopping)
        return;
    if (!rec->trouble_told)
        hw_log_warn("PostgreSQL cannot be reached", HW_E(why));
    rec->trouble_told = true;
    /* A server that shuts down waits for its stream to be confirmed, which without NATS it never
     * is: let it go. */
    if (rec->state == PREPARING || rec->state == STALLED)
        happen(rec, LOST);
}

static void on_nats_up(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_log_info("connected to NATS", HW_S("bucket", rec->config.bucket));
    /* While we were away, others may have written, and the server may have lost or restored. */
    happen(rec, LOST);
    look_again(rec);
}

static void on_nats_down(void *arg, const char *why)
{
    struct rec_reconciler *rec = arg;

    if (rec->stopping)
        return;
    hw_log_warn("NATS cannot be reached", HW_S("bucket", rec->config.bucket), HW_S("error", why));
    happen(rec, SINK_FAILED);
}

/* ---- life ---- */

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **out, struct hw_error *err)
{
    struct rec_reconciler *rec = hw_alloc(sizeof(*rec));
    const struct hw_pg_events pg_events = {.up = on_pg_up, .down = on_pg_down, .arg = rec};
    const struct hw_nats_events nats_events = {.up = on_nats_up, .down = on_nats_down, .arg = rec};
    const struct hw_nats_options nats_options = {.url = config->nats,
                                                 .name = "headwater-reconciler"};
    const struct rec_apply_events apply_events = {
        .stored = on_stored, .pause = on_apply_pause, .failed = on_apply_failed, .arg = rec};
    struct rec_apply_config apply_config;
    enum hw_status status;

    rec->loop = loop;
    rec->config = *config;
    rec->reports_bucket = hw_sprintf("%s_reports", config->bucket);
    rec->retry_ms = RETRY_FIRST_MS;
    rec->sink = rec_sink_new();
    status = cdc_slot_check_name(config->slot, err);
    if (status == HW_OK)
        status = hw_nats_open(loop, &nats_options, &nats_events, &rec->nats, err);
    if (status == HW_OK)
        status =
            hw_pg_open(loop, config->database, "headwater-reconciler", &pg_events, &rec->pg, err);
    if (status != HW_OK) {
        rec_reconciler_stop(rec);
        return status;
    }
    apply_config = (struct rec_apply_config){.loop = loop,
                                             .nats = rec->nats,
                                             .bucket = config->bucket,
                                             .sink = rec->sink,
                                             .window = (size_t)config->window};
    rec->apply = rec_apply_new(&apply_config, &apply_events);
    *out = rec;
    return HW_OK;
}

void rec_reconciler_resync(struct rec_reconciler *rec)
{
    rec->resync_wanted = true;
    hw_log_info("a resync was asked for by signal", HW_S("slot", rec->config.slot));
    happen(rec, LOST);
}

void rec_reconciler_drain(struct rec_reconciler *rec, int64_t timeout_ms)
{
    const int64_t until = hw_loop_now() + timeout_ms;
    const bool never = false;

    if (rec->state != STREAMING)
        return;
    rec->draining = true;
    cdc_source_pause(rec->source, true);
    rec_apply_rollback(rec->apply);          /* the end of that transaction is not waited for */
    rec_reports_stop(HW_TAKE(rec->reports)); /* its watch could begin again, and block */
    while (rec->state == STREAMING && rec_apply_busy(rec->apply) && hw_loop_now() < until)
        hw_loop_run_until(rec->loop, &never, 5);
}

void rec_reconciler_stop(struct rec_reconciler *rec)
{
    if (rec == NULL)
        return;
    rec->stopping = true;
    hw_timer_stop(&rec->retry);
    if (rec->apply != NULL)
        let_go(rec);
    hw_nats_close(rec->nats);
    rec_apply_free(rec->apply);
    hw_pg_close(rec->pg);
    rec_sink_free(rec->sink);
    free(rec->reports_bucket);
    free(rec);
}
