/* The reconciler when something goes wrong at the worst moment: named scenarios, real servers. */
#include <libpq-fe.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/lsn.h"
#include "common/memory.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_nats nats;
static struct test_program reconciler;
static natsConnection *nc;
static jsCtx *js;

static void start_reconciler(void)
{
    const char *const argv[] = {
        "headwater-reconciler", "--database", pg.reconciler_url, "--nats", nats.url, NULL};

    test_program_start(&reconciler, argv, NULL);
}

static void stop_reconciler(void)
{
    const int status = test_program_stop(&reconciler, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status %#x, see %s", status,
                  reconciler.log);
}

static void connect_nats(void)
{
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, nats.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
}

static void disconnect_nats(void)
{
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

static void setup(void)
{
    test_postgres_start(&pg, true, NULL);
    test_nats_start(&nats);
    connect_nats();
}

static void teardown(void)
{
    disconnect_nats();
    test_nats_remove(&nats);
    test_postgres_remove(&pg);
}

/* ---- looking ---- */

static natsMsg *last_message(const char *stream, const char *subject)
{
    jsDirectGetMsgOptions options;
    natsMsg *msg = NULL;

    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = subject;
    return js_DirectGetMsg(&msg, js, stream, NULL, &options) == NATS_OK ? msg : NULL;
}

/* Does the key of node stand at what the database desires now, fenced with epoch? 0: any epoch. */
static bool up_to_date(const char *node, int epoch)
{
    HW_AUTO_FREE char *digest =
        test_sql(&pg, "SELECT digest FROM headwater.desired WHERE node = '%s'", node);
    HW_AUTO_FREE char *subject = hw_sprintf("$KV.headwater.cfg.desired.%s", node);
    natsMsg *msg = last_message("KV_headwater", subject);
    const char *header = "";
    bool same;

    if (msg == NULL)
        return false;
    HW_AUTO_FREE char *value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    same = digest != NULL && strstr(value, digest) != NULL &&
           natsMsgHeader_Get(msg, "Headwater-Epoch", &header) == NATS_OK &&
           (epoch == 0 || (int)strtol(header, NULL, 10) == epoch);
    natsMsg_Destroy(msg);
    return same;
}

static bool object_is_there(const char *digest)
{
    const char *hex = digest + strlen("sha256:");
    HW_AUTO_FREE char *name = hw_base64url_encode(hex, strlen(hex));
    HW_AUTO_FREE char *subject = hw_sprintf("$O.headwater.M.%s", name);
    natsMsg *msg = last_message("OBJ_headwater", subject);

    natsMsg_Destroy(msg);
    return msg != NULL;
}

static int times_in_log(const char *text)
{
    char *log = NULL;
    size_t len = 0;
    int times = 0;

    if (hw_file_read(reconciler.log, 64 << 20, &log, &len, NULL) != HW_OK)
        return 0;
    for (const char *p = log; (p = strstr(p, text)) != NULL; p += strlen(text))
        times++;
    free(log);
    return times;
}

static bool log_says(const char *text)
{
    return times_in_log(text) > 0;
}

static hw_lsn sql_lsn(const char *sql)
{
    HW_AUTO_FREE char *text = test_sql(&pg, "%s", sql);
    hw_lsn lsn = 0;

    ck_assert_int_eq(hw_lsn_parse(text, &lsn, NULL), HW_OK);
    return lsn;
}

static bool confirmed(hw_lsn lsn)
{
    return sql_lsn("SELECT coalesce(max(confirmed_flush_lsn), '0/0')::text"
                   " FROM pg_replication_slots WHERE slot_name = 'headwater'") >= lsn;
}

static void wait_until_caught_up(void)
{
    const hw_lsn lsn = sql_lsn("SELECT pg_current_wal_lsn()::text");

    test_wait_for(confirmed(lsn), 60);
}

/* ---- making things happen ---- */

static void one_node(const char *content)
{
    free(test_sql(&pg,
                  "INSERT INTO headwater.node (name) VALUES ('n1');"
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '%s');"
                  "INSERT INTO headwater.assignment (name, config, node) VALUES ('a', 'c', 'n1')",
                  content));
}

static void set_content(const char *content)
{
    free(test_sql(&pg, "UPDATE headwater.config SET content = '%s' WHERE name = 'c'", content));
}

static void put_key(const char *subject, const char *value)
{
    ck_assert_int_eq(js_Publish(NULL, js, subject, value, (int)strlen(value), NULL, NULL), NATS_OK);
}

/* A session that keeps a table locked, so that a snapshot waits in it. */
static PGconn *lock_table(const char *table)
{
    HW_AUTO_FREE char *sql = hw_sprintf("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", table);
    PGconn *conn = PQconnectdb(pg.url);
    PGresult *result = PQexec(conn, sql);

    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

static bool somebody_waits_for_a_lock(void)
{
    HW_AUTO_FREE char *waiting =
        test_sql(&pg, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                      " AND application_name = 'headwater-reconciler: audit'");

    return strcmp(waiting, "0") != 0;
}

/* ---- the scenarios ---- */

/* A blob is streamed once, when its row is made. NATS lost it, and a snapshot had no use for it. */
START_TEST(test_content_of_old_after_nats_was_lost)
{
    one_node("{\"a\":1}");
    HW_AUTO_FREE char *first = test_sql(&pg, "SELECT digest FROM headwater.desired");
    start_reconciler();
    test_wait_for(up_to_date("n1", 0), 20);
    set_content("{\"a\":2}");
    wait_until_caught_up();
    disconnect_nats();
    test_nats_kill(&nats);
    test_nats_wipe(&nats);
    test_nats_restart(&nats);
    connect_nats();
    test_wait_for(up_to_date("n1", 0), 30);
    ck_assert(!object_is_there(first));
    set_content("{\"a\":1}");
    test_wait_for(up_to_date("n1", 0), 30);
    ck_assert(object_is_there(first));
    wait_until_caught_up();
    stop_reconciler();
}
END_TEST

/* What stands in NATS is of a database whose log was further, and nothing says so but its fences.
 */
START_TEST(test_entries_ahead_of_the_database)
{
    natsMsg *msg = NULL;

    one_node("{\"a\":1}");
    start_reconciler();
    test_wait_for(up_to_date("n1", 1), 20);
    wait_until_caught_up();
    stop_reconciler();
    ck_assert_int_eq(natsMsg_Create(&msg, "$KV.headwater.cfg.desired.n1", NULL, "{}", 2), NATS_OK);
    natsMsgHeader_Set(msg, "Headwater-Epoch", "1");
    natsMsgHeader_Set(msg, "Headwater-LSN", "FFFF/0");
    ck_assert_int_eq(js_PublishMsg(NULL, js, msg, NULL, NULL), NATS_OK);
    natsMsg_Destroy(msg);
    start_reconciler();
    test_wait_for(up_to_date("n1", 2), 30);
    set_content("{\"a\":2}");
    test_wait_for(up_to_date("n1", 2), 30);
    stop_reconciler();
}
END_TEST

/* A publish that fails at once, from within the snapshot's own hands. The database refuses what
 * would make such an entry; here its limit is taken away. */
START_TEST(test_entry_too_large_in_a_snapshot)
{
    one_node("{\"a\":1}");
    free(test_sql(&pg, "ALTER TABLE headwater.desired DROP CONSTRAINT desired_sources_limit;"
                       "INSERT INTO headwater.node (name) VALUES ('n2');"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " SELECT repeat('a', 100) || i, 'c', 'n2' FROM generate_series(1, 9000) i"));
    start_reconciler();
    /* From the second time on, its object is there and nothing is waited for before it fails. */
    test_wait_for(times_in_log("publishing to $KV.headwater.cfg.desired.n2") >= 3, 30);
    ck_assert(test_program_running(&reconciler));
    free(test_sql(&pg, "DELETE FROM headwater.assignment WHERE name <> 'a'"));
    test_wait_for(up_to_date("n1", 0), 30);
    wait_until_caught_up();
    stop_reconciler();
}
END_TEST

/* A report that is JSON to us and not to the database. */
START_TEST(test_report_that_the_database_cannot_read)
{
    one_node("{\"a\":1}");
    start_reconciler();
    test_wait_for(up_to_date("n1", 0), 20);
    put_key("$KV.headwater_reports.cfg.reported.n0",
            "{\"node\":\"n0\",\"state\":\"applied\",\"x\":1e-99999}");
    put_key("$KV.headwater_reports.cfg.reported.n1", "{\"node\":\"n1\",\"state\":\"applied\"}");
    HW_AUTO_FREE char *state = NULL;
    test_wait_for((free(state), state = test_sql(&pg, "SELECT state FROM headwater.reported"
                                                      " WHERE node = 'n1'")) != NULL,
                  20);
    test_wait_for(log_says("node=n0"), 20);
    stop_reconciler();
}
END_TEST

/* The end of an idle log is confirmed, though it was told while work was under way. */
START_TEST(test_end_of_log_told_while_busy)
{
    one_node("{\"a\":1}");
    start_reconciler();
    test_wait_for(up_to_date("n1", 0), 20);
    wait_until_caught_up();
    kill(nats.pid, SIGSTOP);
    set_content("{\"a\":2}");
    free(test_sql(&pg, "CREATE TABLE nobody_streams_this (i int)"));
    const hw_lsn end = sql_lsn("SELECT pg_current_wal_lsn()::text");
    /* Received, which the server is told of once it has read the whole log. */
    HW_AUTO_FREE char *sent = hw_sprintf("SELECT coalesce(max(write_lsn), '0/0')::text"
                                         " FROM pg_stat_replication");
    test_wait_for(sql_lsn(sent) >= end, 20);
    kill(nats.pid, SIGCONT);
    test_wait_for(confirmed(end), 10);
    stop_reconciler();
}
END_TEST

/* A resync that NATS lost before it was acknowledged is still due. */
START_TEST(test_resync_is_not_forgotten)
{
    one_node("{\"a\":1}");
    start_reconciler();
    test_wait_for(up_to_date("n1", 0), 20);
    wait_until_caught_up();
    put_key("$KV.headwater.cfg.desired.n1", "garbage");
    PGconn *lock = lock_table("headwater.desired");
    kill(reconciler.pid, SIGUSR1);
    test_wait_for(somebody_waits_for_a_lock(), 20);
    kill(nats.pid, SIGSTOP);
    PQfinish(lock);
    disconnect_nats();
    test_nats_kill(&nats);
    test_nats_restart(&nats);
    connect_nats();
    test_wait_for(up_to_date("n1", 0), 30);
    stop_reconciler();
}
END_TEST

/* NATS hangs while everything in it is being read. */
START_TEST(test_stops_while_nats_hangs_in_loading)
{
    one_node("{\"a\":1}");
    free(test_sql(&pg, "INSERT INTO headwater.node (name)"
                       " SELECT 'x' || i FROM generate_series(1, 20000) i;"
                       "INSERT INTO headwater.assignment (name, config, selector)"
                       " VALUES ('all', 'c', '{}')"));
    start_reconciler();
    test_wait_for(up_to_date("x20000", 0), 60);
    wait_until_caught_up();
    stop_reconciler();
    for (int i = 0; i < 5; i++) {
        start_reconciler();
        test_wait_for(log_says("leading"), 20);
        kill(nats.pid, SIGSTOP);
        stop_reconciler();
        kill(nats.pid, SIGCONT);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_content_of_old_after_nats_was_lost, test_entries_ahead_of_the_database,
        test_entry_too_large_in_a_snapshot,      test_report_that_the_database_cannot_read,
        test_end_of_log_told_while_busy,         test_resync_is_not_forgotten,
        test_stops_while_nats_hangs_in_loading,
    };
    Suite *suite = suite_create("reconciler faults");

    /* A case each: CK_RUN_CASE picks one. */
    for (size_t i = 0; i < HW_COUNT(tests); i++) {
        TCase *tcase = tcase_create(tests[i]->name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 240);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
    return test_suite_finish(suite);
}
