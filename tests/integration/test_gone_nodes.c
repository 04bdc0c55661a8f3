/* Nodes that were deleted: after the time of grace nothing of theirs is left in NATS. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "protocol/keys.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

enum { WAIT_S = 90 }; /* the reconciler looks every 10 s, and purges at the second look */

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
}

static void teardown(void)
{
    pipeline_close(&p);
}

static void start(const char *grace)
{
    pipeline_start(&p, (const char *[]){"--purge-after", grace, NULL});
}

static bool has(const char *stream, const char *subject, const char *node)
{
    HW_AUTO_FREE char *whole = hw_sprintf("%s%s", subject, node);
    natsMsg *msg = pipeline_last(&p, stream, whole);
    const bool found = msg != NULL;

    natsMsg_Destroy(msg);
    return found;
}

#define PROPOSED "$KV.headwater_reports." HW_KEY_PROPOSED

static int keys_of(const char *node)
{
    return has("KV_headwater", DESIRED, node) + has("KV_headwater", DECIDED, node) +
           has("KV_headwater_reports", REPORTED, node) +
           has("KV_headwater_reports", PROPOSED, node);
}

/* All four keys. */
static void send_all(const char *node)
{
    HW_AUTO_FREE char *reported = hw_sprintf(REPORTED "%s", node);
    HW_AUTO_FREE char *proposed = hw_sprintf(PROPOSED "%s", node);
    HW_AUTO_FREE char *report = hw_sprintf("{\"node\":\"%s\",\"state\":\"applied\"}", node);
    HW_AUTO_FREE char *proposal = hw_sprintf("{\"node\":\"%s\",\"ref\":\"r\",\"config\":\"c\","
                                             "\"base_revision\":1,\"content\":\"{}\"}",
                                             node);

    pipeline_put(&p, reported, report, NULL);
    pipeline_put(&p, proposed, proposal, NULL);
    test_wait_for(has("KV_headwater", DECIDED, node), 30);
}

static bool purged(double count)
{
    return pipeline_metric(&p, "headwater_reconciler_purged_nodes_total") >= count;
}

START_TEST(test_after_the_time_of_grace)
{
    pipeline_make_nodes(&p, 3);
    start("1s");
    test_wait_for(pipeline_up_to_date(&p, "n3", 0), 30);
    send_all("n1");
    send_all("n2");
    send_all("n3");
    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name = 'n2'"));
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_eq(keys_of("n2"), 4);
    test_wait_for(purged(1), WAIT_S);
    ck_assert_int_eq(keys_of("n2"), 0);
    ck_assert_int_eq(keys_of("n1"), 4);
    ck_assert(pipeline_equal(&p));
    test_wait_for(
        test_sql_is(&p.pg, "n2", "SELECT node FROM headwater.gone WHERE purged_at IS NOT NULL"),
        WAIT_S);
    /* Another one later: what it sent since is gone, too. */
    send_all("n3");
    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name = 'n3'"));
    test_wait_for(purged(2), WAIT_S);
    ck_assert_int_eq(keys_of("n3"), 0);
    /* Made again, it goes on behind its last revision. */
    free(test_sql(&p.pg, "INSERT INTO headwater.node (name) VALUES ('n2')"));
    test_wait_for(pipeline_up_to_date(&p, "n2", 0), 30);
    ck_assert(test_sql_is(&p.pg, "n3", "SELECT string_agg(node, ' ') FROM headwater.gone"));
    ck_assert(!pipeline_log_says(&p, "cannot be purged"));
    ck_assert(!pipeline_log_says(&p, "someone else"));
    pipeline_stop(&p);
}
END_TEST

/* Nothing is published by a purge, nothing of others goes, and all is done in the end. */
START_TEST(test_killed_while_it_purges)
{
    enum { NODES = 1500, STAY = 10 };

    pipeline_make_nodes(&p, NODES);
    start("0");
    pipeline_wait_until_caught_up(&p);
    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name NOT IN"
                         " (SELECT 'n' || i FROM generate_series(1, 10) AS i)"));
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);

    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");

    start("1s");
    test_wait_for(purged(100), WAIT_S);
    test_program_stop(&p.reconciler, SIGKILL);
    start("1s");
    test_wait_for(
        test_sql_is(&p.pg, "0", "SELECT count(*) FROM headwater.gone WHERE purged_at IS NULL"),
        3 * WAIT_S);
    for (int i = 1; i <= NODES; i += 7) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);

        ck_assert_int_eq(keys_of(node), i <= STAY ? 1 : 0);
    }
    struct pipeline_messages messages = pipeline_messages(&p, before, DESIRED);

    ck_assert_uint_eq(messages.count, 0);
    pipeline_messages_free(&messages);
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* A node that was made again is none that is gone, however long ago it was deleted. */
START_TEST(test_made_again)
{
    pipeline_make_nodes(&p, 3);
    start("1s");
    test_wait_for(pipeline_up_to_date(&p, "n3", 0), 30);
    send_all("n2");
    pipeline_stop(&p);
    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name IN ('n2', 'n3')"));
    free(test_sql(&p.pg, "INSERT INTO headwater.node (name) VALUES ('n2')"));
    start("1s");
    test_wait_for(purged(1), WAIT_S);
    ck_assert_int_eq(keys_of("n3"), 0);
    ck_assert_int_eq(keys_of("n2"), 4);
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

TEST_MAIN_BETWEEN("gone nodes", 400, setup, teardown, test_after_the_time_of_grace,
                  test_killed_while_it_purges, test_made_again)
