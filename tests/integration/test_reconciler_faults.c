/* The reconciler when something goes wrong at the worst moment: named scenarios, real servers. */
#include <libpq-fe.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
}

static void teardown(void)
{
    pipeline_close(&p);
}

static bool object_is_there(const char *digest)
{
    HW_AUTO_FREE char *subject = pipeline_object_subject(digest);
    HW_AUTO_FREE char *value = pipeline_value(&p, "OBJ_headwater", subject);

    return value != NULL;
}

/* A session that keeps a table locked, so that a snapshot waits in it. */
static PGconn *lock_table(const char *table)
{
    HW_AUTO_FREE char *sql = hw_sprintf("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", table);
    PGconn *conn = PQconnectdb(p.pg.url);
    PGresult *result = PQexec(conn, sql);

    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

static bool somebody_waits_for_a_lock(void)
{
    return test_sql_is(&p.pg, "t",
                       "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                       " AND application_name = 'headwater-reconciler: comparison'");
}

/* ---- the scenarios ---- */

/* A blob is streamed once, when its row is made. NATS lost it, and a snapshot had no use for it. */
START_TEST(test_content_of_old_after_nats_was_lost)
{
    pipeline_make_nodes(&p, 1);
    HW_AUTO_FREE char *first = test_sql(&p.pg, "SELECT digest FROM headwater.desired");
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 20);
    pipeline_set_content(&p, "{\"a\":2}");
    pipeline_wait_until_caught_up(&p);
    pipeline_kill_nats(&p);
    test_nats_wipe(&p.nats);
    pipeline_restart_nats(&p);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 30);
    ck_assert(!object_is_there(first));
    pipeline_set_content(&p, "{\"a\":0}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 30);
    ck_assert(object_is_there(first));
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
}
END_TEST

/* What stands in NATS is of a database whose log was further, and nothing says so but its fences.
 */
START_TEST(test_entries_ahead_of_the_database)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 20);
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
    pipeline_put(&p, DESIRED "n1", "{}", "Headwater-Epoch", "1", "Headwater-LSN", "FFFF/0", NULL);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 30);
    pipeline_set_content(&p, "{\"a\":2}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 30);
    pipeline_stop(&p);
}
END_TEST

/* A publish that fails at once, from within the snapshot's own hands. The database refuses what
 * would make such an entry; here its limit is taken away. */
START_TEST(test_entry_too_large_in_a_snapshot)
{
    pipeline_make_nodes(&p, 1);
    free(test_sql(&p.pg,
                  "ALTER TABLE headwater.desired DROP CONSTRAINT desired_sources_limit;"
                  "INSERT INTO headwater.node (name) VALUES ('n2');"
                  "INSERT INTO headwater.assignment (name, config, node)"
                  " SELECT repeat('a', 100) || i, 'c', 'n2' FROM generate_series(1, 9000) i"));
    pipeline_start(&p, NULL);
    /* From the second time on, its object is there and nothing is waited for before it fails. */
    test_wait_for(
        pipeline_times_in_log(&p.reconciler, "publishing to $KV.headwater.cfg.desired.n2") >= 3,
        60);
    ck_assert(test_program_running(&p.reconciler));
    free(test_sql(&p.pg, "DELETE FROM headwater.assignment WHERE name <> 'all'"));
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 30);
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
}
END_TEST

/* A report that is well as far as we can see, and that the database cannot take: neither it alone
 * nor, as long as it is among them, others. */
START_TEST(test_report_that_the_database_cannot_read)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 20);
    free(test_sql(&p.pg,
                  "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                  "RAISE 'no' USING ERRCODE = '22023'; END $$;"
                  "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON headwater.reported DEFERRABLE "
                  "INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.node = 'n0') "
                  "EXECUTE FUNCTION public.refuse()"));
    pipeline_put(&p, REPORTED "n0", "{\"node\":\"n0\",\"state\":\"applied\"}", NULL);
    pipeline_put(&p, REPORTED "n1", "{\"node\":\"n1\",\"state\":\"applied\"}", NULL);
    test_wait_for(
        test_sql_is(&p.pg, "applied", "SELECT state FROM headwater.reported WHERE node = 'n1'"),
        20);
    test_wait_for(pipeline_log_says(&p, "node=n0"), 20);
    pipeline_stop(&p);
}
END_TEST

/* While the database does not take reports, more come than may wait: the rest stays in the bucket.
 */
START_TEST(test_more_reports_than_may_wait)
{
    enum { NODES = 3600, SIZE = 4090 }; /* 44 MB, and 32 MiB may wait */

    pipeline_make_nodes(&p, NODES);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n3600", 0), 60);
    PGconn *lock = lock_table("headwater.reported");
    const long before = test_own_kib(p.reconciler.pid);
    for (int i = 1; i <= NODES; i++) {
        HW_AUTO_FREE char *subject = hw_sprintf(REPORTED "n%d", i);
        HW_AUTO_FREE char *value =
            hw_sprintf("{\"node\":\"n%d\",\"state\":\"applied\",\"held\":{\"reason\":\"%0*d\"},"
                       "\"drift\":{\"error\":\"%0*d\"},\"failed\":{\"stage\":\"apply\",\"error\":"
                       "\"%0*d\",\"at\":\"2026-01-31T12:00:00Z\"}}",
                       i, SIZE, 0, SIZE, 0, SIZE, 0);

        pipeline_put(&p, subject, value, NULL);
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_lt(test_own_kib(p.reconciler.pid) - before, 48 << 10);
#else
    (void)before;
#endif
    PQfinish(lock);
    test_wait_for(test_sql_is(&p.pg, "3600 3600",
                              "SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE state = "
                              "'applied')) FROM headwater.reported"),
                  60);
    pipeline_stop(&p);
}
END_TEST

/* The end of an idle log is confirmed, though it was told while work was under way. */
START_TEST(test_end_of_log_told_while_busy)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 20);
    pipeline_wait_until_caught_up(&p);
    kill(p.nats.pid, SIGSTOP);
    pipeline_set_content(&p, "{\"a\":2}");
    free(test_sql(&p.pg, "CREATE TABLE nobody_streams_this (i int)"));
    HW_AUTO_FREE char *end = test_sql(&p.pg, "SELECT pg_current_wal_lsn()");
    /* Received, which the server is told of once it has read the whole log. */
    test_wait_for(
        test_sql_is(&p.pg, "t", "SELECT max(write_lsn) >= '%s' FROM pg_stat_replication", end), 20);
    kill(p.nats.pid, SIGCONT);
    test_wait_for(test_sql_is(&p.pg, "t",
                              "SELECT confirmed_flush_lsn >= '%s' FROM pg_replication_slots"
                              " WHERE slot_name = 'headwater'",
                              end),
                  60);
    pipeline_stop(&p);
}
END_TEST

/*
 * NATS hangs while far more is committed than the reconciler may hold: the rest stays in the log,
 * and PostgreSQL goes on hearing from it, so that it does not drop the connection.
 */
START_TEST(test_back_pressure)
{
    enum { NODES = 2000, ROUNDS = 20 };

    pipeline_make_nodes(&p, NODES);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n2000", 0), 60);
    pipeline_wait_until_caught_up(&p);
    HW_AUTO_FREE char *start = test_sql(&p.pg, "SELECT pg_current_wal_lsn()");
    const long before = test_own_kib(p.reconciler.pid);

    kill(p.nats.pid, SIGSTOP);
    free(test_sql(&p.pg,
                  "DO $$ BEGIN FOR i IN 1..%d LOOP "
                  "UPDATE headwater.desired SET revision = revision + 1; COMMIT; END LOOP; END $$",
                  ROUNDS));
    /* A later reply, twice, from one that was not connected anew. */
    HW_AUTO_FREE char *pid = test_sql(
        &p.pg, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'headwater'");
    for (int i = 0; i < 2; i++) {
        HW_AUTO_FREE char *last = test_sql(&p.pg, "SELECT now()");

        test_wait_for(test_sql_is(&p.pg, "t",
                                  "SELECT reply_time > '%s' FROM pg_stat_replication "
                                  "WHERE pid = %s",
                                  last, pid),
                      60);
    }
    /* What was sent fills what sockets hold, too: megabytes. */
    ck_assert(test_sql_is(&p.pg, "t",
                          "SELECT pg_current_wal_lsn() - sent_lsn > "
                          "(pg_current_wal_lsn() - '%s') / 4 FROM pg_stat_replication "
                          "WHERE pid = %s",
                          start, pid));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_int_lt(test_own_kib(p.reconciler.pid) - before, 24 << 10);
#else
    (void)before;
#endif
    kill(p.nats.pid, SIGCONT);
    test_wait_for(pipeline_up_to_date(&p, "n2000", 0), 120);
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
}
END_TEST

/* A resync that NATS lost before it was acknowledged is still due. */
START_TEST(test_resync_is_not_forgotten)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 20);
    pipeline_wait_until_caught_up(&p);
    pipeline_put(&p, DESIRED "n1", "garbage", NULL);
    PGconn *lock = lock_table("headwater.desired");
    kill(p.reconciler.pid, SIGUSR1);
    test_wait_for(somebody_waits_for_a_lock(), 20);
    kill(p.nats.pid, SIGSTOP);
    PQfinish(lock);
    pipeline_kill_nats(&p);
    pipeline_restart_nats(&p);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 30);
    pipeline_stop(&p);
}
END_TEST

/* NATS hangs while everything in it is being read. */
START_TEST(test_stops_while_nats_hangs_in_loading)
{
    pipeline_make_nodes(&p, 20000);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n20000", 0), 120);
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
    for (int i = 0; i < 5; i++) {
        pipeline_start(&p, NULL);
        test_wait_for(pipeline_log_says(&p, "leading"), 20);
        kill(p.nats.pid, SIGSTOP);
        pipeline_stop(&p);
        kill(p.nats.pid, SIGCONT);
    }
}
END_TEST

TEST_MAIN_BETWEEN("reconciler faults", 240, setup, teardown,
                  test_content_of_old_after_nats_was_lost, test_entries_ahead_of_the_database,
                  test_entry_too_large_in_a_snapshot, test_report_that_the_database_cannot_read,
                  test_more_reports_than_may_wait, test_end_of_log_told_while_busy,
                  test_back_pressure, test_resync_is_not_forgotten,
                  test_stops_while_nats_hangs_in_loading)
