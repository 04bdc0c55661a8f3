/* Proposals on their way through the reconciler: into SQL once, and what became of them back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define STREAM   "KV_headwater"
#define PROPOSED "$KV.headwater_reports.cfg.proposed."

static struct test_pipeline p;

static void start(void)
{
    pipeline_start(&p, (const char *[]){"--history", "64", NULL});
}

static void setup(void)
{
    pipeline_open(&p, NULL);
    start();
    test_wait_for(pipeline_last_seq(&p, STREAM) > 0, 30); /* the first checkpoint: it streams */
    pipeline_make_nodes(&p, 2);
}

static void teardown(void)
{
    pipeline_stop(&p);
    pipeline_close(&p);
}

static void propose(const char *node, const char *ref, int base, const char *content)
{
    HW_AUTO_FREE char *subject = hw_sprintf(PROPOSED "%s", node);
    HW_AUTO_JSON json_t *value =
        json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "node", node, "ref", ref, "config", "c",
                  "base_revision", base, "content", content, "message", "as measured");
    HW_AUTO_FREE char *text = hw_json_dump(value);

    pipeline_put(&p, subject, text, NULL);
}

/* Is the node told this, in order: "a pending,b rejected"? */
static bool is_told(const char *node, const char *expected)
{
    HW_AUTO_FREE char *subject = hw_sprintf(DECIDED "%s", node);
    HW_AUTO_FREE char *value = pipeline_value(&p, STREAM, subject);
    HW_AUTO_FREE char *told = hw_strdup("");
    HW_AUTO_JSON json_t *root = NULL;
    json_t *decision;
    size_t i;

    if (value == NULL || hw_json_parse_object(value, strlen(value), &root, NULL) != HW_OK)
        return false;
    ck_assert_str_eq(json_string_value(json_object_get(root, "node")), node);
    json_array_foreach(json_object_get(root, "decisions"), i, decision) {
        char *more = hw_sprintf("%s%s%s %s", told, i > 0 ? "," : "",
                                json_string_value(json_object_get(decision, "ref")),
                                json_string_value(json_object_get(decision, "state")));
        free(told);
        told = more;
    }
    return strcmp(told, expected) == 0;
}

static bool is_deleted(const char *node)
{
    HW_AUTO_FREE char *subject = hw_sprintf(DECIDED "%s", node);
    natsMsg *msg = pipeline_last(&p, STREAM, subject);
    const char *operation = NULL;
    const bool deleted = msg != NULL &&
                         natsMsgHeader_Get(msg, "KV-Operation", &operation) == NATS_OK &&
                         strcmp(operation, "DEL") == 0;

    natsMsg_Destroy(msg);
    return deleted;
}

/* Each transaction that changed what a node is told has one revision of its key, and no more. */
static void check_history(const char *node)
{
    HW_AUTO_FREE char *subject = hw_sprintf(DECIDED "%s", node);
    struct pipeline_messages found = pipeline_messages(&p, 0, subject);

    pipeline_fences_grow(&found);
    for (size_t i = 1; i < found.count; i++)
        ck_assert_int_lt(hw_fence_compare(found.list[i - 1].fence, found.list[i].fence), 0);
    pipeline_messages_free(&found);
}

START_TEST(test_way)
{
    propose("n1", "a", 1, "{\"a\":1}");
    test_wait_for(is_told("n1", "a pending"), 30);
    free(test_sql(&p.pg, "SELECT headwater.approve(1, 'fine')"));
    test_wait_for(is_told("n1", "a approved"), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 1) && pipeline_up_to_date(&p, "n2", 1));
    ck_assert(test_sql_is(&p.pg, "2", "SELECT revision FROM headwater.config"));

    propose("n1", "b", 2, "{\"a\":2}");
    test_wait_for(is_told("n1", "a approved,b pending"), 30);
    free(test_sql(&p.pg, "SELECT headwater.reject(id) FROM headwater.proposal WHERE ref = 'b'"));
    test_wait_for(is_told("n1", "a approved,b rejected"), 30);
    propose("n1", "c", 1, "{}");
    test_wait_for(is_told("n1", "a approved,b rejected,c conflict"), 30);
    check_history("n1");

    /* What cannot be read is answered as well; of another node's name, of nobody, by nobody. */
    pipeline_put(&p, PROPOSED "n2", "{\"node\":\"n2\",\"ref\":\"x\",\"config\":7}", NULL);
    test_wait_for(is_told("n2", "x refused"), 30);
    pipeline_put(&p, PROPOSED "n2",
                 "{\"node\":\"n1\",\"ref\":\"y\",\"config\":\"c\",\"content\":"
                 "\"\",\"base_revision\":2}",
                 NULL);
    test_wait_for(is_told("n2", "x refused,y refused"), 30);
    pipeline_put(&p, PROPOSED "n2", "garbage \xFF", NULL);
    test_wait_for(test_sql_is(&p.pg, "t",
                              "SELECT reason LIKE 'not valid JSON%%' AND ref LIKE 'unreadable-%%' "
                              "FROM headwater.proposal ORDER BY id DESC LIMIT 1"),
                  30);
    propose("nobody", "a", 2, "{}");
    test_wait_for(pipeline_log_says(&p, "there is no such node"), 30);
    propose("n2", "z", 2, "{\"a\":3}"); /* goes on all the same */
    test_wait_for(
        test_sql_is(&p.pg, "pending", "SELECT state FROM headwater.proposal WHERE ref = 'z'"), 30);

    /* With the node goes its key. */
    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name = 'n2'"));
    pipeline_wait_until_caught_up(&p);
    ck_assert(is_deleted("n2"));
}
END_TEST

/*
 * Proposals wait for the writers' lock, which a person may hold for as long as a transaction is
 * left open. Reports and signs of life must not wait with them: each of the three has a connection.
 */
START_TEST(test_an_open_write_holds_up_proposals_alone)
{
    struct test_program writer;
    const char *const argv[] = {
        "psql",   "-X",
        "-c",     "SELECT FROM headwater.changelog_head FOR UPDATE; SELECT pg_sleep(600)",
        p.pg.url, NULL};

    pipeline_wait_until_caught_up(&p);
    test_program_start(&writer, argv, NULL);
    test_wait_for(test_sql_is(&p.pg, "1",
                              "SELECT count(*) FROM pg_stat_activity"
                              " WHERE application_name = 'psql'"
                              " AND wait_event = 'PgSleep'"),
                  30);
    propose("n1", "a", 1, "{\"a\":1}");
    test_wait_for(test_sql_is(&p.pg, "1",
                              "SELECT count(*) FROM pg_stat_activity"
                              " WHERE application_name LIKE '%%: proposals'"
                              " AND wait_event_type = 'Lock'"),
                  30);
    pipeline_put(&p, "$KV.headwater_reports.cfg.reported.n1",
                 "{\"node\":\"n1\",\"state\":\"applied\",\"running\":null,\"failed\":null,"
                 "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
                 NULL);
    ck_assert_int_eq(natsConnection_PublishString(p.nc, "headwater.alive.n2", ""), NATS_OK);
    test_wait_for(test_sql_is(&p.pg, "1", "SELECT count(*) FROM headwater.reported"), 30);
    test_wait_for(test_sql_is(&p.pg, "1", "SELECT count(*) FROM headwater.heard WHERE node = 'n2'"),
                  30);
    ck_assert(test_sql_is(&p.pg, "0", "SELECT count(*) FROM headwater.proposal"));
    test_program_stop(&writer, SIGKILL);
    free(test_sql(&p.pg, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                         " WHERE application_name = 'psql' AND wait_event = 'PgSleep'"));
    test_wait_for(is_told("n1", "a pending"), 30);
}
END_TEST

/* A node sends each thing again and again, while what is between it and the database is killed. */
START_TEST(test_exactly_once)
{
    char ref[16];

    srandom(4711);
    for (int round = 0; round < 5; round++) {
        const int signo = round % 4 == 3 ? SIGTERM : SIGKILL;

        snprintf(ref, sizeof(ref), "r%d", round);
        propose("n1", ref, 1 + round, "{\"round\":1}");
        propose("n2", ref, 1000, "{}");
        usleep((useconds_t)(random() % 60000));
        test_program_stop(&p.reconciler, signo);
        if (round % 3 == 0) {
            pipeline_kill_nats(&p);
            pipeline_restart_nats(&p);
        }
        start();
        propose("n1", ref, 1 + round, "{\"round\":1}");
        test_wait_for(test_sql_is(&p.pg, "pending",
                                  "SELECT state FROM headwater.proposal WHERE (node, ref) = ('n1', "
                                  "'%s')",
                                  ref),
                      60);
        free(test_sql(&p.pg,
                      "UPDATE headwater.proposal SET content = '{\"round\":%d}' WHERE ref = '%s' "
                      "AND node = 'n1'; "
                      "SELECT headwater.approve(id) FROM headwater.proposal WHERE state = "
                      "'pending'",
                      100 + round, ref));
        propose("n1", ref, 1 + round, "{\"round\":1}");
    }
    pipeline_wait_until_caught_up(&p);
    ck_assert(test_sql_is(&p.pg, "6", "SELECT revision FROM headwater.config"));
    ck_assert(test_sql_is(&p.pg, "5 5 5",
                          "SELECT count(*) || ' ' || count(DISTINCT ref) || ' ' || count(*) FILTER "
                          "(WHERE state = 'approved') FROM headwater.proposal WHERE node = 'n1'"));
    test_wait_for(is_told("n1", "r0 approved,r1 approved,r2 approved,r3 approved,r4 approved"), 60);
    check_history("n1");
    check_history("n2");
}
END_TEST

/* What others do to the key is set right, and an empty NATS is filled from SQL. */
START_TEST(test_drift)
{
    propose("n1", "a", 1, "{\"a\":1}");
    propose("n2", "a", 1, "{\"a\":2}");
    test_wait_for(is_told("n1", "a pending") && is_told("n2", "a pending"), 30);

    pipeline_put(&p, DECIDED "n1", "{\"node\":\"n1\",\"decisions\":[]}", NULL);
    test_wait_for(is_told("n1", "a pending"), 60);
    pipeline_purge(&p, STREAM, DECIDED "n2");
    free(test_sql(&p.pg, "SELECT headwater.resync()"));
    test_wait_for(is_told("n2", "a pending"), 60);
    /* And where nothing is to be. */
    pipeline_put(&p, DECIDED "n3", "{\"node\":\"n3\",\"decisions\":[]}", NULL);
    test_wait_for(is_deleted("n3"), 60);

    pipeline_kill_nats(&p);
    test_nats_wipe(&p.nats);
    free(test_sql(&p.pg, "SELECT headwater.approve(id) FROM headwater.proposal WHERE node = 'n1'"));
    pipeline_restart_nats(&p);
    test_wait_for(is_told("n1", "a approved") && is_told("n2", "a conflict"), 60);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 0));
}
END_TEST

TEST_MAIN_BETWEEN("reconciler proposals", 240, setup, teardown, test_way,
                  test_an_open_write_holds_up_proposals_alone, test_exactly_once, test_drift)
