/* headwater while it goes on: get and fleet with --watch, watch, and how they end; and describe. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static struct test_program program;

static void start(void)
{
    start_service();
    cli_home(api.port);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n1", JSON, "{\"labels\":{\"site\":\"north\"}}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n2", JSON, "{}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, "{\"rate_hz\":1}"), 201);
    ck_assert_int_eq(
        call("PUT", "/v1/assignments/everyone", JSON, "{\"config\":\"base\",\"selector\":{}}"),
        201);
}

static void launch(const char *const arguments[])
{
    const char *argv[16] = {"headwater"};

    for (size_t i = 0; arguments[i] != NULL && i < 14; i++)
        argv[i + 1] = arguments[i];
    test_program_start(&program, argv, NULL);
}
#define LAUNCH(...) launch((const char *const[]){__VA_ARGS__, NULL})

static bool has_said(const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(program.log);

    return strstr(log, text) != NULL;
}

/* ^C, and its status must be 0. Returns what it said. */
static char *interrupt(void)
{
    const int status = test_program_stop(&program, SIGINT);
    char *log = test_read_file(program.log);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d: %s", status, log);
    return log;
}

START_TEST(test_fleet_as_objects)
{
    LAUNCH("fleet", "--watch", "--json");
    test_wait_for(has_said("\"added\",\"item\":{\"node\":\"n2\""), 60);
    report_nodes("n1", false);
    test_wait_for(has_said("\"changed\",\"item\":{\"node\":\"n1\""), 60);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n3", JSON, "{}"), 201);
    test_wait_for(has_said("\"added\",\"item\":{\"node\":\"n3\""), 60);
    ck_assert_int_eq(call("DELETE", "/v1/nodes/n2", NULL, NULL), 204);
    test_wait_for(has_said("\"removed\",\"item\":{\"node\":\"n2\""), 60);
    HW_AUTO_FREE char *log = interrupt();
    size_t lines = 0;
    for (char *rest = log, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; lines++) {
        HW_AUTO_JSON json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_msg(json_is_object(json_object_get(object, "item")), "%s", line);
    }
    ck_assert_uint_ge(lines, 5);
    ck_assert_ptr_null(strchr(log, '\x1b'));
}
END_TEST

START_TEST(test_fleet_into_a_pipe)
{
    LAUNCH("get", "fleet", "-w");
    test_wait_for(has_said("n2    "), 60);
    report_nodes("n1", false);
    test_wait_for(has_said("failed"), 60);
    ck_assert_int_eq(call("DELETE", "/v1/nodes/n2", NULL, NULL), 204);
    test_wait_for(has_said("n2 (removed)"), 60);
    HW_AUTO_FREE char *log = interrupt();
    ck_assert_ptr_null(strchr(log, '\x1b'));
    expect_in(log, "no such \\u001b[31mcrate");
    /* The headings are there once. */
    ck_assert_ptr_null(strstr(strstr(log, "NODE ") + 1, "\nNODE "));
}
END_TEST

/* Labels, and configs that nobody uses, are in no event. */
START_TEST(test_what_no_event_tells)
{
    LAUNCH("get", "nodes", "-w", "-o", "name", "--selector", "site=north");
    test_wait_for(has_said("n1\n"), 60);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n2", JSON, "{\"labels\":{\"site\":\"north\"}}"), 200);
    test_wait_for(has_said("n2\n"), 60);
    free(interrupt());
    ck_assert_int_eq(call("PUT", "/v1/configs/idle", "Content-Type: text/plain\r\n", "a"), 201);
    LAUNCH("get", "config", "idle", "-w");
    test_wait_for(has_said("revision    1"), 60);
    ck_assert_int_eq(call("PUT", "/v1/configs/idle", "Content-Type: text/plain\r\n", "b"), 200);
    test_wait_for(has_said("revision    2"), 60);
    ck_assert_int_eq(call("DELETE", "/v1/configs/idle", NULL, NULL), 204);
    test_wait_for(has_said("idle (removed)"), 60);
    free(interrupt());
}
END_TEST

START_TEST(test_on_a_terminal)
{
    struct cli_terminal terminal;

    ON_TERMINAL(&terminal, "fleet", "--watch");
    cli_terminal_expect(&terminal, "\x1b[H\x1b[2J");
    cli_terminal_expect(&terminal, "2 unknown");
    report_nodes("n1", true);
    cli_terminal_expect(&terminal, "\x1b[H\x1b[2J1 in_sync");
    cli_terminal_type(&terminal, "\x03");
    ck_assert_int_eq(cli_terminal_end(&terminal), 0);
    free(terminal.text);

    /* No more than the window has lines for. */
    free(test_sql(&pg, "INSERT INTO headwater.node (name) SELECT 'm' || i "
                       "FROM generate_series(1, 50) AS i"));
    ON_TERMINAL(&terminal, "get", "nodes", "-w");
    cli_terminal_expect(&terminal, "more than the window has lines for");
    cli_terminal_type(&terminal, "\x03");
    ck_assert_int_eq(cli_terminal_end(&terminal), 0);
    free(terminal.text);
}
END_TEST

/* The service restarts at the same place: it goes on. */
START_TEST(test_reconnects)
{
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", test_free_port());
    HW_AUTO_FREE char *server = hw_sprintf("HEADWATER_SERVER=http://%s", listen);
    const char *const options[] = {"--listen", listen, NULL};
    struct test_api second;

    test_api_start(&second, pg.api_url, options);
    test_program_start(&program, (const char *const[]){"headwater", "fleet", "-w", "--json", NULL},
                       (const char *const[]){server, NULL});
    test_wait_for(has_said("\"node\":\"n2\""), 60);
    test_api_stop(&second);
    report_nodes("n1", false);
    test_wait_for(has_said("reconnecting"), 60);
    ck_assert(!has_said("\"changed\",\"item\""));
    test_api_start(&second, pg.api_url, options);
    test_wait_for(has_said("\"changed\",\"item\":{\"node\":\"n1\""), 60);
    free(interrupt());
    test_api_stop(&second);
}
END_TEST

START_TEST(test_how_it_ends)
{
    EXPECT(0, "", "watch", "--timeout", "300ms");
    EXPECT(0, "n1", "fleet", "-w", "--timeout", "5s");
    EXPECT(7, "0 of 2 events came", "watch", "-n", "2", "--timeout", "300ms");
    HW_AUTO_FREE char *nobody = hw_sprintf("http://127.0.0.1:%d", test_free_port());
    EXPECT(7, nobody, "fleet", "-w", "--server", nobody, "--timeout", "5s");
    EXPECT(3, "no node \"n9\"", "get", "node", "n9", "-w");
    EXPECT(2, "--watch goes neither", "get", "node", "n1", "-w", "--content");
    EXPECT(2, "--watch goes neither", "get", "node", "n1", "-w", "--at", "0/1");
    EXPECT(2, "does not take it", "history", "base", "-w");

    /* The variable is about requests: there are changes until one is shown. */
    test_program_start(&program, (const char *const[]){"headwater", "watch", "-n", "1", NULL},
                       (const char *const[]){"HEADWATER_TIMEOUT=1ms", NULL});
    for (int i = 2; test_program_running(&program); i++) {
        HW_AUTO_FREE char *body = hw_sprintf("{\"rate_hz\":%d}", i);
        ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, body), 200);
    }
    ck_assert_int_eq(test_program_stop(&program, 0), 0);

    LAUNCH("watch");
    for (int i = 0; !has_said("reported"); i++)
        report_nodes("n1", i % 2 == 0);
    free(interrupt());
}
END_TEST

START_TEST(test_describe)
{
    report_nodes("n1", false);
    report_nodes("n1", true);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"rate_hz\": 2}'"));
    HW_AUTO_FREE char *node = HEADWATER(0, "describe", "node", "n1");
    expect_in(node, "labels       site=north\n");
    expect_in(node, "state      pending\n");
    expect_in(node, "desired    2\n");
    expect_in(node, "running    1\n");
    expect_in(node, "       0  everyone    base           2\n");
    const char *applied = strstr(node, "applied         1  "), *failed = strstr(node, "failed  ");
    ck_assert_msg(applied != NULL && failed != NULL && applied < failed, "%s", node);
    expect_in(failed, "no such \\u001b[31mcrate");
    HW_AUTO_FREE char *silent = HEADWATER(0, "describe", "node", "n2");
    expect_in(silent, "none yet");
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, selector, priority, "
                       "revision) VALUES ('north', 'base', '{\"site\": \"north\"}', 5, 1)"));
    HW_AUTO_FREE char *config = HEADWATER(0, "describe", "config", "base");
    expect_in(config, "revision  2\n");
    expect_in(config, "schema    none\n");
    expect_in(config, "everyone         -         0  -     everyone          2\n");
    expect_in(config, "north            1         5  -     site=north        1\n");
    expect_in(config, "\n1 "); /* each node is counted once */
    HW_AUTO_FREE char *assignment = HEADWATER(0, "describe", "assignment", "north");
    expect_in(assignment, "matches     1\n");
    expect_in(assignment, "config    base\n");
    HW_AUTO_FREE char *json = HEADWATER(0, "describe", "node", "n1", "--json");
    HW_AUTO_JSON json_t *page = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(page, "reports")), 2);
    ck_assert_int_eq(
        json_array_size(json_object_get(json_object_get(page, "explanation"), "sources")), 2);
    free(test_sql(&pg, "DELETE FROM headwater.assignment"));
    EXPECT(0, "nothing: no assignment matches it", "describe", "node", "n1");
    EXPECT(0, "none: no node runs it", "describe", "config", "base");
    EXPECT(3, "no-such-resource", "describe", "node", "nobody");
    EXPECT(3, "no-such-resource", "describe", "assignment", "north");
    EXPECT(2, "it takes node, config or assignment", "describe", "pod", "x");
    EXPECT(5, "is no name", "describe", "node", "a/b");
}
END_TEST

TEST_MAIN_BETWEEN("cli live", 240, start, stop_service, test_fleet_as_objects,
                  test_fleet_into_a_pipe, test_what_no_event_tells, test_on_a_terminal,
                  test_reconnects, test_how_it_ends, test_describe)
