#include "reconciler/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/log.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "protocol/keys.h"
#include "reconciler/publish/changes.h"

struct rec_survey {
    struct rec_survey_config config;
    struct rec_survey_events events;
    struct rec_findings found;
    struct hw_fence reported;
    bool running;
    bool slot_removed, archive_removed; /* reading has shown that their log is not there */
};

static void fail(struct rec_survey *survey, const struct hw_error *why)
{
    survey->running = false;
    survey->events.failed(survey->events.arg, why);
}

static void run(struct rec_survey *survey, const struct hw_db_query *queries, int count,
                hw_db_done_fn *done)
{
    struct hw_error err;

    if (hw_db_run(survey->config.pg, HW_DB_SEPARATE, queries, count, NULL, done, survey, &err) !=
        HW_OK)
        fail(survey, &err);
}

/* ---- the slot: is anyone there, and is it the right database? ---- */

static void look_at_sink(struct rec_survey *survey);

/* Judges server and slot as headwater-cdc preflight does. False where that was the end of the
 * survey; a slot that has lost its log is no end, for it is made anew. */
static bool judge(struct rec_survey *survey, const PGresult *result)
{
    struct cdc_server *const server = &survey->found.server;
    struct hw_error err;
    enum hw_status status = cdc_server_read(result, server, &err);

    if (status == HW_OK && survey->slot_removed && server->slot_exists)
        snprintf(server->slot_wal_status, sizeof(server->slot_wal_status), CDC_REMOVED);
    if (status == HW_OK)
        status = cdc_server_check(server, survey->config.slot, false, &err);
    if (status == HW_OK || (status == HW_ELIMIT && cdc_wal_is_gone(server->slot_wal_status)))
        return true;
    if (status != HW_ECONFLICT) {
        fail(survey, &err);
        return false;
    }
    survey->running = false;
    survey->events.taken(survey->events.arg, server);
    return false;
}

static void on_slot_seen(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_survey *survey = arg;

    if (!survey->running)
        return;
    if (outcome->status != HW_OK)
        fail(survey, &outcome->err);
    else if (judge(survey, outcome->results[0]))
        look_at_sink(survey);
}

void rec_survey_begin(struct rec_survey *survey, struct hw_fence reported)
{
    const char *const values[] = {survey->config.slot, REC_TABLES};
    const struct hw_db_query query = {.sql = cdc_server_sql, .count = 2, .values = values};

    survey->running = true;
    survey->reported = reported;
    run(survey, &query, 1, on_slot_seen);
}

/* ---- the sink ---- */

static enum hw_status ensure_buckets(const struct rec_survey_config *config, struct hw_error *err)
{
    HW_AUTO_FREE char *from = hw_sprintf("$KV.%s." HW_KEYS ">", config->bucket);
    HW_AUTO_FREE char *to = hw_sprintf("%s.>", config->bucket);
    const struct hw_kv_config desired = {
        .bucket = config->bucket,
        .description = "Headwater: desired configuration, written by the reconciler alone",
        .history = config->history,
        .replicas = config->replicas,
        .allow_rollup = true,
        .republish_from = from,
        .republish_to = to,
    };
    struct hw_kv_stream stream;

    if (hw_kv_ensure(config->nats, &desired, &stream, err) != HW_OK)
        return err->status;
    return hw_obj_ensure(config->nats, config->bucket, config->replicas, err);
}

enum hw_status rec_survey_checkpoint(struct hw_nats *nats, const char *bucket,
                                     struct rec_checkpoint *checkpoint, bool *valid,
                                     struct hw_error *err)
{
    const enum hw_status status = rec_checkpoint_read(nats, bucket, checkpoint, err);

    if (status != HW_OK && status != HW_ENOENT && status != HW_ECORRUPT)
        return status;
    if (status == HW_ECORRUPT)
        hw_log_warn("the checkpoint is unreadable", HW_S("bucket", bucket), HW_E(err));
    *valid = status == HW_OK;
    return rec_checkpoint_free_key(nats, bucket, checkpoint, err);
}

static void look_at_database(struct rec_survey *survey);

/* NATS is read before the database: a checkpoint that was written meanwhile by another leader would
 * otherwise seem to be ahead of the database. */
static void look_at_sink(struct rec_survey *survey)
{
    const struct rec_survey_config *config = &survey->config;
    struct rec_findings *found = &survey->found;
    struct hw_error err;

    if (ensure_buckets(config, &err) != HW_OK ||
        rec_survey_checkpoint(config->nats, config->bucket, &found->checkpoint,
                              &found->checkpoint_valid, &err) != HW_OK)
        fail(survey, &err);
    else
        look_at_database(survey);
}

/* ---- the database ---- */

static void on_looked(void *arg, const struct hw_db_outcome *outcome);

static void look_at_database(struct rec_survey *survey)
{
    const char *const values[] = {survey->config.slot, REC_TABLES};
    char rev[24];
    const char *const rev_values[] = {rev};
    const char *const asks[] = {survey->found.checkpoint_valid ? "false" : "true"};
    const char *const slots[] = {
        survey->found.checkpoint_valid ? survey->found.checkpoint.slot : "", survey->config.slot};
    const struct hw_db_query queries[] = {
        {.sql = cdc_server_sql, .count = 2, .values = values},
        {.sql = "SELECT nonce::text FROM headwater.changelog WHERE rev = $1",
         .count = 1,
         .values = rev_values},
        {.sql = "SELECT rev, nonce::text FROM headwater.changelog ORDER BY rev DESC LIMIT 1"},
        /* The newest fence that a node has accepted: where NATS has lost the epoch, they know it.
         */
        {.sql = "SELECT f.epoch, f.lsn::text FROM headwater.reported AS r CROSS JOIN LATERAL"
                " (VALUES (r.running_epoch, r.running_lsn), (r.failed_epoch, r.failed_lsn))"
                " AS f (epoch, lsn) WHERE $1::boolean AND f.epoch IS NOT NULL AND f.lsn IS NOT NULL"
                " ORDER BY f.epoch DESC, f.lsn DESC LIMIT 1",
         .count = 1,
         .values = asks},
        /* Who wrote the checkpoint, and streams from a slot of this server now. */
        {.sql = "SELECT database, active_pid FROM pg_replication_slots"
                " WHERE slot_name = $1 AND slot_name <> $2 AND active",
         .count = 2,
         .values = slots},
    };

    snprintf(rev, sizeof(rev), "%lld", (long long)survey->found.checkpoint.rev);
    run(survey, queries, HW_COUNT(queries), on_looked);
}

static void on_slot_made(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_survey *survey = arg;
    struct hw_error err = outcome->err;

    if (!survey->running)
        return;
    if (outcome->status != HW_OK) {
        (void)cdc_slot_judge(outcome->sqlstate, survey->config.slot, &err);
        hw_fail_in(&err, "creating slot %s", survey->config.slot);
        fail(survey, &err);
        return;
    }
    survey->slot_removed = false;
    hw_log_info("created the replication slot", HW_S("slot", survey->config.slot),
                HW_S("lsn", PQgetvalue(outcome->results[outcome->count - 1], 0, 0)));
    look_at_database(survey);
}

/* Makes the slot, after dropping the one that is lost. */
static void make_slot(struct rec_survey *survey, bool drop)
{
    const char *const values[] = {survey->config.slot};
    const struct hw_db_query queries[] = {
        {.sql = "SELECT pg_drop_replication_slot($1)", .count = 1, .values = values},
        {.sql = cdc_slot_create_sql(survey->found.server.version), .count = 1, .values = values},
    };

    run(survey, drop ? queries : queries + 1, drop ? 2 : 1, on_slot_made);
}

static void on_archive_dropped(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_survey *survey = arg;

    if (!survey->running)
        return;
    if (outcome->status != HW_OK) {
        fail(survey, &outcome->err);
        return;
    }
    survey->archive_removed = false;
    look_at_database(survey);
}

/* Nothing can be replayed from it, and it would only be in the way: the next leader makes it anew.
 */
static void drop_archive(struct rec_survey *survey)
{
    HW_AUTO_FREE char *archive = cdc_archive_name(survey->config.slot);
    const char *const values[] = {archive};
    const struct hw_db_query query = {
        .sql = "SELECT pg_drop_replication_slot($1)", .count = 1, .values = values};

    hw_log_error("the archive slot is lost: its log was removed from pg_wal, and nothing in it can "
                 "be replayed; it is made anew",
                 HW_S("slot", archive));
    run(survey, &query, 1, on_archive_dropped);
}

/* The slot is gone, or has lost its log. Nothing that was committed is lost with it, but the place
 * in the log is. */
static void replace_slot(struct rec_survey *survey, const char *what)
{
    const char *slot = survey->config.slot;
    struct hw_error err;

    survey->config.counts->slot_usable = 0;
    if (!survey->config.remake_slot) {
        hw_fail(&err, HW_ESTOPPED,
                "slot %s: %s, and --on-lost-slot stop leaves it to you. SELECT "
                "pg_drop_replication_slot('%s') where it is still there, then start with "
                "--on-lost-slot resync",
                slot, what, slot);
        fail(survey, &err);
        return;
    }
    survey->config.counts->slots_lost++;
    hw_log_error("the replication slot is lost: a new one is made, and what it held comes from the "
                 "archive slot or a comparison with the database",
                 HW_S("slot", slot), HW_S("found", what),
                 HW_L("checkpoint", survey->found.checkpoint.fence.lsn));
    make_slot(survey, survey->found.server.slot_exists);
}

/* ---- the end ---- */

static void conclude(struct rec_survey *survey, const struct hw_db_outcome *outcome)
{
    const PGresult *nonce = outcome->results[1], *newest = outcome->results[2],
                   *fence = outcome->results[3];
    struct rec_findings *found = &survey->found;
    struct hw_fence reported = {0};

    found->history = (struct rec_checkpoint){.system_id = found->server.system_id,
                                             .timeline = found->server.timeline};
    if (PQntuples(newest) == 1) {
        found->history.rev = strtoll(PQgetvalue(newest, 0, 0), NULL, 10);
        snprintf(found->history.nonce, sizeof(found->history.nonce), "%s",
                 PQgetvalue(newest, 0, 1));
    }
    if (PQntuples(fence) == 1 &&
        hw_lsn_parse(PQgetvalue(fence, 0, 1), &reported.lsn, NULL) == HW_OK)
        reported.epoch = strtoull(PQgetvalue(fence, 0, 0), NULL, 10);
    if (hw_fence_compare(survey->reported, reported) > 0)
        reported = survey->reported;
    found->recovery = rec_recovery_choose(&(struct rec_facts){
        .checkpoint = &found->checkpoint,
        .checkpoint_valid = found->checkpoint_valid,
        .server = &found->server,
        .slot = survey->config.slot,
        .nonce = PQntuples(nonce) == 1 ? PQgetvalue(nonce, 0, 0) : "",
        .reported = reported,
    });
    survey->running = false;
    survey->events.done(survey->events.arg, found);
}

/* Two slots must not write one bucket: each would undo what the other does. True where somebody
 * does already, which is the end of the survey. */
static bool is_held(struct rec_survey *survey, const PGresult *writer)
{
    const struct rec_findings *const found = &survey->found;
    const struct rec_survey_config *const config = &survey->config;
    struct hw_error why;

    if (PQntuples(writer) == 0 || found->checkpoint.system_id != found->server.system_id)
        return false;
    hw_fail(&why, HW_ECONFLICT,
            "a reconciler with the slot \"%s\" (database \"%s\", PID %s) leads, and writes the "
            "bucket \"%s\"; this one has the slot \"%s\". Two slots must not write one bucket: "
            "start this one with --slot %s to have it stand by, or with another --bucket; it takes "
            "over when that one has stopped",
            found->checkpoint.slot, PQgetvalue(writer, 0, 0), PQgetvalue(writer, 0, 1),
            config->bucket, config->slot, found->checkpoint.slot);
    survey->running = false;
    survey->events.held(survey->events.arg, &why);
    return true;
}

static void on_looked(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_survey *survey = arg;
    const struct rec_findings *found = &survey->found;

    if (!survey->running)
        return;
    if (outcome->failed == 0 || outcome->status == HW_EUNAVAIL) {
        fail(survey, &outcome->err);
        return;
    }
    if (!judge(survey, outcome->results[0]))
        return;
    if (outcome->status != HW_OK)
        fail(survey, &outcome->err);
    else if (is_held(survey, outcome->results[4]))
        return;
    else if (survey->archive_removed && found->server.archive_exists)
        drop_archive(survey);
    else if (cdc_wal_is_gone(found->server.slot_wal_status))
        replace_slot(survey, survey->slot_removed
                                 ? "log that it still needs was removed from pg_wal"
                                 : "it has lost log that it still needed (max_slot_wal_keep_size)");
    else if (found->server.slot_exists)
        conclude(survey, outcome);
    else if (found->checkpoint_valid && found->checkpoint.system_id == found->server.system_id)
        replace_slot(survey, "it does not exist any more");
    else
        make_slot(survey, false);
}

/* ---- life ---- */

struct rec_survey *rec_survey_new(const struct rec_survey_config *config,
                                  const struct rec_survey_events *events)
{
    struct rec_survey *survey = hw_alloc(sizeof(*survey));

    survey->config = *config;
    survey->events = *events;
    return survey;
}

void rec_survey_distrust(struct rec_survey *survey, bool archive)
{
    *(archive ? &survey->archive_removed : &survey->slot_removed) = true;
}

void rec_survey_cancel(struct rec_survey *survey)
{
    survey->running = false;
}

void rec_survey_free(struct rec_survey *survey)
{
    free(survey);
}
