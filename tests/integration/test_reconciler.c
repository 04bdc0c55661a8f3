/* The reconciler against real servers: what is committed reaches NATS, each exactly once. */
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/kv.h"
#include "common/memory.h"
#include "common/objstore.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_nats nats;
static struct test_program reconciler;
static natsConnection *nc;
static jsCtx *js;

static void start_reconciler(struct test_program *p)
{
    const char *const argv[] = {"headwater-reconciler",
                                "--database",
                                pg.reconciler_url,
                                "--nats",
                                nats.url,
                                "--history",
                                "64",
                                NULL};

    test_program_start(p, argv, NULL);
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
    js = NULL;
    nc = NULL;
}

static void stop_reconciler(struct test_program *p)
{
    const int status = test_program_stop(p, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status %#x, see %s", status,
                  p->log);
}

static void teardown(void)
{
    stop_reconciler(&reconciler);
    disconnect_nats();
    test_nats_remove(&nats);
    test_postgres_remove(&pg);
}

/* ---- looking at NATS with the library alone ---- */

/* By direct get: nats-server 2.9 crashes when a message is asked for through the JetStream API in
 * the moment in which its stream is being made. */
static natsMsg *last_message(const char *stream, const char *subject)
{
    jsDirectGetMsgOptions options;
    natsMsg *msg = NULL;

    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = subject;
    return js_DirectGetMsg(&msg, js, stream, NULL, &options) == NATS_OK ? msg : NULL;
}

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;

    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : "";
}

static uint64_t last_seq(const char *stream)
{
    jsStreamInfo *info = NULL;
    uint64_t seq;

    if (js_GetStreamInfo(&info, js, stream, NULL, NULL) != NATS_OK)
        return 0;
    seq = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return seq;
}

static void setup(void)
{
    test_postgres_start(&pg, true, NULL);
    test_nats_start(&nats);
    start_reconciler(&reconciler);
    connect_nats();
    test_wait_for(last_seq("KV_headwater") > 0, 20); /* the first checkpoint: it streams */
}

static bool has_digest(const char *node, const char *digest)
{
    char subject[200];
    natsMsg *msg;
    bool found;

    snprintf(subject, sizeof(subject), "$KV.headwater.cfg.desired.%s", node);
    msg = last_message("KV_headwater", subject);
    if (msg == NULL)
        return false;
    HW_AUTO_FREE char *value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    found = digest == NULL ? strcmp(header(msg, "KV-Operation"), "DEL") == 0
                           : strstr(value, digest) != NULL;
    natsMsg_Destroy(msg);
    return found;
}

static hw_lsn sql_lsn(const char *sql)
{
    HW_AUTO_FREE char *text = test_sql(&pg, "%s", sql);
    hw_lsn lsn = 0;

    ck_assert_int_eq(hw_lsn_parse(text, &lsn, NULL), HW_OK);
    return lsn;
}

/* True when everything committed by now is confirmed to the slot, so in NATS and acknowledged. */
static bool caught_up_with(hw_lsn lsn)
{
    HW_AUTO_FREE char *text = test_sql(
        &pg, "SELECT coalesce(max(confirmed_flush_lsn), '0/0')::text FROM pg_replication_slots"
             " WHERE slot_name = 'headwater'");
    hw_lsn confirmed = 0;

    ck_assert_int_eq(hw_lsn_parse(text, &confirmed, NULL), HW_OK);
    return confirmed >= lsn;
}

static void wait_until_caught_up(void)
{
    const hw_lsn lsn = sql_lsn("SELECT pg_current_wal_lsn()::text");

    test_wait_for(caught_up_with(lsn), 60);
}

/* ---- the tests ---- */

START_TEST(test_one_transaction_one_fence)
{
    char fence[32] = "";
    uint64_t before;
    int revisions = 0;

    free(test_sql(&pg, "INSERT INTO headwater.node (name)"
                       " SELECT 'n' || i FROM generate_series(1, 1000) i;"
                       "INSERT INTO headwater.config (name, content) VALUES ('base', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, selector)"
                       " VALUES ('all', 'base', '{}')"));
    wait_until_caught_up();
    before = last_seq("KV_headwater");
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}' WHERE name = 'base'"));
    wait_until_caught_up();
    const uint64_t after = last_seq("KV_headwater");
    for (uint64_t seq = before + 1; seq <= after; seq++) {
        natsMsg *msg = NULL;

        ck_assert_int_eq(js_GetMsg(&msg, js, "KV_headwater", seq, NULL, NULL), NATS_OK);
        if (strncmp(natsMsg_GetSubject(msg), "$KV.headwater.cfg.desired.", 26) == 0) {
            if (fence[0] == '\0')
                snprintf(fence, sizeof(fence), "%s", header(msg, "Headwater-LSN"));
            ck_assert_str_eq(header(msg, "Headwater-LSN"), fence);
            ck_assert_str_eq(header(msg, "Headwater-Epoch"), "1");
            revisions++;
        }
        natsMsg_Destroy(msg);
    }
    ck_assert_int_eq(revisions, 1000);

    /* What changes nothing creates nothing. */
    free(test_sql(&pg, "UPDATE headwater.config SET content = content"));
    free(test_sql(&pg, "BEGIN; UPDATE headwater.config SET content = '{\"a\":3}'; ROLLBACK"));
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":4}' WHERE name = 'none'"));
    wait_until_caught_up();
    for (uint64_t seq = after + 1; seq <= last_seq("KV_headwater"); seq++) {
        natsMsg *msg = NULL;

        ck_assert_int_eq(js_GetMsg(&msg, js, "KV_headwater", seq, NULL, NULL), NATS_OK);
        ck_assert_str_eq(natsMsg_GetSubject(msg), "$KV.headwater.cfg.checkpoint");
        natsMsg_Destroy(msg);
    }

    /* A node without assignments has a delete marker with the fence. */
    free(test_sql(&pg, "DELETE FROM headwater.node WHERE name = 'n7'"));
    wait_until_caught_up();
    ck_assert(has_digest("n7", NULL));
    natsMsg *msg = last_message("KV_headwater", "$KV.headwater.cfg.desired.n7");
    ck_assert_str_ne(header(msg, "Headwater-LSN"), "");
    natsMsg_Destroy(msg);
}
END_TEST

static void on_up(void *arg)
{
    *(bool *)arg = true;
}

START_TEST(test_objects_of_every_size)
{
    static const struct {
        const char *name, *sql; /* of config and content */
    } cases[] = {
        {"empty", "'', 'utf-8'"},
        {"one", "'x', 'utf-8'"},
        {"below", "repeat('b', 131071), 'utf-8'"},
        {"chunk", "repeat('c', 131072), 'utf-8'"},
        {"above", "repeat('d', 131073), 'utf-8'"},
        {"text16m", "repeat('0123456789abcdef', 1048576), 'utf-8'"},
        {"one-bin", "encode('\\x00', 'base64'), 'base64'"},
        {"chunk-bin", "encode(decode(repeat('00ff', 65536), 'hex'), 'base64'), 'base64'"},
        {"bin16m", "encode(decode(repeat('00fffe0a', 4194304), 'hex'), 'base64'), 'base64'"},
    };
    const struct hw_nats_options options = {.url = nats.url};
    struct hw_nats *ours = NULL;
    struct hw_loop *loop = NULL;
    struct hw_error err;
    bool up = false;

    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    const struct hw_nats_events events = {.up = on_up, .arg = &up};
    ck_assert_int_eq(hw_nats_open(loop, &options, &events, &ours, &err), HW_OK);
    ck_assert(hw_loop_run_until(loop, &up, 10000));
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        free(test_sql(&pg,
                      "BEGIN; INSERT INTO headwater.node (name) VALUES ('%s');"
                      "INSERT INTO headwater.config (name, content, encoding, media_type)"
                      " VALUES ('%s', %s, 'application/octet-stream');"
                      "INSERT INTO headwater.assignment (name, config, node)"
                      " VALUES ('%s', '%s', '%s'); COMMIT",
                      cases[i].name, cases[i].name, cases[i].sql, cases[i].name, cases[i].name,
                      cases[i].name));
    }
    wait_until_caught_up();
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        unsigned char *data = NULL;
        struct hw_digest digest;
        char text[HW_DIGEST_STR_MAX];
        size_t size = 0;
        HW_AUTO_FREE char *expected =
            test_sql(&pg, "SELECT digest FROM headwater.desired WHERE node = '%s'", cases[i].name);
        HW_AUTO_FREE char *expected_size = test_sql(
            &pg, "SELECT size::text FROM headwater.desired WHERE node = '%s'", cases[i].name);

        ck_assert_msg(has_digest(cases[i].name, expected), "%s", cases[i].name);
        ck_assert_msg(hw_obj_get(ours, "headwater", expected + 7, 16 << 20, &data, &size, NULL,
                                 &err) == HW_OK,
                      "%s: %s", cases[i].name, err.message);
        ck_assert_uint_eq(size, strtoull(expected_size, NULL, 10));
        hw_digest_of(data, size, &digest);
        ck_assert_str_eq(hw_digest_format(&digest, text), expected);
        free(data);
    }
    hw_nats_close(ours);
    hw_loop_free(loop);
}
END_TEST

/*
 * The history of every key, read from NATS, is the history of its node, read from SQL: each
 * revision once, in order, with fences that only grow.
 */
static void check_histories(void)
{
    const uint64_t last = last_seq("KV_headwater");
    HW_AUTO_FREE char *expected =
        test_sql(&pg, "SELECT count(*)::text FROM headwater.desired_history");
    long found = 0;

    for (uint64_t seq = 1; seq <= last; seq++) {
        natsMsg *msg = NULL;

        if (js_GetMsg(&msg, js, "KV_headwater", seq, NULL, NULL) != NATS_OK)
            continue; /* checkpoints beyond their history */
        const char *subject = natsMsg_GetSubject(msg);
        if (strncmp(subject, "$KV.headwater.cfg.desired.", 26) == 0) {
            HW_AUTO_FREE char *value =
                hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));

            /* A delete marker has no value: its revision and digest are null. */
            free(test_sql(&pg,
                          "INSERT INTO seen SELECT %llu, '%s', (v->>'revision')::bigint,"
                          " v->>'digest', '%s', %s FROM (SELECT nullif('%s', '')::jsonb) AS t (v)",
                          (unsigned long long)seq, subject + 26, header(msg, "Headwater-LSN"),
                          header(msg, "Headwater-Epoch"), value));
            found++;
        }
        natsMsg_Destroy(msg);
    }
    ck_assert_int_eq(found, strtol(expected, NULL, 10));
    HW_AUTO_FREE char *wrong = test_sql(
        &pg, "WITH k AS (SELECT node, revision, digest,"
             "                  row_number() OVER (PARTITION BY node ORDER BY seq) AS n FROM seen),"
             "     h AS (SELECT node, revision, digest,"
             "                  row_number() OVER (PARTITION BY node ORDER BY id) AS n"
             "           FROM headwater.desired_history)"
             " SELECT count(*)::text FROM k FULL JOIN h USING (node, n)"
             " WHERE k.digest IS DISTINCT FROM h.digest"
             "    OR (h.digest IS NOT NULL AND k.revision IS DISTINCT FROM h.revision)");
    ck_assert_str_eq(wrong, "0");
    HW_AUTO_FREE char *backwards = test_sql(
        &pg, "SELECT count(*)::text FROM (SELECT (epoch, lsn) <= lag((epoch, lsn))"
             "  OVER (PARTITION BY node ORDER BY seq) AS older FROM seen) AS s WHERE older");
    ck_assert_str_eq(backwards, "0");
}

START_TEST(test_exactly_once_under_kill)
{
    free(test_sql(&pg, "CREATE TABLE seen (seq bigint, node text, revision bigint, digest text,"
                       " lsn pg_lsn, epoch bigint);"
                       "INSERT INTO headwater.node (name)"
                       " SELECT 'n' || i FROM generate_series(1, 40) i;"
                       "INSERT INTO headwater.config (name, content)"
                       " SELECT 'c' || i, '{\"a\":0}' FROM generate_series(1, 40) i;"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " SELECT 'a' || i, 'c' || i, 'n' || i FROM generate_series(1, 40) i"));
    wait_until_caught_up();
    for (int round = 1; round <= 12; round++) {
        char sql[2000];

        /* Many small transactions, one over all nodes, and now and then a node comes and goes. */
        snprintf(sql, sizeof(sql),
                 "DO $$ BEGIN FOR i IN 1..40 LOOP"
                 "  UPDATE headwater.config SET content = format('{\"r\":%d,\"i\":%%s}', i)"
                 "   WHERE name = 'c' || i; COMMIT; END LOOP; END $$",
                 round);
        free(test_sql(&pg, "%s", sql));
        free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"all\":%d}'", round));
        free(test_sql(&pg, "DELETE FROM headwater.assignment WHERE name = 'a%d'", round));
        free(test_sql(&pg,
                      "INSERT INTO headwater.assignment (name, config, node)"
                      " VALUES ('a%d', 'c%d', 'n%d')",
                      round, round, round));
        usleep((useconds_t)(random() % 20000));
        const int signo = round % 3 == 0 ? SIGTERM : SIGKILL;
        test_program_stop(&reconciler, signo);
        if (round % 4 == 0) {
            disconnect_nats();
            test_nats_kill(&nats);
            test_nats_restart(&nats);
            connect_nats();
        }
        start_reconciler(&reconciler);
    }
    wait_until_caught_up();
    check_histories();
}
END_TEST

START_TEST(test_standby_takes_over)
{
    struct test_program standby;

    start_reconciler(&standby);
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " VALUES ('a', 'c', 'n1')"));
    wait_until_caught_up();
    ck_assert(test_program_running(&standby));
    test_program_stop(&reconciler, SIGKILL);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}'"));
    wait_until_caught_up();
    HW_AUTO_FREE char *digest = test_sql(&pg, "SELECT digest FROM headwater.desired");
    ck_assert(has_digest("n1", digest));
    stop_reconciler(&standby);
    start_reconciler(&reconciler);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":3}'"));
    wait_until_caught_up();
}
END_TEST

static void put_key(const char *subject, const char *value)
{
    ck_assert_int_eq(js_Publish(NULL, js, subject, value, (int)strlen(value), NULL, NULL), NATS_OK);
}

START_TEST(test_servers_come_and_go)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1'), ('n2');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, selector)"
                       " VALUES ('a', 'c', '{}')"));
    wait_until_caught_up();

    /* NATS away while a change is committed, then back. */
    test_nats_stop(&nats);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}'"));
    test_nats_restart(&nats);
    wait_until_caught_up();

    /* NATS comes back with nothing. */
    disconnect_nats();
    test_nats_kill(&nats);
    test_nats_wipe(&nats);
    test_nats_restart(&nats);
    connect_nats();
    HW_AUTO_FREE char *second = test_sql(&pg, "SELECT min(digest) FROM headwater.desired");
    test_wait_for(has_digest("n1", second) && has_digest("n2", second), 30);

    /* PostgreSQL crashes and comes back. */
    test_postgres_kill(&pg);
    test_postgres_restart(&pg);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":3}'"));
    wait_until_caught_up();
    HW_AUTO_FREE char *third = test_sql(&pg, "SELECT min(digest) FROM headwater.desired");
    ck_assert(has_digest("n1", third) && has_digest("n2", third));

    /* A fast shutdown does not wait for ever, even while NATS is away. */
    test_nats_stop(&nats);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":4}'"));
    test_postgres_restart(&pg);
    test_nats_restart(&nats);
    wait_until_caught_up();
    ck_assert(test_program_running(&reconciler));
}
END_TEST

START_TEST(test_what_others_wrote)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1'), ('n2');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, selector)"
                       " VALUES ('a', 'c', '{}')"));
    wait_until_caught_up();

    /* A key that someone else wrote is written over by the next change. */
    put_key("$KV.headwater.cfg.desired.n1", "garbage");
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}'"));
    wait_until_caught_up();
    HW_AUTO_FREE char *second = test_sql(&pg, "SELECT min(digest) FROM headwater.desired");
    ck_assert(has_digest("n1", second) && has_digest("n2", second));

    /* … and by a resync, with keys that belong to no node and keys that are gone. */
    put_key("$KV.headwater.cfg.desired.n1", "{\"node\":\"n1\"}");
    put_key("$KV.headwater.cfg.desired.nobody", "{}");
    free(test_sql(&pg, "SELECT headwater.resync()"));
    test_wait_for(has_digest("n1", second) && has_digest("nobody", NULL), 30);

    /* A checkpoint that is none makes it read a snapshot. */
    put_key("$KV.headwater.cfg.checkpoint", "{\"epoch\":\"x\"}");
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":3}'"));
    HW_AUTO_FREE char *third = test_sql(&pg, "SELECT min(digest) FROM headwater.desired");
    test_wait_for(has_digest("n1", third) && has_digest("n2", third), 30);
    wait_until_caught_up();

    /* The slot is gone. */
    test_program_stop(&reconciler, SIGTERM);
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('headwater')"));
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":4}'"));
    start_reconciler(&reconciler);
    HW_AUTO_FREE char *fourth = test_sql(&pg, "SELECT min(digest) FROM headwater.desired");
    test_wait_for(has_digest("n1", fourth) && has_digest("n2", fourth), 30);
}
END_TEST

static bool sql_is(const char *sql, const char *expected)
{
    HW_AUTO_FREE char *value = test_sql(&pg, "%s", sql);

    return value != NULL && strcmp(value, expected) == 0;
}

static void put_report(const char *node, int revision, const char *digest)
{
    char subject[100];
    HW_AUTO_FREE char *value = hw_sprintf(
        "{\"node\":\"%s\",\"state\":\"applied\",\"running\":{\"revision\":%d,\"digest\":\"%s\","
        "\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null,"
        "\"desired_revision\":%d,\"agent\":\"test/1\",\"boot_id\":\"b\","
        "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
        node, revision, digest, revision);

    snprintf(subject, sizeof(subject), "$KV.headwater_reports.cfg.reported.%s", node);
    put_key(subject, value);
}

START_TEST(test_reports_come_back)
{
    static const char *const garbage[] = {
        "",
        "nonsense",
        "[]",
        "{}",
        "{\"node\":\"n2\",\"state\":\"applied\"}",
        "{\"node\":\"n1\",\"state\":\"happy\"}",
        "{\"node\":\"n1\",\"state\":\"applied\",\"running\":7}",
        "{\"node\":\"n1\",\"state\":\"applied\",\"running\":{\"revision\":\"x\"}}",
        "{\"node\":\"n1\",\"node\":\"n1\",\"state\":\"applied\"}",
        "{\"node\":\"n1\",\"state\":\"app\\u0000lied\"}",
        "{\"node\":\"n1\",\"state\":\"\xff\xfe\"}",
    };
    HW_AUTO_FREE char *digest = NULL;

    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " VALUES ('a', 'c', 'n1')"));
    wait_until_caught_up();
    digest = test_sql(&pg, "SELECT digest FROM headwater.desired");
    put_report("n1", 1, digest);
    test_wait_for(sql_is("SELECT state FROM headwater.fleet WHERE node = 'n1'", "in_sync"), 20);

    for (size_t i = 0; i < HW_COUNT(garbage); i++)
        put_key("$KV.headwater_reports.cfg.reported.n1", garbage[i]);
    put_key("$KV.headwater_reports.cfg.reported.sp@m", "{}");
    put_report("n3", 5, digest); /* a node that the database does not know (yet) */
    test_wait_for(
        sql_is("SELECT running_revision::text FROM headwater.reported WHERE node = 'n3'", "5"), 20);
    ck_assert(
        sql_is("SELECT running_revision::text FROM headwater.reported WHERE node = 'n1'", "1"));

    /* Newest only: what was reported while nobody listened. */
    test_program_stop(&reconciler, SIGKILL);
    for (int i = 2; i <= 9; i++)
        put_report("n1", i, digest);
    start_reconciler(&reconciler);
    test_wait_for(
        sql_is("SELECT running_revision::text FROM headwater.reported WHERE node = 'n1'", "9"), 20);

    /* Deleted, the bucket is made again. It counts from one then, and is newer nevertheless. */
    ck_assert_int_eq(js_DeleteStream(js, "KV_headwater_reports", NULL, NULL), NATS_OK);
    test_wait_for(js_Publish(NULL, js, "$KV.headwater_reports.cfg.reported.zz", "{}", 2, NULL,
                             NULL) == NATS_OK,
                  20);
    put_report("n1", 3, digest);
    test_wait_for(
        sql_is("SELECT running_revision::text FROM headwater.reported WHERE node = 'n1'", "3"), 20);
}
END_TEST

START_TEST(test_stops_in_every_state)
{
    struct test_program alone;
    const char *const nowhere[] = {
        "headwater-reconciler", "--database", "postgresql://127.0.0.1:1/none", "--nats",
        "nats://127.0.0.1:1",   NULL};
    const char *const no_database[] = {"headwater-reconciler", NULL};
    const char *const bad_slot[] = {"headwater-reconciler",
                                    "--database",
                                    pg.url,
                                    "--nats",
                                    nats.url,
                                    "--slot",
                                    "No Good",
                                    NULL};
    HW_AUTO_FREE char *output = NULL;

    test_program_start(&alone, nowhere, NULL);
    usleep(300000);
    stop_reconciler(&alone);

    /* Servers that hang: a change is on its way to a NATS that does not answer, and stays so. */
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " VALUES ('a', 'c', 'n1')"));
    wait_until_caught_up();
    kill(nats.pid, SIGSTOP);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}'"));
    usleep(300000);
    stop_reconciler(&reconciler);
    kill(nats.pid, SIGCONT);
    start_reconciler(&reconciler);
    wait_until_caught_up();
    ck_assert_int_eq(test_program_run(no_database, NULL, NULL, &output), 2);
    ck_assert_ptr_nonnull(strstr(output, "HEADWATER_DATABASE_URL"));
    free(output);
    output = NULL;
    ck_assert_int_ne(test_program_run(bad_slot, NULL, NULL, &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "No Good"));
    /* The memory of an idle one, where no sanitizer adds its own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    wait_until_caught_up();
    ck_assert_int_lt(test_resident_kib(reconciler.pid), 25 << 10);
#endif
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reconciler");
    TCase *tcase = tcase_create("reconciler");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, test_one_transaction_one_fence);
    tcase_add_test(tcase, test_objects_of_every_size);
    tcase_add_test(tcase, test_exactly_once_under_kill);
    tcase_add_test(tcase, test_standby_takes_over);
    tcase_add_test(tcase, test_servers_come_and_go);
    tcase_add_test(tcase, test_what_others_wrote);
    tcase_add_test(tcase, test_reports_come_back);
    tcase_add_test(tcase, test_stops_in_every_state);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
