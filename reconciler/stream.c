#include "reconciler/stream.h"

#include <stdio.h>

#include "base/memory.h"
#include "cdc/pg_source.h"
#include "common/clock.h"
#include "common/log.h"
#include "reconciler/checkup.h"
#include "reconciler/claim.h"
#include "reconciler/drift.h"

enum {
    STALLED_MS = 500, /* between two tries of a NATS that failed */
    PROBE_MS = 500,   /* how soon a foreign write is noticed while nothing else happens */
};

/* ---- transactions ---- */

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;
    int64_t committed_at;

    (void)err;
    if (!hw_clock_parse(tx->committed_at, &committed_at))
        committed_at = 0;
    rec->commands = (struct rec_commands){0};
    rec_apply_begin(rec->apply, (struct hw_fence){rec->recovery.epoch, tx->lsn}, committed_at);
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
    /* A replay needs the stream out of the way. So the stream ends here, and the command is
     * confirmed only when it was carried out: after a crash it comes again. */
    if (rec->commands.command == REC_COMMAND_REPLAY && tx->lsn != rec->obeyed_at) {
        rec->ordered = rec->commands;
        rec->ordered_at = tx->lsn;
        return hw_fail(err, HW_ESTOPPED, "a replay was asked for in SQL");
    }
    if (rec->commands.command == REC_COMMAND_RESYNC)
        reconciler_compare_within(rec, 0, "asked for in SQL");
    rec->committed = tx->lsn;
    if (rec->behind_since == 0)
        rec->behind_since = hw_loop_now();
    rec_apply_commit(rec->apply);
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    struct rec_reconciler *rec = arg;

    rec_apply_progress(rec->apply, position);
}

static void on_started(void *arg)
{
    reconciler_happen(arg, RECONCILER_STARTED);
}

static void on_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->source->log_removed)
        rec_survey_distrust(rec->survey, false);
    if (err->status == HW_ECONFLICT && rec->state == RECONCILER_LEADING)
        reconciler_happen(rec, RECONCILER_TAKEN);
    else
        reconciler_fail(rec, err);
}

/* ---- a server that says nothing ----
 *
 * It may be frozen, gone, or at work on a large transaction of other tables. The server knows which
 * of its backends stream. */

static void on_sender_seen(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (outcome->status != HW_OK || hw_loop_now() - rec->silent_at > RECONCILER_SILENT_LASTS_MS ||
        *PQgetvalue(outcome->results[0], 0, 0) == 't')
        return;
    hw_fail(&err, HW_EUNAVAIL,
            "the server's process %d does not stream any more, and did not say so",
            rec->silent_pid);
    reconciler_fail(rec, &err);
}

void reconciler_stream_quiet(void *arg, int pid, int64_t ms)
{
    struct rec_reconciler *rec = arg;
    char text[16];
    const char *const values[] = {text};
    const struct hw_db_query query = {
        .sql = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = $1::int)",
        .count = 1,
        .values = values};
    struct hw_error err;

    if (hw_loop_now() - rec->silent_at > RECONCILER_SILENT_LASTS_MS)
        hw_log_warn("the stream is silent", HW_S("slot", rec->config.slot), HW_I("pid", pid),
                    HW_I("lasts_s", ms / 1000));
    rec->silent_at = hw_loop_now();
    rec->silent_pid = pid;
    if (!hw_db_up(rec->pg)) {
        hw_fail(&err, HW_EUNAVAIL, "PostgreSQL is silent on every connection");
        reconciler_fail(rec, &err);
        return;
    }
    snprintf(text, sizeof(text), "%d", pid);
    /* Where the connection is busy, the stream tells again soon. */
    (void)!hw_db_run(rec->pg, HW_DB_SEPARATE, &query, 1, NULL, on_sender_seen, rec, NULL);
    reconciler_tell(rec);
}

/* ---- opening ---- */

void reconciler_open_stream(struct rec_reconciler *rec)
{
    /* One that was made by an older program or server. */
    HW_AUTO_FREE char *prepare =
        rec->server.slot_failover
            ? NULL
            : cdc_slot_failover_command(rec->server.version, rec->config.slot);
    /* What the slot remembers may be older than what was confirmed to it, for PostgreSQL writes it
     * to disk now and then only. So the position to start from is given. */
    const struct cdc_pg_options options = {
        .conninfo = rec->config.database,
        .slot = rec->config.slot,
        .start = rec->recovery.way == REC_RESUME ? rec->checkpoint.fence.lsn
                                                 : rec->server.slot_confirmed,
        .tables = REC_TABLES,
        .message_prefix = REC_MESSAGE_PREFIX,
        .application_name = "headwater-reconciler: stream",
        .prepare = prepare,
    };
    const struct cdc_handler handler = {.begin = on_begin,
                                        .change = on_change,
                                        .commit = on_commit,
                                        .started = on_started,
                                        .progress = on_progress,
                                        .silent = reconciler_stream_quiet,
                                        .failed = on_failed,
                                        .arg = rec};
    struct hw_error err;

    if (cdc_pg_open(rec->loop, &options, &handler, &rec->source, &err) != HW_OK)
        reconciler_fail(rec, &err);
}

/* ---- streaming ---- */

static void on_archive_trouble(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    hw_log_warn("the archive slot does not stand as it should", HW_S("slot", rec->archive_slot),
                HW_E(err));
}

/* expected: the ledger's next number when the question was sent. Acknowledgements since then may
 * have overtaken the answer. */
static void on_probed(void *arg, enum hw_status status, uint64_t last_seq, uint64_t expected)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (rec->state == RECONCILER_STALLED)
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
    /* A new beginning stops the probe, which must not be done from its own callback. */
    reconciler_fail_soon(rec, &err);
}

static void log_streaming(const struct rec_reconciler *rec)
{
    static const char *const ways[] = {[REC_RESUME] = "resume behind the checkpoint",
                                       [REC_REPLAY] = "resume behind the replay",
                                       [REC_REBUILD] = "rebuild"};
    const struct rec_recovery *recovery = &rec->recovery;

    hw_log_info("streaming", HW_S("slot", rec->config.slot), HW_S("recovery", ways[recovery->way]),
                HW_S("why", recovery->way == REC_RESUME ? NULL : recovery->why),
                HW_L("checkpoint", rec->checkpoint.fence.lsn),
                HW_I("epoch", (int64_t)recovery->epoch),
                HW_I("nodes", (int64_t)rec_sink_nodes(rec->sink)),
                HW_I("objects", (int64_t)rec_sink_objects(rec->sink)));
}

void reconciler_stream(struct rec_reconciler *rec)
{
    const struct cdc_archive_options archive = {.slot = rec->config.slot,
                                                .keep_bytes = rec->config.archive_bytes,
                                                .keep_ms = rec->config.archive_ms};
    const struct cdc_archive_events archive_events = {.trouble = on_archive_trouble, .arg = rec};
    struct hw_error err;

    if (rec->recovery.way != REC_REBUILD)
        cdc_source_confirm(rec->source, rec->checkpoint.fence.lsn);
    log_streaming(rec);
    rec->standby_told = false;
    /* What contradicts itself may do so again: that is over when a comparison came to its end. */
    if (rec->trouble.status != HW_ECORRUPT)
        reconciler_forget_trouble(rec);
    rec->counts.streams++;
    rec->stored_at = hw_loop_now();
    if (cdc_archive_start(rec->loop, rec->config.database, &archive, &archive_events, &rec->archive,
                          &err) != HW_OK ||
        hw_kv_probe_start(rec->nats, rec->config.bucket, PROBE_MS, &rec->ledger.next, on_probed,
                          rec, &rec->probe, &err) != HW_OK) {
        reconciler_fail(rec, &err);
        return;
    }
    reconciler_compare_within(
        rec, 0, rec->recovery.way == REC_REBUILD ? rec->recovery.why : "began to lead");
    reconciler_checkup_start(rec);
    rec->feed = rec->source;
    /* The transactions of a replay may still fill the window of apply. */
    cdc_source_pause(rec->source, rec_apply_paused(rec->apply));
}

void reconciler_resume(struct rec_reconciler *rec)
{
    struct hw_error err;

    if (rec->recovery.way == REC_REBUILD && reconciler_claim_epoch(rec, &err) != HW_OK) {
        reconciler_fail(rec, &err);
        return;
    }
    reconciler_begin_apply(rec);
    reconciler_stream(rec);
}

/* ---- what apply tells ---- */

void reconciler_stream_stored(void *arg, hw_lsn lsn)
{
    struct rec_reconciler *rec = arg;

    hw_log_debug("checkpoint stored", HW_S("slot", rec->config.slot), HW_L("lsn", lsn));
    rec->behind_since = lsn >= rec->committed ? 0 : rec->stored_at;
    rec->stored_at = hw_loop_now();
    if (rec->source != NULL)
        cdc_source_confirm(rec->source, lsn);
}

void reconciler_stream_moved(void *arg, hw_lsn lsn)
{
    struct rec_reconciler *rec = arg;

    if (rec->comparison != NULL)
        rec_comparison_moved(rec->comparison, lsn);
}

void reconciler_stream_pause(void *arg, bool pause)
{
    struct rec_reconciler *rec = arg;

    if (rec->comparison != NULL)
        rec_comparison_pause(rec->comparison, pause);
    if (rec->feed != NULL)
        cdc_source_pause(rec->feed, pause);
}

void reconciler_stream_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != RECONCILER_REPLAYING && rec->state != RECONCILER_STREAMING)
        return; /* the loss of NATS was told already */
    if (err->status == HW_ECONFLICT || err->status == HW_ESTOPPED || err->status == HW_ECORRUPT) {
        reconciler_fail(rec, err);
        return;
    }
    hw_log_warn("NATS failed; the slot is kept until it is back", HW_S("slot", rec->config.slot),
                HW_E(err));
    rec->trouble = *err;
    rec_leader_failed(rec->leader, err);
    reconciler_happen(rec, RECONCILER_SINK_FAILED);
}

/* ---- stalled: the slot is kept, and PostgreSQL goes on hearing from us, until NATS answers ----
 */

static void try_sink(void *arg)
{
    struct rec_reconciler *rec = arg;
    struct rec_checkpoint checkpoint = {0};
    struct hw_error err;
    bool valid;

    if (rec->state != RECONCILER_STALLED)
        return;
    if (hw_nats_up(rec->nats) &&
        rec_survey_checkpoint(rec->nats, rec->config.bucket, &checkpoint, &valid, &err) == HW_OK) {
        rec->retry_ms = RECONCILER_RETRY_FIRST_MS;
        reconciler_happen(rec, RECONCILER_LOST);
        return;
    }
    hw_timer_start(rec->loop, &rec->retry, STALLED_MS, try_sink, rec);
}

void reconciler_stall(struct rec_reconciler *rec)
{
    if (!hw_db_up(rec->pg)) {
        reconciler_happen(rec, RECONCILER_LOST);
        return;
    }
    rec->feed = NULL;
    cdc_source_pause(rec->source, true);
    rec_comparison_free(HW_TAKE(rec->comparison));
    hw_timer_stop(&rec->comparison_timer);
    hw_timer_start(rec->loop, &rec->retry, STALLED_MS, try_sink, rec);
}

/* ---- lag ---- */

double reconciler_stream_lag(const struct rec_reconciler *rec)
{
    int64_t behind = rec->behind_since;

    /* While the stream is held, nobody sees new commits. The last checkpoint then bounds how old an
     * unconfirmed one can be. */
    if (behind == 0 && rec->state == RECONCILER_STALLED)
        behind = rec->stored_at;
    /* Nor while the server holds them back. */
    if (behind == 0 && rec->server.slot_waits)
        behind = rec->waits_since;
    return behind == 0 ? 0 : (double)(hw_loop_now() - behind) / 1000;
}
