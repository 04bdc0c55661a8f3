/* The main job, end to end: HTTP and SQL in, files on nodes, and back as "applied". */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { NODES = 3 };

static struct test_postgres pg;
static struct test_nats nats;
static struct test_program reconciler, agents[NODES];
static struct test_api api;
static char *dir;

static char *path_of(int node, const char *what)
{
    return hw_sprintf("%s/n%d.%s", dir, node + 1, what);
}

static void start_agent(int node)
{
    HW_AUTO_FREE char *name = hw_sprintf("n%d", node + 1);
    HW_AUTO_FREE char *state = path_of(node, "state");
    HW_AUTO_FREE char *output = path_of(node, "json");
    HW_AUTO_FREE char *count = path_of(node, "count");
    /* Each run of the command adds one byte. */
    HW_AUTO_FREE char *apply = hw_sprintf("sh -c 'printf x >> %s'", count);
    const char *const argv[] = {
        "headwater-agent", "--nats", nats.url,  "--node", name, "--output", output,
        "--state-dir",     state,    "--apply", apply,    NULL};

    test_program_start(&agents[node], argv, NULL);
}

static void setup(void)
{
    test_postgres_start(&pg, false, NULL);
    test_nats_start(&nats);
    dir = test_temp_dir();
    const char *const migrate[] = {"headwater-api", "--database", pg.url, "migrate", NULL};
    const char *const reconcile[] = {
        "headwater-reconciler", "--database", pg.reconciler_url, "--nats", nats.url, NULL};

    ck_assert_int_eq(test_program_run(migrate, NULL, NULL, NULL), 0);
    test_api_start(&api, pg.api_url, NULL);
    test_program_start(&reconciler, reconcile, NULL);
    for (int i = 0; i < NODES; i++)
        start_agent(i);
}

static void stop(struct test_program *p)
{
    const int status = test_program_stop(p, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status %#x, see %s", status,
                  p->log);
}

static void teardown(void)
{
    for (int i = 0; i < NODES; i++)
        stop(&agents[i]);
    stop(&reconciler);
    test_api_stop(&api);
    test_nats_remove(&nats);
    test_postgres_remove(&pg);
    free(dir);
}

/* Writes a resource; returns the barrier token. */
static char *put(const char *target, const char *type, const char *body)
{
    HW_AUTO_FREE char *headers = hw_sprintf("Content-Type: %s\r\n", type);
    struct test_answer answer = test_http(api.port, "PUT", target, headers, body, strlen(body));
    char *lsn = test_answer_header(&answer, "Headwater-LSN");

    ck_assert_msg(answer.status == 200 || answer.status == 201, "PUT %s: %d %s", target,
                  answer.status, answer.body);
    ck_assert_ptr_nonnull(lsn);
    test_answer_free(&answer);
    return lsn;
}

/* 503 tells to come again: the server has just lost, and finds again, its database; and 504 that it
 * takes longer. */
static void wait_applied(const char *lsn)
{
    HW_AUTO_FREE char *target = hw_sprintf("/v1/wait?lsn=%s&timeout=20s", lsn);
    struct test_answer answer = test_http(api.port, "GET", target, NULL, NULL, 0);
    const double until = test_deadline(90);

    while ((answer.status == 503 || answer.status == 504) && test_now() < until) {
        test_answer_free(&answer);
        test_pause();
        answer = test_http(api.port, "GET", target, NULL, NULL, 0);
    }
    ck_assert_msg(answer.status == 200, "GET %s: %d %s", target, answer.status, answer.body);
    test_answer_free(&answer);
}

static bool api_is_ready(void)
{
    struct test_answer answer = test_http(api.port, "GET", "/readyz", NULL, NULL, 0);
    const bool ready = answer.status == 200;

    test_answer_free(&answer);
    return ready;
}

static bool file_is(int node, const char *expected)
{
    HW_AUTO_FREE char *path = path_of(node, "json");
    HW_AUTO_FREE char *data = NULL;
    size_t len;

    return hw_file_read(path, 1 << 20, &data, &len, NULL) == HW_OK && strcmp(data, expected) == 0;
}

/* How often the apply command of a node ran. */
static size_t applies(int node)
{
    HW_AUTO_FREE char *path = path_of(node, "count");
    HW_AUTO_FREE char *data = NULL;
    size_t len = 0;

    return hw_file_read(path, 1 << 20, &data, &len, NULL) == HW_OK ? len : 0;
}

static bool fleet_in_sync(void)
{
    HW_AUTO_FREE char *states =
        test_sql(&pg, "SELECT coalesce(string_agg(DISTINCT state, ','), '') FROM headwater.fleet");

    return strcmp(states, "in_sync") == 0;
}

START_TEST(test_http_and_sql_reach_the_nodes)
{
    free(put("/v1/nodes/n1", "application/json", "{\"labels\":{\"site\":\"a\"}}"));
    free(put("/v1/nodes/n2", "application/json", "{\"labels\":{\"site\":\"a\"}}"));
    free(put("/v1/nodes/n3", "application/json", "{\"labels\":{\"site\":\"b\"}}"));
    free(put("/v1/configs/base", "application/json", "{\"rate_hz\": 1000}"));
    free(put("/v1/configs/gain", "application/json", "{\"gain\": 4}"));
    free(put("/v1/assignments/everyone", "application/json",
             "{\"config\":\"base\",\"selector\":{},\"priority\":10}"));
    HW_AUTO_FREE char *lsn = put("/v1/assignments/third", "application/json",
                                 "{\"config\":\"gain\",\"node\":\"n3\",\"priority\":20}");
    wait_applied(lsn);
    ck_assert(file_is(0, "{\"rate_hz\": 1000}"));
    ck_assert(file_is(1, "{\"rate_hz\": 1000}"));
    ck_assert(file_is(2, "{\"gain\": 4, \"rate_hz\": 1000}"));
    ck_assert(fleet_in_sync());

    /* One statement in psql, nothing else done. */
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"rate_hz\": 2000}'"
                       " WHERE name = 'base'"));
    HW_AUTO_FREE char *after = test_sql(&pg, "SELECT pg_current_wal_lsn()::text");
    wait_applied(after);
    ck_assert(file_is(0, "{\"rate_hz\": 2000}"));
    ck_assert(file_is(1, "{\"rate_hz\": 2000}"));
    ck_assert(file_is(2, "{\"gain\": 4, \"rate_hz\": 2000}"));
    ck_assert(fleet_in_sync());
}
END_TEST

START_TEST(test_everything_restarts)
{
    free(put("/v1/nodes/n1", "application/json", "{}"));
    free(put("/v1/nodes/n2", "application/json", "{}"));
    free(put("/v1/nodes/n3", "application/json", "{}"));
    free(put("/v1/configs/base", "application/json", "{\"v\": 1}"));
    HW_AUTO_FREE char *lsn =
        put("/v1/assignments/all", "application/json", "{\"config\":\"base\",\"selector\":{}}");
    wait_applied(lsn);
    const size_t before = applies(0);
    ck_assert_uint_ge(before, 1);

    /* NATS loses everything; an agent restarts; nothing is applied again. */
    test_nats_kill(&nats);
    test_nats_wipe(&nats);
    test_nats_restart(&nats);
    stop(&agents[0]);
    start_agent(0);
    test_postgres_kill(&pg);
    test_postgres_restart(&pg);
    test_wait_for(api_is_ready(), 60);
    HW_AUTO_FREE char *second = put("/v1/configs/base", "application/json", "{\"v\": 2}");
    wait_applied(second);
    for (int i = 0; i < NODES; i++)
        ck_assert(file_is(i, "{\"v\": 2}"));
    ck_assert_uint_eq(applies(0), before + 1);

    /* The programs themselves are killed, and a change is made meanwhile. */
    test_program_stop(&reconciler, SIGKILL);
    test_program_stop(&agents[1], SIGKILL);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"v\": 3}'"));
    const char *const reconcile[] = {
        "headwater-reconciler", "--database", pg.reconciler_url, "--nats", nats.url, NULL};
    test_program_start(&reconciler, reconcile, NULL);
    start_agent(1);
    HW_AUTO_FREE char *third = test_sql(&pg, "SELECT pg_current_wal_lsn()::text");
    wait_applied(third);
    for (int i = 0; i < NODES; i++)
        ck_assert(file_is(i, "{\"v\": 3}"));
}
END_TEST

/* What an agent's file holds is what was put, byte for byte. */
static void put_and_compare(const char *type, const char *bytes, size_t len)
{
    HW_AUTO_FREE char *headers = hw_sprintf("Content-Type: %s\r\n", type);
    HW_AUTO_FREE char *path = path_of(0, "json");
    HW_AUTO_FREE char *data = NULL;
    struct test_answer answer = test_http(api.port, "PUT", "/v1/configs/base", headers, bytes, len);
    HW_AUTO_FREE char *lsn = test_answer_header(&answer, "Headwater-LSN");
    struct hw_error err;
    size_t size;

    ck_assert_msg(answer.status == 200, "%zu bytes of %s: %d %s", len, type, answer.status,
                  answer.body);
    test_answer_free(&answer);
    wait_applied(lsn);
    ck_assert_msg(hw_file_read(path, len + 1, &data, &size, &err) == HW_OK, "%s", err.message);
    ck_assert_uint_eq(size, len);
    ck_assert(len == 0 || memcmp(data, bytes, len) == 0);
}

START_TEST(test_every_size)
{
    static const size_t sizes[] = {1, 0, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 16 << 20};
    HW_AUTO_FREE char *text = hw_alloc((16 << 20) + 1);
    HW_AUTO_FREE char *binary = hw_alloc((16 << 20) + 1);

    for (size_t i = 0; i < 16 << 20; i++) {
        text[i] = (char)('!' + i * 7 % 90);
        binary[i] = (char)(i * 31 ^ i >> 9);
    }
    free(put("/v1/nodes/n1", "application/json", "{}"));
    free(put("/v1/configs/base", "application/json", "{\"v\": 1}"));
    free(put("/v1/assignments/all", "application/json", "{\"config\":\"base\",\"selector\":{}}"));
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        put_and_compare("text/plain", text, sizes[i]);
        put_and_compare("application/octet-stream", binary, sizes[i]);
    }
    struct test_answer answer = test_http(api.port, "PUT", "/v1/configs/base",
                                          "Content-Type: text/plain\r\n", text, (16 << 20) + 1);
    ck_assert_int_eq(answer.status, 413);
    ck_assert_ptr_nonnull(strstr(answer.body, "16777216"));
    test_answer_free(&answer);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(test_idle_memory)
{
    free(put("/v1/nodes/n1", "application/json", "{}"));
    free(put("/v1/configs/base", "application/json", "{\"v\": 1}"));
    HW_AUTO_FREE char *lsn =
        put("/v1/assignments/all", "application/json", "{\"config\":\"base\",\"selector\":{}}");
    wait_applied(lsn);
    printf("their own: agent %ld KiB, reconciler %ld KiB, api %ld KiB\n",
           test_own_kib(agents[0].pid), test_own_kib(reconciler.pid),
           test_own_kib(api.program.pid));
    /* Twice what they have. */
    ck_assert_int_lt(test_own_kib(agents[0].pid), 3 << 10);
    ck_assert_int_lt(test_own_kib(reconciler.pid), 4 << 10);
    ck_assert_int_lt(test_own_kib(api.program.pid), 4 << 10);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("flow");
    TCase *tcase = tcase_create("flow");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 180);
    tcase_add_test(tcase, test_http_and_sql_reach_the_nodes);
    tcase_add_test(tcase, test_everything_restarts);
    tcase_add_test(tcase, test_every_size);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test(tcase, test_idle_memory);
#endif
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
