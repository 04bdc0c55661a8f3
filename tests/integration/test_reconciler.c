/* The reconciler against real servers: what is committed reaches NATS, each exactly once. */
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/memory.h"
#include "nats/objstore.h"
#include "reconciler/publish/changes.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

#define STREAM "KV_headwater"

static struct test_pipeline p;

static void start(void)
{
    pipeline_start(&p, (const char *[]){"--history", "64", NULL});
}

static void setup(void)
{
    pipeline_open(&p, NULL);
    start();
    test_wait_for(pipeline_last_seq(&p, STREAM) > 0, 60); /* the first checkpoint: it streams */
}

static void teardown(void)
{
    pipeline_stop(&p);
    pipeline_close(&p);
}

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;

    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : "";
}

/* Has the node a delete marker, with a fence? */
static bool is_deleted(const char *node)
{
    HW_AUTO_FREE char *subject = hw_sprintf(DESIRED "%s", node);
    natsMsg *msg = pipeline_last(&p, STREAM, subject);
    const bool deleted = msg != NULL && strcmp(header(msg, "KV-Operation"), "DEL") == 0 &&
                         *header(msg, "Headwater-LSN") != '\0';

    natsMsg_Destroy(msg);
    return deleted;
}

static bool both_up_to_date(void)
{
    return pipeline_up_to_date(&p, "n1", 0) && pipeline_up_to_date(&p, "n2", 0);
}

/* ---- the tests ---- */

START_TEST(test_one_transaction_one_fence)
{
    uint64_t before;

    pipeline_make_nodes(&p, 1000);
    pipeline_wait_until_caught_up(&p);
    before = pipeline_last_seq(&p, STREAM);
    pipeline_set_content(&p, "{\"a\":2}");
    pipeline_wait_until_caught_up(&p);
    struct pipeline_messages found = pipeline_messages(&p, before, DESIRED);
    ck_assert_uint_eq(found.count, 1000);
    ck_assert_uint_eq(found.list[0].fence.epoch, 1);
    for (size_t i = 1; i < found.count; i++)
        ck_assert_int_eq(hw_fence_compare(found.list[i].fence, found.list[0].fence), 0);
    pipeline_messages_free(&found);

    /* What changes nothing creates nothing. */
    before = pipeline_last_seq(&p, STREAM);
    free(test_sql(&p.pg, "UPDATE headwater.config SET content = content"));
    free(test_sql(&p.pg, "BEGIN; UPDATE headwater.config SET content = '{\"a\":3}'; ROLLBACK"));
    free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"a\":4}' WHERE name = 'none'"));
    pipeline_wait_until_caught_up(&p);
    found = pipeline_messages(&p, before, "");
    for (size_t i = 0; i < found.count; i++)
        ck_assert_str_eq(found.list[i].subject, CHECKPOINT);
    pipeline_messages_free(&found);

    free(test_sql(&p.pg, "DELETE FROM headwater.node WHERE name = 'n7'"));
    pipeline_wait_until_caught_up(&p);
    ck_assert(is_deleted("n7"));
}
END_TEST

#define LARGE_NODE "large-0123456789-0123456789-0123456789"

/* One row of each streamed table that may be changed, larger than a page, so that PostgreSQL keeps
 * part of it out of line. */
static void make_large_rows(void)
{
    free(test_sql(&p.pg,
                  "CREATE FUNCTION noise(size int) RETURNS text LANGUAGE sql AS $$"
                  " SELECT left(string_agg(md5(random()::text), ''), size)"
                  " FROM generate_series(0, size / 32) $$;"
                  "INSERT INTO headwater.node (name) VALUES ('" LARGE_NODE "');"
                  "INSERT INTO headwater.config (name, content)"
                  " SELECT noise(100) || i, '{\"a\":1}' FROM generate_series(1, 300) AS i"
                  " UNION ALL SELECT 'c', '{\"a\":1}';"
                  "INSERT INTO headwater.assignment (name, config, selector)"
                  " SELECT noise(100) || right(name, 20), name, '{}' FROM headwater.config"));
    for (int round = 0; round < 4; round++)
        free(test_sql(&p.pg,
                      "SELECT headwater.propose(jsonb_agg(jsonb_build_object("
                      " 'node', '" LARGE_NODE "', 'ref', 'p%d-' || i, 'config', 'c',"
                      " 'base_revision', 1, 'content', '{}', 'media_type', 'application/json',"
                      " 'encoding', 'utf-8'))) FROM generate_series(1, 8) AS i;"
                      "SELECT headwater.reject(id, noise(4000)) FROM headwater.proposal"
                      " WHERE state = 'pending'",
                      round));
    ck_assert(test_sql_is(&p.pg, "decided desired",
                          "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
                          " WHERE oid = ANY (string_to_array('" REC_TABLES "', ',')::regclass[])"
                          " AND pg_relation_size(reltoastrelid) > 0"));
}

/* A value that is out of line is missing in the stream when an UPDATE leaves it as it is. So no
 * UPDATE may, whatever it is about: the tables refuse it, or store the row whole. */
START_TEST(test_rows_larger_than_a_page)
{
    make_large_rows();
    pipeline_wait_until_caught_up(&p);
    free(test_sql(&p.pg,
                  "DO $$ DECLARE c record; refused bool; BEGIN FOR c IN"
                  " SELECT attrelid::regclass AS streamed, attname FROM pg_attribute"
                  " WHERE attrelid = ANY (string_to_array('" REC_TABLES "', ',')::regclass[])"
                  " AND attnum > 0 AND NOT attisdropped LOOP refused := false; BEGIN"
                  " EXECUTE format('UPDATE %%s SET %%I = %%I', c.streamed, c.attname, c.attname);"
                  " EXCEPTION WHEN insufficient_privilege OR object_not_in_prerequisite_state THEN"
                  " refused := true; END;"
                  " IF refused <> (c.streamed::text ~ 'blob|changelog') THEN"
                  " RAISE 'an UPDATE of %%.%%: %%', c.streamed, c.attname, refused; END IF;"
                  " IF NOT refused AND NOT EXISTS (SELECT FROM pg_class WHERE oid = c.streamed"
                  " AND pg_relation_size(reltoastrelid) > 0) THEN"
                  " RAISE '%% has no large row here', c.streamed; END IF;"
                  " END LOOP; END $$"));
    /* The same by the way that all changes take: other sources, of the same document. */
    free(test_sql(&p.pg, "DELETE FROM headwater.assignment WHERE name ="
                         " (SELECT max(name) FROM headwater.assignment)"));
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, LARGE_NODE, 0));
    ck_assert(!pipeline_log_says(&p, "is missing"));
    ck_assert(!pipeline_log_says(&p, "level=error"));
    ck_assert(pipeline_equal(&p));
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
    const struct hw_nats_options options = {.url = p.nats.url,
                                            .timeout_ms = test_patient_ms(10000)};
    struct hw_nats *ours = NULL;
    struct hw_loop *loop = NULL;
    struct hw_error err;
    bool up = false;

    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    const struct hw_nats_events events = {.up = on_up, .arg = &up};
    ck_assert_int_eq(hw_nats_open(loop, &options, &events, &ours, &err), HW_OK);
    ck_assert(hw_loop_run_until(loop, &up, test_patient_ms(30000)));
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        free(test_sql(&p.pg,
                      "BEGIN; INSERT INTO headwater.node (name) VALUES ('%s');"
                      "INSERT INTO headwater.config (name, content, encoding, media_type)"
                      " VALUES ('%s', %s, 'application/octet-stream');"
                      "INSERT INTO headwater.assignment (name, config, node)"
                      " VALUES ('%s', '%s', '%s'); COMMIT",
                      cases[i].name, cases[i].name, cases[i].sql, cases[i].name, cases[i].name,
                      cases[i].name));
    }
    pipeline_wait_until_caught_up(&p);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        unsigned char *data = NULL;
        struct hw_digest digest;
        char text[HW_DIGEST_STR_MAX];
        size_t size = 0;
        HW_AUTO_FREE char *expected = test_sql(
            &p.pg, "SELECT digest FROM headwater.desired WHERE node = '%s'", cases[i].name);
        HW_AUTO_FREE char *expected_size = test_sql(
            &p.pg, "SELECT size::text FROM headwater.desired WHERE node = '%s'", cases[i].name);

        ck_assert_msg(pipeline_up_to_date(&p, cases[i].name, 0), "%s", cases[i].name);
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
    const uint64_t last = pipeline_last_seq(&p, STREAM);
    HW_AUTO_FREE char *expected =
        test_sql(&p.pg, "SELECT count(*)::text FROM headwater.desired_history");
    long found = 0;

    for (uint64_t seq = 1; seq <= last; seq++) {
        natsMsg *msg = NULL;

        const natsStatus status = js_GetMsg(&msg, p.js, STREAM, seq, NULL, NULL);
        if (status == NATS_NOT_FOUND)
            continue; /* checkpoints beyond their history */
        ck_assert_int_eq(status, NATS_OK);
        const char *subject = natsMsg_GetSubject(msg);
        if (strncmp(subject, DESIRED, strlen(DESIRED)) == 0) {
            HW_AUTO_FREE char *value =
                hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));

            /* A delete marker has no value: its revision and digest are null. */
            free(test_sql(&p.pg,
                          "INSERT INTO seen SELECT %llu, '%s', (v->>'revision')::bigint,"
                          " v->>'digest', '%s', %s FROM (SELECT nullif('%s', '')::jsonb) AS t (v)",
                          (unsigned long long)seq, subject + strlen(DESIRED),
                          header(msg, "Headwater-LSN"), header(msg, "Headwater-Epoch"), value));
            found++;
        }
        natsMsg_Destroy(msg);
    }
    ck_assert_int_eq(found, strtol(expected, NULL, 10));
    HW_AUTO_FREE char *wrong = test_sql(
        &p.pg,
        "WITH k AS (SELECT node, revision, digest,"
        "                  row_number() OVER (PARTITION BY node ORDER BY seq) AS n FROM seen),"
        "     h AS (SELECT node, revision, digest,"
        "                  row_number() OVER (PARTITION BY node ORDER BY id) AS n"
        "           FROM headwater.desired_history)"
        " SELECT count(*)::text FROM k FULL JOIN h USING (node, n)"
        " WHERE k.digest IS DISTINCT FROM h.digest"
        "    OR (h.digest IS NOT NULL AND k.revision IS DISTINCT FROM h.revision)");
    ck_assert_str_eq(wrong, "0");
    HW_AUTO_FREE char *backwards = test_sql(
        &p.pg, "SELECT count(*)::text FROM (SELECT (epoch, lsn) <= lag((epoch, lsn))"
               "  OVER (PARTITION BY node ORDER BY seq) AS older FROM seen) AS s WHERE older");
    ck_assert_str_eq(backwards, "0");
}

START_TEST(test_exactly_once_under_kill)
{
    free(test_sql(&p.pg, "CREATE TABLE seen (seq bigint, node text, revision bigint, digest text,"
                         " lsn pg_lsn, epoch bigint);"
                         "INSERT INTO headwater.node (name)"
                         " SELECT 'n' || i FROM generate_series(1, 40) i;"
                         "INSERT INTO headwater.config (name, content)"
                         " SELECT 'c' || i, '{\"a\":0}' FROM generate_series(1, 40) i;"
                         "INSERT INTO headwater.assignment (name, config, node)"
                         " SELECT 'a' || i, 'c' || i, 'n' || i FROM generate_series(1, 40) i"));
    pipeline_wait_until_caught_up(&p);
    for (int round = 1; round <= 12; round++) {
        char sql[2000];

        /* Many small transactions, one over all nodes, and now and then a node comes and goes. */
        snprintf(sql, sizeof(sql),
                 "DO $$ BEGIN FOR i IN 1..40 LOOP"
                 "  UPDATE headwater.config SET content = format('{\"r\":%d,\"i\":%%s}', i)"
                 "   WHERE name = 'c' || i; COMMIT; END LOOP; END $$",
                 round);
        free(test_sql(&p.pg, "%s", sql));
        free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"all\":%d}'", round));
        free(test_sql(&p.pg, "DELETE FROM headwater.assignment WHERE name = 'a%d'", round));
        free(test_sql(&p.pg,
                      "INSERT INTO headwater.assignment (name, config, node)"
                      " VALUES ('a%d', 'c%d', 'n%d')",
                      round, round, round));
        usleep((useconds_t)(random() % 20000));
        const int signo = round % 3 == 0 ? SIGTERM : SIGKILL;
        test_program_stop(&p.reconciler, signo);
        if (round % 4 == 0) {
            pipeline_kill_nats(&p);
            pipeline_restart_nats(&p);
        }
        start();
    }
    pipeline_wait_until_caught_up(&p);
    check_histories();
}
END_TEST

START_TEST(test_standby_takes_over)
{
    struct test_program standby;

    pipeline_start_another(&p, &standby);
    pipeline_make_nodes(&p, 1);
    pipeline_wait_until_caught_up(&p);
    ck_assert(test_program_running(&standby));
    test_program_stop(&p.reconciler, SIGKILL);
    pipeline_set_content(&p, "{\"a\":2}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 0));
    pipeline_stop_program(&standby);
    start();
    pipeline_set_content(&p, "{\"a\":3}");
    pipeline_wait_until_caught_up(&p);
}
END_TEST

START_TEST(test_servers_come_and_go)
{
    pipeline_make_nodes(&p, 2);
    pipeline_wait_until_caught_up(&p);

    /* NATS away while a change is committed, then back. */
    test_nats_stop(&p.nats);
    pipeline_set_content(&p, "{\"a\":2}");
    test_nats_restart(&p.nats);
    pipeline_wait_until_caught_up(&p);

    /* NATS comes back with nothing. */
    pipeline_kill_nats(&p);
    test_nats_wipe(&p.nats);
    pipeline_restart_nats(&p);
    test_wait_for(both_up_to_date(), 30);

    /* PostgreSQL crashes and comes back. */
    test_postgres_kill(&p.pg);
    test_postgres_restart(&p.pg);
    pipeline_set_content(&p, "{\"a\":3}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(both_up_to_date());

    /* A fast shutdown does not wait for ever, even while NATS is away. */
    test_nats_stop(&p.nats);
    pipeline_set_content(&p, "{\"a\":4}");
    test_postgres_restart(&p.pg);
    test_nats_restart(&p.nats);
    pipeline_wait_until_caught_up(&p);
    ck_assert(test_program_running(&p.reconciler));
}
END_TEST

START_TEST(test_what_others_wrote)
{
    pipeline_make_nodes(&p, 2);
    pipeline_wait_until_caught_up(&p);

    /* A key that someone else wrote is written over by the next change. */
    pipeline_put(&p, DESIRED "n1", "garbage", NULL);
    pipeline_set_content(&p, "{\"a\":2}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(both_up_to_date());

    /* … and by a resync, with keys that belong to no node and keys that are gone. */
    pipeline_put(&p, DESIRED "n1", "{\"node\":\"n1\"}", NULL);
    pipeline_put(&p, DESIRED "nobody", "{}", NULL);
    free(test_sql(&p.pg, "SELECT headwater.resync()"));
    test_wait_for(pipeline_up_to_date(&p, "n1", 0) && is_deleted("nobody"), 30);

    /* A checkpoint that is none makes it read a snapshot. */
    pipeline_put(&p, CHECKPOINT, "{\"epoch\":\"x\"}", NULL);
    pipeline_set_content(&p, "{\"a\":3}");
    test_wait_for(both_up_to_date(), 30);
    pipeline_wait_until_caught_up(&p);

    /* The slot is gone. */
    test_program_stop(&p.reconciler, SIGTERM);
    test_postgres_drop_slot(&p.pg, "headwater");
    pipeline_set_content(&p, "{\"a\":4}");
    start();
    test_wait_for(both_up_to_date(), 30);
}
END_TEST

static void put_report(const char *node, int revision, const char *digest)
{
    HW_AUTO_FREE char *subject = hw_sprintf(REPORTED "%s", node);
    HW_AUTO_FREE char *value = hw_sprintf(
        "{\"node\":\"%s\",\"state\":\"applied\",\"running\":{\"revision\":%d,\"digest\":\"%s\","
        "\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null,"
        "\"desired_revision\":%d,\"agent\":\"test/1\",\"boot_id\":\"b\","
        "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
        node, revision, digest, revision);

    pipeline_put(&p, subject, value, NULL);
}

static bool revision_is(const char *node, const char *revision)
{
    return test_sql_is(&p.pg, revision,
                       "SELECT running_revision FROM headwater.reported WHERE node = '%s'", node);
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

    pipeline_make_nodes(&p, 1);
    pipeline_wait_until_caught_up(&p);
    digest = test_sql(&p.pg, "SELECT digest FROM headwater.desired");
    put_report("n1", 1, digest);
    test_wait_for(
        test_sql_is(&p.pg, "in_sync", "SELECT state FROM headwater.fleet WHERE node = 'n1'"), 20);

    for (size_t i = 0; i < HW_COUNT(garbage); i++)
        pipeline_put(&p, REPORTED "n1", garbage[i], NULL);
    pipeline_put(&p, REPORTED "sp@m", "{}", NULL);
    put_report("n3", 5, digest); /* a node that the database does not know (yet) */
    test_wait_for(revision_is("n3", "5"), 20);
    ck_assert(revision_is("n1", "1"));

    /* Newest only: what was reported while nobody listened. */
    test_program_stop(&p.reconciler, SIGKILL);
    for (int i = 2; i <= 9; i++)
        put_report("n1", i, digest);
    start();
    test_wait_for(revision_is("n1", "9"), 20);

    /* Deleted, the bucket is made again. It counts from one then, and is newer nevertheless. */
    ck_assert_int_eq(js_DeleteStream(p.js, "KV_headwater_reports", NULL, NULL), NATS_OK);
    test_wait_for(js_Publish(NULL, p.js, REPORTED "zz", "{}", 2, NULL, NULL) == NATS_OK, 20);
    put_report("n1", 3, digest);
    test_wait_for(revision_is("n1", "3"), 20);
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
                                    p.pg.url,
                                    "--nats",
                                    p.nats.url,
                                    "--slot",
                                    "No Good",
                                    NULL};
    HW_AUTO_FREE char *output = NULL;

    test_program_start(&alone, nowhere, NULL);
    test_wait_for(pipeline_times_in_log(&alone, "cannot be reached") > 0, 60);
    pipeline_stop_program(&alone);

    /* Servers that hang: a change is on its way to a NATS that does not answer, and stays so. */
    pipeline_make_nodes(&p, 1);
    pipeline_wait_until_caught_up(&p);
    kill(p.nats.pid, SIGSTOP);
    pipeline_set_content(&p, "{\"a\":2}");
    usleep(300000);
    pipeline_stop(&p);
    kill(p.nats.pid, SIGCONT);
    start();
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_eq(test_program_run(no_database, NULL, NULL, &output), 2);
    ck_assert_ptr_nonnull(strstr(output, "HEADWATER_DATABASE_URL"));
    free(output);
    output = NULL;
    ck_assert_int_ne(test_program_run(bad_slot, NULL, NULL, &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "No Good"));
    /* The memory of an idle one, where no sanitizer adds its own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_lt(test_own_kib(p.reconciler.pid), 4 << 10);
#endif
}
END_TEST

TEST_MAIN_BETWEEN("reconciler", 240, setup, teardown, test_one_transaction_one_fence,
                  test_rows_larger_than_a_page, test_objects_of_every_size,
                  test_exactly_once_under_kill, test_standby_takes_over, test_servers_come_and_go,
                  test_what_others_wrote, test_reports_come_back, test_stops_in_every_state)
