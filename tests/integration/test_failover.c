/*
 * PostgreSQL 17's failover slots: a standby keeps copies of the slot and of its archive, holds
 * delivery back where it is told to and is away, and after its promotion the same slot goes on.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cdc/slot.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/standby.h"
#include "tests/support/suite.h"

static struct test_pipeline p;
static struct test_postgres standby;
static char both[512];

static bool readyz_says(const char *text)
{
    struct test_answer answer = test_http(p.monitor, "GET", "/readyz", NULL, NULL, 0);
    const bool is = answer.status == 503 && strstr(answer.body, text) != NULL;

    test_answer_free(&answer);
    return is;
}

static void set_standby_slots(const char *slots)
{
    free(test_sql(&p.pg, "ALTER SYSTEM SET synchronized_standby_slots = '%s'", slots));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
}

static void lead(void)
{
    pipeline_make_nodes(&p, 1);
    /* A standby takes a copy of a slot that moves: the archive slot does so when it is old enough.
     */
    pipeline_start(&p, (const char *[]){"--database", both, "--archive-time", "5s", NULL});
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
}

START_TEST(test_failover)
{
    static const char ready[] = "SELECT count(*) FROM pg_replication_slots WHERE failover AND "
                                "synced AND NOT temporary AND invalidation_reason IS NULL";

    pipeline_open(&p, NULL);
    test_standby_start(&p.pg, "standby1", "hot_standby_feedback = on\nsync_replication_slots = on",
                       &standby);
    snprintf(both, sizeof(both),
             "postgresql://headwater_reconciler@127.0.0.1:%d,127.0.0.1:%d/headwater", p.pg.port,
             standby.port);
    lead();
    test_wait_for(test_sql_is(&p.pg, "2",
                              "SELECT count(*) FROM pg_replication_slots "
                              "WHERE failover"),
                  60);
    pipeline_set_content(&p, "{\"a\":\"first\"}");
    test_wait_for(test_sql_is(&standby, "2", ready), 120);

    /* The standby is away, and its slot is waited for. */
    set_standby_slots("standby1");
    pipeline_set_content(&p, "{\"a\":\"with it\"}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 60);
    test_postgres_stop(&standby);
    pipeline_set_content(&p, "{\"a\":\"without it\"}");
    test_wait_for(readyz_says("synchronized_standby_slots"), 60);
    ck_assert(!pipeline_up_to_date(&p, "n1", 1));
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_lag_seconds") > 1, 30);
    char *status = NULL;
    (void)test_program_run(
        (const char *[]){"headwater-cdc", "status", "--database", p.pg.reconciler_url, NULL}, NULL,
        NULL, &status);
    ck_assert_msg(strstr(status, "standby1 (nobody streams from it)") != NULL, "%s", status);
    free(status);
    test_postgres_restart(&standby);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 60);

    /* It is promoted, and the slots are there. */
    HW_AUTO_FREE char *confirmed =
        test_sql(&p.pg, "SELECT confirmed_flush_lsn FROM pg_replication_slots "
                        "WHERE slot_name = 'headwater'");
    test_standby_wait(&p.pg, &standby);
    test_wait_for(test_sql_is(&standby, "t",
                              "SELECT confirmed_flush_lsn >= '%s' FROM "
                              "pg_replication_slots WHERE slot_name = 'headwater'",
                              confirmed),
                  120);
    test_postgres_kill(&p.pg);
    test_standby_promote(&standby);
    struct test_postgres old = p.pg;
    p.pg = standby;
    pipeline_set_content(&p, "{\"a\":\"of the new one\"}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    ck_assert(!pipeline_log_says(&p, "the replication slot is lost"));
    ck_assert(!pipeline_log_says(&p, "the archive slot is lost"));
    pipeline_stop(&p);
    ck_assert(pipeline_equal(&p));
    pipeline_close(&p);
    test_postgres_remove(&old);
}
END_TEST

/* Slots that an older program made become such that standbys keep. */
START_TEST(test_slots_of_old)
{
    pipeline_open(&p, NULL);
    snprintf(both, sizeof(both), "%s", p.pg.reconciler_url);
    free(test_sql(&p.pg, "SELECT pg_create_logical_replication_slot('headwater', 'wal2json')"));
    lead();
    test_wait_for(test_sql_is(&p.pg, "2",
                              "SELECT count(*) FROM pg_replication_slots "
                              "WHERE failover"),
                  60);
    pipeline_stop(&p);
    pipeline_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("failover slots");
    TCase *tcase = tcase_create("failover");
    const int version = test_postgres_version();

    if (version < CDC_KNOWS_FAILOVER / 10000) {
        printf("PostgreSQL %d has no failover slots\n", version);
        return 77;
    }
    tcase_set_timeout(tcase, 400);
    tcase_add_test(tcase, test_failover);
    tcase_add_test(tcase, test_slots_of_old);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
