/* The barrier, GET /v1/wait, against a real PostgreSQL; reports come in as the reconciler's do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define JSON "Content-Type: application/json\r\n"

static struct test_postgres pg;
static struct test_api api;

static void start(void)
{
    const char *const options[] = {"--log-level", "debug", NULL};

    test_postgres_start(&pg, true, NULL);
    test_api_start(&api, pg.api_url, options);
}

static void stop(void)
{
    test_api_stop(&api);
    test_postgres_remove(&pg);
}

/* Writes and returns the position. status: the one expected, or 0 for any success. */
static char *put(const char *target, const char *body, int status)
{
    struct test_answer answer = test_http(api.port, "PUT", target, JSON, body, strlen(body));
    char *lsn = test_answer_header(&answer, "Headwater-LSN");

    ck_assert_msg(answer.status == status || (status == 0 && answer.status / 100 == 2), "%s%s",
                  answer.head, answer.body);
    test_answer_free(&answer);
    return lsn;
}

static int wait_fd(const char *lsn, const char *timeout)
{
    const int fd = test_http_connect(api.port);
    HW_AUTO_FREE char *request = hw_sprintf(
        "GET /v1/wait?lsn=%s&timeout=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", lsn, timeout);

    test_http_puts(fd, request);
    return fd;
}

/* Reads the answer of a wait: problem is NULL for 200. */
static json_t *finish(int fd, int status, const char *problem)
{
    struct test_answer answer = test_http_receive(fd, false);
    json_t *body;

    ck_assert_msg(answer.status == status, "expected %d, got:\n%s%s", status, answer.head,
                  answer.body);
    if (problem != NULL) {
        HW_AUTO_FREE char *name = test_answer_problem(&answer);

        ck_assert_str_eq(name, problem);
    }
    body = test_answer_json(&answer);
    test_answer_free(&answer);
    close(fd);
    return body;
}

static int number(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(body, name);

    ck_assert(json_is_integer(value));
    return (int)json_integer_value(value);
}

static void check_counts(json_t *body, const char *state, int nodes, int applied, int failed)
{
    ck_assert_str_eq(json_string_value(json_object_get(body, "state")), state);
    ck_assert_int_eq(number(body, "nodes"), nodes);
    ck_assert_int_eq(number(body, "applied"), applied);
    ck_assert_int_eq(number(body, "failed"), failed);
    ck_assert_int_eq(number(body, "pending"), nodes - applied - failed);
    json_decref(body);
}

/* Nodes whose names match say what became of the given revision (of desired_history). */
static void report(const char *like, int revision, bool ok)
{
    static int kv_revision;

    free(test_sql(
        &pg,
        "SELECT count(*) FROM headwater.report((SELECT jsonb_agg(jsonb_build_object('kv_created', "
        "'2026-01-01', 'kv_revision', %d, 'value', jsonb_build_object('node', node, 'state', '%s', "
        "'%s', jsonb_build_object('revision', revision, 'digest', digest, 'epoch', 1, 'lsn', "
        "wal_lsn, 'stage', 'apply', 'error', 'no such crate')))) "
        "FROM headwater.desired_history WHERE node LIKE '%s' AND revision = %d AND digest IS NOT "
        "NULL))",
        ++kv_revision, ok ? "applied" : "failed", ok ? "running" : "failed", like, revision));
}

/* Takes all nodes away, so that each test has a fleet of its own. */
static void begin(void)
{
    free(test_sql(&pg, "DELETE FROM headwater.assignment"));
    free(test_sql(&pg, "DELETE FROM headwater.node"));
}

static char *make_fleet(const char *prefix, int count)
{
    begin();
    free(test_sql(
        &pg, "INSERT INTO headwater.node (name) SELECT '%s' || i FROM generate_series(1, %d) i",
        prefix, count));
    free(put("/v1/configs/wait", "{\"v\":1}", 0));
    return put("/v1/assignments/wait", "{\"config\":\"wait\",\"selector\":{}}", 201);
}

START_TEST(test_applied)
{
    HW_AUTO_FREE char *lsn = make_fleet("a", 3);

    check_counts(finish(wait_fd(lsn, "0"), 504, "wait-timeout"), "pending", 3, 0, 0);
    const int waiting = wait_fd(lsn, "10m");

    report("a1", 1, true);
    report("a2", 1, true);
    json_t *late = finish(wait_fd(lsn, "0"), 504, "wait-timeout");
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(late, "pending_nodes"), 0)),
                     "a3");
    check_counts(late, "pending", 3, 2, 0);
    report("a3", 1, true);
    check_counts(finish(waiting, 200, NULL), "applied", 3, 3, 0);
    check_counts(finish(wait_fd(lsn, "0"), 200, NULL), "applied", 3, 3, 0);
    /* Before there was anything. */
    check_counts(finish(wait_fd("0/1", "1s"), 200, NULL), "applied", 0, 0, 0);
}
END_TEST

START_TEST(test_failed)
{
    HW_AUTO_FREE char *lsn = make_fleet("b", 30);
    const int waiting = wait_fd(lsn, "60");

    report("b%", 1, true);
    check_counts(finish(waiting, 200, NULL), "applied", 30, 30, 0);

    HW_AUTO_FREE char *second = put("/v1/configs/wait", "{\"v\":2}", 200);
    const int again = wait_fd(second, "60");

    report("b%", 2, false);
    json_t *body = finish(again, 409, "apply-failed");
    const json_t *failed = json_object_get(body, "failed_nodes");

    ck_assert_uint_eq(json_array_size(failed), 20);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(failed, 0), "node")), "b1");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(failed, 0), "error")),
                     "no such crate");
    check_counts(body, "failed", 30, 0, 30);
    /* Some failed, but others still work on it: not over yet. */
    report("b1", 2, true);
    check_counts(finish(wait_fd(second, "0"), 409, "apply-failed"), "failed", 30, 1, 29);
    /* The first position is reached all the same. */
    report("b%", 1, true);
    check_counts(finish(wait_fd(lsn, "0"), 200, NULL), "applied", 30, 30, 0);
}
END_TEST

/* Later changes do not hold up who waits for earlier ones, and do not count as their success. */
START_TEST(test_superseded)
{
    HW_AUTO_FREE char *first = make_fleet("c", 2);
    HW_AUTO_FREE char *second = put("/v1/configs/wait", "{\"v\":2}", 200);

    check_counts(finish(wait_fd(first, "0"), 504, "wait-timeout"), "pending", 2, 0, 0);
    report("c_", 1, true);
    check_counts(finish(wait_fd(first, "0"), 200, NULL), "applied", 2, 2, 0);
    check_counts(finish(wait_fd(second, "0"), 504, "wait-timeout"), "pending", 2, 0, 0);
    report("c1", 2, true);
    report("c2", 2, false);
    check_counts(finish(wait_fd(second, "0"), 409, "apply-failed"), "failed", 2, 1, 1);

    /* Nodes that are gone, or have nothing to run, are nobody's to wait for. */
    HW_AUTO_FREE char *third = put("/v1/configs/wait", "{\"v\":3}", 200);
    free(test_sql(&pg, "DELETE FROM headwater.node WHERE name = 'c1'"));
    check_counts(finish(wait_fd(third, "0"), 504, "wait-timeout"), "pending", 1, 0, 0);
    free(test_sql(&pg, "DELETE FROM headwater.assignment"));
    check_counts(finish(wait_fd(third, "0"), 200, NULL), "applied", 0, 0, 0);
}
END_TEST

/* ---- one change ---- */

/* Writes and returns the change; NULL when nothing changed. */
static char *change(const char *method, const char *target, const char *body)
{
    struct test_answer answer =
        test_http(api.port, method, target, JSON, body, body != NULL ? strlen(body) : 0);
    char *rev = test_answer_header(&answer, "Headwater-Change");

    ck_assert_msg(answer.status / 100 == 2, "%s%s", answer.head, answer.body);
    test_answer_free(&answer);
    return rev;
}

static int wait_change_fd(const char *rev, const char *timeout)
{
    const int fd = test_http_connect(api.port);
    HW_AUTO_FREE char *request = hw_sprintf(
        "GET /v1/wait?change=%s&timeout=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", rev, timeout);

    test_http_puts(fd, request);
    return fd;
}

/* A wait for a change is about the nodes that it touched: others may be dead, and fail. */
START_TEST(test_change)
{
    HW_AUTO_FREE char *all = make_fleet("e", 3);
    HW_AUTO_FREE char *none = NULL, *one = NULL, *next = NULL, *schema = NULL;

    report("e1", 1, true);
    report("e2", 1, false);
    none = change("PUT", "/v1/nodes/e9", "{\"description\":\"a node that gets nothing\"}");
    free(change("DELETE", "/v1/nodes/e9", NULL));
    check_counts(finish(wait_change_fd(none, "10m"), 200, NULL), "applied", 0, 0, 0);
    schema = change("PUT", "/v1/configs/wait/schema", "{\"type\":\"object\"}");
    check_counts(finish(wait_change_fd(schema, "10m"), 200, NULL), "applied", 0, 0, 0);

    free(put("/v1/configs/more", "{\"w\":1}", 201));
    one = change("PUT", "/v1/assignments/more", "{\"config\":\"more\",\"node\":\"e1\"}");
    const int waiting = wait_change_fd(one, "10m");
    check_counts(finish(wait_change_fd(one, "0"), 504, "wait-timeout"), "pending", 1, 0, 0);
    report("e1", 2, true);
    json_t *body = finish(waiting, 200, NULL);
    ck_assert_int_eq(number(body, "change"), strtol(one, NULL, 10));
    ck_assert_ptr_null(json_object_get(body, "lsn"));
    check_counts(body, "applied", 1, 1, 0);
    /* The barrier by position is for all. */
    check_counts(finish(wait_fd(all, "0"), 504, "wait-timeout"), "pending", 3, 1, 1);

    /* A failure is no success, a later revision is one, and a node that is gone is not waited for.
     */
    next = change("PUT", "/v1/configs/more", "{\"w\":2}");
    report("e1", 3, false);
    check_counts(finish(wait_change_fd(next, "10m"), 409, "apply-failed"), "failed", 1, 0, 1);
    free(change("PUT", "/v1/configs/more", "{\"w\":3}"));
    check_counts(finish(wait_change_fd(next, "10m"), 409, "apply-failed"), "failed", 1, 0, 1);
    report("e1", 4, true);
    check_counts(finish(wait_change_fd(next, "10m"), 200, NULL), "applied", 1, 1, 0);
    free(test_sql(&pg, "DELETE FROM headwater.node WHERE name = 'e1'"));
    check_counts(finish(wait_change_fd(next, "10m"), 200, NULL), "applied", 0, 0, 0);
}
END_TEST

/* A change of the sources alone leaves the document as it was, and so touches no node. */
START_TEST(test_change_of_sources)
{
    HW_AUTO_FREE char *all = make_fleet("f", 2);
    HW_AUTO_FREE char *same = NULL;

    /* What is merged of several is spelt in one way, so a third one that says the same is alike. */
    free(put("/v1/configs/more", "{\"v\":1}", 0));
    free(put("/v1/assignments/again", "{\"config\":\"more\",\"selector\":{}}", 0));
    same = change("PUT", "/v1/assignments/more",
                  "{\"config\":\"more\",\"selector\":{},\"priority\":5}");
    HW_AUTO_FREE char *rows =
        test_sql(&pg, "SELECT count(*) FROM headwater.desired_history WHERE rev = %s", same);
    ck_assert_str_eq(rows, "2");
    check_counts(finish(wait_change_fd(same, "10m"), 200, NULL), "applied", 0, 0, 0);
    ck_assert_ptr_nonnull(all);
}
END_TEST

START_TEST(test_refused)
{
    static const char *const bad[] = {"",
                                      "?timeout=1",
                                      "?lsn=",
                                      "?lsn=x",
                                      "?lsn=1",
                                      "?lsn=0/1%00",
                                      "?lsn=0/123456789",
                                      "?lsn=0/1&timeout=",
                                      "?lsn=0/1&timeout=x",
                                      "?lsn=0/1&timeout=-1",
                                      "?lsn=0/1&timeout=11m",
                                      "?lsn=0/1&timeout=1h",
                                      "?lsn=0/1&timeout=99999999999999999999",
                                      "?lsn=0/1&x=1",
                                      "?change=",
                                      "?change=0",
                                      "?change=-1",
                                      "?change=1.0",
                                      "?change=9999999999999999999",
                                      "?change=1&lsn=0/1"};

    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/wait%s", bad[i]);
        struct test_answer answer = test_http(api.port, "GET", target, NULL, NULL, 0);

        ck_assert_msg(answer.status == 400, "%s: %s%s", bad[i], answer.head, answer.body);
        test_answer_free(&answer);
    }
    json_decref(finish(wait_fd("FFFFFFF/0", "10m"), 422, "position-ahead"));
    json_decref(finish(wait_change_fd("99999999999", "10m"), 422, "position-ahead"));
}
END_TEST

/* Many waiters, of many positions, take no connection to the database more than one does. */
START_TEST(test_many)
{
    enum { WAITERS = 300 };
    int fds[WAITERS];
    HW_AUTO_FREE char *lsn = make_fleet("d", 2);
    HW_AUTO_FREE char *later = put("/v1/configs/wait", "{\"v\":2}", 200);

    for (int i = 0; i < WAITERS; i++)
        fds[i] = wait_fd(i % 2 == 0 ? lsn : later, "10m");
    report("d%", 1, true);
    for (int i = 0; i < WAITERS; i += 2)
        check_counts(finish(fds[i], 200, NULL), "applied", 2, 2, 0);
    /* The pool, and the one that listens. */
    test_wait_for(test_sql_is(&pg, "7",
                              "SELECT count(*) FROM pg_stat_activity "
                              "WHERE application_name LIKE 'headwater-api%%'"),
                  30);
    report("d%", 2, true);
    for (int i = 1; i < WAITERS; i += 2)
        check_counts(finish(fds[i], 200, NULL), "applied", 2, 2, 0);
}
END_TEST

static int count_in_log(const char *what)
{
    HW_AUTO_FREE char *log = test_read_file(api.program.log);
    int count = 0;

    for (const char *p = log; (p = strstr(p, what)) != NULL; p++)
        count++;
    return count;
}

/* A client that has closed its own side, as pipes do, gets an answer that comes soon. */
START_TEST(test_half_closed)
{
    HW_AUTO_FREE char *lsn = make_fleet("half", 1);

    report("half%", 1, true);
    const int fd = wait_fd(lsn, "10m");
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    check_counts(finish(fd, 200, NULL), "applied", 1, 1, 0);
}
END_TEST

/* A client that went away is forgotten long before its time is over. */
START_TEST(test_hang_up)
{
    HW_AUTO_FREE char *lsn = make_fleet("e", 1);
    const int before = count_in_log("target=\"/v1/wait?lsn=");

    for (int i = 0; i < 20; i++)
        close(wait_fd(lsn, "10m"));
    test_wait_for(count_in_log("target=\"/v1/wait?lsn=") == before + 20, 30);
}
END_TEST

/* Who waits while the database goes and comes back still gets the answer. */
START_TEST(test_restart)
{
    struct test_postgres own;
    struct test_api other, shared = api;
    struct test_postgres shared_pg = pg;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    api = other;
    pg = own;
    HW_AUTO_FREE char *lsn = make_fleet("a", 1);
    const int waiting = wait_fd(lsn, "10m");

    test_postgres_restart(&own);
    pg = own;
    report("a1", 1, true);
    check_counts(finish(waiting, 200, NULL), "applied", 1, 1, 0);
    test_api_stop(&other);
    test_postgres_remove(&own);
    api = shared;
    pg = shared_pg;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api wait");
    TCase *all = tcase_create("wait");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_applied);
    tcase_add_test(all, test_failed);
    tcase_add_test(all, test_superseded);
    tcase_add_test(all, test_change);
    tcase_add_test(all, test_change_of_sources);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_many);
    tcase_add_test(all, test_half_closed);
    tcase_add_test(all, test_hang_up);
    tcase_add_test(all, test_restart);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
