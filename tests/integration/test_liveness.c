/* Signs of life from an agent to the fleet: the real programs between their servers. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

enum { WAIT_S = 60 };

static struct test_pipeline p;
static struct test_program agent;
static char *dir;

static void start_agent(const char *heartbeat)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir);
    HW_AUTO_FREE char *output = hw_sprintf("%s/output", dir);
    const char *const argv[] = {"headwater-agent", "--nats", p.nats.url, "--node", "n1",
                                "--state-dir",     state,    "--output", output,   "--heartbeat",
                                heartbeat,         NULL};

    test_program_start(&agent, argv, NULL);
}

static void setup(void)
{
    pipeline_open(&p, NULL);
    dir = test_temp_dir();
    free(test_sql(&p.pg, "UPDATE headwater.setting SET silence = '1 second'"));
    pipeline_make_nodes(&p, 3);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
}

static void teardown(void)
{
    pipeline_stop_program(&agent);
    pipeline_stop(&p);
    pipeline_close(&p);
    free(dir);
}

static bool is(const char *node, const char *expected)
{
    return test_sql_is(&p.pg, expected,
                       "SELECT state || ' ' || reported_state FROM headwater.fleet "
                       "WHERE node = '%s'",
                       node);
}

static bool is_seen(const char *node)
{
    return test_sql_is(&p.pg, "t",
                       "SELECT last_seen IS NOT NULL FROM headwater.fleet WHERE node = '%s'", node);
}

static double nodes(const char *state)
{
    HW_AUTO_FREE char *series = hw_sprintf("headwater_reconciler_fleet_nodes{state=\"%s\"}", state);

    return pipeline_metric(&p, series);
}

static void beat(const char *node)
{
    HW_AUTO_FREE char *subject = hw_sprintf("headwater.alive.%s", node);

    ck_assert_int_eq(natsConnection_PublishString(p.nc, subject, "whatever"), NATS_OK);
}

/* n2 reports as agents did that knew of no signs of life; it beats once all the same. */
static void make_old_agent(void)
{
    HW_AUTO_FREE char *digest = test_sql(&p.pg, "SELECT digest FROM headwater.desired LIMIT 1");
    HW_AUTO_FREE char *value = hw_sprintf(
        "{\"node\":\"n2\",\"state\":\"applied\",\"running\":{\"revision\":1,\"digest\":\"%s\","
        "\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null,"
        "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
        digest);

    pipeline_put(&p, REPORTED "n2", value, NULL);
    test_wait_for(is("n2", "in_sync in_sync"), WAIT_S);
    test_wait_for((beat("n2"), is_seen("n2")), WAIT_S);
}

START_TEST(test_a_node_that_dies_is_unknown)
{
    start_agent("100ms");
    test_wait_for(is("n1", "in_sync in_sync") && is_seen("n1"), WAIT_S);
    make_old_agent();
    beat("stranger");
    test_program_stop(&agent, SIGKILL);
    test_wait_for(is("n1", "unknown in_sync"), WAIT_S);
    /* So was n2 silent, and n3 never reported. */
    ck_assert(is("n2", "in_sync in_sync") && is("n3", "unknown unknown"));
    ck_assert(
        test_sql_is(&p.pg, "0", "SELECT count(*) FROM headwater.liveness WHERE node = 'stranger'"));
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_heartbeats_total") > 2, WAIT_S);
    test_wait_for(nodes("unknown") == 2 && nodes("in_sync") == 1, WAIT_S);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_pending_oldest_seconds") == 0);

    /* Back without signs of life, and it says so. */
    start_agent("0");
    test_wait_for(is("n1", "in_sync in_sync"), WAIT_S);
    ck_assert(test_sql_is(&p.pg, "t",
                          "SELECT heartbeat IS NULL FROM headwater.reported WHERE node = 'n1'"));
}
END_TEST

/* While nobody leads, or NATS is away, nothing is heard, and nobody is silent. */
START_TEST(test_silence_counts_while_a_leader_listens)
{
    start_agent("100ms");
    test_wait_for(is_seen("n1"), WAIT_S);
    free(test_sql(&p.pg, "UPDATE headwater.setting SET silence = '1 day'"));
    test_wait_for(is("n1", "in_sync in_sync"), WAIT_S); /* from now on however late it beats */
    pipeline_stop(&p);
    test_program_stop(&agent, SIGKILL);
    HW_AUTO_FREE char *before = test_sql(&p.pg, "SELECT tick FROM headwater.heard_head");
    pipeline_stop_nats(&p);
    pipeline_start(&p, NULL);
    pipeline_restart_nats(&p);
    test_wait_for(test_sql_is(&p.pg, "t", "SELECT tick > %s FROM headwater.heard_head", before),
                  WAIT_S);
    ck_assert(is("n1", "in_sync in_sync"));
    free(test_sql(&p.pg, "UPDATE headwater.setting SET silence = '1 second'"));
    test_wait_for(is("n1", "unknown in_sync"), WAIT_S);
    start_agent("100ms");
    test_wait_for(is("n1", "in_sync in_sync"), WAIT_S);
}
END_TEST

TEST_MAIN_BETWEEN("liveness", 240, setup, teardown, test_a_node_that_dies_is_unknown,
                  test_silence_counts_while_a_leader_listens)
