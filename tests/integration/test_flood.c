/*
 * A node that writes as much and as fast as it can, beside nodes that behave: what it costs is
 * bounded, the others do not wait for it, and how it stands is known all the same.
 */
#include <libpq-fe.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define PROPOSED "$KV.headwater_reports.cfg.proposed."

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
    pipeline_make_nodes(&p, 2);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n2", 0), 30);
}

static void teardown(void)
{
    pipeline_stop(&p);
    pipeline_close(&p);
}

/* Without waiting for an answer, as a node that means harm would. */
static void publish(const char *subject, const char *value)
{
    ck_assert_int_eq(natsConnection_PublishString(p.nc, subject, value), NATS_OK);
}

/* A report of n1 that is nearly as large as one may be. */
static void report_failed(const char *state, const char *error)
{
    enum { PAD = 60000 };
    HW_AUTO_FREE char *value =
        hw_sprintf("{\"node\":\"n1\",\"state\":\"%s\",\"failed\":{\"stage\":\"apply\",\"error\":"
                   "\"%s %0*d\",\"at\":\"2026-01-31T12:00:00Z\"}}",
                   state, error, PAD, 0);

    publish(REPORTED "n1", value);
}

static void report_well(const char *node, const char *agent)
{
    HW_AUTO_FREE char *subject = hw_sprintf(REPORTED "%s", node);
    HW_AUTO_FREE char *value =
        hw_sprintf("{\"node\":\"%s\",\"state\":\"applied\",\"agent\":\"%s\"}", node, agent);

    publish(subject, value);
}

static bool agent_is(const char *node, const char *agent)
{
    return test_sql_is(&p.pg, agent, "SELECT agent FROM headwater.reported WHERE node = '%s'",
                       node);
}

/* Has the server sent everything up to this message to whoever watches the reports? It tells the
 * watchers in the order of the stream, so that what others have still to get is counted by then. */
static bool sent_up_to(uint64_t seq)
{
    jsConsumerInfoList *list = NULL;
    bool is_sent = false, waits = false;

    ck_assert_int_eq(js_Consumers(&list, p.js, "KV_headwater_reports", NULL, NULL), NATS_OK);
    for (int i = 0; i < list->Count; i++) {
        is_sent = is_sent || list->List[i]->Delivered.Stream >= seq;
        waits = waits || list->List[i]->NumPending > 0;
    }
    jsConsumerInfoList_Destroy(list);
    return is_sent && !waits;
}

/* The bucket keeps the newest of a key only, so what was not sent when the next one comes is sent
 * to nobody. A server stores a message some time after it took it; it has stored all that came
 * before one that it acknowledges, here that of a node which nobody registered. */
static void wait_until_sent(void)
{
    pipeline_put(&p, REPORTED "barrier", "{\"node\":\"barrier\",\"state\":\"applied\"}", NULL);

    const uint64_t last = pipeline_last_seq(&p, "KV_headwater_reports");

    test_wait_for(sent_up_to(last), 60);
}

static void expect_sql(const char *expected, const char *sql)
{
    HW_AUTO_FREE char *is = test_sql(&p.pg, "%s", sql);

    ck_assert_msg(is != NULL && strcmp(is, expected) == 0, "%s: %s, and not %s", sql, is, expected);
}

#define COUNT_OF(state_is)                                                                         \
    "SELECT count(*) FROM headwater.reported_history WHERE node = 'n1' AND state = '" state_is "'"

/* As fast as the server takes them: details that change all the time, and now and then how the node
 * stands, which the next report hides at once. */
START_TEST(test_reports)
{
    enum { REPORTS = 1000, CHANGES = 10 };
    HW_AUTO_FREE char *last = hw_sprintf("e%d", REPORTS);

    for (int i = 1; i <= REPORTS; i++) {
        const bool is_change = i % (REPORTS / CHANGES) == REPORTS / CHANGES / 2;
        HW_AUTO_FREE char *error = hw_sprintf("e%d", i);

        report_failed(is_change ? "rejected" : "failed", error);
        if (is_change)
            wait_until_sent();
        if (i == REPORTS / 2) {
            report_well("n2", "beside");
            test_wait_for(agent_is("n2", "beside"), 5);
        }
    }
    test_wait_for(test_sql_is(&p.pg, last,
                              "SELECT split_part(failed_error, ' ', 1) FROM headwater.reported "
                              "WHERE node = 'n1' AND length(failed_error) = 4096"),
                  30);
    expect_sql("10", COUNT_OF("rejected"));
    expect_sql("t", "SELECT count(*) < 100 FROM headwater.reported_history");
    expect_sql("t", "SELECT pg_total_relation_size('headwater.reported_history') < 1000000");
    /* The history comes to the newest state, too, and says what it left out. */
    free(test_sql(&p.pg, "UPDATE headwater.setting SET report_rate = 6000"));
    test_wait_for(test_sql_is(&p.pg, last,
                              "SELECT split_part(failed_error, ' ', 1) FROM "
                              "headwater.reported_history ORDER BY id DESC LIMIT 1"),
                  30);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_noisy_nodes") == 0, 20);
}
END_TEST

/* While the database is busy, the newest report waits, and none that says how the node stands is
 * hidden by it. */
START_TEST(test_changes_while_the_database_is_busy)
{
    PGconn *lock = PQconnectdb(p.pg.url);

    PQclear(PQexec(lock, "BEGIN; LOCK TABLE headwater.reported"));
    for (int i = 1; i <= 12; i++)
        for (int k = 0; k < 3; k++) { /* the same thrice, with other details */
            HW_AUTO_FREE char *error = hw_sprintf("e%d", 3 * i + k);

            report_failed(i % 2 == 0 ? "rejected" : "failed", error);
            wait_until_sent();
        }
    report_well("n2", "beside");
    wait_until_sent();
    PQfinish(lock);
    test_wait_for(agent_is("n2", "beside"), 5);
    test_wait_for(test_sql_is(&p.pg, "6", COUNT_OF("rejected")), 20);
    expect_sql("6", COUNT_OF("failed"));
    expect_sql("0", "SELECT sum(left_out) FROM headwater.reported_history");
    ck_assert(pipeline_metric(&p, "headwater_reconciler_report_changes_left_out_total") == 0);
}
END_TEST

/* A node that changes its mind all the time: bounded as well, counted, and the newest is right. */
START_TEST(test_flapping)
{
    enum { REPORTS = 1500 };

    for (int i = 1; i <= REPORTS; i++) {
        HW_AUTO_FREE char *error = hw_sprintf("e%d", i);

        report_failed(i % 2 == 0 ? "rejected" : "failed", error);
    }
    report_well("n1", "settled");
    report_well("n2", "beside");
    test_wait_for(agent_is("n2", "beside"), 10);
    test_wait_for(agent_is("n1", "settled"), 10);
    expect_sql("applied", "SELECT state FROM headwater.reported WHERE node = 'n1'");
    expect_sql("t", "SELECT count(*) < 300 FROM headwater.reported_history");
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_report_changes_left_out_total") > 0,
                  20);
    ck_assert(pipeline_log_says(&p, "a node changes its state faster than is recorded"));
}
END_TEST

/* What is no report, or no proposal, and proposals without end. */
START_TEST(test_junk)
{
    enum { MESSAGES = 1000 };

    for (int i = 1; i <= MESSAGES; i++) {
        HW_AUTO_FREE char *junk = hw_sprintf("{\"node\":\"n1\",\"state\":\"%d\"}", i);
        HW_AUTO_FREE char *proposal =
            hw_sprintf("{\"node\":\"n1\",\"ref\":\"r%d\",\"config\":\"c\",\"base_revision\":1,"
                       "\"content\":\"{\\\"a\\\":%d}\"}",
                       i, i);

        publish(REPORTED "n1", junk);
        publish(PROPOSED "n1", proposal);
        if (i % 10 == 0)
            wait_until_sent();
    }
    report_well("n2", "beside");
    publish(PROPOSED "n2", "{\"node\":\"n2\",\"ref\":\"p2\",\"config\":\"c\",\"base_revision\":1,"
                           "\"content\":\"{}\"}");
    test_wait_for(agent_is("n2", "beside"), 5);
    test_wait_for(
        test_sql_is(&p.pg, "pending", "SELECT state FROM headwater.proposal WHERE ref = 'p2'"), 5);
    ck_assert_int_lt(pipeline_times_in_log(&p.reconciler, "level=warn"), 50);
    ck_assert_int_ge(pipeline_times_in_log(&p.reconciler, "passing over a report that is none"), 1);
    expect_sql("t", "SELECT count(*) <= 120 FROM headwater.proposal WHERE node = 'n1'");
    expect_sql("t", "SELECT count(*) < 200 FROM headwater.changelog");
}
END_TEST

TEST_MAIN_BETWEEN("flood", 120, setup, teardown, test_reports,
                  test_changes_while_the_database_is_busy, test_flapping, test_junk)
