/*
 * The log that a slot needs is gone: its files were removed by other hands, which the server finds
 * out only when it reads them, or max_slot_wal_keep_size has let go of them. It is named, and all
 * is compared with the database without anybody's doing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

static struct test_pipeline p;

static void end(void)
{
    pipeline_close(&p);
}

static void lead(void)
{
    pipeline_make_nodes(&p, 2);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(test_sql_is(&p.pg, "2", "SELECT count(*) FROM pg_replication_slots"), 60);
}

static char *cdc(const char *command, int status)
{
    char *output = NULL;
    const char *const argv[] = {"headwater-cdc", command, "--database", p.pg.reconciler_url, NULL};

    ck_assert_msg(test_program_run(argv, NULL, NULL, &output) == status, "%s", output);
    return output;
}

static void switch_files(int count)
{
    for (int i = 0; i < count; i++) {
        free(test_sql(&p.pg, "SELECT pg_logical_emit_message(true, 'other', 'x')"));
        free(test_sql(&p.pg, "SELECT pg_switch_wal()"));
    }
}

/* Removes the files of the log before the one that is written now, while the server is stopped. */
static void remove_files(void)
{
    HW_AUTO_FREE char *last = test_sql(&p.pg, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    HW_AUTO_FREE char *script = hw_sprintf(
        "cd '%s/data/pg_wal' && for f in 0*; do [ \"$f\" \\< %s ] && rm \"$f\"; done; true",
        p.pg.dir, last);

    free(test_sql(&p.pg, "CHECKPOINT"));
    test_postgres_stop(&p.pg);
    ck_assert_int_eq(test_program_run((const char *[]){"sh", "-c", script, NULL}, NULL, NULL, NULL),
                     0);
    test_postgres_restart(&p.pg);
}

static void check_healed(void)
{
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 60);
    pipeline_set_content(&p, "{\"a\":\"after\"}");
    test_wait_for(pipeline_up_to_date(&p, "n2", 1), 30);
    ck_assert(pipeline_equal(&p));
    ck_assert(!pipeline_log_says(&p, "plug-in"));
    ck_assert_int_le(pipeline_times_in_log(&p.reconciler, "cannot go on"), 2);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    /* The archive is there again, and of use. */
    test_wait_for(test_sql_is(&p.pg, "2",
                              "SELECT count(*) FROM pg_replication_slots "
                              "WHERE wal_status = 'reserved'"),
                  60);
    HW_AUTO_FREE char *preflight = cdc("preflight", 0);
    if (strstr(preflight, "warn") != NULL)
        test_print_tail(p.reconciler.log);
    ck_assert_msg(strstr(preflight, "warn") == NULL, "%s", preflight);
    pipeline_stop(&p);
}

START_TEST(test_files_are_removed)
{
    pipeline_open(&p, NULL);
    lead();
    pipeline_stop(&p);
    switch_files(2);
    pipeline_set_content(&p, "{\"a\":\"meanwhile\"}"); /* in a file that will be gone */
    switch_files(2);
    remove_files();
    ck_assert(test_sql_is(&p.pg, "0",
                          "SELECT count(*) FROM pg_replication_slots "
                          "WHERE wal_status = 'lost'"));
    HW_AUTO_FREE char *preflight = cdc("preflight", 1);
    ck_assert_msg(strstr(preflight, "was removed from pg_wal") != NULL, "%s", preflight);
    ck_assert_msg(strstr(preflight, "headwater_archive has lost its WAL") != NULL, "%s", preflight);
    HW_AUTO_FREE char *status = cdc("status", 1);
    ck_assert_msg(strstr(status, "WAL        removed") != NULL, "%s", status);
    ck_assert_msg(strstr(status, "headwater_archive, removed") != NULL, "%s", status);
    check_healed();
    ck_assert(pipeline_log_says(&p, "log that it still needs was removed from pg_wal"));
}
END_TEST

/* The slot was dropped by somebody who read the log, and the archive slot was kept: it seems to
 * reach back, and does not. */
START_TEST(test_archive_without_its_files)
{
    pipeline_open(&p, NULL);
    lead();
    pipeline_stop(&p);
    switch_files(2);
    pipeline_set_content(&p, "{\"a\":\"meanwhile\"}");
    switch_files(2);
    remove_files();
    free(test_sql(&p.pg, "SELECT pg_drop_replication_slot('headwater')"));
    check_healed();
    ck_assert(pipeline_log_says(&p, "the archive slot is lost"));
}
END_TEST

START_TEST(test_server_let_go)
{
    pipeline_open(&p, "max_slot_wal_keep_size = 32MB\nmin_wal_size = 32MB\nmax_wal_size = 64MB");
    lead();
    pipeline_stop(&p);
    pipeline_set_content(&p, "{\"a\":\"meanwhile\"}");
    switch_files(6);
    free(test_sql(&p.pg, "CHECKPOINT"));
    test_wait_for(test_sql_is(&p.pg, "2",
                              "SELECT count(*) FROM pg_replication_slots "
                              "WHERE wal_status = 'lost'"),
                  30);
    HW_AUTO_FREE char *preflight = cdc("preflight", 1);
    ck_assert_msg(strstr(preflight, "max_slot_wal_keep_size") != NULL, "%s", preflight);
    check_healed();
}
END_TEST

TEST_MAIN_BETWEEN("a log that was removed", 240, NULL, end, test_files_are_removed,
                  test_archive_without_its_files, test_server_let_go)
