/* Two agents of one name: found out by both and by the fleet, and over when one stops. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/cli_program.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

enum { WAIT_S = 60, AGENTS = 3 };

static struct test_pipeline p;
static struct test_api api;
static struct test_program agents[AGENTS]; /* all of them are n1 */
static char *dir;

/* Machines that share a file system share no state directory: each has its own, agent<i>. The
 * command of the agents with an odd number fails. */
static void start_agent(int i)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/agent%d", dir, i);
    HW_AUTO_FREE char *output = hw_sprintf("%s/output%d", dir, i);
    const char *const argv[] = {"headwater-agent",
                                "--nats",
                                p.nats.url,
                                "--node",
                                "n1",
                                "--state-dir",
                                state,
                                "--output",
                                output,
                                "--heartbeat",
                                "200ms",
                                "--poll",
                                "1s",
                                "--apply",
                                i % 2 == 0 ? "true" : "false",
                                NULL};

    test_program_start(&agents[i], argv, NULL);
}

/* What another machine gets that is made from the disk of this one. */
static void copy_state(int from, int to)
{
    HW_AUTO_FREE char *source = hw_sprintf("%s/agent%d", dir, from);
    HW_AUTO_FREE char *target = hw_sprintf("%s/agent%d", dir, to);

    ck_assert_int_eq(
        test_program_run((const char *[]){"/bin/cp", "-a", source, target, NULL}, NULL, NULL, NULL),
        0);
}

static void setup(void)
{
    pipeline_open(&p, NULL);
    dir = test_temp_dir();
    free(test_sql(&p.pg, "UPDATE headwater.setting SET silence = '1 second'"));
    pipeline_make_nodes(&p, 2);
    pipeline_start(&p, NULL);
    test_api_start(&api, p.pg.api_url, NULL);
    pipeline_wait_until_caught_up(&p);
    cli_home(api.port);
}

static void teardown(void)
{
    for (int i = 0; i < AGENTS; i++)
        if (agents[i].pid != 0)
            pipeline_stop_program(&agents[i]);
    test_api_stop(&api);
    pipeline_stop(&p);
    pipeline_close(&p);
    free(dir);
}

static bool is(const char *state)
{
    return test_sql_is(&p.pg, state, "SELECT state FROM headwater.fleet WHERE node = 'n1'");
}

static double in_conflict(void)
{
    return pipeline_metric(&p, "headwater_reconciler_fleet_nodes{state=\"conflict\"}");
}

static bool says(int agent, const char *text)
{
    return pipeline_times_in_log(&agents[agent], text) > 0;
}

/* Whose report it is. */
static char *reporter(void)
{
    return test_sql(&p.pg, "SELECT instance FROM headwater.reported WHERE node = 'n1'");
}

/* Both have the newest document by now, and one of them, or both, runs it. */
static void expect_wait_is_pending(void)
{
    HW_AUTO_FREE char *lsn = test_sql(&p.pg, "SELECT pg_current_wal_insert_lsn()");
    HW_AUTO_FREE char *target = hw_sprintf("/v1/wait?timeout=1500ms&lsn=%s", lsn);
    struct test_answer answer = test_http(api.port, "GET", target, NULL, NULL, 0);

    ck_assert_int_eq(answer.status, 504);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"n1\""));
    test_answer_free(&answer);
}

#define HISTORY                                                                                    \
    "SELECT string_agg(CASE WHEN conflict ? 'until' THEN 'end' ELSE 'begin' END, ' ' "             \
    "ORDER BY id) FROM headwater.reported_history WHERE conflict IS NOT NULL"

START_TEST(test_a_copied_disk)
{
    start_agent(0);
    test_wait_for(is("in_sync"), WAIT_S);
    pipeline_stop_program(&agents[0]);
    copy_state(0, 2);
    start_agent(0);
    start_agent(2);
    test_wait_for(is("conflict"), WAIT_S);
    test_wait_for(in_conflict() == 1, WAIT_S);
    ck_assert(test_sql_is(&p.pg, "2",
                          "SELECT jsonb_array_length(conflict -> 'instances') FROM headwater.fleet "
                          "WHERE node = 'n1'"));
    /* Something new shows who writes to the same key. */
    pipeline_set_content(&p, "{\"a\":1}");
    test_wait_for(says(0, "another agent reports under this node's name") &&
                      says(2, "another agent reports under this node's name"),
                  WAIT_S);
    expect_wait_is_pending();
    EXPECT(1, "several agents", "status");
    ck_assert(is("conflict"));
    /* One of them is the machine that was meant. */
    pipeline_stop_program(&agents[2]);
    test_wait_for(is("in_sync"), WAIT_S);
    test_wait_for(in_conflict() == 0, WAIT_S);
    test_wait_for(says(0, "no other agent reports"), WAIT_S);
    ck_assert(test_sql_is(&p.pg, "begin end", HISTORY));
}
END_TEST

/* The fresh one cannot apply what it should: without more, the fleet would say in_sync and failed
 * in turns. */
START_TEST(test_a_fresh_one)
{
    start_agent(0);
    test_wait_for(is("in_sync"), WAIT_S);
    start_agent(1);
    test_wait_for(is("conflict"), WAIT_S);
    test_wait_for(says(0, "another agent reports") && says(1, "another agent reports"), WAIT_S);

    /* Each overwrites the other's report once in a poll at most, whatever it has to say. */
    const double until = test_now() + 4;
    int changes = 0;

    for (int i = 0; test_now() < until; i++) {
        HW_AUTO_FREE char *content = hw_sprintf("{\"a\":%d}", 10 + i);
        HW_AUTO_FREE char *before = reporter();

        pipeline_set_content(&p, content);
        ck_assert(is("conflict"));
        test_pause();
        HW_AUTO_FREE char *after = reporter();
        changes += strcmp(before, after) != 0;
    }
    ck_assert_int_le(changes, 16);

    /* The operator says that the second one is meant. */
    HW_AUTO_FREE char *second =
        test_sql(&p.pg, "SELECT i FROM headwater.liveness, unnest(conflict) AS i WHERE node = 'n1' "
                        "AND i <> (SELECT instance FROM headwater.reported WHERE node = 'n1')");
    EXPECT(3, "no agent \"nobody\" that is alive", "choose", "n1", "nobody");
    EXPECT(0, "is meant", "choose", "n1", second, "-m", "moved");
    EXPECT(0, "moved", "audit", "instance", "n1");
    test_wait_for(!is("conflict"), WAIT_S);
    ck_assert(test_sql_is(
        &p.pg, "t", "SELECT instance = '%s' FROM headwater.reported WHERE node = 'n1'", second));
    test_wait_for(in_conflict() == 0, WAIT_S);
}
END_TEST

/* Whoever restarts, by whatever means, is one agent all the time. */
START_TEST(test_restarts_are_no_conflict)
{
    start_agent(0);
    test_wait_for(is("in_sync"), WAIT_S);
    for (int i = 0; i < 12; i++) {
        test_program_stop(&agents[0], i % 2 == 0 ? SIGKILL : SIGTERM);
        start_agent(0);
        test_wait_for(says(0, "connected to NATS"), WAIT_S);
        ck_assert(!is("conflict"));
    }
    /* On another machine now. */
    test_program_stop(&agents[0], SIGKILL);
    copy_state(0, 2);
    start_agent(2);
    test_wait_for(test_sql_is(&p.pg, "0", "SELECT count(*) FROM headwater.instance"), WAIT_S);
    test_wait_for(is("in_sync"), WAIT_S);
    ck_assert(!says(2, "another agent"));
    ck_assert(test_sql_is(&p.pg, "0",
                          "SELECT count(*) FROM headwater.reported_history "
                          "WHERE conflict IS NOT NULL"));
}
END_TEST

TEST_MAIN_BETWEEN("twins", 240, setup, teardown, test_a_copied_disk, test_a_fresh_one,
                  test_restarts_are_no_conflict)
