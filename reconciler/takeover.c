#include "reconciler/takeover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cdc/slot.h"
#include "common/loop.h"
#include "pg/database.h"
#include "reconciler/leader.h"
#include "reconciler/publish/changes.h"
#include "reconciler/question.h"
#include "reconciler/survey.h"

enum {
    TRIES = 20,   /* a leader that is at work writes the checkpoint in between */
    TURN_MS = 50, /* between two looks whether both servers are there */
};

struct takeover {
    const struct rec_takeover_config *config;
    struct hw_loop *loop;
    struct hw_db *pg;
    struct hw_nats *nats;
    struct rec_leader *leader; /* what our reconciler would say of its database */
    struct cdc_server server;
    struct rec_checkpoint claim;  /* what is stored */
    struct rec_checkpoint before; /* what stood there … */
    bool before_valid;            /* … if anything did */
    struct hw_leader other;
    bool asked, looked, is_led;
    struct hw_error trouble; /* of a server that cannot be reached, or of a question */
};

/* ---- the servers ---- */

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct takeover *t = arg;

    t->trouble = *why;
}

static void on_nats_down(void *arg, const char *why)
{
    struct takeover *t = arg;

    hw_fail(&t->trouble, HW_EUNAVAIL, "NATS cannot be reached at %s: %s", hw_nats_url(t->nats),
            why);
}

static enum hw_status connect_both(struct takeover *t, struct hw_error *err)
{
    const struct rec_takeover_config *const config = t->config;
    const int64_t until = hw_loop_now() + config->timeout_ms;
    const struct hw_db_events pg_events = {.down = on_pg_down, .arg = t};
    const struct hw_nats_events nats_events = {.down = on_nats_down, .arg = t};
    const struct hw_nats_options options = {.url = config->nats,
                                            .files = config->nats_files,
                                            .name = "headwater-reconciler: take-over"};
    const bool never = false;

    if (hw_loop_new(&t->loop, err) != HW_OK ||
        hw_nats_open(t->loop, &options, &nats_events, &t->nats, err) != HW_OK ||
        hw_db_open(t->loop, config->database, "headwater-reconciler: take-over", &pg_events, &t->pg,
                   err) != HW_OK)
        return err->status;
    while (!hw_db_up(t->pg) || !hw_nats_up(t->nats)) {
        if (hw_loop_now() >= until) {
            if (t->trouble.status == HW_OK)
                hw_fail(&t->trouble, HW_ETIMEOUT, "%s does not answer",
                        hw_db_up(t->pg) ? "NATS" : "PostgreSQL");
            *err = t->trouble;
            return err->status;
        }
        hw_loop_run_until(t->loop, &never, TURN_MS);
    }
    t->leader = rec_leader_new(&(struct rec_leader_config){
        .nats = t->nats, .pg = t->pg, .bucket = config->bucket, .slot = config->slot});
    return HW_OK;
}

/* ---- the database ---- */

static void on_looked(void *arg, const struct hw_db_outcome *outcome)
{
    struct takeover *t = arg;
    struct hw_error *const err = &t->trouble;
    struct rec_checkpoint *const claim = &t->claim;

    t->looked = true;
    *err = outcome->err;
    if (outcome->status != HW_OK || cdc_server_read(outcome->results[0], &t->server, err) != HW_OK)
        return;
    rec_leader_take(t->leader, outcome->results[1]);
    rec_leader_server(t->leader, &t->server);
    if (hw_db_refuses_writes(t->pg) != NULL) {
        hw_fail(err, HW_EDENIED, "PostgreSQL takes no writes: %s", hw_db_refuses_writes(t->pg));
        return;
    }
    *claim = (struct rec_checkpoint){
        .system_id = t->server.system_id, .timeline = t->server.timeline, .taken_over = true};
    snprintf(claim->slot, sizeof(claim->slot), "%s", t->config->slot);
    snprintf(claim->address, sizeof(claim->address), "%s", rec_leader_database(t->leader)->address);
    if (PQntuples(outcome->results[2]) == 1) {
        claim->rev = strtoll(PQgetvalue(outcome->results[2], 0, 0), NULL, 10);
        snprintf(claim->nonce, sizeof(claim->nonce), "%s", PQgetvalue(outcome->results[2], 0, 1));
    }
}

static enum hw_status look_at_database(struct takeover *t, struct hw_error *err)
{
    const char *const values[] = {t->config->slot, REC_TABLES};
    const struct hw_db_query queries[] = {
        {.sql = cdc_server_sql, .count = 2, .values = values},
        rec_leader_query(),
        {.sql = "SELECT rev, nonce::text FROM headwater.changelog ORDER BY rev DESC LIMIT 1"},
    };

    t->trouble = (struct hw_error){0};
    if (hw_db_run(t->pg, HW_DB_SEPARATE, queries, HW_COUNT(queries), NULL, on_looked, t, err) !=
        HW_OK)
        return err->status;
    hw_loop_run_until(t->loop, &t->looked, (int)t->config->timeout_ms);
    if (!t->looked)
        return hw_fail(err, HW_ETIMEOUT, "the database does not answer");
    *err = t->trouble;
    return err->status;
}

/* ---- who leads ---- */

static void on_answered(void *arg, const struct hw_leader *leader)
{
    struct takeover *t = arg;

    t->asked = true;
    t->is_led = leader != NULL;
    if (leader != NULL)
        t->other = *leader;
}

static enum hw_status ask(struct takeover *t, struct hw_error *err)
{
    struct rec_question question = {.loop = t->loop,
                                    .nats = t->nats,
                                    .bucket = t->config->bucket,
                                    .instance = rec_leader_instance(t->leader),
                                    .done = on_answered,
                                    .arg = t};

    if (rec_question_ask(&question, err) != HW_OK)
        return err->status;
    hw_loop_run_until(t->loop, &t->asked, (int)t->config->timeout_ms);
    rec_question_cancel(&question);
    return HW_OK;
}

static bool leads_already(struct takeover *t)
{
    return t->is_led && strcmp(t->other.slot, t->config->slot) == 0 &&
           hw_leader_same_database(&t->other.database, rec_leader_database(t->leader));
}

/* ---- the act ---- */

static enum hw_status store(struct takeover *t, struct hw_error *err)
{
    enum hw_status status = HW_ECONFLICT;

    for (int i = 0; i < TRIES && status == HW_ECONFLICT; i++) {
        status =
            rec_survey_checkpoint(t->nats, t->config->bucket, &t->before, &t->before_valid, err);
        if (status != HW_OK)
            break;
        t->claim.fence.epoch = t->before_valid ? t->before.fence.epoch + 1 : 1;
        struct rec_checkpoint standing = t->before;
        status = rec_checkpoint_put(t->nats, t->config->bucket, &t->claim, &standing, err);
    }
    return status == HW_OK ? HW_OK
                           : hw_fail_in(err, "taking over the bucket %s", t->config->bucket);
}

static void say(struct takeover *t, bool taken)
{
    struct hw_leader_database former = {.system_id = t->before.system_id,
                                        .timeline = t->before.timeline};
    HW_AUTO_FREE char *ours = hw_leader_database_text(rec_leader_database(t->leader));

    snprintf(former.address, sizeof(former.address), "%s", t->before.address);
    HW_AUTO_FREE char *theirs = hw_leader_database_text(t->is_led ? &t->other.database : &former);
    const bool known = t->before_valid || t->is_led;
    if (t->config->json) {
        HW_AUTO_JSON json_t *said =
            json_pack("{s:b, s:s, s:s, s:I, s:o, s:s}", "taken", taken, "bucket", t->config->bucket,
                      "slot", t->config->slot, "epoch", (json_int_t)t->claim.fence.epoch, "from",
                      taken && known ? json_string(theirs) : json_null(), "database", ours);
        HW_AUTO_FREE char *text = hw_json_dump(said);

        puts(text);
    } else if (!taken) {
        printf("the bucket %s is led for %s already: nothing was done\n", t->config->bucket, ours);
    } else {
        printf("the bucket %s was taken over for %s%s%s, epoch %" PRIu64
               "\nits headwater-reconciler goes on within seconds, where it runs with --slot %s\n",
               t->config->bucket, ours, known ? ", from " : "", known ? theirs : "",
               t->claim.fence.epoch, t->config->slot);
    }
}

enum hw_status rec_takeover_run(const struct rec_takeover_config *config, struct hw_error *err)
{
    struct takeover t = {.config = config};
    bool taken = false;
    enum hw_status status = cdc_slot_check_name(config->slot, err);

    if (status == HW_OK)
        status = connect_both(&t, err);
    if (status == HW_OK)
        status = look_at_database(&t, err);
    if (status == HW_OK)
        status = ask(&t, err);
    if (status == HW_OK && !leads_already(&t)) {
        status = store(&t, err);
        taken = true;
    }
    if (status == HW_OK)
        say(&t, taken);
    rec_leader_free(t.leader);
    hw_nats_close(t.nats);
    hw_db_close(t.pg);
    hw_loop_free(t.loop);
    return status;
}
