#include "reconciler/reconciler.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/log.h"
#include "common/stderr.h"
#include "reconciler/drift.h"
#include "reconciler/loading.h"
#include "reconciler/replay.h"
#include "reconciler/state.h"
#include "reconciler/stream.h"

enum {
    STANDBY_MS = 500, /* between two looks at a slot that another reconciler holds */
    GONE_MS = 5000,   /* for so long, a stream goes on while no other connection can be made */
};

/* ---- waiting ---- */

static void wait_ms(struct rec_reconciler *rec, int64_t ms);

static void look_again(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (rec->state != RECONCILER_WAITING || !hw_db_up(rec->pg) || !hw_nats_up(rec->nats) ||
        hw_db_refuses_writes(rec->pg) != NULL)
        return; /* the server that is away calls this when it comes, or takes writes */
    if (hw_db_idle(rec->pg))
        reconciler_happen(rec, RECONCILER_SERVERS_UP);
    else
        wait_ms(rec, RECONCILER_RETRY_FIRST_MS); /* an earlier question is not answered yet */
}

/* Waits at least half of that time, and the rest by chance, so that several standbys do not ask at
 * the same moment. */
static void wait_ms(struct rec_reconciler *rec, int64_t ms)
{
    hw_timer_start(rec->loop, &rec->retry, ms / 2 + random() % (ms / 2 + 1), look_again, rec);
}

/* Frees everything that belongs to leading. */
static void reconciler_step_down(struct rec_reconciler *rec)
{
    static const struct rec_checkpoint none;

    if (rec_apply_stored(rec->apply)->seq != 0)
        rec->own = *rec_apply_stored(rec->apply);
    rec_survey_cancel(rec->survey);
    hw_timer_stop(&rec->check_up);
    hw_timer_stop(&rec->heartbeat);
    hw_timer_stop(&rec->comparison_timer);
    rec_comparison_free(HW_TAKE(rec->comparison));
    rec->feed = NULL;
    cdc_source_close(HW_TAKE(rec->replay));
    cdc_source_close(HW_TAKE(rec->source));
    cdc_archive_stop(HW_TAKE(rec->archive));
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    rec_objects_stop(HW_TAKE(rec->objects));
    rec_gone_stop(HW_TAKE(rec->gone));
    hw_kv_probe_stop(HW_TAKE(rec->probe));
    rec_reports_stop(HW_TAKE(rec->reports));
    rec_intake_stop(HW_TAKE(rec->proposals));
    rec_liveness_stop(HW_TAKE(rec->liveness));
    rec_hidden_stop(HW_TAKE(rec->hidden));
    rec->unfound = rec->doubt = rec->unfit = (struct hw_error){0};
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

static void reconciler_retry_later(struct rec_reconciler *rec)
{
    reconciler_step_down(rec);
    if (!hw_db_up(rec->pg))
        reconciler_yield(rec, rec->pg_trouble.message);
    wait_ms(rec, rec->retry_ms);
    rec->retry_ms =
        2 * rec->retry_ms < RECONCILER_RETRY_MOST_MS ? 2 * rec->retry_ms : RECONCILER_RETRY_MOST_MS;
}

static void reconciler_stand_by(struct rec_reconciler *rec)
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
    rec->ordered.command = REC_COMMAND_NONE; /* the leader reads the command from the stream, too */
    reconciler_step_down(rec);
    rec_leader_end(rec->leader);
    rec_counts_forget(&rec->counts);
    wait_ms(rec, STANDBY_MS);
}

/* ---- preparing ---- */

static void reconciler_prepare(struct rec_reconciler *rec)
{
    rec_survey_begin(rec->survey, rec->heeded, &rec->own);
}

static void on_slot_taken(void *arg, const struct cdc_server *server)
{
    struct rec_reconciler *rec = arg;

    rec->server = *server;
    reconciler_happen(rec, RECONCILER_TAKEN);
}

/* The bucket is another database's or another slot's. We look again after growing pauses, as after
 * a failure. */
static void on_stand_back(void *arg, const struct hw_error *why, bool waits)
{
    struct rec_reconciler *rec = arg;
    const int64_t now = hw_loop_now();

    int64_t lasted;

    rec->trouble = *why;
    rec->standby_told = false;
    rec_leader_end(rec->leader);
    if (rec->waits != waits) /* another state, which is told at once */
        (void)hw_outage_ends(&rec->halt, now, &lasted);
    rec->waits = waits;
    if (hw_outage_goes_on(&rec->halt, why->message, now))
        hw_log(waits ? HW_LOG_WARN : HW_LOG_ERROR,
               waits ? "waiting: the bucket is another database's"
                     : "standing back: the bucket is somebody else's",
               HW_S("slot", rec->config.slot), HW_S("bucket", rec->config.bucket),
               HW_I("lasts_s", hw_outage_age(&rec->halt, now) / 1000), HW_E(why));
    rec_counts_forget(&rec->counts);
    reconciler_happen(rec, RECONCILER_LOST);
}

/* Says in a checkpoint whose it is. */
static void sign_checkpoint(struct rec_reconciler *rec, struct rec_checkpoint *c)
{
    snprintf(c->slot, sizeof(c->slot), "%s", rec->config.slot);
    snprintf(c->address, sizeof(c->address), "%s", rec_leader_database(rec->leader)->address);
}

static void on_surveyed(void *arg, const struct rec_findings *found)
{
    struct rec_reconciler *rec = arg;

    rec->server = found->server;
    rec->checkpoint = found->checkpoint;
    rec->checkpoint_valid = found->checkpoint_valid;
    rec->history = found->history;
    rec->fork = found->fork;
    rec->recovery = found->recovery;
    /* What is stored from here on comes from our slot. */
    sign_checkpoint(rec, &rec->history);
    sign_checkpoint(rec, &rec->checkpoint);
    /* A position of a lost history stays that history's. */
    if (rec->recovery.epoch == rec->checkpoint.fence.epoch)
        rec->checkpoint.timeline = found->server.timeline;
    reconciler_happen(rec, RECONCILER_PREPARED);
}

static void on_survey_failed(void *arg, const struct hw_error *why)
{
    reconciler_fail(arg, why);
}

/* ---- the states ---- */

static const struct reconciler_transition transitions[] = {
    {RECONCILER_WAITING, RECONCILER_SERVERS_UP, RECONCILER_PREPARING, reconciler_prepare,
     "look at server, slot and checkpoint"},
    {RECONCILER_PREPARING, RECONCILER_TAKEN, RECONCILER_WAITING, reconciler_stand_by,
     "one leads, the others wait for the slot"},
    {RECONCILER_LEADING, RECONCILER_TAKEN, RECONCILER_WAITING, reconciler_stand_by,
     "another one was quicker"},
    {RECONCILER_PREPARING, RECONCILER_PREPARED, RECONCILER_LEADING, reconciler_open_stream,
     "open the stream: the slot is the lock"},
    {RECONCILER_LEADING, RECONCILER_STARTED, RECONCILER_LOADING, reconciler_load,
     "hold the stream, read what stands in NATS"},
    {RECONCILER_LOADING, RECONCILER_LOADED, RECONCILER_STREAMING, reconciler_resume,
     "go on behind the checkpoint, or rebuild"},
    {RECONCILER_LOADING, RECONCILER_LOADED_REPLAY, RECONCILER_REPLAYING, reconciler_replay,
     "some of the log is to be sent again"},
    {RECONCILER_REPLAYING, RECONCILER_REPLAYED, RECONCILER_STREAMING, reconciler_stream,
     "go on with the slot itself"},

    {RECONCILER_STREAMING, RECONCILER_SINK_FAILED, RECONCILER_STALLED, reconciler_stall,
     "NATS is away: keep the slot"},
    {RECONCILER_REPLAYING, RECONCILER_SINK_FAILED, RECONCILER_WAITING, reconciler_retry_later,
     "NATS is away: replay again later"},
    {RECONCILER_WAITING, RECONCILER_SINK_FAILED, RECONCILER_WAITING, NULL,
     "the wait ends when NATS is back"},
    {RECONCILER_PREPARING, RECONCILER_SINK_FAILED, RECONCILER_PREPARING, NULL,
     "the survey fails by itself, or NATS is back and it begins anew"},
    {RECONCILER_LEADING, RECONCILER_SINK_FAILED, RECONCILER_LEADING, NULL,
     "loading fails, or NATS is back and all begins anew"},
    {RECONCILER_LOADING, RECONCILER_SINK_FAILED, RECONCILER_LOADING, NULL,
     "loading fails by itself, or NATS is back and all begins anew"},
    {RECONCILER_STALLED, RECONCILER_SINK_FAILED, RECONCILER_STALLED, NULL, "NATS was away already"},

    {RECONCILER_WAITING, RECONCILER_LOST, RECONCILER_WAITING, NULL, "the next try is due anyway"},
    {RECONCILER_PREPARING, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "try again, a little later"},
    {RECONCILER_LEADING, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "the slot is taken, or the server went away"},
    {RECONCILER_LOADING, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "try again, a little later"},
    {RECONCILER_REPLAYING, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "try again, a little later"},
    {RECONCILER_STREAMING, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "start anew from the stored checkpoint"},
    {RECONCILER_STALLED, RECONCILER_LOST, RECONCILER_WAITING, reconciler_retry_later,
     "NATS is back, or the server went away"},
};

/* ---- the leader's answer to whoever asks how it stands ---- */

static const char *leading_state(const struct rec_reconciler *rec)
{
    switch (rec->state) {
    case RECONCILER_REPLAYING:
        return "replaying";
    case RECONCILER_STREAMING:
        return rec->recovery.way == REC_REBUILD ? "rebuilding" : "streaming";
    case RECONCILER_STALLED:
        return "stalled";
    default:
        return "loading";
    }
}

static void describe(void *arg, struct rec_leading *leading)
{
    const struct rec_reconciler *rec = arg;

    *leading = (struct rec_leading){.state = leading_state(rec),
                                    .epoch = rec->recovery.epoch,
                                    .stored = rec_apply_stored(rec->apply),
                                    .received = rec->committed,
                                    .lag_seconds = reconciler_stream_lag(rec),
                                    .pending = hw_nats_in_flight(rec->nats),
                                    .nodes = rec_sink_nodes(rec->sink),
                                    .objects = rec_sink_objects(rec->sink),
                                    .keeps_archive = rec->config.archive_bytes > 0};
}

/* ---- servers ---- */

/* Without writes no report goes into the database, and a promoted standby may have taken its place:
 * a leader yields. */
static void on_refusal(struct rec_reconciler *rec, const char *refusal)
{
    HW_AUTO_FREE char *why = hw_sprintf("PostgreSQL takes no writes: %s", refusal);

    hw_log_warn("PostgreSQL takes no writes; a server that does is looked for",
                HW_S("slot", rec->config.slot), HW_S("why", refusal));
    reconciler_yield(rec, why);
    if (rec->state != RECONCILER_WAITING)
        reconciler_happen(rec, RECONCILER_LOST);
}

static void on_pg_up(void *arg)
{
    struct rec_reconciler *rec = arg;
    int64_t lasted;

    if (hw_outage_ends(&rec->pg_outage, hw_loop_now(), &lasted))
        hw_log_info("PostgreSQL is back", HW_S("slot", rec->config.slot),
                    HW_I("lasted_s", lasted / 1000));
    if (hw_db_refuses_writes(rec->pg) != NULL)
        on_refusal(rec, hw_db_refuses_writes(rec->pg));
    reconciler_tell(rec);
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
    /* A server that shuts down waits until its stream is confirmed. Without NATS that never
     * happens, so the stream is closed. A stream alone, to a database that cannot be asked
     * anything, is no lead. */
    if (rec->state == RECONCILER_PREPARING || rec->state == RECONCILER_STALLED ||
        (rec->state == RECONCILER_STREAMING &&
         hw_outage_age(&rec->pg_outage, hw_loop_now()) > GONE_MS))
        reconciler_happen(rec, RECONCILER_LOST);
    else if (rec->state == RECONCILER_WAITING)
        reconciler_yield(rec, why->message);
    reconciler_tell(rec);
}

static void on_pg_writes(void *arg, const char *refusal)
{
    struct rec_reconciler *rec = arg;

    if (rec->stopping)
        return;
    if (refusal != NULL)
        on_refusal(rec, refusal);
    else
        hw_log_info("PostgreSQL takes writes again", HW_S("slot", rec->config.slot));
    reconciler_tell(rec);
    look_again(rec);
}

static void on_nats_up(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_log_info("connected to NATS", HW_S("bucket", rec->config.bucket),
                HW_S("nats", hw_nats_url(rec->nats)),
                HW_I("was_away_s", hw_nats_was_away(rec->nats) / 1000));
    /* While NATS was away, others may have written to it, and it may have lost what it stored, or
     * come back with an older copy. */
    reconciler_happen(rec, RECONCILER_LOST);
    reconciler_tell(rec);
    look_again(rec);
}

static void on_nats_down(void *arg, const char *why)
{
    struct rec_reconciler *rec = arg;

    (void)why; /* libnats says little; the reason is found out, and told by on_nats_away */
    if (rec->stopping)
        return;
    rec_survey_wait_anew(rec->survey);
    reconciler_happen(rec, RECONCILER_SINK_FAILED);
    reconciler_tell(rec);
}

static void on_nats_away(void *arg, const struct hw_nats_away *away)
{
    struct rec_reconciler *rec = arg;

    hw_log_warn("NATS cannot be reached", HW_S("bucket", rec->config.bucket),
                HW_S("nats", away->url), HW_I("lasts_s", away->for_ms / 1000),
                HW_S("error", away->why));
    reconciler_tell(rec);
}

static void on_nats_files(void *arg, bool warn, const char *what, const char *detail)
{
    struct rec_reconciler *rec = arg;

    hw_log(warn ? HW_LOG_WARN : HW_LOG_INFO, what, HW_S("bucket", rec->config.bucket),
           HW_S("detail", detail));
}

static void on_reader(void *arg, const char *of, const char *why, int64_t pause_ms)
{
    struct rec_reconciler *rec = arg;

    rec_counts_restarted(&rec->counts, of);
    hw_log_warn("reading what NATS stores begins anew", HW_S("bucket", rec->config.bucket),
                HW_S("of", of), HW_S("why", why), HW_I("pause_ms", pause_ms));
}

/* ---- life ---- */

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **out, struct hw_error *err)
{
    struct rec_reconciler *rec = hw_alloc(sizeof(*rec));
    const struct hw_db_events pg_events = {
        .up = on_pg_up, .down = on_pg_down, .writes = on_pg_writes, .arg = rec};
    const struct hw_nats_events nats_events = {.up = on_nats_up,
                                               .down = on_nats_down,
                                               .away = on_nats_away,
                                               .files = on_nats_files,
                                               .reader = on_reader,
                                               .arg = rec};
    const struct hw_nats_options nats_options = {
        .url = config->nats, .files = config->nats_files, .name = "headwater-reconciler"};
    const struct rec_apply_events apply_events = {.stored = reconciler_stream_stored,
                                                  .moved = reconciler_stream_moved,
                                                  .released = reconciler_drift_repaired,
                                                  .pause = reconciler_stream_pause,
                                                  .failed = reconciler_stream_failed,
                                                  .arg = rec};
    struct rec_apply_config apply_config;
    enum hw_status status;

    rec->loop = loop;
    rec->config = *config;
    rec_counts_forget(&rec->counts);
    rec->reports_bucket = hw_reports_bucket(config->bucket);
    rec->transitions = transitions;
    rec->transition_count = HW_COUNT(transitions);
    rec->retry_ms = RECONCILER_RETRY_FIRST_MS;
    rec->archive_slot = cdc_archive_name(config->slot);
    rec->sink = rec_sink_new();
    rec->fleet = rec_fleet_new();
    rec->fetch = rec_fetch_new(loop, config->database);
    rec->ledger = (struct rec_ledger){.foreign = reconciler_drift_foreign, .arg = rec};
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
    rec->survey = rec_survey_new(&(struct rec_survey_config){.loop = loop,
                                                             .pg = rec->pg,
                                                             .nats = rec->nats,
                                                             .leader = rec->leader,
                                                             .database = config->database,
                                                             .take_over_ms = config->take_over_ms,
                                                             .slot = config->slot,
                                                             .bucket = config->bucket,
                                                             .replicas = (int)config->replicas,
                                                             .history = (int)config->history,
                                                             .counts = &rec->counts,
                                                             .remake_slot = config->remake_slot},
                                 &(struct rec_survey_events){.done = on_surveyed,
                                                             .taken = on_slot_taken,
                                                             .stand_back = on_stand_back,
                                                             .failed = on_survey_failed,
                                                             .arg = rec});
    *out = rec;
    return HW_OK;
}

void rec_reconciler_resync(struct rec_reconciler *rec)
{
    hw_log_info("a comparison was asked for by signal", HW_S("slot", rec->config.slot));
    reconciler_compare_within(rec, 0, "asked for by signal");
}

void rec_reconciler_reload(struct rec_reconciler *rec)
{
    if (!hw_nats_reload(rec->nats))
        hw_log_info("SIGHUP: no file for NATS has changed", HW_S("slot", rec->config.slot));
}

/* ---- what operations see ---- */

void rec_reconciler_check(void *arg, struct hw_checks *checks)
{
    const struct rec_reconciler *rec = arg;
    const char *how;
    const bool stands = reconciler_stands(rec, &how);
    const bool pg_up = hw_db_up(rec->pg), nats_up = hw_nats_up(rec->nats);

    const char *const refusal = hw_db_refuses_writes(rec->pg);

    hw_check(checks, "postgresql", pg_up && refusal == NULL, "%s%s",
             !pg_up            ? "cannot be reached: "
             : refusal != NULL ? "takes no writes: "
                               : "connected",
             !pg_up            ? rec->pg_trouble.message
             : refusal != NULL ? refusal
                               : "");
    hw_check(checks, "nats", nats_up, "%s%s", nats_up ? "connected" : "cannot be reached: ",
             nats_up ? "" : hw_nats_why_away(rec->nats));
    hw_check(checks, "stream", stands, "%s", how);
    if (rec->reports != NULL) {
        const bool works = rec_reports_work(rec->reports, &how);

        hw_check(checks, "reports", works, "%s", works ? "go into the database" : how);
    }
    const char *const stuck = hw_nats_stuck(rec->nats);
    hw_check(checks, "readers", stuck == NULL, "%s",
             stuck != NULL ? stuck : "reading what NATS stores");
}

void rec_reconciler_metrics(void *arg, struct hw_buf *out)
{
    struct rec_reconciler *rec = arg;
    struct rec_counts *c = &rec->counts;

    c->leading = rec->state == RECONCILER_STREAMING;
    c->epoch = (double)rec->recovery.epoch;
    c->nodes = (double)rec_sink_nodes(rec->sink);
    c->objects = (double)rec_sink_objects(rec->sink);
    c->postgresql_up = hw_db_up(rec->pg);
    c->nats_up = hw_nats_up(rec->nats);
    c->lag_seconds = reconciler_stream_lag(rec);
    c->log_lines_lost = hw_stderr_lost();
    hw_metrics_write(&(struct hw_metrics){rec_counts_table, c}, out);
}

/* ---- ending ---- */

void rec_reconciler_drain(struct rec_reconciler *rec, int64_t timeout_ms)
{
    const int64_t until = hw_loop_now() + timeout_ms;
    const bool never = false;

    if (rec->state != RECONCILER_STREAMING)
        return;
    rec->draining = true;
    rec->feed = NULL;
    cdc_source_pause(rec->source, true);
    rec_apply_rollback(rec->apply);          /* its commit is not waited for */
    rec_reports_stop(HW_TAKE(rec->reports)); /* its watch could begin again, and block */
    rec_intake_stop(HW_TAKE(rec->proposals));
    while (rec->state == RECONCILER_STREAMING && rec_apply_busy(rec->apply) &&
           hw_loop_now() < until)
        hw_loop_run_until(rec->loop, &never, 5);
}

void rec_reconciler_stop(struct rec_reconciler *rec)
{
    if (rec == NULL)
        return;
    rec->stopping = true;
    hw_timer_stop(&rec->retry);
    if (rec->apply != NULL)
        reconciler_step_down(rec);
    rec_survey_free(rec->survey);
    rec_leader_free(rec->leader);
    hw_nats_close(rec->nats);
    rec_apply_free(rec->apply);
    hw_db_close(rec->pg);
    rec_fetch_free(rec->fetch);
    rec_sink_free(rec->sink);
    rec_fleet_free(rec->fleet);
    free(rec->reports_bucket);
    free(rec->archive_slot);
    free(rec->orphans);
    free(rec);
}
