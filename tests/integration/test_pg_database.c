/* The asynchronous connection to PostgreSQL against a real server. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "pg/database.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres server;
static struct hw_loop *loop;
static struct hw_db *pg;
static struct hw_error err;
static bool up, down, notified;
static int ups, downs;
static char why_down[HW_ERROR_MAX], channel[64];

static void on_up(void *arg)
{
    ck_assert_ptr_eq(arg, &server);
    ck_assert(hw_db_idle(pg));
    up = true;
    down = false;
    ups++;
}

static void on_down(void *arg, const struct hw_error *why)
{
    ck_assert_ptr_eq(arg, &server);
    ck_assert(!hw_db_up(pg));
    ck_assert_int_eq(why->status, HW_EUNAVAIL);
    snprintf(why_down, sizeof(why_down), "%s", why->message);
    up = false;
    down = true;
    downs++;
}

static void on_notify(void *arg, const char *name)
{
    ck_assert_ptr_eq(arg, &server);
    snprintf(channel, sizeof(channel), "%s", name);
    notified = true;
}

static const struct hw_db_events events = {
    .up = on_up, .down = on_down, .notify = on_notify, .arg = &server};

static void wait_for(const bool *flag, const char *what)
{
    ck_assert_msg(hw_loop_run_until(loop, flag, test_patient_ms(30000)),
                  "timed out waiting for: %s", what);
}

static void start_server(void)
{
    test_postgres_start(&server, false, NULL);
}

static void remove_server(void)
{
    test_postgres_remove(&server);
}

static void open_pg(void)
{
    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    ck_assert_int_eq(hw_db_open(loop, server.url, "test", &events, &pg, &err), HW_OK);
}

static void begin(void)
{
    open_pg();
    wait_for(&up, "the connection");
}

static void end(void)
{
    hw_db_close(pg);
    hw_loop_free(loop);
}

/* What a batch gave, copied out of it. */
static struct {
    int times;
    bool done;
    enum hw_status status;
    char message[HW_ERROR_MAX], sqlstate[6], constraint[64], detail[128], hint[128];
    int failed, count;
    bool sent, committed;
    char value[8][256]; /* the first value of each result; "NULL", "-" for no row */
} out;

static void on_done(void *arg, const struct hw_db_outcome *outcome)
{
    ck_assert_ptr_eq(arg, &out);
    out.times++;
    out.done = true;
    out.status = outcome->status;
    snprintf(out.message, sizeof(out.message), "%s",
             outcome->status != HW_OK ? outcome->err.message : "");
    snprintf(out.sqlstate, sizeof(out.sqlstate), "%s", outcome->sqlstate);
    snprintf(out.constraint, sizeof(out.constraint), "%s", outcome->constraint);
    snprintf(out.detail, sizeof(out.detail), "%s", outcome->detail);
    snprintf(out.hint, sizeof(out.hint), "%s", outcome->hint);
    out.failed = outcome->failed;
    out.count = outcome->count;
    out.sent = outcome->sent;
    out.committed = outcome->committed;
    for (int i = 0; i < outcome->count && i < 8; i++) {
        const PGresult *r = outcome->results[i];
        snprintf(out.value[i], sizeof(out.value[i]), "%s",
                 r == NULL || PQntuples(r) == 0 ? "-"
                 : PQgetisnull(r, 0, 0)         ? "NULL"
                                                : PQgetvalue(r, 0, 0));
    }
}

static enum hw_status start_batch(enum hw_db_mode mode, const struct hw_db_query *queries,
                                  int count, const struct hw_db_query *tail)
{
    memset(&out, 0, sizeof(out));
    return hw_db_run(pg, mode, queries, count, tail, on_done, &out, &err);
}

static void run(enum hw_db_mode mode, const struct hw_db_query *queries, int count,
                const struct hw_db_query *tail)
{
    ck_assert_int_eq(start_batch(mode, queries, count, tail), HW_OK);
    ck_assert_int_eq(out.times, 0);
    ck_assert(!hw_db_idle(pg));
    wait_for(&out.done, "the batch");
    ck_assert_int_eq(out.times, 1);
    ck_assert_int_eq(out.count, count + (tail != NULL));
}

static void run_one(const char *sql)
{
    run(HW_DB_ATOMIC, &(struct hw_db_query){.sql = sql}, 1, NULL);
}

#define EXPECT_OK()                                                                                \
    do {                                                                                           \
        ck_assert_msg(out.status == HW_OK, "%s", out.message);                                     \
        ck_assert_int_eq(out.failed, -1);                                                          \
        ck_assert(hw_db_idle(pg));                                                                 \
    } while (0)

START_TEST(test_values_go_there_and_back)
{
    begin();
    ck_assert_int_ge(hw_db_server_version(pg), 150000);
    char text[] = "it's; DROP TABLE x -- \xE2\x82\xAC";
    const struct hw_db_query queries[] = {
        {.sql = "SELECT $1::text", .count = 1, .values = (const char *const[]){text}},
        {.sql = "SELECT $1::int + $2::int", .count = 2, .values = (const char *const[]){"3", "4"}},
        {.sql = "SELECT $1::text", .count = 1, .values = (const char *const[]){NULL}},
        {.sql = "SELECT 1 WHERE false"},
    };
    ck_assert_int_eq(start_batch(HW_DB_ATOMIC, queries, 4, NULL), HW_OK);
    memset(text, '#', sizeof(text) - 1); /* values were copied */
    wait_for(&out.done, "the batch");
    EXPECT_OK();
    ck_assert_str_eq(out.value[0], "it's; DROP TABLE x -- \xE2\x82\xAC");
    ck_assert_str_eq(out.value[1], "7");
    ck_assert_str_eq(out.value[2], "NULL");
    ck_assert_str_eq(out.value[3], "-");
    run_one("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()");
    ck_assert_str_eq(out.value[0], "test");
    run_one("SHOW client_encoding");
    ck_assert_str_eq(out.value[0], "UTF8");
    end();
}
END_TEST

START_TEST(test_one_batch_at_a_time)
{
    begin();
    const struct hw_db_query query = {.sql = "SELECT 1"};
    ck_assert_int_eq(start_batch(HW_DB_ATOMIC, &query, 1, NULL), HW_OK);
    ck_assert_int_eq(hw_db_run(pg, HW_DB_ATOMIC, &query, 1, NULL, on_done, NULL, &err),
                     HW_EUNAVAIL);
    wait_for(&out.done, "the batch");
    ck_assert_int_eq(out.times, 1);
    EXPECT_OK();
    end();
}
END_TEST

START_TEST(test_atomic_batch_is_all_or_nothing)
{
    begin();
    run_one("CREATE TABLE t (x int PRIMARY KEY)");
    EXPECT_OK();
    const struct hw_db_query queries[] = {{.sql = "INSERT INTO t VALUES (1)"},
                                          {.sql = "INSERT INTO t VALUES (2)"},
                                          {.sql = "INSERT INTO t VALUES (1)"},
                                          {.sql = "INSERT INTO t VALUES (3)"}};
    run(HW_DB_ATOMIC, queries, 4, NULL);
    ck_assert_int_eq(out.status, HW_EINVAL);
    ck_assert_int_eq(out.failed, 2);
    ck_assert_str_eq(out.sqlstate, "23505");
    ck_assert_str_eq(out.constraint, "t_pkey");
    ck_assert_str_eq(out.detail, "Key (x)=(1) already exists.");
    ck_assert_ptr_nonnull(strstr(out.message, "duplicate key"));
    ck_assert(out.sent);
    run_one("SELECT count(*) FROM t");
    EXPECT_OK();
    ck_assert_str_eq(out.value[0], "0");
    run(HW_DB_ATOMIC, queries, 2, NULL);
    EXPECT_OK();
    run_one("SELECT count(*) FROM t");
    ck_assert_str_eq(out.value[0], "2");
    end();
}
END_TEST

START_TEST(test_separate_statements_stand_alone)
{
    begin();
    const struct hw_db_query queries[] = {{.sql = "CREATE TABLE s (x int PRIMARY KEY)"},
                                          {.sql = "INSERT INTO s VALUES (1)"},
                                          {.sql = "INSERT INTO s VALUES (1)"},
                                          {.sql = "INSERT INTO s VALUES (2)"},
                                          {.sql = "SELECT count(*) FROM s"}};
    run(HW_DB_SEPARATE, queries, 5, NULL);
    ck_assert_int_eq(out.status, HW_EINVAL);
    ck_assert_int_eq(out.failed, 2);
    ck_assert_str_eq(out.value[4], "2");
    /* A transaction made of statements, with its isolation level. */
    const struct hw_db_query transaction[] = {{.sql = "BEGIN ISOLATION LEVEL REPEATABLE READ"},
                                              {.sql = "SHOW transaction_isolation"},
                                              {.sql = "INSERT INTO s VALUES (3)"},
                                              {.sql = "ROLLBACK"},
                                              {.sql = "SELECT max(x) FROM s"}};
    run(HW_DB_SEPARATE, transaction, 5, NULL);
    EXPECT_OK();
    ck_assert_str_eq(out.value[1], "repeatable read");
    ck_assert_str_eq(out.value[4], "2");
    end();
}
END_TEST

/* The tail sees what the batch committed, and its own failure does not undo it. */
START_TEST(test_tail_runs_behind_the_commit)
{
    begin();
    run_one("CREATE TABLE tail (x xid8, at pg_lsn)");
    const struct hw_db_query insert = {
        .sql = "INSERT INTO tail VALUES (pg_current_xact_id(), pg_current_wal_insert_lsn())"};
    const struct hw_db_query look = {
        .sql = "SELECT pg_xact_status(x) || ' ' || (at < pg_current_wal_insert_lsn())::text || ' ' "
               "|| (pg_current_xact_id_if_assigned() IS NULL)::text FROM tail"};
    run(HW_DB_ATOMIC, &insert, 1, &look);
    EXPECT_OK();
    ck_assert_str_eq(out.value[1], "committed true true");
    const struct hw_db_query broken = {.sql = "SELECT 1/0"};
    run(HW_DB_ATOMIC, &insert, 1, &broken);
    ck_assert_int_eq(out.status, HW_EINVAL);
    ck_assert_int_eq(out.failed, 1);
    ck_assert_str_eq(out.sqlstate, "22012");
    ck_assert(out.committed);
    run_one("SELECT count(*) FROM tail");
    ck_assert_str_eq(out.value[0], "2");
    /* When the batch fails, the failure that counts is the batch's. */
    run(HW_DB_ATOMIC, &broken, 1, &look);
    ck_assert_int_eq(out.failed, 0);
    ck_assert_str_eq(out.sqlstate, "22012");
    ck_assert(!out.committed);
    /* A connection that is lost behind the commit does not undo it either. */
    const struct hw_db_query end_it = {.sql = "SELECT pg_terminate_backend(pg_backend_pid())"};
    run(HW_DB_ATOMIC, &insert, 1, &end_it);
    ck_assert_int_eq(out.failed, 1);
    ck_assert(out.committed);
    end();
}
END_TEST

START_TEST(test_failures_have_a_status)
{
    static const struct {
        const char *sql, *sqlstate;
        enum hw_status status;
    } cases[] = {
        {"SELECT nonsense", "42703", HW_EINVAL},
        {"SELEC", "42601", HW_EINVAL},
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", "40001", HW_ECONFLICT},
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$", "40P01", HW_ECONFLICT},
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '42501'; END $$", "42501", HW_EDENIED},
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$", "53100", HW_ELIMIT},
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '54000'; END $$", "54000", HW_ELIMIT},
    };
    begin();
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        run_one(cases[i].sql);
        ck_assert_str_eq(hw_status_name(out.status), hw_status_name(cases[i].status));
        ck_assert_str_eq(out.sqlstate, cases[i].sqlstate);
        ck_assert_str_ne(out.message, "");
        ck_assert(hw_db_idle(pg));
    }
    run_one(
        "DO $$ BEGIN RAISE EXCEPTION 'primary' USING DETAIL = 'more', HINT = 'do this'; END $$");
    ck_assert_ptr_nonnull(strstr(out.message, "primary"));
    ck_assert_str_eq(out.detail, "more");
    ck_assert_str_eq(out.hint, "do this");
    end();
}
END_TEST

START_TEST(test_deferred_failure_at_commit)
{
    begin();
    run_one("CREATE TABLE d (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    const struct hw_db_query twice[] = {{.sql = "INSERT INTO d VALUES (1)"},
                                        {.sql = "INSERT INTO d VALUES (1)"}};
    const struct hw_db_query tail = {.sql = "SELECT count(*) FROM d"};
    run(HW_DB_ATOMIC, twice, 2, &tail);
    ck_assert_int_eq(out.status, HW_EINVAL);
    ck_assert_str_eq(out.sqlstate, "23505");
    ck_assert_int_eq(out.failed, 1); /* not the tail: nothing was committed */
    ck_assert_str_eq(out.value[2], "0");
    const struct hw_db_query alone[] = {
        {.sql = "SELECT 1"},
        {.sql = "INSERT INTO d VALUES (1), (1)"},
        {.sql = "SELECT count(*) FROM d"},
    };
    run(HW_DB_SEPARATE, alone, 3, NULL);
    ck_assert_str_eq(out.sqlstate, "23505");
    ck_assert_int_eq(out.failed, 1);
    ck_assert_str_eq(out.value[2], "0");
    run_one("SELECT 'still in step'");
    EXPECT_OK();
    ck_assert_str_eq(out.value[0], "still in step");
    end();
}
END_TEST

START_TEST(test_large_batches_do_not_block)
{
    enum { SIZE = 16 << 20 };
    HW_AUTO_FREE char *big = hw_alloc(SIZE + 1);
    memset(big, 'x', SIZE);
    begin();
    run(HW_DB_ATOMIC,
        (const struct hw_db_query[]){
            {.sql = "SELECT repeat('y', 8 << 20), $1::text",
             .count = 1,
             .values = (const char *const[]){big}},
            {.sql = "SELECT length($1::text)", .count = 1, .values = (const char *const[]){big}}},
        2, NULL);
    EXPECT_OK();
    ck_assert_str_eq(out.value[1], "16777216");
    end();
}
END_TEST

START_TEST(test_notifications)
{
    begin();
    run_one("LISTEN headwater_test");
    EXPECT_OK();
    free(test_sql(&server, "NOTIFY headwater_test"));
    wait_for(&notified, "the notification");
    ck_assert_str_eq(channel, "headwater_test");
    end();
}
END_TEST

START_TEST(test_address)
{
    HW_AUTO_FREE char *away = hw_sprintf("127.0.0.1:%d", test_free_port());
    HW_AUTO_FREE char *url = hw_sprintf(
        "postgresql://postgres:hush@%s,127.0.0.1:%d/headwater?passfile=/hush", away, server.port);
    HW_AUTO_FREE char *expected = hw_sprintf("%s,127.0.0.1:%d/headwater", away, server.port);

    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    ck_assert_int_eq(hw_db_open(loop, url, "test", &events, &pg, &err), HW_OK);
    ck_assert_ptr_null(hw_db_address(pg));
    wait_for(&up, "the connection");
    HW_AUTO_FREE char *address = hw_db_address(pg);
    ck_assert_str_eq(address, expected);
    end();
}
END_TEST

START_TEST(test_bad_connection_string)
{
    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    ck_assert_int_eq(hw_db_open(loop, "postgresql://[", "test", &events, &pg, &err), HW_EINVAL);
    ck_assert_int_eq(hw_db_open(loop, "nonsense=1", "test", &events, &pg, &err), HW_EINVAL);
    ck_assert_str_ne(err.message, "");
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_connects_when_the_server_comes)
{
    test_postgres_start(&server, false, NULL);
    test_postgres_stop(&server);
    open_pg();
    wait_for(&down, "the first failure");
    ck_assert_str_ne(why_down, "");
    ck_assert(!hw_db_up(pg));
    ck_assert_int_eq(hw_db_server_version(pg), 0);
    ck_assert_int_eq(start_batch(HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT 1"}, 1, NULL),
                     HW_EUNAVAIL);
    test_postgres_restart(&server);
    wait_for(&up, "the connection");
    run_one("SELECT 1");
    EXPECT_OK();
    end();
    remove_server();
}
END_TEST

/* A server of its own for those that stop it while others would need it. */
static void begin_apart(void)
{
    test_postgres_start(&server, false, NULL);
    begin();
}

START_TEST(test_comes_back_after_restart_and_crash)
{
    begin_apart();
    for (int crash = 0; crash < 2; crash++) {
        const int before = ups;
        if (crash)
            test_postgres_kill(&server);
        else
            test_postgres_stop(&server);
        wait_for(&down, "the loss");
        ck_assert_int_eq(
            start_batch(HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT 1"}, 1, NULL),
            HW_EUNAVAIL);
        ck_assert_int_eq(out.times, 0);
        test_postgres_restart(&server);
        wait_for(&up, "the connection");
        ck_assert_int_eq(ups, before + 1);
        run_one("SELECT 1");
        EXPECT_OK();
    }
    end();
    remove_server();
}
END_TEST

START_TEST(test_connection_lost_in_a_batch)
{
    begin_apart();
    run_one("SELECT pg_backend_pid()");
    HW_AUTO_FREE char *pid = hw_strdup(out.value[0]);
    const struct hw_db_query queries[] = {{.sql = "SELECT 1"}, {.sql = "SELECT pg_sleep(60)"}};
    ck_assert_int_eq(start_batch(HW_DB_ATOMIC, queries, 2, NULL), HW_OK);
    const bool never = false;
    for (bool running = false; !running;) {
        hw_loop_run_until(loop, &never, 5);
        HW_AUTO_FREE char *active =
            test_sql(&server, "SELECT wait_event FROM pg_stat_activity WHERE pid = %s", pid);
        running = active != NULL && strcmp(active, "PgSleep") == 0;
    }
    free(test_sql(&server, "SELECT pg_terminate_backend(%s)", pid));
    wait_for(&out.done, "the failure");
    ck_assert_int_eq(out.times, 1);
    ck_assert_int_eq(out.status, HW_EUNAVAIL);
    ck_assert_int_eq(out.failed, 1);
    ck_assert(out.sent);
    if (downs == 0)
        wait_for(&down, "the loss");
    wait_for(&up, "the connection");
    run_one("SELECT 1");
    EXPECT_OK();
    end();
    remove_server();
}
END_TEST

START_TEST(test_server_killed_in_a_batch)
{
    begin_apart();
    ck_assert_int_eq(
        start_batch(HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT pg_sleep(60)"}, 1, NULL),
        HW_OK);
    test_postgres_kill(&server);
    wait_for(&out.done, "the failure");
    ck_assert_int_eq(out.status, HW_EUNAVAIL);
    ck_assert_int_eq(out.times, 1);
    end();
    remove_server();
}
END_TEST

static void run_again(void *arg, const struct hw_db_outcome *outcome)
{
    int *left = arg;
    const bool last = --*left == 0;
    ck_assert_int_eq(outcome->status, HW_OK);
    ck_assert_int_eq(hw_db_run(pg, HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT 1"}, 1, NULL,
                               last ? on_done : run_again, last ? (void *)&out : arg, &err),
                     HW_OK);
}

START_TEST(test_next_batch_from_within_done)
{
    int left = 100;
    begin();
    memset(&out, 0, sizeof(out));
    ck_assert_int_eq(hw_db_run(pg, HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT 1"}, 1, NULL,
                               run_again, &left, &err),
                     HW_OK);
    wait_for(&out.done, "the last of the batches");
    EXPECT_OK();
    end();
}
END_TEST

static bool closed;

static void close_in_done(void *arg, const struct hw_db_outcome *outcome)
{
    (void)arg;
    ck_assert_int_eq(outcome->status, HW_OK);
    hw_db_close(pg);
    closed = true;
}

static void close_in_event(void *arg)
{
    (void)arg;
    hw_db_close(pg);
    closed = true;
}

START_TEST(test_close_from_within_callbacks)
{
    const struct hw_db_events close_when_up = {.up = close_in_event};
    begin();
    ck_assert_int_eq(hw_db_run(pg, HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT 1"}, 1, NULL,
                               close_in_done, NULL, &err),
                     HW_OK);
    wait_for(&closed, "the batch");
    closed = false;
    ck_assert_int_eq(hw_db_open(loop, server.url, "test", &close_when_up, &pg, &err), HW_OK);
    wait_for(&closed, "the connection");
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_close_with_a_batch_running)
{
    begin();
    ck_assert_int_eq(
        start_batch(HW_DB_ATOMIC, &(struct hw_db_query){.sql = "SELECT pg_sleep(60)"}, 1, NULL),
        HW_OK);
    end();
    ck_assert_int_eq(out.times, 0);
    hw_db_close(NULL);
    /* while still connecting */
    open_pg();
    end();
}
END_TEST

START_TEST(test_synchronous_calls)
{
    PGconn *conn = NULL;
    PGresult *result = NULL;
    ck_assert_int_eq(hw_db_connect(server.url, "sync", &conn, &err), HW_OK);
    const char *const values[] = {"20", "22"};
    ck_assert_int_eq(hw_db_exec(conn, "SELECT $1::int + $2::int", 2, values, &result, &err), HW_OK);
    ck_assert_str_eq(PQgetvalue(result, 0, 0), "42");
    PQclear(result);
    result = NULL;
    ck_assert_int_eq(hw_db_exec(conn, "CREATE TEMP TABLE x (a int)", 0, NULL, NULL, &err), HW_OK);
    ck_assert_int_eq(hw_db_exec(conn, "SELECT 1/0", 0, NULL, &result, &err), HW_EINVAL);
    ck_assert_ptr_null(result);
    ck_assert_ptr_nonnull(strstr(err.message, "division by zero"));
    PQfinish(conn);
    conn = NULL;
    HW_AUTO_FREE char *nowhere =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/headwater", test_free_port());
    ck_assert_int_eq(hw_db_connect(nowhere, "sync", &conn, &err), HW_EUNAVAIL);
    ck_assert_ptr_null(conn);
    ck_assert_ptr_null(strchr(err.message, '\n'));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pg");
    TCase *shared = tcase_create("one server for all");
    tcase_set_timeout(shared, 60);
    tcase_add_unchecked_fixture(shared, start_server, remove_server);
    tcase_add_test(shared, test_values_go_there_and_back);
    tcase_add_test(shared, test_one_batch_at_a_time);
    tcase_add_test(shared, test_atomic_batch_is_all_or_nothing);
    tcase_add_test(shared, test_separate_statements_stand_alone);
    tcase_add_test(shared, test_tail_runs_behind_the_commit);
    tcase_add_test(shared, test_failures_have_a_status);
    tcase_add_test(shared, test_deferred_failure_at_commit);
    tcase_add_test(shared, test_large_batches_do_not_block);
    tcase_add_test(shared, test_notifications);
    tcase_add_test(shared, test_address);
    tcase_add_test(shared, test_bad_connection_string);
    tcase_add_test(shared, test_next_batch_from_within_done);
    tcase_add_test(shared, test_close_from_within_callbacks);
    tcase_add_test(shared, test_close_with_a_batch_running);
    tcase_add_test(shared, test_synchronous_calls);
    suite_add_tcase(suite, shared);
    TCase *apart = tcase_create("a server each");
    tcase_set_timeout(apart, 60);
    tcase_add_test(apart, test_connects_when_the_server_comes);
    tcase_add_test(apart, test_comes_back_after_restart_and_crash);
    tcase_add_test(apart, test_connection_lost_in_a_batch);
    tcase_add_test(apart, test_server_killed_in_a_batch);
    suite_add_tcase(suite, apart);
    return test_suite_finish(suite);
}
