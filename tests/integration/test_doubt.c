/*
 * What the database hides, has lost or refuses: the reconciler tells it from what is not there. No
 * key of a node goes because a table shows nothing, what is checked at the start of a stream is
 * checked while it runs, and one report that the database refuses does not keep the others out.
 */
#include <nats/nats.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

#define KEYS 6 /* nodes, and so keys below cfg.desired */

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
    pipeline_make_nodes(&p, KEYS);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_readyz(&p) == 200, 30);
    pipeline_wait_until_caught_up(&p);
}

static void teardown(void)
{
    pipeline_stop(&p);
    pipeline_close(&p);
}

static void run_sql(const char *sql)
{
    free(test_sql(&p.pg, "%s", sql));
}

static void compare(void)
{
    const double before = pipeline_metric(&p, "headwater_reconciler_comparisons_total");

    run_sql("SELECT headwater.resync()");
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_comparisons_total") > before, 30);
}

/* All keys stand with a value, none as a mark of deletion. */
static bool all_stand(void)
{
    for (int i = 1; i <= KEYS; i++) {
        HW_AUTO_FREE char *subject = hw_sprintf(DESIRED "n%d", i);
        HW_AUTO_FREE char *value = pipeline_value(&p, "KV_headwater", subject);

        if (value == NULL || strstr(value, "\"digest\"") == NULL)
            return false;
    }
    return true;
}

static void check_hidden(const char *table)
{
    HW_AUTO_FREE char *hide =
        hw_sprintf("ALTER TABLE headwater.%s ENABLE ROW LEVEL SECURITY", table);
    HW_AUTO_FREE char *show =
        hw_sprintf("ALTER TABLE headwater.%s DISABLE ROW LEVEL SECURITY", table);
    HW_AUTO_FREE char *named = hw_sprintf("\\\"%s\\\"", table);

    run_sql(hide);
    run_sql("SELECT headwater.resync()");
    test_wait_for(pipeline_log_says(&p, "ow level security") && pipeline_log_says(&p, named), 30);
    ck_assert(all_stand());
    test_wait_for(pipeline_readyz(&p) == 503, 30);
    run_sql(show);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert(all_stand());
}

/* Row level security, as a hardening script switches it on for all tables. */
START_TEST(test_hidden_rows)
{
    const int epoch = (int)pipeline_metric(&p, "headwater_reconciler_epoch");

    check_hidden("desired");
    check_hidden("decided");
    check_hidden("changelog");
    ck_assert_int_eq((int)pipeline_metric(&p, "headwater_reconciler_epoch"), epoch);
}
END_TEST

/* A table that was emptied past its triggers is doubted, by every comparison. */
START_TEST(test_emptied)
{
    run_sql("ALTER TABLE headwater.desired DISABLE TRIGGER USER; TRUNCATE headwater.desired; "
            "ALTER TABLE headwater.desired ENABLE TRIGGER USER");
    test_wait_for(pipeline_log_says(&p, "rows are missing in the database"), 30);
    ck_assert(all_stand());
    test_wait_for(pipeline_readyz(&p) == 503, 30);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_rows_missing") == KEYS);
    compare();
    ck_assert(all_stand());
    pipeline_stop(&p);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "rows are missing in the database"), 30);
    ck_assert(all_stand());

    /* The stream goes on for others, and what is deleted on purpose goes. */
    run_sql("DELETE FROM headwater.node WHERE name = 'n6'");
    run_sql("INSERT INTO headwater.node (name) VALUES ('n7')");
    test_wait_for(pipeline_up_to_date(&p, "n7", 0), 30);
    run_sql("INSERT INTO headwater.node (name) VALUES ('n6')");
    run_sql("SELECT headwater.recompute()");
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert(all_stand());
    ck_assert(pipeline_equal(&p));
}
END_TEST

/* A node that has nothing any more does lose its key. */
START_TEST(test_deleted_on_purpose)
{
    pipeline_stop(&p);
    run_sql("DELETE FROM headwater.node WHERE name <> 'n1'");
    run_sql("SELECT pg_drop_replication_slot('headwater')");
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert(pipeline_equal(&p));
    HW_AUTO_FREE char *gone = pipeline_value(&p, "KV_headwater", DESIRED "n2");
    ck_assert(gone == NULL || *gone == '\0');
}
END_TEST

/* What keeps changes out of the stream is noticed while it runs, and nothing is lost by it. */
static void check_left_out(const char *breaking, const char *mending)
{
    run_sql(breaking);
    pipeline_set_content(&p, "{\"a\":1}");
    test_wait_for(pipeline_log_says(&p, "the stream leaves changes out"), 60);
    test_wait_for(pipeline_readyz(&p) == 503, 30);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 60);
    run_sql(mending);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    /* Set and taken back between two looks: the change of the catalog stays. */
    run_sql(breaking);
    pipeline_set_content(&p, "{\"a\":2}");
    run_sql(mending);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 60);
    ck_assert(pipeline_equal(&p));
}

START_TEST(test_left_out)
{
    if (_i == 0)
        check_left_out("ALTER TABLE headwater.desired REPLICA IDENTITY NOTHING",
                       "ALTER TABLE headwater.desired REPLICA IDENTITY DEFAULT");
    else
        check_left_out("ALTER TABLE headwater.desired SET UNLOGGED",
                       "ALTER TABLE headwater.desired SET LOGGED");
}
END_TEST

static void report(const char *node, const char *agent)
{
    HW_AUTO_FREE char *subject = hw_sprintf(REPORTED "%s", node);
    HW_AUTO_FREE char *value =
        hw_sprintf("{\"node\":\"%s\",\"state\":\"applied\",\"agent\":\"%s\"}", node, agent);

    ck_assert_int_eq(natsConnection_PublishString(p.nc, subject, value), NATS_OK);
}

static bool agent_is(const char *node, const char *agent)
{
    return test_sql_is(&p.pg, agent, "SELECT agent FROM headwater.reported WHERE node = '%s'",
                       node);
}

/* A DBA's trigger is against one node: whatever the SQLSTATE, the others go in. */
START_TEST(test_refused_report)
{
    static const char *const states[] = {"P0001", "23514", "42501", "40001", "XX000"};
    const char *const state = states[_i];

    free(test_sql(&p.pg,
                  "CREATE FUNCTION public.against() RETURNS trigger LANGUAGE plpgsql AS $$"
                  "BEGIN RAISE EXCEPTION 'n3 is ours' USING ERRCODE = '%s'; END $$;"
                  "CREATE TRIGGER against BEFORE INSERT OR UPDATE ON headwater.reported "
                  "FOR EACH ROW WHEN (NEW.node = 'n3') EXECUTE FUNCTION public.against();"
                  "ALTER TABLE headwater.reported ENABLE ALWAYS TRIGGER against",
                  state));
    for (int i = 1; i <= KEYS; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);
        report(node, "first");
    }
    for (int i = 1; i <= KEYS; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);
        if (i != 3)
            test_wait_for(agent_is(node, "first"), 30);
    }
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_reports_set_aside") == 1, 30);
    test_wait_for(pipeline_log_says(&p, "node=n3"), 30);
    ck_assert(pipeline_log_says(&p, "n3 is ours"));
    /* It holds nobody up while it is tried again, and readiness is about the others. */
    report("n1", "second");
    test_wait_for(agent_is("n1", "second"), 10);
    test_wait_for(pipeline_readyz(&p) == 200, 30);
    run_sql("DROP TRIGGER against ON headwater.reported");
    test_wait_for(agent_is("n3", "first"), 60);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_reports_set_aside") == 0, 30);
}
END_TEST

/* Where all are refused, readiness says so, and all go in when that is over. */
START_TEST(test_all_refused)
{
    run_sql("REVOKE EXECUTE ON FUNCTION headwater.report(jsonb) FROM headwater_reconciler");
    for (int i = 1; i <= KEYS; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);
        report(node, "first");
    }
    test_wait_for(pipeline_readyz(&p) == 503, 30);
    run_sql("GRANT EXECUTE ON FUNCTION headwater.report(jsonb) TO headwater_reconciler");
    for (int i = 1; i <= KEYS; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);
        test_wait_for(agent_is(node, "first"), 60);
    }
    test_wait_for(pipeline_readyz(&p) == 200, 30);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("doubt");
    TCase *tcase = tcase_create("doubt");

    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_hidden_rows);
    tcase_add_test(tcase, test_emptied);
    tcase_add_test(tcase, test_deleted_on_purpose);
    tcase_add_loop_test(tcase, test_left_out, 0, 2);
    tcase_add_loop_test(tcase, test_refused_report, 0, 5);
    tcase_add_test(tcase, test_all_refused);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
