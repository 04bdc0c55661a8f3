/*
 * A reconciler that cannot do its work says why: a wrong database, another slot's reconciler with
 * its bucket, a server that is away. So do headwater-cdc preflight and status, in the same words;
 * and all of them name the slots that nobody reads.
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

static struct test_pipeline p;
static struct second {
    struct test_program program;
    int monitor;
} second;
static char *other_url, *empty_url; /* databases beside the one of the pipeline */

/* The monitor listens when this returns. */
static void start_first(void)
{
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "msg=started"), 60);
}

static void setup(void)
{
    pipeline_open(&p, NULL);
    free(test_sql(&p.pg, "CREATE DATABASE other TEMPLATE headwater"));
    free(test_sql(&p.pg, "CREATE DATABASE empty TEMPLATE template0"));
    other_url = hw_sprintf("postgresql://headwater_reconciler@127.0.0.1:%d/other", p.pg.port);
    empty_url = hw_sprintf("postgresql://headwater_reconciler@127.0.0.1:%d/empty", p.pg.port);
    pipeline_make_nodes(&p, 1);
    start_first();
    test_wait_for(pipeline_readyz(&p) == 200, 60);
}

static void teardown(void)
{
    pipeline_close(&p);
    free(other_url);
    free(empty_url);
}

static bool second_says(const char *text)
{
    return pipeline_times_in_log(&second.program, text) > 0;
}

static void start_second(const char *database, const char *const options[])
{
    HW_AUTO_FREE char *monitor = hw_sprintf("127.0.0.1:%d", second.monitor = test_free_port());
    const char *argv[24] = {
        "headwater-reconciler", "--database", database, "--nats", p.nats.url, "--monitor", monitor};
    int count = 7;

    while (options != NULL && *options != NULL && count < 23)
        argv[count++] = *options++;
    test_program_start(&second.program, argv, NULL);
    test_wait_for(second_says("msg=started"), 60);
}

/* The status of a program's /readyz, and whether the body has the word. */
static bool readyz_is(int port, int status, const char *word)
{
    struct test_answer answer = test_http(port, "GET", "/readyz", NULL, NULL, 0);
    const bool right = answer.status == status && strstr(answer.body, word) != NULL;

    test_answer_free(&answer);
    return right;
}

static char *cdc(const char *command, const char *database, const char *json, int expected)
{
    char *said = NULL;
    const int status = test_program_run(
        (const char *[]){"headwater-cdc", command, "--database", database, json, NULL}, NULL, NULL,
        &said);

    ck_assert_msg(status == expected, "%s: exit status %d: %s", command, status, said);
    return said;
}

static void check_has(const char *text, const char *word)
{
    ck_assert_msg(strstr(text, word) != NULL, "\"%s\" is not in: %s", word, text);
}

START_TEST(test_a_wrong_database_says_so)
{
    static const char belongs[] = "belongs to the database \"headwater\" of this server, and "
                                  "--database names \"other\"",
                      advice[] = "correct --database (HEADWATER_DATABASE_URL)";

    start_second(other_url, NULL);
    test_wait_for(readyz_is(second.monitor, 503, advice), 60);
    HW_AUTO_FREE char *log = test_read_file(second.program.log);
    check_has(log, "belongs to the database");
    check_has(log, advice);
    ck_assert(!second_says("standing by"));
    pipeline_stop_program(&second.program);
    ck_assert_int_eq(pipeline_times_in_log(&second.program, "cannot go on"), 1);
    HW_AUTO_FREE char *preflight = cdc("preflight", other_url, NULL, 1);
    HW_AUTO_FREE char *status = cdc("status", other_url, NULL, 1);
    HW_AUTO_FREE char *status_json = cdc("status", other_url, "--json", 1);
    check_has(preflight, belongs);
    check_has(preflight, advice);
    check_has(status, belongs);
    check_has(status, advice);
    check_has(status_json, advice);

    /* One without the schema, and while nobody streams from the slot. */
    pipeline_stop(&p);
    start_second(empty_url, NULL);
    test_wait_for(readyz_is(second.monitor, 503, "Is it the right database"), 60);
    ck_assert(second_says("headwater-api migrate"));
    pipeline_stop_program(&second.program);
    start_second(other_url, (const char *[]){"--bucket", "another", NULL});
    test_wait_for(readyz_is(second.monitor, 503, advice), 60);
    pipeline_stop_program(&second.program);
    ck_assert_uint_eq(pipeline_last_seq(&p, "KV_another"), 0); /* no bucket was made for it */
}
END_TEST

START_TEST(test_two_slots_do_not_fight_for_a_bucket)
{
    static const char turn[] = "look at server, slot and checkpoint";

    start_second(p.pg.reconciler_url,
                 (const char *[]){"--slot", "second", "--log-level", "debug", NULL});
    test_wait_for(readyz_is(second.monitor, 503, "--slot headwater"), 60);
    HW_AUTO_FREE char *log = test_read_file(second.program.log);
    check_has(log, "standing back");
    check_has(log, "slot=second bucket=headwater");
    check_has(log, "a reconciler with the slot \\\"headwater\\\"");
    check_has(log, "or with another --bucket");
    check_has(log, "headwater-reconciler take-over --bucket headwater --slot second");

    /* It asks again with growing pauses: a quarter of a second, half a one, …, half of that at
     * least. */
    const double begin = test_now();
    const int asked = pipeline_times_in_log(&second.program, turn);
    test_wait_for(pipeline_times_in_log(&second.program, turn) >= asked + 5, 60);
    ck_assert(test_now() - begin > 2);
    ck_assert_int_eq(pipeline_times_in_log(&second.program, "msg=\"standing back"), 1);

    /* Nobody was disturbed, and nothing was made. */
    ck_assert_int_eq(pipeline_times_in_log(&p.reconciler, "msg=leading"), 1);
    ck_assert_int_eq(pipeline_times_in_log(&p.reconciler, "someone else wrote"), 0);
    ck_assert(test_sql_is(&p.pg, "0",
                          "SELECT count(*) FROM pg_replication_slots WHERE slot_name "
                          "LIKE 'second%%'"));
    pipeline_set_content(&p, "{\"a\":1}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 1));

    /* When that one has gone, this one takes over, and it is the first that stands back. */
    pipeline_stop(&p);
    test_wait_for(readyz_is(second.monitor, 200, "streaming"), 60);
    pipeline_set_content(&p, "{\"a\":2}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 60);
    start_first();
    test_wait_for(readyz_is(p.monitor, 503, "--slot second"), 60);
    /* Its slots hold log back meanwhile, and the leader names them. */
    test_wait_for(second_says("SELECT pg_drop_replication_slot('headwater')"), 60);
    ck_assert(second_says("SELECT pg_drop_replication_slot('headwater_archive')"));
    pipeline_stop(&p);
    pipeline_stop_program(&second.program);
}
END_TEST

START_TEST(test_two_databases_do_not_fight_for_a_bucket)
{
    start_second(other_url, (const char *[]){"--slot", "second", NULL});
    test_wait_for(readyz_is(second.monitor, 503, "/headwater (system "), 60);
    ck_assert(readyz_is(second.monitor, 503, "/other (system "));
    ck_assert(second_says("with another --bucket"));
    pipeline_stop_program(&second.program);
    ck_assert_int_eq(pipeline_times_in_log(&p.reconciler, "msg=leading"), 1);
    /* With a bucket of its own all is well. */
    start_second(other_url, (const char *[]){"--slot", "second", "--bucket", "another", NULL});
    test_wait_for(readyz_is(second.monitor, 200, "streaming"), 60);
    pipeline_stop_program(&second.program);
}
END_TEST

START_TEST(test_orphans_are_named)
{
    static const char drop[] = "SELECT pg_drop_replication_slot('left_behind')";
    PGconn *conn = PQconnectdb(p.pg.url);

    free(test_sql(&p.pg, "SELECT pg_create_logical_replication_slot('left_behind', 'wal2json')"));
    free(test_sql(&p.pg, "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')"));
    PQclear(PQexec(conn, "SELECT pg_create_logical_replication_slot('temp', 'wal2json', true)"));
    test_wait_for(test_sql_is(&p.pg, "5", "SELECT count(*) FROM pg_replication_slots"), 60);
    test_wait_for(pipeline_log_says(&p, drop), 60);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_orphan_slots") == 1, 30);
    ck_assert_int_eq(pipeline_times_in_log(&p.reconciler, "pg_drop_replication_slot"), 1);

    HW_AUTO_FREE char *preflight = cdc("preflight", p.pg.reconciler_url, NULL, 0);
    HW_AUTO_FREE char *status = cdc("status", p.pg.reconciler_url, NULL, 0);
    HW_AUTO_FREE char *json = cdc("status", p.pg.reconciler_url, "--json", 0);
    check_has(preflight, drop);
    check_has(preflight, "of WAL");
    check_has(status, drop);
    check_has(status, "nobody streams from the slot \"left_behind\"");
    HW_AUTO_JSON json_t *answer = json_loads(json, 0, NULL);
    const json_t *orphans = json_object_get(answer, "orphans");
    ck_assert_int_eq(json_array_size(orphans), 1);
    const json_t *orphan = json_array_get(orphans, 0);
    ck_assert_str_eq(json_string_value(json_object_get(orphan, "slot")), "left_behind");
    ck_assert_int_gt(json_integer_value(json_object_get(orphan, "retained_bytes")), 0);

    /* The command does what it says. */
    free(test_sql(&p.pg, "%s", json_string_value(json_object_get(orphan, "drop"))));
    HW_AUTO_FREE char *after = cdc("status", p.pg.reconciler_url, NULL, 0);
    ck_assert_ptr_null(strstr(after, "orphan"));
    PQfinish(conn);
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_servers_that_are_away)
{
    HW_AUTO_FREE char *shown = hw_sprintf("nats=nats://127.0.0.1:%d", p.nats.port);

    start_second(p.pg.reconciler_url, NULL);
    test_wait_for(second_says("by=\"headwater-reconciler: stream\""), 60);
    pipeline_stop_program(&second.program);

    pipeline_stop_nats(&p);
    test_wait_for(pipeline_log_says(&p, "connection refused: nothing listens at") &&
                      pipeline_log_says(&p, shown),
                  60);
    ck_assert(pipeline_log_says(&p, "HEADWATER_NATS_URL"));
    test_wait_for(readyz_is(p.monitor, 503, "connection refused: nothing listens at"), 60);
    pipeline_restart_nats(&p);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert_int_eq(pipeline_times_in_log(&p.reconciler, "msg=\"NATS cannot be reached"), 1);
    ck_assert(pipeline_log_says(&p, "was_away_s="));

    test_postgres_stop(&p.pg);
    test_wait_for(pipeline_log_says(&p, "nothing listens there: is PostgreSQL running"), 60);
    test_wait_for(readyz_is(p.monitor, 503, "HEADWATER_DATABASE_URL"), 60);
    test_postgres_restart(&p.pg);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert(pipeline_log_says(&p, "msg=\"PostgreSQL is back\""));
    pipeline_stop(&p);
}
END_TEST

TEST_MAIN_BETWEEN("reconciler diagnosis", 240, setup, teardown, test_a_wrong_database_says_so,
                  test_two_slots_do_not_fight_for_a_bucket,
                  test_two_databases_do_not_fight_for_a_bucket, test_orphans_are_named,
                  test_servers_that_are_away)
