/* Agents that nobody registered, until they run something: the real programs between their servers.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

enum { WAIT_S = 60 };

#define NOTHING "nothing desired: not registered, or without an assignment"

static struct test_pipeline p;
static struct test_api api;
static struct test_program agent;
static char *dir, *server, *monitor, *state_home;

static void setup(void)
{
    pipeline_open(&p, NULL);
    test_api_start(&api, p.pg.api_url, NULL);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    dir = test_temp_dir();
    server = hw_sprintf("http://127.0.0.1:%d", api.port);
    monitor = hw_sprintf("127.0.0.1:%d", test_free_port());
    state_home = hw_sprintf("XDG_STATE_HOME=%s", dir);
}

static void teardown(void)
{
    if (agent.pid > 0)
        pipeline_stop_program(&agent);
    test_api_stop(&api);
    pipeline_stop(&p);
    pipeline_close(&p);
    free(dir);
    free(server);
    free(monitor);
    free(state_home);
}

static void start_agent(const char *node)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir);
    HW_AUTO_FREE char *output = hw_sprintf("%s/output", dir);

    test_program_start(&agent,
                       (const char *const[]){"headwater-agent", "--nats", p.nats.url, "--node",
                                             node, "--state-dir", state, "--output", output,
                                             "--heartbeat", "100ms", "--monitor", monitor, NULL},
                       NULL);
}

/* ---- asking ---- */

/* What the command line says to arguments that NULL ends. */
static char *run(int status, const char *const *arguments)
{
    const char *argv[24] = {"headwater", "--server", server};
    const char *const env[] = {state_home, NULL};
    char *output;
    int count = 3;

    while (*arguments != NULL && count < 23)
        argv[count++] = *arguments++;
    const int found = test_program_run(argv, env, NULL, &output);
    ck_assert_msg(found == status, "expected %d, got %d:\n%s", status, found, output);
    return output;
}

#define HEADWATER(status, ...) run(status, (const char *const[]){__VA_ARGS__, NULL})

static void expect_in(const char *output, const char *text)
{
    ck_assert_msg(output != NULL && strstr(output, text) != NULL, "no \"%s\" in:\n%s", text,
                  output != NULL ? output : "nothing");
}

#define EXPECT(status, text, ...)                                                                  \
    do {                                                                                           \
        HW_AUTO_FREE char *output_ = HEADWATER(status, __VA_ARGS__);                               \
        expect_in(output_, text);                                                                  \
    } while (0)

static bool unknown_are(const char *names)
{
    HW_AUTO_FREE char *found = HEADWATER(0, "get", "nodes", "--unknown", "-o", "name");

    return strcmp(found, names) == 0;
}

static bool is(const char *node, const char *state)
{
    return test_sql_is(&p.pg, state, "SELECT state FROM headwater.fleet WHERE node = '%s'", node);
}

/* What the agent says of itself: its command, and its readiness. */
static bool agent_says(const char *text)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir);
    HW_AUTO_FREE char *url = hw_sprintf("http://%s/readyz", monitor);
    HW_AUTO_FREE char *said = NULL, *ready = NULL;

    (void)test_program_run(
        (const char *const[]){"headwater-agent", "status", "--state-dir", state, NULL}, NULL, NULL,
        &said);
    (void)test_program_run((const char *const[]){"curl", "-sS", url, NULL}, NULL, NULL, &ready);
    return strstr(said, text) != NULL && strstr(ready, text) != NULL;
}

static double unassigned(void)
{
    return pipeline_metric(&p, "headwater_reconciler_fleet_nodes{state=\"unassigned\"}");
}

static void beat(const char *name)
{
    HW_AUTO_FREE char *subject = hw_sprintf("headwater.alive.%s", name);

    ck_assert_int_eq(natsConnection_PublishString(p.nc, subject, "whatever"), NATS_OK);
}

/* ---- tests ---- */

/* The name of the first hour that is not the node's, until the node runs a configuration. */
START_TEST(test_a_name_with_a_slip)
{
    start_agent("daq-O1");
    test_wait_for(unknown_are("daq-O1\n"), WAIT_S);
    test_wait_for(agent_says(NOTHING), WAIT_S);
    test_wait_for(pipeline_times_in_log(&agent, NOTHING) == 1, WAIT_S);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_unknown_nodes") == 1, WAIT_S);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_unknown_nodes_full") == 0);

    /* Nobody is registered by a slip of the pen, and nobody loses labels. */
    EXPECT(3, "daq-01", "accept", "daq-01");
    EXPECT(2, "label=value", "accept", "daq-O1", "--labels", "north");
    EXPECT(2, "twice", "accept", "daq-O1", "--labels", "a=1,a=2");
    EXPECT(2, "--all-unknown", "accept");
    EXPECT(2, "--all-unknown", "accept", "daq-O1", "--all-unknown");
    EXPECT(2, "--unknown goes with nodes", "get", "configs", "--unknown");
    EXPECT(2, "--unknown goes with nodes", "get", "fleet", "--unknown");
    EXPECT(2, "--unknown goes with nodes", "get", "nodes", "--unknown", "--selector", "a=1");
    EXPECT(0, "daq-O1", "accept", "daq-O1", "--labels", "site=north", "--dry-run");
    /* As get prints a string that a selector would take for a number. */
    EXPECT(0, "with the labels {\"slot\":\"3\",\"note\":\"a,b\"}", "accept", "daq-O1", "--labels",
           "slot=\"3\",note=\"a,b\"", "--dry-run");
    ck_assert(unknown_are("daq-O1\n"));
    EXPECT(0, "created", "accept", "daq-O1", "daq-O1", "--labels", "site=north,slot=3", "-m",
           "new in the hall");
    ck_assert(unknown_are(""));
    EXPECT(3, "registered already", "accept", "daq-O1");
    ck_assert(test_sql_is(&p.pg, "{\"site\": \"north\", \"slot\": \"3\"} new in the hall",
                          "SELECT concat_ws(' ', n.labels, c.message) FROM headwater.node AS n, "
                          "headwater.changelog AS c"));

    /* It has nothing to run. */
    test_wait_for(is("daq-O1", "unassigned"), WAIT_S);
    EXPECT(0, "0 in_sync  0 pending  0 failed  1 unassigned  0 conflict  0 unknown", "fleet",
           "--state", "unassigned");
    test_wait_for(unassigned() == 1, WAIT_S);
    free(test_sql(&p.pg, "INSERT INTO headwater.config (name, content) VALUES ('base', '1')"));
    free(test_sql(&p.pg, "INSERT INTO headwater.assignment (name, config, selector) "
                         "VALUES ('base', 'base', '{\"site\": \"north\"}')"));
    test_wait_for(is("daq-O1", "in_sync"), WAIT_S);
    test_wait_for(!agent_says(NOTHING) && unassigned() == 0, WAIT_S);

    /* Its last assignment goes: what it runs nobody wants, and nobody waits for it. */
    EXPECT(0, "", "delete", "assignment", "base", "--wait");
    test_wait_for(is("daq-O1", "unassigned"), WAIT_S);
    test_wait_for(agent_says(NOTHING) && unassigned() == 1, WAIT_S);

    /* A live node that is deleted is unknown. */
    EXPECT(0, "deleted", "delete", "node", "daq-O1");
    test_wait_for(unknown_are("daq-O1\n"), WAIT_S);
    free(test_sql(&p.pg, "UPDATE headwater.setting SET silence = '1 second'"));
    test_program_stop(&agent, SIGKILL);
    test_wait_for(unknown_are(""), WAIT_S);
}
END_TEST

/* What an agent of someone else's says is data: kept within bounds, shown without harm. */
START_TEST(test_hostile_names)
{
    static const char *const bad[] = {"a*b", "\xc3\xa4", "{}", "$x", "a'b", "a\"b"};
    char too_long[130];

    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    test_wait_for((beat("-"), unknown_are("-\n")), WAIT_S); /* the reconciler listens */
    for (size_t i = 0; i < HW_COUNT(bad); i++)
        beat(bad[i]);
    beat(too_long);
    pipeline_put(&p, REPORTED "ghost",
                 "{\"node\":\"ghost\",\"state\":\"applied\",\"agent\":\"\\u001b[31mmine/1\","
                 "\"running\":{\"revision\":7,\"digest\":\"sha256:"
                 "0000000000000000000000000000000000000000000000000000000000000000\",\"epoch\":1,"
                 "\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null}",
                 NULL);
    test_wait_for(unknown_are("-\nghost\n"), WAIT_S);
    EXPECT(0, "\\u001b[31mmine/1", "get", "nodes", "--unknown");
    ck_assert(test_sql_is(&p.pg, "t",
                          "SELECT reported_revision = 7 FROM headwater.unknown_node WHERE name = "
                          "'ghost'"));
}
END_TEST

static int lines(const char *text)
{
    int count = 0;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

/* What README.md says of containers, word by word; docker is a shell function that does here what
 * the engine would do in there. */
START_TEST(test_the_commands_of_containers)
{
    struct test_program agents[3];
    HW_AUTO_FREE char *script = hw_sprintf(
        "docker() { shift; case \"$*\" in 'up -d'*) ;; "
        "'exec -T api headwater '*) shift 4; \"${HW_BUILD_DIR:-build}/headwater\" \"$@\" ;; "
        "'exec -T --index=2 agent cat /var/lib/headwater-agent/config.json') cat %s/2.json ;; "
        "*) echo \"docker compose $*: not understood\" >&2; return 1 ;; esac; }\n"
        "commands=$(tests/readme 'In containers')\neval \"$commands\"\n",
        dir);
    HW_AUTO_FREE char *at = hw_sprintf("HEADWATER_SERVER=%s", server);
    HW_AUTO_FREE char *said = NULL;

    for (int i = 0; i < 3; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("4f0c%d", i + 1);
        HW_AUTO_FREE char *output = hw_sprintf("%s/%d.json", dir, i + 1);
        HW_AUTO_FREE char *state = hw_sprintf("%s/%d", dir, i + 1);
        const char *const argv[] = {"headwater-agent", "--nats", p.nats.url,    "--node", node,
                                    "--output",        output,   "--state-dir", state,    NULL};

        test_program_start(&agents[i], argv, NULL);
    }
    const int status = test_program_run((const char *const[]){"/bin/sh", "-euc", script, NULL},
                                        (const char *const[]){at, state_home, NULL}, NULL, &said);
    ck_assert_msg(status == 0, "%d:\n%s", status, said);
    expect_in(said, "3 in_sync  0 pending  0 failed  0 unassigned  0 conflict  0 unknown");
    expect_in(said, "{\"rate_hz\":1000,\"trigger\":\"internal\"}");
    for (int i = 0; i < 3; i++)
        pipeline_stop_program(&agents[i]);
}
END_TEST

START_TEST(test_more_than_the_list_holds)
{
    test_wait_for((beat("n1"), unknown_are("n1\n")), WAIT_S); /* the reconciler listens */
    for (int i = 1; i <= 1001; i++) {
        HW_AUTO_FREE char *name = hw_sprintf("n%d", i);

        beat(name);
    }
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_unknown_nodes") == 1000, WAIT_S);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_unknown_nodes_full") == 1, WAIT_S);
    test_wait_for(
        test_sql_is(&p.pg, "1", "SELECT left_out FROM headwater.unknown_count() WHERE is_full"),
        WAIT_S);
    EXPECT(0,
           "The list is full: it holds 1000 names. Signs of life of others that found no place: 1.",
           "get", "nodes", "--unknown");

    /* All of them: shown first, and agreed to. */
    HW_AUTO_FREE char *plan = HEADWATER(0, "accept", "--all-unknown", "--dry-run");
    ck_assert_int_ge(lines(plan), 1000);
    EXPECT(2, "--yes", "accept", "--all-unknown");
    HW_AUTO_FREE char *refusal =
        hw_sprintf("echo n | script -qec '${HW_BUILD_DIR:-build}/headwater --server %s accept "
                   "--all-unknown' /dev/null",
                   server);
    HW_AUTO_FREE char *said = NULL;
    ck_assert_int_eq(
        test_program_run((const char *const[]){"/bin/sh", "-c", refusal, NULL}, NULL, NULL, &said),
        1);
    expect_in(said, "Nothing was changed.");
    ck_assert(test_sql_is(&p.pg, "0", "SELECT count(*) FROM headwater.node"));
    free(HEADWATER(0, "accept", "--all-unknown", "--labels", "{\"slot\": 3}", "--yes"));
    ck_assert(test_sql_is(&p.pg, "1000",
                          "SELECT count(*) FROM headwater.node WHERE labels = '{\"slot\": 3}'"));
    ck_assert(unknown_are(""));
    EXPECT(0, "No node that is alive is unknown.", "accept", "--all-unknown", "--yes");
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_unknown_nodes_full") == 0, WAIT_S);
    HW_AUTO_FREE char *other =
        test_sql(&p.pg, "SELECT 'n' || i FROM generate_series(1, 1001) AS i "
                        "WHERE 'n' || i NOT IN (SELECT name FROM headwater.node)");
    HW_AUTO_FREE char *line = hw_sprintf("%s\n", other);
    beat(other);
    test_wait_for(unknown_are(line), WAIT_S);
}
END_TEST

TEST_MAIN_BETWEEN("unknown", 600, setup, teardown, test_a_name_with_a_slip, test_hostile_names,
                  test_the_commands_of_containers, test_more_than_the_list_holds)
