#include "reconciler/reconciler.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/archive.h"
#include "cdc/orphans.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/outage.h"
#include "common/points.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "pg/database.h"
#include "reconciler/compare/comparison.h"
#include "reconciler/counts/counts.h"
#include "reconciler/intake/fleet.h"
#include "reconciler/intake/liveness.h"
#include "reconciler/intake/proposals.h"
#include "reconciler/intake/reports.h"
#include "reconciler/leader.h"
#include "reconciler/publish/apply.h"
#include "reconciler/publish/changes.h"
#include "reconciler/publish/objects.h"
#include "reconciler/publish/sink.h"
#include "reconciler/survey.h"

enum {
    RETRY_FIRST_MS = 250,
    RETRY_MOST_MS = 5000,
    STANDBY_MS = 500,
    STALLED_MS = 500,
    PROBE_MS = 500,        /* how soon a foreign write is noticed while nothing else happens */
    DRIFT_FIRST_MS = 50,   /* from noticing to comparing … */
    DRIFT_AGAIN_MS = 2000, /* … when there was drift just now */
    CHECK_UP_MS = 10000,   /* looks at the slot */
    HEARTBEAT_RETRY_MS = 100,
    EPOCHS_MOST = 1000,     /* that a node may be ahead */
    HEED_EVERY_MS = 600000, /* between two times that the epoch is raised because of that */
    FOREIGN_LOGGED = 10, /* foreign writes that are logged one by one, until the next comparison */
};

enum state {
    WAITING,   /* for PostgreSQL and NATS, or for another try */
    PREPARING, /* looking at server, slot, checkpoint */
    LEADING,   /* opening the stream, which takes the slot */
    LOADING,   /* reading what stands in the sink */
    REPLAYING, /* from a copy of the archive slot; the stream is held */
    STREAMING, /* the normal case */
    STALLED,   /* the sink failed; the stream is held until it is back */
};

enum event {
    SERVERS_UP,    /* both can be reached */
    TAKEN,         /* another reconciler holds the slot */
    PREPARED,      /* nothing speaks against streaming */
    STARTED,       /* the slot is ours */
    LOADED,        /* the sink's state is known */
    LOADED_REPLAY, /* … and some of the log is to be sent again */
    REPLAYED,
    SINK_FAILED,
    LOST, /* whatever else went wrong, or must begin anew */
};

struct rec_reconciler {
    struct hw_loop *loop;
    struct rec_config config;
    char *reports_bucket, *archive_slot;
    enum state state;
    struct hw_timer retry;
    int64_t retry_ms;
    bool draining, stopping;

    struct hw_db
        *pg; /* for looking and heartbeats; stream, comparisons and reports have their own */
    struct hw_nats *nats;
    struct rec_sink *sink;
    struct rec_survey *survey;
    struct rec_fetch *fetch;
    struct rec_ledger ledger;
    struct rec_apply *apply;
    struct rec_counts counts;
    struct rec_fleet *fleet;
    struct rec_leader *leader;

    /* while leading */
    struct cdc_source *source, *replay;
    struct cdc_archive *archive;
    struct rec_reports *reports;
    struct rec_intake *proposals;
    struct rec_liveness *liveness;
    struct hw_kv_watch *key_watch; /* while loading */
    struct rec_objects *objects;
    struct hw_kv_probe *probe;
    bool keys_loaded, objects_loaded;
    bool fences_hidden; /* by entries without one */
    struct hw_timer check_up, heartbeat;

    struct cdc_server server;
    struct rec_checkpoint checkpoint; /* as read from the sink */
    bool checkpoint_valid;
    struct rec_checkpoint history; /* of the database, as of looking: no position */
    struct rec_recovery recovery;
    struct hw_fence newest; /* seen in the sink's entries */
    struct hw_fence ahead;  /* the newest that a report named: newer than any of ours can be? */
    struct hw_fence heeded; /* the last one that was, and because of which the epoch is raised … */
    int64_t heeded_at;      /* … and when, hw_loop_now() */
    hw_lsn replay_end;      /* where the replay that runs ends */

    struct rec_comparison *comparison;
    struct hw_timer comparison_timer;
    const char *comparison_why;
    bool comparison_again; /* drift was noticed while one runs */
    struct rec_comparison_result compared;
    int64_t drift_at; /* when a comparison last began because of drift, hw_loop_now() */
    int foreign_logged;

    struct rec_commands commands; /* of the open transaction */
    struct rec_commands ordered;  /* a replay that was asked for … */
    hw_lsn ordered_at;            /* … by the transaction that ends here */
    hw_lsn obeyed_at;             /* the same of the last one that was carried out */
    hw_lsn committed;             /* end of the newest transaction from the stream */
    int64_t behind_since;         /* hw_loop_now(); 0: all that came is confirmed */
    int64_t stored_at;
    struct hw_timer defend, begin_anew, heed;
    bool standby_told;
    struct hw_error trouble; /* the last one, for whoever asks whether we are ready */
    struct hw_outage halt;   /* of the stream, because of that */
    struct hw_outage pg_outage;
    struct hw_error pg_trouble;
    char *orphans; /* the slots that nobody reads, as they were told last; or NULL */
};

static void happen(struct rec_reconciler *rec, enum event event);
static void tell(struct rec_reconciler *rec);
static void comparison_within(struct rec_reconciler *rec, int64_t ms, const char *why);

static void end_comparison(void *arg);
static void begin_anew(void *arg);

/* ---- failures: logged here, once ---- */

static void lose(struct rec_reconciler *rec, const struct hw_error *err)
{
    if (rec->stopping || rec->state == WAITING)
        return;
    rec->trouble = *err;
    rec_leader_failed(rec->leader, err);
    /* The loss of a server is told by its connection. */
    const bool told = err->status == HW_EUNAVAIL && (!hw_db_up(rec->pg) || !hw_nats_up(rec->nats));
    if (!told && hw_outage_goes_on(&rec->halt, err->message, hw_loop_now()))
        hw_log_warn("cannot go on, starting again", HW_S("slot", rec->config.slot),
                    HW_I("lasts_s", hw_outage_age(&rec->halt, hw_loop_now()) / 1000), HW_E(err));
    rec->counts.failures++;
    happen(rec, LOST);
}

/* From the loop, for callbacks of what a new beginning takes down. */
static void begin_anew(void *arg)
{
    struct rec_reconciler *rec = arg;

    lose(rec, &rec->trouble);
}

/* ---- waiting ---- */

static void wait_ms(struct rec_reconciler *rec, int64_t ms);

static void look_again(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != WAITING || !hw_db_up(rec->pg) || !hw_nats_up(rec->nats))
        return; /* whichever is away calls when it comes */
    if (hw_db_idle(rec->pg))
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

    rec_survey_cancel(rec->survey);
    rec_leader_end(rec->leader);
    hw_timer_stop(&rec->check_up);
    hw_timer_stop(&rec->heartbeat);
    hw_timer_stop(&rec->comparison_timer);
    rec_comparison_free(HW_TAKE(rec->comparison));
    cdc_source_close(HW_TAKE(rec->replay));
    cdc_source_close(HW_TAKE(rec->source));
    cdc_archive_stop(HW_TAKE(rec->archive));
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    rec_objects_stop(HW_TAKE(rec->objects));
    hw_kv_probe_stop(HW_TAKE(rec->probe));
    rec_reports_stop(HW_TAKE(rec->reports));
    rec_intake_stop(HW_TAKE(rec->proposals));
    rec_liveness_stop(HW_TAKE(rec->liveness));
    rec_fleet_clear(rec->fleet);
    rec_ledger_close(&rec->ledger);
    rec_apply_reset(rec->apply, &none, &none, true);
    rec_fetch_reset(rec->fetch);
    rec_sink_clear(rec->sink);
    hw_timer_stop(&rec->defend);
    hw_timer_stop(&rec->begin_anew);
    hw_timer_stop(&rec->heed);
    rec->comparison_again = false;
    rec->behind_since = 0;
}

static void begin_again(struct rec_reconciler *rec)
{
    let_go(rec);
    wait_ms(rec, rec->retry_ms);
    rec->retry_ms = 2 * rec->retry_ms < RETRY_MOST_MS ? 2 * rec->retry_ms : RETRY_MOST_MS;
}

static void stand_by(struct rec_reconciler *rec)
{
    int64_t lasted;

    if (!rec->standby_told)
        hw_log_info("another reconciler leads, standing by", HW_S("slot", rec->config.slot),
                    HW_S("database", rec->server.database),
                    HW_S("by", rec->server.slot_application),
                    HW_I("pid", rec->server.slot_active_pid));
    rec->standby_told = true;
    (void)hw_outage_ends(&rec->halt, hw_loop_now(), &lasted);
    rec->trouble = (struct hw_error){0};
    rec->ordered.command = REC_COMMAND_NONE; /* whoever leads reads it, too */
    let_go(rec);
    rec_counts_forget(&rec->counts);
    wait_ms(rec, STANDBY_MS);
}

/* ---- preparing ---- */

static void prepare(struct rec_reconciler *rec)
{
    rec_survey_begin(rec->survey, rec->heeded);
}

static void on_slot_taken(void *arg, const struct cdc_server *server)
{
    struct rec_reconciler *rec = arg;

    rec->server = *server;
    happen(rec, TAKEN);
}

/* A leader with another slot: to be asked for again with growing pauses, as after a failure. */
static void on_bucket_held(void *arg, const struct hw_error *why)
{
    struct rec_reconciler *rec = arg;
    const int64_t now = hw_loop_now();

    rec->trouble = *why;
    if (hw_outage_goes_on(&rec->halt, why->message, now))
        hw_log_error("standing back: another slot's reconciler writes the bucket",
                     HW_S("slot", rec->config.slot), HW_S("bucket", rec->config.bucket),
                     HW_I("lasts_s", hw_outage_age(&rec->halt, now) / 1000), HW_E(why));
    rec_counts_forget(&rec->counts);
    happen(rec, LOST);
}

static void on_surveyed(void *arg, const struct rec_findings *found)
{
    struct rec_reconciler *rec = arg;

    rec->server = found->server;
    rec->checkpoint = found->checkpoint;
    rec->checkpoint_valid = found->checkpoint_valid;
    rec->history = found->history;
    /* From here on it is our slot that is behind what is stored. */
    snprintf(rec->checkpoint.slot, sizeof(rec->checkpoint.slot), "%s", rec->config.slot);
    snprintf(rec->history.slot, sizeof(rec->history.slot), "%s", rec->config.slot);
    rec->recovery = found->recovery;
    happen(rec, PREPARED);
}

static void on_survey_failed(void *arg, const struct hw_error *why)
{
    lose(arg, why);
}

/* ---- leading: the stream ---- */

static void obeyed(struct rec_reconciler *rec)
{
    if (rec->recovery.way == REC_REPLAY)
        return; /* another replay went first: the command comes again by the stream */
    rec->obeyed_at = rec->ordered_at;
    rec->ordered.command = REC_COMMAND_NONE;
}

static void leave_replay(struct rec_reconciler *rec)
{
    if (rec->state != REPLAYING)
        return;
    cdc_source_close(HW_TAKE(rec->replay));
    rec_apply_rollback(rec->apply);
    rec_apply_progress(rec->apply, rec->recovery.way == REC_REPLAY ? rec->replay_end : HW_LSN_NONE);
    rec->counts.replays++;
    obeyed(rec);
    hw_log_info("replayed from the log", HW_S("slot", rec->archive_slot),
                HW_L("lsn", rec->replay_end));
    happen(rec, REPLAYED);
}

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;
    int64_t committed_at;

    (void)err;
    if (rec->state == REPLAYING && tx->lsn > rec->replay_end) {
        leave_replay(rec);
        return HW_OK;
    }
    if (rec->state == REPLAYING || !hw_clock_parse(tx->committed_at, &committed_at))
        committed_at = 0;
    rec->commands = (struct rec_commands){0};
    rec_apply_begin(rec->apply, (struct hw_fence){.epoch = rec->recovery.epoch, .lsn = tx->lsn},
                    committed_at);
    return HW_OK;
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    return rec_change_take(rec->apply, tx, change, &rec->commands, err);
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    rec->counts.transactions++;
    if (rec->state == REPLAYING) {
        rec_apply_commit(rec->apply);
        HW_POINT("mid-replay");
        cdc_source_confirm(rec->replay, tx->lsn); /* shows how far it is */
        if (tx->lsn >= rec->replay_end)
            leave_replay(rec);
        return HW_OK;
    }
    /* The command is confirmed when it was carried out: until then the stream ends in front of it.
     */
    if (rec->commands.command == REC_COMMAND_REPLAY && tx->lsn != rec->obeyed_at) {
        rec->ordered = rec->commands;
        rec->ordered_at = tx->lsn;
        return hw_fail(err, HW_ESTOPPED, "a replay was asked for in SQL");
    }
    if (rec->commands.command == REC_COMMAND_RESYNC)
        comparison_within(rec, 0, "asked for in SQL");
    rec->committed = tx->lsn;
    if (rec->behind_since == 0)
        rec->behind_since = hw_loop_now();
    rec_apply_commit(rec->apply);
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    struct rec_reconciler *rec = arg;

    if (rec->state == REPLAYING) {
        if (position >= rec->replay_end)
            leave_replay(rec);
        return;
    }
    rec_apply_progress(rec->apply, position);
}

static void on_started(void *arg)
{
    happen(arg, STARTED);
}

static void on_source_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (err->status == HW_ECONFLICT && rec->state == LEADING)
        happen(rec, TAKEN);
    else
        lose(rec, err);
}

static struct cdc_handler handler(struct rec_reconciler *rec)
{
    return (struct cdc_handler){
        .begin = on_begin,
        .change = on_change,
        .commit = on_commit,
        .progress = on_progress,
        .failed = on_source_failed,
        .arg = rec,
    };
}

static void lead(struct rec_reconciler *rec)
{
    /* What the slot remembers may be older than what was confirmed to it: the position is ours. */
    const struct cdc_pg_options options = {
        .conninfo = rec->config.database,
        .slot = rec->config.slot,
        .start = rec->recovery.way == REC_RESUME ? rec->checkpoint.fence.lsn
                                                 : rec->server.slot_confirmed,
        .tables = REC_TABLES,
        .message_prefix = REC_MESSAGE_PREFIX,
        .application_name = "headwater-reconciler: stream",
    };
    struct cdc_handler h = handler(rec);
    struct hw_error err;

    h.started = on_started;
    if (cdc_pg_open(rec->loop, &options, &h, &rec->source, &err) != HW_OK)
        lose(rec, &err);
}

/* ---- loading: what stands in the sink ---- */

static void loaded(struct rec_reconciler *rec)
{
    const bool ordered = rec->ordered.command == REC_COMMAND_REPLAY;

    if (rec->recovery.way == REC_REPLAY || (rec->recovery.way == REC_RESUME && ordered))
        happen(rec, LOADED_REPLAY);
    else
        happen(rec, LOADED);
}

static void new_epoch(struct rec_reconciler *rec, uint64_t epoch, const char *why)
{
    rec->recovery = (struct rec_recovery){REC_REBUILD, epoch, why, false};
}

/* Where does the log end now? Entries that were there before cannot be ahead of it. */
static void on_end_known(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err = outcome->err;
    hw_lsn end = HW_LSN_NONE;

    if (rec->state != LOADING)
        return;
    if (outcome->status != HW_OK ||
        hw_lsn_parse(PQgetvalue(outcome->results[0], 0, 0), &end, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    if (rec->newest.lsn > end)
        new_epoch(rec, rec->recovery.epoch + 1,
                  "entries are ahead of the database, which was restored");
    loaded(rec);
}

static void all_read(struct rec_reconciler *rec)
{
    static const struct hw_db_query query = {.sql = "SELECT pg_current_wal_insert_lsn()::text"};
    struct hw_error err;

    if (!rec->keys_loaded || !rec->objects_loaded || rec->state != LOADING)
        return;
    /* Entries of an epoch that the checkpoint does not know: it was lost, or put back. */
    if (rec->newest.epoch > rec->recovery.epoch)
        new_epoch(rec, rec->newest.epoch, "entries are newer than the checkpoint's epoch");
    /* Of this epoch nothing can be ahead of the database, and nothing would be written over it. The
     * one who led before us may have gone on since we looked, so we ask again. */
    if (rec->newest.epoch != rec->recovery.epoch || rec->newest.lsn <= rec->server.current)
        loaded(rec);
    else if (hw_db_run(rec->pg, HW_DB_SEPARATE, &query, 1, NULL, on_end_known, rec, &err) != HW_OK)
        lose(rec, &err);
}

static void on_key(void *arg, struct hw_kv_entry *found)
{
    struct rec_reconciler *rec = arg;
    struct rec_entry *entry;

    if (!rec_sink_has_key(found->key))
        return;
    entry = rec_sink_entry(rec->sink, found->key);
    entry->seq = found->seq;
    entry->deleted = found->deleted;
    if (found->fenced)
        entry->fence = found->fence;
    else
        rec->fences_hidden = true;
    if (hw_fence_compare(entry->fence, rec->newest) > 0)
        rec->newest = entry->fence;
}

static void read_keys(struct rec_reconciler *rec, enum hw_deliver deliver);

static void on_keys_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    rec->keys_loaded = true;
    all_read(rec);
}

/* A stranger's entry hides the fence of ours. Without it a transaction that was published already
 * would be once more: then all that is kept of each key is read. */
static void on_last_entries_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (!rec->fences_hidden) {
        on_keys_loaded(rec);
        return;
    }
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    read_keys(rec, HW_DELIVER_ALL);
}

static void on_objects_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec->objects_loaded = true;
    all_read(rec);
}

static void on_object_drift(void *arg)
{
    comparison_within(arg, DRIFT_FIRST_MS, "drift");
}

static void on_load_failed(void *arg, const struct hw_error *why)
{
    struct rec_reconciler *rec = arg;

    lose(rec, why);
}

/* Writes the checkpoint's key and waits; NULL: a deletion marker. */
static enum hw_status put_checkpoint(struct rec_reconciler *rec, const struct rec_checkpoint *c,
                                     struct hw_error *err)
{
    HW_AUTO_FREE char *value = c != NULL ? rec_checkpoint_value(c) : NULL;
    natsMsg *msg = NULL;

    if (hw_kv_message(rec->config.bucket, REC_CHECKPOINT_KEY, value,
                      value != NULL ? strlen(value) : 0, c != NULL ? &c->fence : NULL, &msg,
                      err) != HW_OK)
        return err->status;
    return hw_nats_publish_wait(rec->nats, msg, rec->checkpoint.seq, &rec->checkpoint.seq, err);
}

/*
 * Stores the checkpoint once more, or a deletion marker where there is no valid one, so that a
 * predecessor that only stood still finds its compare-and-set refused from here on.
 */
static enum hw_status claim(struct rec_reconciler *rec, struct hw_error *err)
{
    return put_checkpoint(rec, rec->checkpoint_valid ? &rec->checkpoint : NULL, err);
}

/*
 * A rebuild writes entries long before its checkpoint. Its epoch is made known first, with the
 * history that it stands for: should that change again meanwhile, the next epoch is another one.
 */
static enum hw_status claim_epoch(struct rec_reconciler *rec, struct hw_error *err)
{
    struct rec_checkpoint c = rec->history;

    if (rec->checkpoint_valid && rec->checkpoint.fence.epoch == rec->recovery.epoch)
        return HW_OK;
    c.fence.epoch = rec->recovery.epoch;
    if (put_checkpoint(rec, &c, err) != HW_OK)
        return err->status;
    rec_ledger_own(&rec->ledger, rec->checkpoint.seq);
    return HW_OK;
}

/* expected: the ledger's next number when this was asked. What was acknowledged since then may have
 * overtaken the answer. */
static void on_probed(void *arg, enum hw_status status, uint64_t last_seq, uint64_t expected)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (rec->state == STALLED)
        return;
    if (status == HW_OK && last_seq + 1 >= expected) {
        rec_ledger_told(&rec->ledger, last_seq);
        return;
    }
    if (status == HW_OK)
        hw_fail(&err, HW_ECORRUPT,
                "bucket %s: its last message is %llu, and a later one was acknowledged: NATS has "
                "lost data",
                rec->config.bucket, (unsigned long long)last_seq);
    else
        hw_fail(&err, HW_ENOENT, "bucket %s does not exist any more", rec->config.bucket);
    rec->trouble = err;
    /* The probe must not be stopped from here: look anew a little later. */
    hw_timer_start(rec->loop, &rec->begin_anew, 0, begin_anew, rec);
}

/* ---- nodes that are ahead ---- */

/*
 * NATS and the database were both lost, and the database came back from a backup: nothing that we
 * can read knows the epochs and positions that were since. Nodes do, and refuse what is older. The
 * epoch is raised above what they name; but a node may say anything, so that is done now and then,
 * and not by any number.
 */
static void heed_nodes(struct rec_reconciler *rec)
{
    const struct hw_fence *ahead = &rec->ahead;
    struct hw_error err;

    if (rec->state != STREAMING || rec->draining || ahead->epoch == 0)
        return;
    const hw_lsn position = rec_apply_position(rec->apply);
    hw_lsn newest = rec->committed > rec->server.current ? rec->committed : rec->server.current;
    if (position > newest)
        newest = position;
    if (hw_fence_compare(*ahead, (struct hw_fence){rec->recovery.epoch, newest}) <= 0) {
        rec->ahead = (struct hw_fence){0};
        return;
    }
    if (ahead->epoch > rec->recovery.epoch + EPOCHS_MOST) {
        hw_log_error("a report names an epoch that cannot be: passed over",
                     HW_I("epoch", (int64_t)ahead->epoch), HW_L("lsn", ahead->lsn));
        rec->ahead = (struct hw_fence){0};
        return;
    }
    if (rec->heeded_at != 0 && hw_loop_now() - rec->heeded_at < HEED_EVERY_MS)
        return;
    rec->heeded_at = hw_loop_now();
    rec->heeded = *ahead;
    hw_fail(&err, HW_ESTOPPED,
            "a node reports an entry of epoch %llu, %s, which the database's log does not know: it "
            "was restored, and nodes refuse what is older",
            (unsigned long long)ahead->epoch, HW_LSN(ahead->lsn));
    lose(rec, &err);
}

static void on_heed(void *arg)
{
    heed_nodes(arg);
}

static void on_reported_fence(void *arg, struct hw_fence fence)
{
    struct rec_reconciler *rec = arg;

    if (hw_fence_compare(fence, rec->ahead) <= 0)
        return;
    rec->ahead = fence;
    hw_timer_start(rec->loop, &rec->heed, 0, on_heed, rec);
}

static void read_keys(struct rec_reconciler *rec, enum hw_deliver deliver)
{
    const struct hw_kv_watch_events events = {
        .entry = on_key,
        .caught_up = deliver == HW_DELIVER_LAST ? on_last_entries_loaded : on_keys_loaded,
        .restarting = on_load_failed,
        .arg = rec};
    struct hw_error err;

    if (hw_kv_watch_start(rec->nats, rec->config.bucket, REC_SINK_KEYS, deliver, &events,
                          &rec->key_watch, &err) != HW_OK)
        lose(rec, &err);
}

static void load(struct rec_reconciler *rec)
{
    const struct rec_objects_config objects = {.loop = rec->loop,
                                               .nats = rec->nats,
                                               .bucket = rec->config.bucket,
                                               .sink = rec->sink,
                                               .counts = &rec->counts,
                                               .grace_ms = rec->config.gc_grace_ms};
    const struct rec_objects_events object_events = {
        .loaded = on_objects_loaded, .drift = on_object_drift, .lost = on_load_failed, .arg = rec};
    struct hw_error err;
    enum hw_status status;

    cdc_source_pause(rec->source, true);
    hw_log_info("leading", HW_S("slot", rec->config.slot));
    if (rec_leader_begin(rec->leader, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    /* Whoever led before may have moved the checkpoint while we waited for the slot. */
    status = claim(rec, &err);
    if (status == HW_ECONFLICT) {
        happen(rec, LOST);
        return;
    }
    if (status != HW_OK) {
        lose(rec, &err);
        return;
    }
    rec_ledger_open(&rec->ledger, rec->checkpoint.seq);
    rec->keys_loaded = rec->objects_loaded = rec->fences_hidden = false;
    rec->newest = (struct hw_fence){0};
    rec->objects = rec_objects_start(&objects, &object_events);
    if (rec_reports_start(rec->loop, rec->nats, rec->config.database, rec->reports_bucket,
                          (int)rec->config.replicas, &rec->counts, on_reported_fence, rec,
                          &rec->reports, &err) != HW_OK ||
        rec_proposals_start(rec->loop, rec->nats, rec->config.database, rec->reports_bucket,
                            &rec->proposals, &err) != HW_OK ||
        rec_liveness_start(rec->loop, rec->nats, rec->config.database, rec->config.bucket,
                           &rec->counts, &rec->liveness, &err) != HW_OK)
        lose(rec, &err);
    else
        read_keys(rec, HW_DELIVER_LAST);
}

/* ---- replaying ---- */

static void begin_apply(struct rec_reconciler *rec)
{
    const struct rec_checkpoint nothing = {.seq = rec->checkpoint.seq};
    struct rec_checkpoint start = {.fence.epoch = rec->recovery.epoch,
                                   .system_id = rec->server.system_id,
                                   .timeline = rec->server.timeline};

    snprintf(start.slot, sizeof(start.slot), "%s", rec->config.slot);
    if (rec->recovery.way == REC_REBUILD)
        rec_apply_reset(rec->apply, &nothing, &start, true);
    else
        rec_apply_reset(rec->apply, &rec->checkpoint, &rec->checkpoint, false);
}

static void replay(struct rec_reconciler *rec)
{
    const bool ordered = rec->recovery.way != REC_REPLAY;
    const hw_lsn start = ordered ? rec->ordered.from : rec->checkpoint.fence.lsn;
    const hw_lsn end = ordered ? rec->checkpoint.fence.lsn : rec->server.slot_confirmed;
    HW_AUTO_FREE char *temporary =
        hw_sprintf("%.40s_replay_%08x", rec->config.slot, (unsigned)random());
    HW_AUTO_FREE char *prepare = cdc_slot_copy_sql(rec->archive_slot, temporary);
    const struct cdc_pg_options options = {
        .conninfo = rec->config.database,
        .slot = temporary,
        .start = start,
        .tables = REC_TABLES,
        .application_name = "headwater-reconciler: replay",
        .prepare = prepare,
    };
    const struct cdc_handler h = handler(rec);
    struct hw_error err;

    rec->replay_end = end;
    if (ordered && rec->ordered.to != HW_LSN_NONE && rec->ordered.to < end)
        rec->replay_end = rec->ordered.to;
    begin_apply(rec);
    if (ordered && cdc_archive_check(&rec->server, rec->config.slot, start, NULL) != HW_OK) {
        hw_log_error("a replay was asked for that the archive slot does not reach back to; "
                     "headwater.resync() compares everything instead",
                     HW_S("slot", rec->archive_slot), HW_L("from", start),
                     HW_L("archive", rec->server.archive_confirmed));
        obeyed(rec);
        happen(rec, REPLAYED);
        return;
    }
    if (start >= rec->replay_end) {
        obeyed(rec);
        happen(rec, REPLAYED);
        return;
    }
    hw_log_info("replaying from the log", HW_S("slot", rec->archive_slot), HW_L("from", start),
                HW_L("to", rec->replay_end),
                HW_S("why", ordered ? "asked for" : rec->recovery.why));
    if (cdc_pg_open(rec->loop, &options, &h, &rec->replay, &err) != HW_OK)
        lose(rec, &err);
}

/* ---- streaming ---- */

static void on_archive_trouble(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    hw_log_warn("the archive slot does not stand as it should", HW_S("slot", rec->archive_slot),
                HW_E(err));
}

static void check_up(void *arg);

static void stream(struct rec_reconciler *rec)
{
    const struct cdc_archive_options archive = {.slot = rec->config.slot,
                                                .keep_bytes = rec->config.archive_bytes,
                                                .keep_ms = rec->config.archive_ms};
    const struct cdc_archive_events archive_events = {.trouble = on_archive_trouble, .arg = rec};
    int64_t lasted;
    struct hw_error err;

    if (rec->recovery.way != REC_REBUILD)
        cdc_source_confirm(rec->source, rec->checkpoint.fence.lsn);
    hw_log_info("streaming", HW_S("slot", rec->config.slot),
                HW_S("recovery", rec->recovery.way == REC_RESUME   ? "resume behind the checkpoint"
                                 : rec->recovery.way == REC_REPLAY ? "resume behind the replay"
                                                                   : "rebuild"),
                HW_S("why", rec->recovery.way == REC_RESUME ? NULL : rec->recovery.why),
                HW_L("checkpoint", rec->checkpoint.fence.lsn),
                HW_I("epoch", (int64_t)rec->recovery.epoch),
                HW_I("nodes", (int64_t)rec_sink_nodes(rec->sink)),
                HW_I("objects", (int64_t)rec_sink_objects(rec->sink)));
    rec->retry_ms = RETRY_FIRST_MS;
    rec->standby_told = false;
    rec->trouble = (struct hw_error){0};
    (void)hw_outage_ends(&rec->halt, hw_loop_now(), &lasted);
    rec->counts.streams++;
    rec->stored_at = hw_loop_now();
    if (cdc_archive_start(rec->loop, rec->config.database, &archive, &archive_events, &rec->archive,
                          &err) != HW_OK ||
        hw_kv_probe_start(rec->nats, rec->config.bucket, PROBE_MS, &rec->ledger.next, on_probed,
                          rec, &rec->probe, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    comparison_within(rec, 0,
                      rec->recovery.way == REC_REBUILD ? rec->recovery.why : "began to lead");
    hw_timer_start(rec->loop, &rec->check_up, 0, check_up, rec);
    /* What a replay handed over may still fill the window. */
    cdc_source_pause(rec->source, rec_apply_paused(rec->apply));
}

static void resume(struct rec_reconciler *rec)
{
    struct hw_error err;

    if (rec->recovery.way == REC_REBUILD && claim_epoch(rec, &err) != HW_OK) {
        lose(rec, &err);
        return;
    }
    begin_apply(rec);
    stream(rec);
}

static void on_stored(void *arg, hw_lsn lsn)
{
    struct rec_reconciler *rec = arg;

    hw_log_debug("checkpoint stored", HW_S("slot", rec->config.slot), HW_L("lsn", lsn));
    rec->behind_since = lsn >= rec->committed ? 0 : rec->stored_at;
    rec->stored_at = hw_loop_now();
    if (rec->source != NULL)
        cdc_source_confirm(rec->source, lsn);
}

static void on_moved(void *arg, hw_lsn lsn)
{
    struct rec_reconciler *rec = arg;

    if (rec->comparison != NULL)
        rec_comparison_moved(rec->comparison, lsn);
}

static void on_apply_pause(void *arg, bool pause)
{
    struct rec_reconciler *rec = arg;

    if (rec->comparison != NULL)
        rec_comparison_pause(rec->comparison, pause);
    if (rec->state == REPLAYING && rec->replay != NULL)
        cdc_source_pause(rec->replay, pause);
    else if (rec->state == STREAMING && !rec->draining)
        cdc_source_pause(rec->source, pause);
}

static void on_apply_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != REPLAYING && rec->state != STREAMING)
        return; /* the loss of NATS was told already */
    if (err->status == HW_ECONFLICT || err->status == HW_ESTOPPED) {
        lose(rec, err);
        return;
    }
    hw_log_warn("NATS failed; the slot is kept until it is back", HW_S("slot", rec->config.slot),
                HW_E(err));
    rec->trouble = *err;
    rec_leader_failed(rec->leader, err);
    happen(rec, SINK_FAILED);
}

/* ---- heartbeats, and a look at the slot ---- */

static void on_heartbeat(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;

    if (outcome->status != HW_OK)
        hw_log_warn("a heartbeat failed", HW_S("slot", rec->config.slot), HW_E(&outcome->err));
}

static void beat(void *arg)
{
    static const struct hw_db_query query = {.sql = "SELECT headwater.heartbeat()"};
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (rec->state != STREAMING)
        return;
    if (hw_db_run(rec->pg, HW_DB_SEPARATE, &query, 1, NULL, on_heartbeat, rec, &err) != HW_OK)
        hw_timer_start(rec->loop, &rec->heartbeat, HEARTBEAT_RETRY_MS, beat, rec);
    else if (rec->config.heartbeat_ms > 0)
        hw_timer_start(rec->loop, &rec->heartbeat, rec->config.heartbeat_ms, beat, rec);
}

/* Told when another one has come: who looks after them may be on the way. */
static void look_at_orphans(struct rec_reconciler *rec, const PGresult *orphans)
{
    struct hw_buf names = {0};

    rec->counts.orphan_slots = PQntuples(orphans);
    for (int i = 0; i < PQntuples(orphans); i++)
        hw_buf_printf(&names, "%s ", cdc_orphan_at(orphans, i).slot);
    for (int i = 0; i < PQntuples(orphans); i++) {
        const struct cdc_orphan orphan = cdc_orphan_at(orphans, i);
        HW_AUTO_FREE char *name = hw_sprintf("%s ", orphan.slot);
        HW_AUTO_FREE char *text = cdc_orphan_text(&orphan);

        if (rec->orphans == NULL || strstr(rec->orphans, name) == NULL)
            hw_log_warn("a slot holds log back, and nobody reads it", HW_S("slot", orphan.slot),
                        HW_I("retained", orphan.retained), HW_S("advice", text));
    }
    free(rec->orphans);
    rec->orphans = hw_strdup(hw_buf_str(&names));
    hw_buf_free(&names);
}

static void on_checked_up(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct cdc_server *s = &rec->server;
    struct rec_counts *c = &rec->counts;
    struct hw_error err;

    if ((rec->state != STREAMING && rec->state != STALLED) || outcome->status != HW_OK ||
        cdc_server_read(outcome->results[0], s, &err) != HW_OK)
        return; /* the connection's loss is told by itself */
    c->lag_bytes = (double)(int64_t)(s->current - s->slot_confirmed);
    c->retained_bytes = (double)(int64_t)(s->current - s->slot_restart);
    c->slot_safe_bytes = (double)s->slot_safe_wal_size;
    c->slot_usable = s->slot_exists && strcmp(s->slot_wal_status, "lost") != 0;
    if (rec->config.archive_bytes > 0) {
        c->archive_usable = s->archive_exists && strcmp(s->archive_wal_status, "lost") != 0;
        c->archive_reach_bytes =
            s->archive_exists ? (double)(int64_t)(s->current - s->archive_confirmed) : 0;
        c->archive_retained_bytes =
            s->archive_exists ? (double)(int64_t)(s->current - s->archive_restart) : 0;
    }
    rec_fleet_take(rec->fleet, outcome->results[1], c);
    rec_leader_take(rec->leader, outcome->results[2]);
    look_at_orphans(rec, outcome->results[3]);
    if (strcmp(s->slot_wal_status, "unreserved") == 0)
        hw_log_warn("the slot is about to lose the log that it needs: raise "
                    "max_slot_wal_keep_size, or see what holds the stream up",
                    HW_S("slot", rec->config.slot), HW_I("lag", (int64_t)c->lag_bytes));
    heed_nodes(rec);
}

static void check_up(void *arg)
{
    struct rec_reconciler *rec = arg;
    const char *const values[] = {rec->config.slot, REC_TABLES};
    const struct hw_db_query queries[] = {{.sql = cdc_server_sql, .count = 2, .values = values},
                                          rec_fleet_query(rec->fleet),
                                          rec_leader_query(),
                                          {.sql = cdc_orphans_sql, .count = 1, .values = values}};

    /* While the sink is away the lag grows all the more. */
    if (rec->state != STREAMING && rec->state != STALLED)
        return;
    hw_timer_start(rec->loop, &rec->check_up, CHECK_UP_MS, check_up, rec);
    /* A connection that is busy is looked at the next time. */
    (void)!hw_db_run(rec->pg, HW_DB_SEPARATE, queries, HW_COUNT(queries), NULL, on_checked_up, rec,
                     NULL);
}

/* ---- comparisons ---- */

static void on_comparison_begun(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_timer_start(rec->loop, &rec->heartbeat, 0, beat, rec);
}

static void on_comparison_done(void *arg, const struct rec_comparison_result *result)
{
    struct rec_reconciler *rec = arg;

    rec->compared = *result;
    rec_apply_release(rec->apply, result->rev, result->nonce);
}

static void on_comparison_failed(void *arg, const struct hw_error *err)
{
    lose(arg, err);
}

/* The repairs are acknowledged. */
static void on_released(void *arg)
{
    struct rec_reconciler *rec = arg;
    const struct rec_comparison_result *r = &rec->compared;
    const size_t differed = r->keys + r->objects;

    hw_log(differed > 0 && rec->recovery.way != REC_REBUILD ? HW_LOG_WARN : HW_LOG_INFO,
           "compared NATS with the database", HW_S("slot", rec->config.slot),
           HW_L("lsn", r->position), HW_I("epoch", (int64_t)rec->recovery.epoch),
           HW_I("rev", r->rev), HW_I("nodes", (int64_t)r->nodes),
           HW_I("repaired", (int64_t)r->keys), HW_I("removed", (int64_t)r->removed),
           HW_I("objects", (int64_t)r->objects), HW_S("why", rec->comparison_why));
    rec->counts.comparisons++;
    rec->counts.repaired += r->keys;
    if (rec->recovery.way == REC_REBUILD) {
        rec->counts.rebuilds++;
        rec->recovery.way = REC_RESUME;
        rec->recovery.rewrite = false;
    } else {
        rec->counts.drift += differed;
    }
    tell(rec);
    rec->foreign_logged = 0;
    hw_timer_start(rec->loop, &rec->comparison_timer, 0, end_comparison, rec);
}

static void begin_comparison(void *arg)
{
    struct rec_reconciler *rec = arg;
    const struct rec_comparison_config config = {.loop = rec->loop,
                                                 .nats = rec->nats,
                                                 .conninfo = rec->config.database,
                                                 .bucket = rec->config.bucket,
                                                 .apply = rec->apply,
                                                 .sink = rec->sink,
                                                 .signer = rec->config.signer,
                                                 .epoch = rec->recovery.epoch,
                                                 .rewrite = rec->recovery.rewrite,
                                                 .quiet = rec->recovery.way == REC_REBUILD};
    const struct rec_comparison_events events = {.begun = on_comparison_begun,
                                                 .done = on_comparison_done,
                                                 .failed = on_comparison_failed,
                                                 .arg = rec};
    struct hw_error err;

    if (rec->state != STREAMING || rec->draining)
        return;
    hw_log_debug("comparing NATS with the database", HW_S("slot", rec->config.slot),
                 HW_S("why", rec->comparison_why));
    if (rec_comparison_start(&config, &events, &rec->comparison, &err) != HW_OK)
        lose(rec, &err);
    else if (rec_apply_paused(rec->apply))
        rec_comparison_pause(rec->comparison, true);
}

static void end_comparison(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec_comparison_free(HW_TAKE(rec->comparison));
    if (rec->state != STREAMING)
        return;
    rec_objects_compared(rec->objects);
    if (rec->comparison_again)
        comparison_within(rec, DRIFT_FIRST_MS, "drift");
    else if (rec->config.compare_ms > 0)
        comparison_within(rec, rec->config.compare_ms, "the interval is over");
}

static void comparison_within(struct rec_reconciler *rec, int64_t ms, const char *why)
{
    if (rec->state != STREAMING)
        return; /* it begins with one */
    if (rec->comparison != NULL) {
        rec->comparison_again = true;
        return;
    }
    if (ms == DRIFT_FIRST_MS) {
        if (hw_loop_now() - rec->drift_at < DRIFT_AGAIN_MS)
            ms = DRIFT_AGAIN_MS;
        rec->drift_at = hw_loop_now();
    }
    if (hw_timer_running(&rec->comparison_timer) && rec->comparison_timer.due <= hw_loop_now() + ms)
        return;
    rec->comparison_again = false;
    rec->comparison_why = why;
    hw_timer_start(rec->loop, &rec->comparison_timer, ms, begin_comparison, rec);
}

static void on_defend(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (rec->state == STREAMING || rec->state == REPLAYING)
        rec_apply_defend_checkpoint(rec->apply);
}

/* A message in our stream that we did not write. */
static void on_foreign(void *arg, uint64_t seq)
{
    struct rec_reconciler *rec = arg;
    struct hw_kv_entry found = {0};
    const char *key = "?";

    rec->counts.drift++;
    if (rec->foreign_logged < FOREIGN_LOGGED &&
        hw_kv_get_at(rec->nats, rec->config.bucket, seq, &found, NULL) == HW_OK)
        key = found.key;
    if (rec->foreign_logged++ < FOREIGN_LOGGED)
        hw_log_warn("someone else wrote to the bucket", HW_S("bucket", rec->config.bucket),
                    HW_S("key", key), HW_I("revision", (int64_t)seq));
    if (found.msg != NULL)
        hw_kv_entry_clear(&found);
    hw_timer_start(rec->loop, &rec->defend, 0, on_defend, rec);
    comparison_within(rec, DRIFT_FIRST_MS, "drift");
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
    if (hw_nats_up(rec->nats) &&
        rec_survey_checkpoint(rec->nats, rec->config.bucket, &checkpoint, &valid, &err) == HW_OK) {
        rec->retry_ms = RETRY_FIRST_MS;
        happen(rec, LOST);
        return;
    }
    hw_timer_start(rec->loop, &rec->retry, STALLED_MS, try_sink, rec);
}

static void stall(struct rec_reconciler *rec)
{
    if (!hw_db_up(rec->pg)) {
        happen(rec, LOST);
        return;
    }
    cdc_source_pause(rec->source, true);
    rec_comparison_free(HW_TAKE(rec->comparison));
    hw_timer_stop(&rec->comparison_timer);
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
    {LOADING, LOADED, STREAMING, resume, "go on behind the checkpoint, or rebuild"},
    {LOADING, LOADED_REPLAY, REPLAYING, replay, "some of the log is to be sent again"},
    {REPLAYING, REPLAYED, STREAMING, stream, "go on with the slot itself"},
    {STREAMING, SINK_FAILED, STALLED, stall, "NATS is away: keep the slot"},
    {REPLAYING, SINK_FAILED, WAITING, begin_again, "NATS is away: replay again later"},
    {PREPARING, LOST, WAITING, begin_again, "try again, a little later"},
    {LEADING, LOST, WAITING, begin_again, "the slot is taken, or the server went away"},
    {LOADING, LOST, WAITING, begin_again, "try again, a little later"},
    {REPLAYING, LOST, WAITING, begin_again, "try again, a little later"},
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
        tell(rec);
        return;
    }
}

/* ---- what whoever asks is told ---- */

static const char *state_name(const struct rec_reconciler *rec)
{
    switch (rec->state) {
    case REPLAYING:
        return "replaying";
    case STREAMING:
        return rec->recovery.way == REC_REBUILD ? "rebuilding" : "streaming";
    case STALLED:
        return "stalled";
    default:
        return "loading";
    }
}

static double lag_seconds(const struct rec_reconciler *rec)
{
    int64_t behind = rec->behind_since;

    /* A stream that is held does not show what was committed since: at most so long ago. */
    if (behind == 0 && rec->state == STALLED)
        behind = rec->stored_at;
    return behind == 0 ? 0 : (double)(hw_loop_now() - behind) / 1000;
}

static void describe(void *arg, struct rec_leading *leading)
{
    const struct rec_reconciler *rec = arg;

    *leading = (struct rec_leading){.state = state_name(rec),
                                    .system_id = rec->server.system_id,
                                    .timeline = rec->server.timeline,
                                    .epoch = rec->recovery.epoch,
                                    .stored = rec_apply_stored(rec->apply),
                                    .received = rec->committed,
                                    .lag_seconds = lag_seconds(rec),
                                    .pending = hw_nats_in_flight(rec->nats),
                                    .nodes = rec_sink_nodes(rec->sink),
                                    .objects = rec_sink_objects(rec->sink),
                                    .keeps_archive = rec->config.archive_bytes > 0};
}

/* ---- servers ---- */

static void on_pg_up(void *arg)
{
    struct rec_reconciler *rec = arg;
    int64_t lasted;

    if (hw_outage_ends(&rec->pg_outage, hw_loop_now(), &lasted))
        hw_log_info("PostgreSQL is back", HW_S("slot", rec->config.slot),
                    HW_I("lasted_s", lasted / 1000));
    tell(rec);
    look_again(rec);
}

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct rec_reconciler *rec = arg;

    if (rec->stopping)
        return;
    rec->pg_trouble = *why;
    if (hw_outage_goes_on(&rec->pg_outage, why->message, hw_loop_now()))
        hw_log_warn("PostgreSQL cannot be reached", HW_S("slot", rec->config.slot),
                    HW_I("lasts_s", hw_outage_age(&rec->pg_outage, hw_loop_now()) / 1000),
                    HW_E(why));
    /* A server that shuts down waits for its stream to be confirmed, which without NATS it never
     * is: let it go. */
    if (rec->state == PREPARING || rec->state == STALLED)
        happen(rec, LOST);
    tell(rec);
}

static void on_nats_up(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_log_info("connected to NATS", HW_S("bucket", rec->config.bucket),
                HW_S("nats", hw_nats_url(rec->nats)),
                HW_I("was_away_s", hw_nats_was_away(rec->nats) / 1000));
    /* While we were away, others may have written, and the server may have lost or restored. */
    happen(rec, LOST);
    tell(rec);
    look_again(rec);
}

static void on_nats_down(void *arg, const char *why)
{
    struct rec_reconciler *rec = arg;

    (void)why; /* which is found out */
    if (rec->stopping)
        return;
    happen(rec, SINK_FAILED);
    tell(rec);
}

static void on_nats_away(void *arg, const struct hw_nats_away *away)
{
    struct rec_reconciler *rec = arg;

    hw_log_warn("NATS cannot be reached", HW_S("bucket", rec->config.bucket),
                HW_S("nats", away->url), HW_I("lasts_s", away->for_ms / 1000),
                HW_S("error", away->why));
    tell(rec);
}

/* ---- life ---- */

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **out, struct hw_error *err)
{
    struct rec_reconciler *rec = hw_alloc(sizeof(*rec));
    const struct hw_db_events pg_events = {.up = on_pg_up, .down = on_pg_down, .arg = rec};
    const struct hw_nats_events nats_events = {
        .up = on_nats_up, .down = on_nats_down, .away = on_nats_away, .arg = rec};
    const struct hw_nats_options nats_options = {
        .url = config->nats, .files = config->nats_files, .name = "headwater-reconciler"};
    const struct rec_apply_events apply_events = {.stored = on_stored,
                                                  .moved = on_moved,
                                                  .released = on_released,
                                                  .pause = on_apply_pause,
                                                  .failed = on_apply_failed,
                                                  .arg = rec};
    struct rec_apply_config apply_config;
    enum hw_status status;

    rec->loop = loop;
    rec->config = *config;
    rec_counts_forget(&rec->counts);
    rec->reports_bucket = hw_sprintf("%s_reports", config->bucket);
    rec->retry_ms = RETRY_FIRST_MS;
    rec->archive_slot = cdc_archive_name(config->slot);
    rec->sink = rec_sink_new();
    rec->fleet = rec_fleet_new();
    rec->fetch = rec_fetch_new(loop, config->database);
    rec->ledger = (struct rec_ledger){.foreign = on_foreign, .arg = rec};
    status = cdc_slot_check_name(config->slot, err);
    if (status == HW_OK)
        status = hw_nats_open(loop, &nats_options, &nats_events, &rec->nats, err);
    if (status == HW_OK)
        status =
            hw_db_open(loop, config->database, "headwater-reconciler", &pg_events, &rec->pg, err);
    if (status != HW_OK) {
        rec_reconciler_stop(rec);
        return status;
    }
    apply_config = (struct rec_apply_config){.loop = loop,
                                             .nats = rec->nats,
                                             .bucket = config->bucket,
                                             .sink = rec->sink,
                                             .fetch = rec->fetch,
                                             .ledger = &rec->ledger,
                                             .counts = &rec->counts,
                                             .signer = config->signer,
                                             .window = (size_t)config->window};
    rec->apply = rec_apply_new(&apply_config, &apply_events);
    rec->leader = rec_leader_new(&(struct rec_leader_config){.nats = rec->nats,
                                                             .pg = rec->pg,
                                                             .bucket = config->bucket,
                                                             .slot = config->slot,
                                                             .describe = describe,
                                                             .arg = rec});
    rec->survey = rec_survey_new(&(struct rec_survey_config){.pg = rec->pg,
                                                             .nats = rec->nats,
                                                             .slot = config->slot,
                                                             .bucket = config->bucket,
                                                             .replicas = (int)config->replicas,
                                                             .history = (int)config->history,
                                                             .counts = &rec->counts,
                                                             .remake_slot = config->remake_slot},
                                 &(struct rec_survey_events){.done = on_surveyed,
                                                             .taken = on_slot_taken,
                                                             .held = on_bucket_held,
                                                             .failed = on_survey_failed,
                                                             .arg = rec});
    *out = rec;
    return HW_OK;
}

void rec_reconciler_resync(struct rec_reconciler *rec)
{
    hw_log_info("a comparison was asked for by signal", HW_S("slot", rec->config.slot));
    comparison_within(rec, 0, "asked for by signal");
}

/* ---- what operations see ---- */

static bool stream_stands(const struct rec_reconciler *rec, const char **how)
{
    if (rec->trouble.status != HW_OK) {
        *how = rec->trouble.message;
        return false;
    }
    if (rec->state != STREAMING) {
        *how = rec->standby_told ? "standing by: another reconciler leads" : "not streaming yet";
        return rec->standby_told;
    }
    *how = rec->recovery.way == REC_REBUILD ? "rebuilding what stands in NATS" : "streaming";
    return rec->recovery.way != REC_REBUILD;
}

static void tell(struct rec_reconciler *rec)
{
    const char *how;
    const bool ready = stream_stands(rec, &how);

    if (rec->config.told == NULL || rec->stopping)
        return;
    if (!hw_db_up(rec->pg) || !hw_nats_up(rec->nats)) {
        const bool nats = hw_db_up(rec->pg);
        const char *const why = nats ? hw_nats_why_away(rec->nats) : rec->pg_trouble.message;
        HW_AUTO_FREE char *said =
            hw_sprintf("%s cannot be reached%s%s", nats ? "NATS" : "PostgreSQL",
                       *why != '\0' ? ": " : "", why);

        rec->config.told(rec->config.arg, false, said);
        return;
    }
    rec->config.told(rec->config.arg, ready, how);
}

void rec_reconciler_check(void *arg, struct hw_checks *checks)
{
    const struct rec_reconciler *rec = arg;
    const char *how;
    const bool stands = stream_stands(rec, &how);
    const bool pg_up = hw_db_up(rec->pg), nats_up = hw_nats_up(rec->nats);

    hw_check(checks, "postgresql", pg_up, "%s%s",
             pg_up ? "connected" : "cannot be reached: ", pg_up ? "" : rec->pg_trouble.message);
    hw_check(checks, "nats", nats_up, "%s%s", nats_up ? "connected" : "cannot be reached: ",
             nats_up ? "" : hw_nats_why_away(rec->nats));
    hw_check(checks, "stream", stands, "%s", how);
}

void rec_reconciler_metrics(void *arg, struct hw_buf *out)
{
    struct rec_reconciler *rec = arg;
    struct rec_counts *c = &rec->counts;

    c->leading = rec->state == STREAMING;
    c->epoch = (double)rec->recovery.epoch;
    c->nodes = (double)rec_sink_nodes(rec->sink);
    c->objects = (double)rec_sink_objects(rec->sink);
    c->postgresql_up = hw_db_up(rec->pg);
    c->nats_up = hw_nats_up(rec->nats);
    c->lag_seconds = lag_seconds(rec);
    hw_metrics_write(&(struct hw_metrics){rec_counts_table, c}, out);
}

/* ---- ending ---- */

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
    rec_intake_stop(HW_TAKE(rec->proposals));
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
    rec_leader_free(rec->leader);
    hw_nats_close(rec->nats);
    rec_apply_free(rec->apply);
    hw_db_close(rec->pg);
    rec_fetch_free(rec->fetch);
    rec_survey_free(rec->survey);
    rec_sink_free(rec->sink);
    rec_fleet_free(rec->fleet);
    free(rec->reports_bucket);
    free(rec->archive_slot);
    free(rec->orphans);
    free(rec);
}
