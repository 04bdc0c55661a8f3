/*
 * One look at the system: what GET /v1/system and headwater status say of a whole one, with real
 * servers, and of one in which a part is gone; and how the leader answers on NATS.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "nats/nkey.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/nats_keys.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { TEST_S = 240, SOON_S = 60 };

static struct test_pipeline p;
static struct test_api api;
static char *server;

static void start_api(const char *nats)
{
    test_api_start(&api, p.pg.api_url,
                   (const char *const[]){nats != NULL ? "--nats" : NULL, nats, NULL});
    free(server);
    server = hw_sprintf("http://127.0.0.1:%d", api.port);
}

static void open_all(void)
{
    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    start_api(p.nats.url);
}

static void close_all(void)
{
    test_api_stop(&api);
    pipeline_close(&p);
}

/* ---- asking ---- */

static json_t *look(void)
{
    struct test_answer answer = test_http(api.port, "GET", "/v1/system", NULL, NULL, 0);

    ck_assert_msg(answer.status == 200, "%d: %s", answer.status, answer.body);
    json_t *system = test_answer_json(&answer);
    test_answer_free(&answer);
    return system;
}

/* "replication.slot.active" */
static const json_t *at(const json_t *system, const char *path)
{
    HW_AUTO_FREE char *copy = hw_strdup(path);
    char *save = NULL;

    for (char *name = strtok_r(copy, ".", &save); name != NULL; name = strtok_r(NULL, ".", &save)) {
        ck_assert_msg(json_object_get(system, name) != NULL, "%s: no member %s", path, name);
        system = json_object_get(system, name);
    }
    return system;
}

static const char *text(const json_t *system, const char *path)
{
    const char *found = json_string_value(at(system, path));

    ck_assert_msg(found != NULL, "%s is no string", path);
    return found;
}

static const json_t *problem_of(const json_t *system, const char *code)
{
    const json_t *problem;
    size_t i;

    json_array_foreach(at(system, "problems"), i, problem) {
        if (strcmp(text(problem, "code"), code) == 0)
            return problem;
    }
    return NULL;
}

/* Whole, and known to be led: a system that begins is not wrong yet. */
static void wait_until_healthy(void)
{
    for (const double until = test_now() + SOON_S;; test_pause()) {
        HW_AUTO_JSON json_t *system = look();
        HW_AUTO_FREE char *dump = hw_json_dump(system);

        if (json_is_true(at(system, "healthy")) && json_is_true(at(system, "leader.leads")))
            break;
        ck_assert_msg(test_now() < until, "%s", dump);
    }
}

static bool has_problem(const char *code)
{
    HW_AUTO_JSON json_t *system = look();

    return problem_of(system, code) != NULL;
}

static bool says(const char *path, const char *expected)
{
    HW_AUTO_JSON json_t *system = look();

    return strcmp(text(system, path), expected) == 0;
}

/* headwater, with words; what it said, malloc'ed. */
static int headwater(char **said, const char *word, ...) __attribute__((sentinel));
static int headwater(char **said, const char *word, ...)
{
    const char *argv[16] = {"headwater", "--server", server};
    size_t count = 3;
    va_list words;

    va_start(words, word);
    for (const char *w = word; w != NULL && count < HW_COUNT(argv) - 1;
         w = va_arg(words, const char *))
        argv[count++] = w;
    va_end(words);
    return test_program_run(argv, NULL, NULL, said);
}

/* headwater status comes to end with this, and to say all that follows. */
static void expect_status(int status, ...) __attribute__((sentinel));
static void expect_status(int status, ...)
{
    for (const double until = test_now() + SOON_S;; test_pause()) {
        HW_AUTO_FREE char *said = NULL;
        const int ended = headwater(&said, "status", NULL);
        const char *missing = NULL, *word;
        va_list words;

        va_start(words, status);
        while ((word = va_arg(words, const char *)) != NULL)
            if (strstr(said, word) == NULL)
                missing = word;
        va_end(words);
        if (ended == status && missing == NULL)
            break;
        ck_assert_msg(test_now() < until, "expected %d, got %d, and no \"%s\" in:\n%s", status,
                      ended, missing != NULL ? missing : "", said);
    }
}

/* ---- the tests ---- */

START_TEST(test_all_is_well)
{
    struct test_program another;
    HW_AUTO_FREE char *address = NULL, *system_id = NULL;

    open_all();
    wait_until_healthy();
    HW_AUTO_JSON json_t *system = look();
    address = hw_sprintf("127.0.0.1:%d/headwater", p.pg.port);
    system_id = test_sql(&p.pg, "SELECT system_identifier FROM pg_control_system()");
    ck_assert(json_is_true(at(system, "database.reachable")));
    ck_assert(json_is_false(at(system, "database.in_recovery")));
    ck_assert_str_eq(text(system, "database.system_id"), system_id);
    ck_assert_str_eq(text(system, "database.name"), "headwater");
    ck_assert_int_eq(json_integer_value(at(system, "database.schema.wanted")),
                     json_integer_value(at(system, "database.schema.actual")));
    ck_assert(json_is_true(at(system, "replication.slot.active")));
    ck_assert(json_is_true(at(system, "replication.slot.of_this_database")));
    ck_assert_str_eq(text(system, "replication.slot.holder.application"),
                     "headwater-reconciler: stream");
    ck_assert_str_eq(text(system, "replication.slot.holder.address"), "127.0.0.1");
    ck_assert_str_eq(text(system, "replication.slot.holder.state"), "streaming");
    ck_assert(json_is_true(at(system, "leader.leads")));
    ck_assert_str_eq(text(system, "leader.answer"), "answered");
    ck_assert_str_eq(text(system, "leader.said.state"), "streaming");
    ck_assert_str_eq(text(system, "leader.said.slot"), "headwater");
    ck_assert_str_eq(text(system, "leader.said.database.system_id"), system_id);
    ck_assert_str_eq(text(system, "leader.said.database.address"), address);
    ck_assert_int_eq(json_integer_value(at(system, "leader.said.pid")), p.reconciler.pid);
    ck_assert(json_is_true(at(system, "nats.connected")));
    ck_assert_int_eq((int)json_array_size(at(system, "nats.streams")), 3);
    ck_assert_int_eq(json_integer_value(at(system, "reconcilers.connected")), 1);
    ck_assert_int_eq(json_integer_value(at(system, "reconcilers.standing_by")), 0);
    expect_status(0, "OK  database", "OK  slot", "OK  leader", "streaming on ", "OK  nats",
                  "OK  fleet     0 nodes", NULL);

    pipeline_start_another(&p, &another);
    test_wait_for(pipeline_times_in_log(&another, "standing by") > 0, SOON_S);
    expect_status(0, "1 reconciler stands by", NULL);
    pipeline_stop_program(&another);
    close_all();
}
END_TEST

START_TEST(test_the_leader_tells_how_far_it_is)
{
    open_all();
    pipeline_make_nodes(&p, 2);
    pipeline_wait_until_caught_up(&p);
    HW_AUTO_FREE char *head =
        test_sql(&p.pg, "SELECT rev || ' ' || nonce FROM headwater.changelog ORDER BY rev DESC");
    HW_AUTO_FREE char *said = NULL;
    for (const double until = test_now() + SOON_S;;) {
        HW_AUTO_JSON json_t *system = look();
        const json_t *leader = at(system, "leader.said");

        free(said);
        said = json_is_object(leader)
                   ? hw_sprintf("%lld %s", (long long)json_integer_value(at(leader, "rev")),
                                json_is_string(at(leader, "nonce")) ? text(leader, "nonce") : "")
                   : hw_strdup("nothing");
        if (strcmp(said, head) == 0)
            break;
        ck_assert_msg(test_now() < until, "expected %s, got %s", head, said);
        test_pause();
    }
    /* Nobody runs there: two nodes that were never heard of. */
    expect_status(1, "!!  fleet     2 nodes, 2 unknown", "headwater fleet --state unknown", NULL);
    free(test_sql(&p.pg,
                  "SELECT headwater.report((SELECT jsonb_agg(jsonb_build_object('kv_created', "
                  "'2026-01-01', 'kv_revision', 1, 'value', jsonb_build_object('node', node, "
                  "'state', 'failed', 'failed', jsonb_build_object('revision', revision, "
                  "'digest', digest, 'epoch', 1, 'lsn', wal_lsn, 'stage', 'apply', 'error', "
                  "'no crate')))) FROM headwater.desired))"));
    expect_status(1, "!!  fleet     2 nodes, 2 failed", "nodes_failed: 2 nodes failed",
                  "headwater fleet --state failed", NULL);
    close_all();
}
END_TEST

START_TEST(test_a_reconciler_that_was_killed)
{
    HW_AUTO_FREE char *said = NULL;

    open_all();
    wait_until_healthy();
    test_program_stop(&p.reconciler, SIGKILL);
    test_wait_for(has_problem("no_leader"), SOON_S);
    HW_AUTO_JSON json_t *system = look();
    ck_assert(json_is_false(at(system, "leader.leads")));
    test_wait_for(says("leader.answer", "nobody"), SOON_S); /* the one before is good for 1 s */
    ck_assert_str_eq(text(problem_of(system, "no_leader"), "severity"), "error");
    expect_status(1, "!!  leader    nobody leads", "no reconciler leads",
                  "start headwater-reconciler", "journalctl -u headwater-reconciler", NULL);

    /* Where people look first: whoever waits for nodes is told. */
    pipeline_make_nodes(&p, 1);
    HW_AUTO_FREE char *lsn = test_sql(&p.pg, "SELECT pg_current_wal_insert_lsn()");
    ck_assert_int_eq(headwater(&said, "wait", lsn, "--timeout", "200ms", NULL), 7);
    ck_assert_msg(strstr(said, "no reconciler leads") != NULL &&
                      strstr(said, "start headwater-reconciler") != NULL,
                  "%s", said);

    /* The log that waits for it grows. */
    for (int i = 0; i < 6; i++)
        free(
            test_sql(&p.pg, "SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()"));
    expect_status(1, "nobody reads from the slot headwater, which holds back", NULL);

    pipeline_start(&p, NULL);
    test_wait_for(!has_problem("no_leader") && !has_problem("slot_inactive"), SOON_S);
    close_all();
}
END_TEST

START_TEST(test_nats_that_is_away)
{
    open_all();
    wait_until_healthy();
    pipeline_stop_nats(&p);
    test_wait_for(has_problem("nats_unreachable"), SOON_S);
    expect_status(1, "!!  nats      cannot be reached", "see that nats-server runs", "OK  database",
                  NULL);
    pipeline_restart_nats(&p);
    wait_until_healthy();
    close_all();
}
END_TEST

START_TEST(test_a_leader_that_does_not_answer)
{
    open_all();
    wait_until_healthy();
    ck_assert_int_eq(kill(p.reconciler.pid, SIGSTOP), 0);
    test_wait_for(has_problem("leader_silent"), SOON_S);
    HW_AUTO_JSON json_t *system = look();
    ck_assert(json_is_true(at(system, "leader.leads")));
    ck_assert_str_eq(text(system, "leader.answer"), "silent");
    ck_assert_int_eq(kill(p.reconciler.pid, SIGCONT), 0);
    wait_until_healthy();
    close_all();
}
END_TEST

START_TEST(test_without_nats)
{
    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    start_api(NULL);
    expect_status(0, "??  nats", "OK  leader    headwater-reconciler: stream", NULL);
    HW_AUTO_JSON json_t *system = look();
    ck_assert(json_is_false(at(system, "nats.configured")));
    ck_assert(json_is_null(at(system, "nats.connected")));
    ck_assert_str_eq(text(system, "leader.answer"), "unknown");
    ck_assert(json_is_true(at(system, "leader.leads")));
    test_program_stop(&p.reconciler, SIGKILL);
    test_wait_for(has_problem("no_leader"), SOON_S);
    close_all();
}
END_TEST

/* Null, not false, is what may not be seen. */
START_TEST(test_without_the_right_to_see_sessions)
{
    open_all();
    wait_until_healthy();
    free(test_sql(&p.pg, "REVOKE pg_read_all_stats FROM headwater_owner"));
    HW_AUTO_JSON json_t *system = look();
    ck_assert(json_is_true(at(system, "healthy")));
    ck_assert(json_is_true(at(system, "leader.leads")));
    ck_assert(json_is_null(at(system, "replication.slot.holder.address")));
    ck_assert(json_is_null(at(system, "replication.slot.holder.connected_at")));
    ck_assert(json_is_null(at(system, "replication.slot.holder.state")));

    free(test_sql(&p.pg, "REVOKE EXECUTE ON FUNCTION headwater.reconcilers() FROM headwater_api"));
    HW_AUTO_JSON json_t *less = look();
    ck_assert(json_is_true(at(less, "healthy")));
    ck_assert(json_is_null(at(less, "reconcilers.connected")));
    ck_assert(json_is_null(at(less, "replication.slot.holder")));
    ck_assert(json_is_true(at(less, "replication.slot.active")));
    expect_status(0, "??  standby", NULL);
    close_all();
}
END_TEST

static bool is_lost(void)
{
    return test_sql_is(&p.pg, "lost",
                       "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'headwater'");
}

START_TEST(test_a_slot_that_is_lost_or_missing)
{
    open_all();
    wait_until_healthy();
    test_program_stop(&p.reconciler, SIGKILL);
    test_wait_for(has_problem("no_leader"), SOON_S);
    free(test_sql(&p.pg, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    for (const double until = test_now() + SOON_S; !is_lost();) {
        ck_assert(test_now() < until);
        free(test_sql(&p.pg, "SELECT pg_logical_emit_message(false, 'test', 'x')"));
        free(test_sql(&p.pg, "SELECT pg_switch_wal()"));
        free(test_sql(&p.pg, "CHECKPOINT"));
    }
    expect_status(1, "slot_lost: the slot headwater has lost log", "raise max_slot_wal_keep_size",
                  NULL);
    test_postgres_drop_slot(&p.pg, "headwater");
    ck_assert(!has_problem("slot_lost"));
    expect_status(1, "there is not even the slot headwater", "start headwater-reconciler", NULL);
    close_all();
}
END_TEST

START_TEST(test_an_api_that_is_away)
{
    HW_AUTO_FREE char *said = NULL;

    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    start_api(NULL);
    /* It answers, but has nothing to say. */
    test_postgres_stop(&p.pg);
    test_wait_for(headwater(NULL, "status", NULL) == 1, SOON_S);
    expect_status(1, "!!  database", "see that PostgreSQL runs", NULL);
    test_postgres_restart(&p.pg);
    test_api_stop(&api);
    ck_assert_int_eq(headwater(&said, "status", NULL), 7);
    ck_assert_msg(strstr(said, "see that headwater-api runs") != NULL &&
                      strstr(said, "HEADWATER_SERVER") != NULL,
                  "%s", said);
    pipeline_close(&p);
}
END_TEST

/* An API that never knew its tokens answers 503: what it says of its database is shown. */
START_TEST(test_an_api_without_a_schema)
{
    struct test_postgres empty;

    test_postgres_start(&empty, false, NULL);
    const char *const argv[] = {"headwater-api", "--database",  empty.url,
                                "--listen",      "127.0.0.1:0", NULL};
    struct test_program program;
    test_program_start(&program, argv, NULL);
    const char *found = NULL;
    HW_AUTO_FREE char *log = NULL;
    for (const double until = test_now() + SOON_S; found == NULL; test_pause()) {
        ck_assert(test_now() < until);
        free(log);
        log = test_read_file(program.log);
        found = strstr(log, "address=127.0.0.1:");
    }
    free(server);
    server = hw_sprintf("http://127.0.0.1:%ld", strtol(strchr(found, ':') + 1, NULL, 10));
    for (const double until = test_now() + SOON_S;; test_pause()) {
        HW_AUTO_FREE char *said = NULL;
        const int status = headwater(&said, "status", NULL);

        if (status == 1 && strstr(said, "run headwater-api migrate") != NULL)
            break;
        ck_assert_msg(test_now() < until, "%d: %s", status, said);
    }
    test_program_stop(&program, SIGTERM);
    test_postgres_remove(&empty);
}
END_TEST

START_TEST(test_a_schema_of_another_version)
{
    open_all();
    wait_until_healthy();
    free(test_sql(&p.pg, "CREATE TABLE newest AS SELECT * FROM headwater.migration "
                         "ORDER BY version DESC LIMIT 1"));
    free(test_sql(&p.pg, "DELETE FROM headwater.migration WHERE version = (SELECT version "
                         "FROM newest)"));
    expect_status(1, "schema_old", "run headwater-api migrate", NULL);
    free(test_sql(&p.pg, "INSERT INTO headwater.migration SELECT version + 1, name FROM newest"));
    expect_status(1, "schema_new", NULL);
    close_all();
}
END_TEST

/* ---- the leader on NATS ---- */

static json_t *ask_leader(void)
{
    natsMsg *answer = NULL;
    json_t *said = NULL;
    const natsStatus s = natsConnection_RequestString(&answer, p.nc, "headwater.leader", "", 10000);

    if (s == NATS_OK && natsMsg_GetDataLength(answer) > 0)
        ck_assert_int_eq(hw_json_parse_object(natsMsg_GetData(answer),
                                              (size_t)natsMsg_GetDataLength(answer), &said, NULL),
                         HW_OK);
    natsMsg_Destroy(answer);
    return said;
}

/* A question may name any subject as its inbox, one that we alone may write to as well. */
START_TEST(test_answers_go_to_inboxes_only)
{
    static const char subject[] = DESIRED "n1";

    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    json_t *first;
    test_wait_for((first = ask_leader()) != NULL, SOON_S);
    json_decref(first);
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    ck_assert_int_eq(natsConnection_PublishRequest(p.nc, "headwater.leader", subject, "", 0),
                     NATS_OK);
    ck_assert_int_eq(
        natsConnection_PublishRequest(p.nc, "headwater.leader", "$JS.API.STREAM.LIST", "", 0),
        NATS_OK);
    HW_AUTO_JSON json_t *said = ask_leader(); /* behind the others */
    ck_assert_ptr_nonnull(said);
    ck_assert_str_eq(text(said, "bucket"), "headwater");
    ck_assert_ptr_null(pipeline_last(&p, "KV_headwater", subject));
    ck_assert_uint_ge(pipeline_last_seq(&p, "KV_headwater"), before);
    pipeline_close(&p);
}
END_TEST

/* And no one else does, a standby least of all. The password is nobody's business. */
START_TEST(test_only_the_leader_answers)
{
    HW_AUTO_FREE char *database = NULL;
    struct test_program secret;

    pipeline_open(&p, NULL);
    ck_assert_ptr_null(ask_leader());
    database = hw_sprintf("host=127.0.0.1 port=%d dbname=headwater user=headwater_reconciler "
                          "password=hush-hush",
                          p.pg.port);
    const char *const argv[] = {
        "headwater-reconciler", "--database", database, "--nats", p.nats.url, NULL};
    test_program_start(&secret, argv, NULL);
    json_t *said = NULL;
    test_wait_for((said = ask_leader()) != NULL, SOON_S);
    HW_AUTO_FREE char *dump = hw_json_dump(said);
    ck_assert_ptr_null(strstr(dump, "hush"));
    ck_assert_int_eq(json_integer_value(at(said, "pid")), secret.pid);
    json_decref(said);

    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "standing by"), SOON_S);
    for (int i = 0; i < 5; i++) {
        said = ask_leader();
        ck_assert_int_eq(json_integer_value(at(said, "pid")), secret.pid);
        json_decref(said);
    }
    test_program_stop(&secret, SIGKILL);
    for (const double until = test_now() + SOON_S;; test_pause()) {
        HW_AUTO_JSON json_t *next = ask_leader();

        if (next != NULL && json_integer_value(at(next, "pid")) == p.reconciler.pid)
            break;
        ck_assert(test_now() < until);
    }
    pipeline_stop(&p);
    ck_assert_ptr_null(ask_leader());
    pipeline_close(&p);
}
END_TEST

/* ---- with the accounts that the programs print ---- */

static char *print_account(const char *const argv[])
{
    char *account;

    ck_assert_msg(test_program_run(argv, NULL, NULL, &account) == 0, "%s", account);
    return account;
}

static natsConnection *connect_as(const char *seed)
{
    char key[HW_NKEY_PUBLIC_MAX];
    natsOptions *options = NULL;
    natsConnection *nc = NULL;

    ck_assert_int_eq(hw_nkey_public_of_file(seed, key, NULL), HW_OK);
    ck_assert_int_eq(natsOptions_Create(&options), NATS_OK);
    ck_assert_int_eq(natsOptions_SetURL(options, p.nats.url), NATS_OK);
    ck_assert_int_eq(natsOptions_SetTimeout(options, 10000), NATS_OK);
    ck_assert_int_eq(natsOptions_SetNKeyFromSeed(options, key, seed), NATS_OK);
    ck_assert_int_eq(natsConnection_Connect(&nc, options), NATS_OK);
    natsOptions_Destroy(options);
    return nc;
}

/* Is this answered, and not with an error of JetStream's? An account without it has the server take
 * some of its questions and say nothing. */
static bool is_answered(natsConnection *nc, const char *subject, int64_t wait_ms)
{
    natsMsg *answer = NULL;
    const natsStatus s = natsConnection_RequestString(&answer, nc, subject, "", wait_ms);

    ck_assert_msg(s == NATS_OK || s == NATS_NO_RESPONDERS || s == NATS_TIMEOUT, "%s",
                  natsStatus_GetText(s));
    HW_AUTO_FREE char *said =
        s == NATS_OK ? hw_strndup(natsMsg_GetData(answer), (size_t)natsMsg_GetDataLength(answer))
                     : hw_strdup("");
    natsMsg_Destroy(answer);
    return *said != '\0' && strstr(said, "\"error\":{\"code\"") == NULL;
}

START_TEST(test_accounts)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *core = hw_sprintf("%s/core.nk", dir), *ours = hw_sprintf("%s/api.nk", dir);
    HW_AUTO_FREE char *node = hw_sprintf("%s/node.nk", dir);

    test_nats_seed(core);
    test_nats_seed(ours);
    test_nats_seed(node);
    HW_AUTO_FREE char *one = print_account(
        (const char *const[]){"headwater-reconciler", "permissions", "--nats-nkey", core, NULL});
    HW_AUTO_FREE char *two = print_account(
        (const char *const[]){"headwater-api", "permissions", "--nats-nkey", ours, NULL});
    HW_AUTO_FREE char *three = print_account((const char *const[]){
        "headwater-agent", "permissions", "--node", "api", "--nats-nkey", node, NULL});
    HW_AUTO_FREE char *config = hw_sprintf("accounts {\n%s%s%s}\n", one, two, three);
    HW_AUTO_FREE char *path = hw_sprintf("%s/nats.conf", dir);
    struct hw_error err;
    ck_assert_msg(hw_file_replace(path, config, strlen(config), 0644, &err) == HW_OK, "%s",
                  err.message);

    pipeline_open(&p, NULL);
    pipeline_stop_nats(&p);
    p.nats.config = path;
    test_nats_restart(&p.nats);
    pipeline_start(&p, (const char *const[]){"--nats-nkey", core, NULL});
    test_api_start(&api, p.pg.api_url,
                   (const char *const[]){"--nats", p.nats.url, "--nats-nkey", ours, NULL});
    wait_until_healthy();
    ck_assert(says("leader.answer", "answered"));

    /* And no more: neither the API's account nor a node's gets further than it must. */
    natsConnection *nc = connect_as(ours);
    ck_assert(is_answered(nc, "headwater.leader", 20000));
    ck_assert(is_answered(nc, "headwater.streams.KV_headwater", 20000));
    ck_assert(!is_answered(nc, "$JS.API.STREAM.DELETE.KV_headwater", 2000));
    ck_assert(!is_answered(nc, "$JS.API.DIRECT.GET.KV_headwater." CHECKPOINT, 2000));
    natsConnection_Destroy(nc);
    nc = connect_as(node);
    ck_assert(!is_answered(nc, "headwater.leader", 2000));
    ck_assert(!is_answered(nc, "headwater.streams.KV_headwater", 2000));
    ck_assert(!is_answered(nc, "$JS.API.STREAM.INFO.KV_headwater", 2000));
    natsConnection_Destroy(nc);
    close_all();
}
END_TEST

/* Two databases with one bucket: whoever looks at one of them is told of the other. */
START_TEST(test_the_leader_of_another_database)
{
    struct test_postgres other;

    open_all();
    wait_until_healthy();
    test_postgres_start(&other, true, NULL);
    test_api_stop(&api);
    struct test_pipeline here = p;
    p.pg = other;
    start_api(here.nats.url);
    test_wait_for(has_problem("leader_of_another_database"), SOON_S);
    HW_AUTO_FREE char *address = hw_sprintf("127.0.0.1:%d/headwater", here.pg.port);
    expect_status(1, "reads another database", address, NULL);
    test_api_stop(&api);
    p = here;
    test_postgres_remove(&other);
    pipeline_close(&p);
}
END_TEST

TEST_MAIN("system", TEST_S, test_all_is_well, test_the_leader_tells_how_far_it_is,
          test_a_reconciler_that_was_killed, test_nats_that_is_away,
          test_a_leader_that_does_not_answer, test_without_nats,
          test_without_the_right_to_see_sessions, test_a_slot_that_is_lost_or_missing,
          test_a_schema_of_another_version, test_an_api_that_is_away, test_an_api_without_a_schema,
          test_answers_go_to_inboxes_only, test_only_the_leader_answers, test_accounts,
          test_the_leader_of_another_database)
