#include "reconciler/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cdc/timeline.h"
#include "common/log.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "protocol/keys.h"
#include "reconciler/publish/changes.h"
#include "reconciler/question.h"

struct rec_survey {
    struct rec_survey_config config;
    struct rec_survey_events events;
    struct rec_findings found;
    struct hw_fence reported;
    struct rec_checkpoint own;
    struct rec_question question;
    struct hw_leader other; /* who answered that it leads … */
    bool is_led;            /* … where somebody did */
    bool running;
    bool slot_removed, archive_removed; /* reading has shown that their log is not there */
    /* since when nobody led, and the checkpoint has stood; 0: no wait is under way */
    int64_t wait_since; /* hw_loop_now() */
    uint64_t wait_seq;
};

static void fail(struct rec_survey *survey, const struct hw_error *why)
{
    rec_question_cancel(&survey->question);
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
    if (status == HW_OK) {
        rec_leader_server(survey->config.leader, server);
        status = cdc_server_check(server, survey->config.slot, false, &err);
    }
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

void rec_survey_begin(struct rec_survey *survey, struct hw_fence reported,
                      const struct rec_checkpoint *own)
{
    const char *const values[] = {survey->config.slot, REC_TABLES};
    const struct hw_db_query query = {.sql = cdc_server_sql, .count = 2, .values = values};

    survey->running = true;
    survey->reported = reported;
    survey->own = *own;
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

static void on_answered(void *arg, const struct hw_leader *leader)
{
    struct rec_survey *survey = arg;

    survey->is_led = leader != NULL;
    if (leader != NULL)
        survey->other = *leader;
    if (survey->running)
        look_at_database(survey);
}

static void ask_who_leads(struct rec_survey *survey)
{
    struct hw_error err;

    survey->is_led = false;
    if (rec_checkpoint_is(&survey->found.checkpoint, &survey->own))
        look_at_database(survey);
    else if (rec_question_ask(&survey->question, &err) != HW_OK)
        fail(survey, &err);
}

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
        ask_who_leads(survey);
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
        rec_leader_query(),
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

/* ---- whose bucket it is ---- */

static struct rec_ownership judge_ownership(struct rec_survey *survey,
                                            const struct hw_db_outcome *outcome)
{
    const PGresult *nonce = outcome->results[1];
    const struct rec_checkpoint *c = &survey->found.checkpoint;

    return rec_ownership_judge(&(struct rec_ownership_facts){
        .checkpoint = c,
        .checkpoint_valid = survey->found.checkpoint_valid,
        .known = c->rev == 0 ||
                 (PQntuples(nonce) == 1 && strcmp(PQgetvalue(nonce, 0, 0), c->nonce) == 0),
        .database = rec_leader_database(survey->config.leader),
        .slot = survey->config.slot,
        .slot_is_read = PQntuples(outcome->results[4]) > 0,
        .leader = survey->is_led ? &survey->other : NULL,
    });
}

/* The database that has the bucket: as its leader says, or as the checkpoint does. */
static char *owner_text(const struct rec_survey *survey)
{
    const struct rec_checkpoint *const c = &survey->found.checkpoint;
    struct hw_leader_database written = {.system_id = c->system_id, .timeline = c->timeline};

    if (survey->is_led)
        return hw_leader_database_text(&survey->other.database);
    snprintf(written.address, sizeof(written.address), "%s", c->address);
    return hw_leader_database_text(&written);
}

#define TAKE_OVER "headwater-reconciler take-over --bucket %s --slot %s"

static void explain(struct rec_survey *survey, const struct rec_ownership *ownership,
                    const PGresult *reader, struct hw_error *why)
{
    const struct rec_survey_config *const config = &survey->config;
    const struct rec_checkpoint *const c = &survey->found.checkpoint;
    const struct hw_leader_database *const own = rec_leader_database(config->leader);
    HW_AUTO_FREE char *owner = owner_text(survey);
    HW_AUTO_FREE char *ours = hw_leader_database_text(own);

    if ((survey->is_led && hw_leader_same_database(&survey->other.database, own)) ||
        (!survey->is_led && PQntuples(reader) > 0 && ownership->claim == REC_STAND_BACK)) {
        const char *const slot = survey->is_led ? survey->other.slot : c->slot;

        hw_fail(why, HW_ECONFLICT,
                "a reconciler with the slot \"%s\" leads, and writes the bucket \"%s\" from %s; "
                "this one has the slot \"%s\". Two slots must not write one bucket: start this one "
                "with --slot %s to have it stand by, or with another --bucket; it takes over when "
                "that one has stopped, or now with " TAKE_OVER,
                slot, config->bucket, owner, config->slot, slot, config->bucket, config->slot);
    } else if (ownership->waits && config->take_over_ms >= 0) {
        hw_fail(why, HW_ECONFLICT,
                "the bucket \"%s\" was last written from %s, and %s. It becomes that of %s when "
                "nobody has led for %lld s (--take-over-after), or now with " TAKE_OVER,
                config->bucket, owner, ownership->why, ours, (long long)config->take_over_ms / 1000,
                config->bucket, config->slot);
    } else {
        hw_fail(why, HW_ECONFLICT,
                "the bucket \"%s\" belongs to %s; this reconciler reads %s, and %s. Start it with "
                "another --bucket; or, where this is the right database, give it the "
                "bucket: " TAKE_OVER,
                config->bucket, owner, ours, ownership->why, config->bucket, config->slot);
    }
}

/* ---- the end ---- */

static bool is_promoted(const struct rec_findings *found)
{
    return found->checkpoint_valid && found->checkpoint.system_id == found->server.system_id &&
           found->checkpoint.timeline < found->server.timeline;
}

static void conclude(struct rec_survey *survey, const struct hw_db_outcome *outcome)
{
    const PGresult *newest = outcome->results[2], *fence = outcome->results[3];
    struct rec_findings *found = &survey->found;
    const struct rec_ownership ownership = judge_ownership(survey, outcome);
    struct hw_fence reported = {0};
    struct hw_error err;

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
    found->fork = HW_LSN_NONE;
    if (is_promoted(found) && ownership.claim == REC_GO_ON &&
        cdc_timeline_fork(survey->config.database, found->server.timeline,
                          found->checkpoint.timeline, &found->fork, &err) != HW_OK) {
        fail(survey, &err);
        return;
    }
    found->recovery = rec_recovery_choose(&(struct rec_facts){
        .checkpoint = &found->checkpoint,
        .checkpoint_valid = found->checkpoint_valid,
        .server = &found->server,
        .slot = survey->config.slot,
        .other_history = ownership.claim == REC_NEW_EPOCH ? ownership.why : NULL,
        .fork = found->fork,
        .reported = reported,
    });
    survey->running = false;
    survey->events.done(survey->events.arg, found);
}

/* True where the bucket is somebody else's, which is the end of the survey. */
static bool is_foreign(struct rec_survey *survey, const struct hw_db_outcome *outcome)
{
    const struct rec_ownership ownership = judge_ownership(survey, outcome);
    const struct rec_survey_config *const config = &survey->config;
    struct hw_error why;

    if (ownership.claim == REC_GO_ON || ownership.claim == REC_NEW_EPOCH) {
        if (!ownership.waits) {
            survey->wait_since = 0;
            return false;
        }
        if (survey->wait_since == 0 || survey->wait_seq != survey->found.checkpoint.seq) {
            survey->wait_since = hw_loop_now();
            survey->wait_seq = survey->found.checkpoint.seq;
        }
        if (config->take_over_ms >= 0 && hw_loop_now() - survey->wait_since >= config->take_over_ms)
            return false;
    } else {
        survey->wait_since = 0;
    }
    explain(survey, &ownership, outcome->results[4], &why);
    survey->running = false;
    survey->events.stand_back(survey->events.arg, &why, ownership.waits);
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
    if (outcome->status != HW_OK) {
        fail(survey, &outcome->err);
        return;
    }
    rec_leader_take(survey->config.leader, outcome->results[5]);
    if (is_foreign(survey, outcome))
        return;
    if (survey->archive_removed && found->server.archive_exists)
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
    survey->question = (struct rec_question){.loop = config->loop,
                                             .nats = config->nats,
                                             .bucket = config->bucket,
                                             .instance = rec_leader_instance(config->leader),
                                             .done = on_answered,
                                             .arg = survey};
    return survey;
}

void rec_survey_distrust(struct rec_survey *survey, bool archive)
{
    *(archive ? &survey->archive_removed : &survey->slot_removed) = true;
}

void rec_survey_cancel(struct rec_survey *survey)
{
    rec_question_cancel(&survey->question);
    survey->running = false;
}

void rec_survey_wait_anew(struct rec_survey *survey)
{
    survey->wait_since = 0;
}

void rec_survey_free(struct rec_survey *survey)
{
    if (survey != NULL)
        rec_survey_cancel(survey);
    free(survey);
}
