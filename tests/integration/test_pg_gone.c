/*
 * Connections to a server that is gone without a word, or that is not the one that is wanted: it is
 * noticed, said, and mended when it can be.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "pg/database.h"
#include "tests/support/proxy.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { NOTICED_MS = 30000 };

static struct test_postgres server, other;
static struct proxy *proxy;
static struct hw_loop *loop;
static struct hw_error err;

/* One connection, and what its owner was told. */
struct watched {
    struct hw_db *db;
    bool up, down, done, turned;
    int ups;
    enum hw_status status;
    char why[HW_ERROR_MAX], refusal[64], value[64];
};

static void on_up(void *arg)
{
    struct watched *w = arg;

    w->up = true;
    w->down = false;
    w->ups++;
    snprintf(w->refusal, sizeof(w->refusal), "%s",
             hw_db_refuses_writes(w->db) != NULL ? hw_db_refuses_writes(w->db) : "");
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct watched *w = arg;

    w->up = false;
    w->down = true;
    snprintf(w->why, sizeof(w->why), "%s", why->message);
}

static void on_writes(void *arg, const char *refusal)
{
    struct watched *w = arg;

    w->turned = true;
    snprintf(w->refusal, sizeof(w->refusal), "%s", refusal != NULL ? refusal : "");
}

static void on_done(void *arg, const struct hw_db_outcome *outcome)
{
    struct watched *w = arg;

    w->done = true;
    w->status = outcome->status;
    if (outcome->status == HW_OK)
        snprintf(w->value, sizeof(w->value), "%s", PQgetvalue(outcome->results[0], 0, 0));
}

static void open_at(struct watched *w, const char *url)
{
    const struct hw_db_events events = {
        .up = on_up, .down = on_down, .writes = on_writes, .arg = w};

    *w = (struct watched){0};
    ck_assert_int_eq(hw_db_open(loop, url, "test", &events, &w->db, &err), HW_OK);
}

#define WAIT(flag, ms) ck_assert_msg(hw_loop_run_until(loop, &(flag), test_patient_ms(ms)), #flag)

static void run(struct watched *w, const char *sql)
{
    const struct hw_db_query query = {.sql = sql};

    w->done = false;
    ck_assert_int_eq(hw_db_run(w->db, HW_DB_ATOMIC, &query, 1, NULL, on_done, w, &err), HW_OK);
}

static char *url_of(int port)
{
    return hw_sprintf("postgresql://postgres@127.0.0.1:%d/headwater", port);
}

static void start(void)
{
    test_postgres_start(&server, false, NULL);
    test_postgres_start(&other, false, NULL);
}

static void end(void)
{
    test_postgres_remove(&server);
    test_postgres_remove(&other);
}

static void begin(void)
{
    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    proxy = proxy_start(server.port);
}

static void finish(void)
{
    hw_loop_free(loop);
    proxy_stop(proxy);
}

/* The kernel acknowledges everything, so TCP notices nothing. One connection is idle, one waits for
 * an answer, and one is being made. */
START_TEST(test_frozen)
{
    HW_AUTO_FREE char *url = url_of(proxy_port(proxy));
    struct watched idle, busy, late;

    open_at(&idle, url);
    open_at(&busy, url);
    WAIT(idle.up, 10000);
    WAIT(busy.up, 10000);
    run(&busy, "SELECT pg_sleep(600)");
    proxy_blackhole(proxy, INFINITY);
    open_at(&late, url);
    WAIT(late.down, NOTICED_MS);
    ck_assert_ptr_nonnull(strstr(late.why, "no answer within 5 s"));
    ck_assert_ptr_nonnull(strstr(late.why, "is the host up"));
    WAIT(busy.done, NOTICED_MS);
    ck_assert_int_eq(busy.status, HW_EUNAVAIL);
    WAIT(idle.down, NOTICED_MS);
    proxy_heal(proxy);
    WAIT(idle.up, NOTICED_MS);
    WAIT(busy.up, NOTICED_MS);
    WAIT(late.up, NOTICED_MS);
    run(&idle, "SELECT 'back'");
    WAIT(idle.done, 10000);
    ck_assert_str_eq(idle.value, "back");
    hw_db_close(idle.db);
    hw_db_close(busy.db);
    hw_db_close(late.db);
}
END_TEST

/* A server that works for long is waited for; one that has answered, and whose answer was lost on
 * the way, is not. */
START_TEST(test_answers_are_waited_for)
{
    HW_AUTO_FREE char *url = url_of(proxy_port(proxy));
    struct watched slow, lost;

    open_at(&slow, server.url);
    open_at(&lost, url);
    WAIT(slow.up, 10000);
    WAIT(lost.up, 10000);
    run(&slow, "SELECT 'waited for' FROM pg_sleep(14)");
    run(&lost, "SELECT 'lost' FROM pg_sleep(1)");
    proxy_forget(proxy);
    WAIT(lost.done, NOTICED_MS);
    ck_assert_int_eq(lost.status, HW_EUNAVAIL);
    WAIT(lost.up, 10000);
    ck_assert(!slow.done);
    WAIT(slow.done, 30000);
    ck_assert_int_eq(slow.status, HW_OK);
    ck_assert_str_eq(slow.value, "waited for");
    ck_assert_int_eq(slow.ups, 1);
    hw_db_close(slow.db);
    hw_db_close(lost.db);
}
END_TEST

START_TEST(test_host_that_never_answers_is_passed_over)
{
    HW_AUTO_FREE char *url = hw_sprintf("postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/headwater",
                                        proxy_port(proxy), server.port);
    struct watched w;
    PGconn *conn = NULL;

    proxy_blackhole(proxy, INFINITY);
    open_at(&w, url);
    WAIT(w.up, 15000);
    ck_assert_ptr_nonnull(hw_db_passed_over(w.db));
    ck_assert_ptr_nonnull(strstr(hw_db_passed_over(w.db), "no answer within 5 s"));
    /* The same where a command connects. */
    ck_assert_int_eq(hw_db_connect(url, "test", &conn, &err), HW_OK);
    PQfinish(conn);
    hw_db_close(w.db);
}
END_TEST

/* What the string says wins. */
START_TEST(test_settings_of_the_string)
{
    HW_AUTO_FREE char *url =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/headwater"
                   "?connect_timeout=2&tcp_user_timeout=4321&keepalives_idle=7",
                   proxy_port(proxy));
    PGconn *conn = NULL;
    const double began = test_now();

    ck_assert_int_eq(hw_db_connect(url, "test", &conn, &err), HW_OK);
    PQconninfoOption *settings = PQconninfo(conn);
    for (const PQconninfoOption *o = settings; o->keyword != NULL; o++) {
        if (strcmp(o->keyword, "tcp_user_timeout") == 0)
            ck_assert_str_eq(o->val, "4321");
        if (strcmp(o->keyword, "keepalives_idle") == 0)
            ck_assert_str_eq(o->val, "7");
        if (strcmp(o->keyword, "keepalives_count") == 0)
            ck_assert_str_eq(o->val, "3");
    }
    PQconninfoFree(settings);
    PQfinish(conn);
    proxy_blackhole(proxy, INFINITY);
    ck_assert_int_eq(hw_db_connect(url, "test", &conn, &err), HW_EUNAVAIL);
    ck_assert_ptr_nonnull(strstr(err.message, "no answer within 2 s"));
    ck_assert(test_now() - began < test_patience() * 4.5);
}
END_TEST

static void make_read_only(const struct test_postgres *pg, bool on)
{
    free(test_sql(pg, "ALTER SYSTEM SET default_transaction_read_only = %s", on ? "on" : "off"));
    free(test_sql(pg, "SELECT pg_reload_conf()"));
    test_wait_for(test_sql_is(pg, on ? "on" : "off", "SHOW default_transaction_read_only"), 10);
}

/* The address leads to a server that takes no writes any more, then to another one: old connections
 * to the first one live on, and are left. */
START_TEST(test_address_that_moves)
{
    HW_AUTO_FREE char *url = url_of(proxy_port(proxy));
    HW_AUTO_FREE char *port = hw_sprintf("%d", other.port);
    struct watched w;

    open_at(&w, url);
    WAIT(w.up, 10000);
    ck_assert_str_eq(w.refusal, "");
    make_read_only(&server, true);
    WAIT(w.turned, NOTICED_MS); /* although it is idle */
    ck_assert_str_eq(w.refusal, "default_transaction_read_only is on there");
    ck_assert_int_eq(w.ups, 1); /* meanwhile it can be read */
    run(&w, "SELECT 'read'");
    WAIT(w.done, 10000);
    ck_assert_int_eq(w.status, HW_OK);
    w.down = false;
    proxy_aim(proxy, other.port);
    WAIT(w.down, NOTICED_MS);
    WAIT(w.up, 10000);
    ck_assert_str_eq(w.refusal, "");
    run(&w, "SELECT current_setting('port')");
    WAIT(w.done, 10000);
    ck_assert_str_eq(w.value, port);
    hw_db_close(w.db);
    make_read_only(&server, false);
}
END_TEST

/* Of several hosts, one that takes writes is found; where there is none, the first that works is
 * read, until one does. */
START_TEST(test_host_that_takes_writes)
{
    HW_AUTO_FREE char *url = hw_sprintf("postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/headwater",
                                        server.port, other.port);
    HW_AUTO_FREE char *strict = hw_sprintf("%s?target_session_attrs=read-write", url);
    HW_AUTO_FREE char *port = hw_sprintf("%d", other.port);
    struct watched w, never;

    make_read_only(&server, true);
    open_at(&w, url);
    WAIT(w.up, 10000);
    run(&w, "SELECT current_setting('port')");
    WAIT(w.done, 10000);
    ck_assert_str_eq(w.value, port);
    hw_db_close(w.db);

    free(test_sql(&other, "ALTER DATABASE headwater SET default_transaction_read_only = on"));
    open_at(&w, url);
    WAIT(w.up, 10000);
    ck_assert_str_eq(w.refusal, "default_transaction_read_only is on there");
    open_at(&never, strict);
    WAIT(never.down, 10000);
    ck_assert_msg(strstr(never.why, "is there a primary?") != NULL, "%s", never.why);
    /* A session keeps what its database said when it began, so another one is made. */
    w.up = false;
    free(test_sql(&other, "BEGIN READ WRITE; ALTER DATABASE headwater RESET "
                          "default_transaction_read_only; COMMIT"));
    WAIT(w.up, NOTICED_MS);
    ck_assert_str_eq(w.refusal, "");
    WAIT(never.up, NOTICED_MS);
    hw_db_close(w.db);
    hw_db_close(never.db);
    make_read_only(&server, false);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("connections to servers that are gone");
    TCase *tcase = tcase_create("gone");

    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start, end);
    tcase_add_checked_fixture(tcase, begin, finish);
    tcase_add_test(tcase, test_frozen);
    tcase_add_test(tcase, test_answers_are_waited_for);
    tcase_add_test(tcase, test_host_that_never_answers_is_passed_over);
    tcase_add_test(tcase, test_settings_of_the_string);
    tcase_add_test(tcase, test_address_that_moves);
    tcase_add_test(tcase, test_host_that_takes_writes);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
