/* The ways back from what operations bring: lost, rolled back, restored, edited and frozen. */
#include <libpq-fe.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/digest.h"
#include "common/lsn.h"
#include "common/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define DESIRED    "$KV.headwater.cfg.desired."
#define CHECKPOINT "$KV.headwater.cfg.checkpoint"

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
}

static void teardown(void)
{
    pipeline_close(&p);
}

/* ---- making things happen ---- */

/* Nodes n1 … and a config that all of them have. */
static void make_nodes(int count)
{
    free(test_sql(&p.pg,
                  "INSERT INTO headwater.node (name)"
                  " SELECT 'n' || i FROM generate_series(1, %d) i;"
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":0}');"
                  "INSERT INTO headwater.assignment (name, config, selector)"
                  " VALUES ('all', 'c', '{}')",
                  count));
}

static void set_content(const char *content)
{
    free(test_sql(&p.pg, "UPDATE headwater.config SET content = '%s' WHERE name = 'c'", content));
}

/* So many transactions, each of which changes the config. */
static void change_content(int times)
{
    free(test_sql(&p.pg,
                  "DO $$ BEGIN FOR i IN 1..%d LOOP"
                  " UPDATE headwater.config SET content = json_build_object('a', clock_timestamp())"
                  " WHERE name = 'c'; COMMIT; END LOOP; END $$",
                  times));
}

static void copy_tree(const char *from, const char *to)
{
    ck_assert_int_eq(
        test_program_run((const char *[]){"cp", "-a", from, to, NULL}, NULL, NULL, NULL), 0);
}

static void put_back(const char *copy, const char *where)
{
    test_remove_tree(where);
    copy_tree(copy, where);
}

static bool leads_and_compared(void)
{
    return pipeline_log_says(&p, "compared NATS with the database");
}

/* ---- NATS rolled back ---- */

START_TEST(test_nats_rolled_back)
{
    enum { NODES = SANITIZED ? 46 : 460, ROUNDS = 10, OF_ONE = SANITIZED ? 40 : 400 };
    HW_AUTO_FREE char *store = hw_sprintf("%s/store", p.nats.dir);
    HW_AUTO_FREE char *copy = hw_sprintf("%s/copy", p.nats.dir);

    make_nodes(NODES);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(leads_and_compared(), 30);
    pipeline_stop_nats(&p);
    copy_tree(store, copy);
    pipeline_restart_nats(&p);
    const uint64_t before = pipeline_last_seq(&p);

    change_content(ROUNDS);
    /* And transactions of a node each. */
    free(test_sql(&p.pg, "INSERT INTO headwater.config (name, content) VALUES ('one', '{}');"
                         "INSERT INTO headwater.assignment (name, config, node, priority)"
                         " VALUES ('one', 'one', 'n1', 10)"));
    free(test_sql(&p.pg,
                  "DO $$ BEGIN FOR i IN 1..%d LOOP"
                  " UPDATE headwater.assignment SET node = 'n' || 1 + i %% %d WHERE name = 'one';"
                  " COMMIT; END LOOP; END $$",
                  OF_ONE / 2, NODES));
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_equal(&p));
    struct pipeline_messages lost = pipeline_messages(&p, before, DESIRED);
    ck_assert_uint_ge(lost.count, NODES * ROUNDS + OF_ONE);

    pipeline_stop_nats(&p);
    put_back(copy, store);
    pipeline_restart_nats(&p);
    test_wait_for(pipeline_log_says(&p, "replayed from the log"), 60);
    ck_assert(pipeline_log_says(&p, "replaying from the log"));
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_equal(&p));
    struct pipeline_messages again = pipeline_messages(&p, before, DESIRED);
    pipeline_same_revisions(&lost, &again);
    pipeline_fences_grow(&again);
    pipeline_messages_free(&lost);
    pipeline_messages_free(&again);

    set_content("{\"a\":\"and on\"}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 20);
    pipeline_stop(&p);
}
END_TEST

/* ---- drift: what others write ---- */

static void put_message(const char *subject, const char *value, const char *const headers[][2])
{
    natsMsg *msg = NULL;

    ck_assert_int_eq(natsMsg_Create(&msg, subject, NULL, value, (int)strlen(value)), NATS_OK);
    for (size_t i = 0; headers != NULL && headers[i][0] != NULL; i++)
        natsMsgHeader_Set(msg, headers[i][0], headers[i][1]);
    ck_assert_int_eq(js_PublishMsg(NULL, p.js, msg, NULL, NULL), NATS_OK);
    natsMsg_Destroy(msg);
}

static const char *const deletion[][2] = {{"KV-Operation", "DEL"}, {NULL, NULL}};
static const char *const rollup[][2] = {{"Nats-Rollup", "sub"}, {NULL, NULL}};

static char *object_subject(const char *digest)
{
    const char *hex = digest + strlen("sha256:");
    HW_AUTO_FREE char *name = hw_base64url_encode(hex, strlen(hex));

    return hw_sprintf("$O.headwater.M.%s", name);
}

/* Is the object there, described as it was? */
static bool object_is(const char *subject, const char *digest)
{
    HW_AUTO_FREE char *value = pipeline_value(&p, "OBJ_headwater", subject);

    return value != NULL && strstr(value, "\"deleted\":true") == NULL &&
           strstr(value, digest) != NULL;
}

static bool checkpoint_is_valid(void)
{
    HW_AUTO_FREE char *value = pipeline_value(&p, "KV_headwater", CHECKPOINT);

    return value != NULL && strstr(value, "\"system_id\":") != NULL;
}

static double drift(void)
{
    return pipeline_metric(&p, "headwater_reconciler_drift_total");
}

#define NOTICE_S (SANITIZED ? 5 : 2)

/* Does it once, and sees it noticed soon (the log says so once more, and it is counted), healed,
 * and nothing of it left after that. */
#define damage(what, notice, healed)                                                               \
    do {                                                                                           \
        const int told_ = pipeline_times_in_log(&p.reconciler, notice);                            \
        const double counted_ = drift();                                                           \
        what;                                                                                      \
        test_wait_for(pipeline_times_in_log(&p.reconciler, notice) > told_, NOTICE_S);             \
        test_wait_for(healed, 20);                                                                 \
        test_wait_for(drift() > counted_, 20);                                                     \
        ck_assert(pipeline_equal(&p));                                                             \
    } while (0)

START_TEST(test_drift)
{
    static const char foreign[] = "someone else wrote to the bucket";
    static const char object[] = "an object was changed or deleted by someone else";

    make_nodes(3);
    pipeline_start(&p, (const char *[]){"--audit-interval", "1h", NULL});
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_eq((int)drift(), 0);
    ck_assert_int_eq(pipeline_readyz(&p), 200);
    HW_AUTO_FREE char *digest = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *meta = object_subject(digest);
    HW_AUTO_FREE char *described = pipeline_value(&p, "OBJ_headwater", meta);
    const char *at = strstr(described, "SHA-256=");
    ck_assert_ptr_nonnull(at);
    HW_AUTO_FREE char *bytes = hw_strndup(at, strcspn(at, "\""));

    damage(put_message(DESIRED "n1", "{}", NULL), foreign, pipeline_up_to_date(&p, "n1", 1));
    damage(put_message(DESIRED "n2", "", deletion), foreign, pipeline_up_to_date(&p, "n2", 1));
    damage(put_message(CHECKPOINT, "{}", NULL), foreign, checkpoint_is_valid());
    damage(put_message(CHECKPOINT, "", deletion), foreign, checkpoint_is_valid());
    HW_AUTO_FREE char *gone = hw_sprintf(
        "{\"name\":\"%s\",\"options\":{\"max_chunk_size\":131072},\"bucket\":\"headwater\","
        "\"nuid\":\"x\",\"size\":0,\"mtime\":\"2026-01-31T12:00:00Z\",\"chunks\":0,"
        "\"deleted\":true}",
        digest + strlen("sha256:"));
    damage(put_message(meta, gone, rollup), object, object_is(meta, bytes));
    HW_AUTO_FREE char *other = hw_sprintf(
        "{\"name\":\"%s\",\"options\":{\"max_chunk_size\":131072},\"bucket\":\"headwater\","
        "\"nuid\":\"x\",\"size\":0,\"mtime\":\"2026-01-31T12:00:00Z\",\"chunks\":0,"
        "\"digest\":\"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=\"}",
        digest + strlen("sha256:"));
    damage(put_message(meta, other, rollup), object, object_is(meta, bytes));

    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
    ck_assert_int_eq(pipeline_readyz(&p), 200);
    pipeline_stop(&p);
}
END_TEST

static void purge(const char *subject)
{
    jsOptions options;

    jsOptions_Init(&options);
    options.Stream.Purge.Subject = subject;
    ck_assert_int_eq(js_PurgeStream(p.js, "KV_headwater", &options, NULL), NATS_OK);
}

/* Nothing in the stream tells of a purge: only a comparison finds it. */
START_TEST(test_purged_key)
{
    make_nodes(3);
    pipeline_start(&p, (const char *[]){"--audit-interval", "2s", NULL});
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    natsMsg *msg = pipeline_last(&p, "KV_headwater", DESIRED "n2");
    ck_assert_ptr_nonnull(msg);
    natsMsg_Destroy(msg);
    purge(DESIRED "n2");
    msg = pipeline_last(&p, "KV_headwater", DESIRED "n2");
    ck_assert_ptr_null(msg);
    test_wait_for(pipeline_up_to_date(&p, "n2", 1), 20);
    test_wait_for(drift() >= 1, 20);
    ck_assert(pipeline_log_says(&p, "repairing an entry that is not what the database says"));
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* ---- objects that nothing refers to ---- */

START_TEST(test_objects_are_collected)
{
    make_nodes(2);
    pipeline_start(&p, (const char *[]){"--audit-interval", "1s", "--gc-grace", "1s", NULL});
    HW_AUTO_FREE char *first = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *first_meta = object_subject(first);
    test_wait_for(object_is(first_meta, "SHA-256="), 20);
    set_content("{\"a\":1}");
    HW_AUTO_FREE char *second = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *second_meta = object_subject(second);
    ck_assert_str_ne(first, second);
    test_wait_for(!object_is(first_meta, "SHA-256="), 30);
    ck_assert(object_is(second_meta, "SHA-256="));
    test_wait_for((int)pipeline_metric(&p, "headwater_reconciler_collected_objects_total") == 1,
                  10);

    /* What is desired stays, however often is looked. */
    const double audits = pipeline_metric(&p, "headwater_reconciler_audits_total");
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_audits_total") >= audits + 3, 30);
    ck_assert(object_is(second_meta, "SHA-256="));
    ck_assert_int_eq((int)pipeline_metric(&p, "headwater_reconciler_collected_objects_total"), 1);

    /* Content that comes back is put again, and the other one goes. */
    set_content("{\"a\":0}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 20);
    ck_assert(object_is(first_meta, "SHA-256="));
    test_wait_for(!object_is(second_meta, "SHA-256="), 30);
    ck_assert(object_is(first_meta, "SHA-256="));
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* ---- the slot ---- */

static bool slot_is_lost(void)
{
    HW_AUTO_FREE char *status = test_sql(&p.pg, "SELECT wal_status FROM pg_replication_slots"
                                                " WHERE slot_name = 'headwater'");

    return status != NULL && strcmp(status, "lost") == 0;
}

/* The server keeps less log than the slot, which nobody reads, still needs. */
static void lose_slot(void)
{
    free(test_sql(&p.pg, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    for (int i = 0; i < 20 && !slot_is_lost(); i++) {
        free(test_sql(&p.pg, "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))"));
        free(test_sql(&p.pg, "SELECT pg_switch_wal()"));
        free(test_sql(&p.pg, "CHECKPOINT"));
    }
    ck_assert(slot_is_lost());
    free(test_sql(&p.pg, "ALTER SYSTEM RESET max_slot_wal_keep_size"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
}

static bool archive_exists(void)
{
    HW_AUTO_FREE char *count = test_sql(&p.pg, "SELECT count(*)::text FROM pg_replication_slots"
                                               " WHERE slot_name = 'headwater_archive'");

    return strcmp(count, "1") == 0;
}

static void drop_slots(void)
{
    free(test_sql(&p.pg, "SELECT count(pg_drop_replication_slot(slot_name))"
                         " FROM pg_replication_slots WHERE NOT active"));
}

/* A transaction that is under way: the server makes no slot before it is over. */
static PGconn *begin_transaction(void)
{
    PGconn *conn = PQconnectdb(p.pg.url);
    PGresult *result = PQexec(conn, "BEGIN; SELECT pg_current_xact_id()");

    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

static void lead_once(void)
{
    make_nodes(3);
    pipeline_start(&p, NULL);
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_eq(pipeline_readyz(&p), 200);
}

/* Starts where the slot is gone: says so, is not ready before all is well again, and then it is. */
static void recover_without_slot(const char *found, const char *way)
{
    PGconn *transaction = begin_transaction();

    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "the replication slot is lost"), 30);
    ck_assert(pipeline_log_says(&p, found));
    ck_assert_int_eq(pipeline_readyz(&p), 503);
    PQfinish(transaction);
    test_wait_for(pipeline_readyz(&p) == 200, 30);
    ck_assert(pipeline_log_says(&p, way));
    ck_assert(pipeline_up_to_date(&p, "n1", 1));
    ck_assert(pipeline_equal(&p));
    set_content("{\"a\":\"and on\"}");
    test_wait_for(pipeline_up_to_date(&p, "n3", 1), 20);
    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
}

START_TEST(test_slot_dropped)
{
    lead_once();
    pipeline_stop(&p);
    set_content("{\"a\":1}");
    drop_slots();
    set_content("{\"a\":2}");
    recover_without_slot("it does not exist any more", "plan=rebuild");
    pipeline_stop(&p);
}
END_TEST

/* What the slot would have brought comes from its archive, each revision of its own. */
START_TEST(test_slot_dropped_and_its_archive_kept)
{
    lead_once();
    test_wait_for(archive_exists(), 20);
    const uint64_t before = pipeline_last_seq(&p);
    pipeline_stop(&p);
    set_content("{\"a\":1}");
    free(test_sql(&p.pg, "SELECT pg_drop_replication_slot('headwater')"));
    set_content("{\"a\":2}");
    recover_without_slot("it does not exist any more", "replayed from the log");
    struct pipeline_messages found = pipeline_messages(&p, before, DESIRED);
    ck_assert_uint_eq(found.count, 9); /* three nodes, and once more when all was well again */
    pipeline_messages_free(&found);
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_slot_lost)
{
    lead_once();
    pipeline_stop(&p);
    set_content("{\"a\":1}");
    lose_slot();
    set_content("{\"a\":2}");
    recover_without_slot("max_slot_wal_keep_size", "plan=rebuild");
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_slot_lost_and_left_to_the_operator)
{
    lead_once();
    pipeline_stop(&p);
    set_content("{\"a\":1}");
    lose_slot();
    const uint64_t before = pipeline_last_seq(&p);
    pipeline_start(&p, (const char *[]){"--on-lost-slot", "stop", NULL});
    test_wait_for(
        pipeline_times_in_log(&p.reconciler, "SELECT pg_drop_replication_slot('headwater')") >= 2,
        30);
    ck_assert(pipeline_log_says(&p, "start with --on-lost-slot resync"));
    ck_assert_int_eq(pipeline_readyz(&p), 503);
    ck_assert(test_program_running(&p.reconciler));
    ck_assert(slot_is_lost());
    ck_assert_uint_eq(pipeline_last_seq(&p), before);

    free(test_sql(&p.pg, "SELECT pg_drop_replication_slot('headwater')"));
    pipeline_stop(&p);
    recover_without_slot("it does not exist any more", "plan=rebuild");
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_plugin_disallowed)
{
    HW_AUTO_FREE char *known =
        test_sql(&p.pg, "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'");

    if (known == NULL)
        return; /* this server loads every plug-in that is installed */
    lead_once();
    free(test_sql(&p.pg, "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput'"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    free(test_sql(&p.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication"));
    test_wait_for(pipeline_readyz(&p) == 503 && pipeline_log_says(&p, "output_plugin_libraries"),
                  30);
    set_content("{\"a\":1}");
    ck_assert(!pipeline_up_to_date(&p, "n1", 1));
    free(test_sql(&p.pg, "ALTER SYSTEM RESET output_plugin_libraries"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    test_wait_for(pipeline_readyz(&p) == 200, 10);
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* ---- a leader that stands still ---- */

/* Checkpoints in the stream's order: none is of an older position than the one before. */
static void checkpoints_grow(uint64_t behind)
{
    struct pipeline_messages all = pipeline_messages(&p, behind, CHECKPOINT);
    struct hw_fence before = {0};

    ck_assert_uint_gt(all.count, 0);
    for (size_t i = 0; i < all.count; i++) {
        ck_assert_msg(hw_fence_compare(before, all.list[i].fence) <= 0,
                      "checkpoint %s in message %llu, after %s", HW_LSN(all.list[i].fence.lsn),
                      (unsigned long long)all.list[i].seq, HW_LSN(before.lsn));
        before = all.list[i].fence;
    }
    pipeline_messages_free(&all);
}

START_TEST(test_frozen_leader)
{
    struct test_program standby;

    make_nodes(3);
    pipeline_start(&p, NULL);
    test_wait_for(leads_and_compared(), 30);
    pipeline_start_another(&p, &standby);
    test_wait_for(pipeline_times_in_log(&standby, "standing by") > 0, 30);

    /* In the middle of work. */
    PGconn *conn = PQconnectdb(p.pg.url);
    ck_assert_int_eq(
        PQsendQuery(conn, "DO $$ BEGIN FOR i IN 1..2000 LOOP UPDATE headwater.config SET content ="
                          " json_build_object('a', i) WHERE name = 'c'; COMMIT; END LOOP; END $$"),
        1);
    const uint64_t before = pipeline_last_seq(&p);
    test_wait_for(pipeline_last_seq(&p) > before + 200, 30);
    kill(p.reconciler.pid, SIGSTOP);
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result))
        ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQfinish(conn);
    set_content("{\"a\":\"the other one\"}");
    /* wal_sender_timeout frees the slot, and the standby looks twice a second. */
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), SANITIZED ? 20 : 14);
    ck_assert(pipeline_times_in_log(&standby, "msg=leading") > 0);
    pipeline_wait_until_caught_up(&p);

    kill(p.reconciler.pid, SIGCONT);
    test_wait_for(pipeline_log_says(&p, "standing by"), 20);
    change_content(5);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n3", 1));
    ck_assert(pipeline_equal(&p));
    ck_assert_int_eq(pipeline_times_in_log(&standby, "someone else wrote"), 0);
    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
    checkpoints_grow(0);
    pipeline_stop_program(&standby);
    test_wait_for(pipeline_readyz(&p) == 200, 20);
    pipeline_stop(&p);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_nats_rolled_back,  test_drift,
        test_purged_key,        test_objects_are_collected,
        test_slot_dropped,      test_slot_dropped_and_its_archive_kept,
        test_slot_lost,         test_slot_lost_and_left_to_the_operator,
        test_plugin_disallowed, test_frozen_leader,
    };
    Suite *suite = suite_create("recovery paths");

    /* A case each: CK_RUN_CASE picks one. */
    for (size_t i = 0; i < HW_COUNT(tests); i++) {
        TCase *tcase = tcase_create(tests[i]->name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
    return test_suite_finish(suite);
}
