/* The ways back from what operations bring: lost, rolled back, restored, edited and frozen. */
#include <libpq-fe.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/standby.h"
#include "tests/support/suite.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define DELETION "KV-Operation", "DEL"
#define ROLLUP   "Nats-Rollup", "sub"

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

static const char compared[] = "compared NATS with the database";

/* One that ends a rebuild, or comes behind it. */
static bool checkpoint_is_valid(void)
{
    HW_AUTO_FREE char *value = pipeline_value(&p, "KV_headwater", CHECKPOINT);

    return value != NULL && strstr(value, "\"system_id\":") != NULL &&
           strstr(value, "\"lsn\":\"0/0\"") == NULL;
}

/* What the log says, the checkpoint says a little later: before that, a start would do it again. */
static bool leads_and_compared(void)
{
    return pipeline_log_says(&p, compared) && checkpoint_is_valid();
}

/* ---- NATS rolled back ---- */

START_TEST(test_nats_rolled_back)
{
    enum { NODES = SANITIZED ? 46 : 460, ROUNDS = 10, OF_ONE = SANITIZED ? 40 : 400 };
    HW_AUTO_FREE char *store = hw_sprintf("%s/store", p.nats.dir);
    HW_AUTO_FREE char *copy = hw_sprintf("%s/copy", p.nats.dir);

    pipeline_make_nodes(&p, NODES);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(leads_and_compared(), 30);
    /* Before the copy: in what runs on behind it, a checkpoint may come first. */
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    pipeline_stop_nats(&p);
    copy_tree(store, copy);
    pipeline_restart_nats(&p);

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

    pipeline_set_content(&p, "{\"a\":\"and on\"}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 20);
    pipeline_stop(&p);
}
END_TEST

/* ---- drift: what others write ---- */

/* Is the object there, described as it was? */
static bool object_is(const char *subject, const char *digest)
{
    HW_AUTO_FREE char *value = pipeline_value(&p, "OBJ_headwater", subject);

    return value != NULL && strstr(value, "\"deleted\":true") == NULL &&
           strstr(value, digest) != NULL;
}

static double drift(void)
{
    return pipeline_metric(&p, "headwater_reconciler_drift_total");
}

#define NOTICE_S 30 /* a bound for a loaded machine: usually half a second */

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

    pipeline_make_nodes(&p, 3);
    pipeline_start(&p, (const char *[]){"--compare-interval", "1h", NULL});
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert_int_eq((int)drift(), 0);
    ck_assert_int_eq(pipeline_readyz(&p), 200);
    HW_AUTO_FREE char *digest = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *meta = pipeline_object_subject(digest);
    HW_AUTO_FREE char *described = pipeline_value(&p, "OBJ_headwater", meta);
    const char *at = strstr(described, "SHA-256=");
    ck_assert_ptr_nonnull(at);
    HW_AUTO_FREE char *bytes = hw_strndup(at, strcspn(at, "\""));

    damage(pipeline_put(&p, DESIRED "n1", "{}", NULL), foreign, pipeline_up_to_date(&p, "n1", 1));
    damage(pipeline_put(&p, DESIRED "n2", "", DELETION, NULL), foreign,
           pipeline_up_to_date(&p, "n2", 1));
    damage(pipeline_put(&p, CHECKPOINT, "{}", NULL), foreign, checkpoint_is_valid());
    damage(pipeline_put(&p, CHECKPOINT, "", DELETION, NULL), foreign, checkpoint_is_valid());
    HW_AUTO_FREE char *gone = hw_sprintf(
        "{\"name\":\"%s\",\"options\":{\"max_chunk_size\":131072},\"bucket\":\"headwater\","
        "\"nuid\":\"x\",\"size\":0,\"mtime\":\"2026-01-31T12:00:00Z\",\"chunks\":0,"
        "\"deleted\":true}",
        digest + strlen("sha256:"));
    damage(pipeline_put(&p, meta, gone, ROLLUP, NULL), object, object_is(meta, bytes));
    HW_AUTO_FREE char *other = hw_sprintf(
        "{\"name\":\"%s\",\"options\":{\"max_chunk_size\":131072},\"bucket\":\"headwater\","
        "\"nuid\":\"x\",\"size\":0,\"mtime\":\"2026-01-31T12:00:00Z\",\"chunks\":0,"
        "\"digest\":\"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=\"}",
        digest + strlen("sha256:"));
    damage(pipeline_put(&p, meta, other, ROLLUP, NULL), object, object_is(meta, bytes));

    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
    ck_assert_int_eq(pipeline_readyz(&p), 200);
    pipeline_stop(&p);
}
END_TEST

static bool is_gone(const char *stream, const char *subject)
{
    natsMsg *msg = pipeline_last(&p, stream, subject);
    const bool gone = msg == NULL;

    natsMsg_Destroy(msg);
    return gone;
}

/* Nothing in the stream tells of a purge: only a comparison finds it. */
START_TEST(test_purged_key)
{
    pipeline_make_nodes(&p, 3);
    pipeline_start(&p, (const char *[]){"--compare-interval", "2s", NULL});
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert(!is_gone("KV_headwater", DESIRED "n2"));
    pipeline_purge(&p, "KV_headwater", DESIRED "n2"); /* perhaps in front of the next comparison */
    test_wait_for(drift() >= 1, 30);
    test_wait_for(pipeline_up_to_date(&p, "n2", 1), 20);
    ck_assert(pipeline_log_says(&p, "repairing an entry that is not what the database says"));
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* An entry of a stranger, on top of ours, hides that a transaction was published already. */
START_TEST(test_hidden_fence)
{
    pipeline_make_nodes(&p, 3);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(leads_and_compared(), 30);
    HW_AUTO_FREE char *checkpoint = pipeline_value(&p, "KV_headwater", CHECKPOINT);
    change_content(5);
    pipeline_wait_until_caught_up(&p);
    ck_assert(WIFSIGNALED(test_program_stop(&p.reconciler, SIGKILL)));

    pipeline_put(&p, DESIRED "n1", "{}", NULL);
    pipeline_put(&p, DESIRED "n2", "", DELETION, NULL);
    /* As if the checkpoint had not covered them yet. */
    pipeline_put(&p, CHECKPOINT, checkpoint, NULL);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "replayed from the log"), 30);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_equal(&p));
    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    ck_assert_uint_ge(all.count, 3 * 6 + 2);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
    pipeline_stop(&p);
}
END_TEST

/* ---- objects that nothing refers to ---- */

START_TEST(test_objects_are_collected)
{
    pipeline_make_nodes(&p, 2);
    pipeline_start(&p, (const char *[]){"--compare-interval", "1s", "--gc-grace", "1s", NULL});
    HW_AUTO_FREE char *first = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *first_meta = pipeline_object_subject(first);
    test_wait_for(object_is(first_meta, "SHA-256="), 20);
    pipeline_set_content(&p, "{\"a\":1}");
    HW_AUTO_FREE char *second = test_sql(&p.pg, "SELECT min(digest) FROM headwater.desired");
    HW_AUTO_FREE char *second_meta = pipeline_object_subject(second);
    ck_assert_str_ne(first, second);
    test_wait_for(object_is(second_meta, "SHA-256="), 30);
    test_wait_for(!object_is(first_meta, "SHA-256="), 30);
    ck_assert(object_is(second_meta, "SHA-256="));
    test_wait_for((int)pipeline_metric(&p, "headwater_reconciler_collected_objects_total") == 1,
                  30);

    /* Chunks that have no description, as a crash in between leaves them. */
    pipeline_put(&p, "$O.headwater.C.leftover", "some bytes", NULL);
    test_wait_for(is_gone("OBJ_headwater", "$O.headwater.C.leftover"), 30);

    /* What is desired stays, however often is looked. */
    const double comparisons = pipeline_metric(&p, "headwater_reconciler_comparisons_total");
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_comparisons_total") >= comparisons + 3,
                  30);
    ck_assert(object_is(second_meta, "SHA-256="));
    ck_assert_int_eq((int)pipeline_metric(&p, "headwater_reconciler_collected_objects_total"), 1);

    /* Content that comes back is put again, and the other one goes. */
    pipeline_set_content(&p, "{\"a\":0}");
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
    return test_sql_is(&p.pg, "lost",
                       "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'headwater'");
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
    return test_sql_is(&p.pg, "1",
                       "SELECT count(*) FROM pg_replication_slots"
                       " WHERE slot_name = 'headwater_archive'");
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
    pipeline_make_nodes(&p, 3);
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
    ck_assert(pipeline_equal(&p)); /* waits for what is on its way */
    ck_assert(pipeline_up_to_date(&p, "n1", 1));
    pipeline_set_content(&p, "{\"a\":\"and on\"}");
    test_wait_for(pipeline_up_to_date(&p, "n3", 1), 20);
    pipeline_wait_until_caught_up(&p); /* the other nodes' entries, too */
    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
}

START_TEST(test_slot_dropped)
{
    lead_once();
    pipeline_stop(&p);
    pipeline_set_content(&p, "{\"a\":1}");
    test_postgres_drop_slot(&p.pg, "headwater");
    test_postgres_drop_slot(&p.pg, "headwater_archive");
    pipeline_set_content(&p, "{\"a\":2}");
    recover_without_slot("it does not exist any more", "recovery=rebuild");
    pipeline_stop(&p);
}
END_TEST

/* What the slot would have brought comes from its archive, each revision of its own. */
START_TEST(test_slot_dropped_and_its_archive_kept)
{
    lead_once();
    test_wait_for(archive_exists(), 20);
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    pipeline_stop(&p);
    pipeline_set_content(&p, "{\"a\":1}");
    test_postgres_drop_slot(&p.pg, "headwater");
    pipeline_set_content(&p, "{\"a\":2}");
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
    pipeline_set_content(&p, "{\"a\":1}");
    lose_slot();
    pipeline_set_content(&p, "{\"a\":2}");
    recover_without_slot("max_slot_wal_keep_size", "recovery=rebuild");
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_slot_lost_and_left_to_the_operator)
{
    lead_once();
    pipeline_stop(&p);
    pipeline_set_content(&p, "{\"a\":1}");
    lose_slot();
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    pipeline_start(&p, (const char *[]){"--on-lost-slot", "stop", NULL});
    test_wait_for(pipeline_log_says(&p, "SELECT pg_drop_replication_slot('headwater')"), 30);
    /* It is tried again and again, and said once. */
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_failures_total") >= 3, 30);
    ck_assert_int_eq(
        pipeline_times_in_log(&p.reconciler, "SELECT pg_drop_replication_slot('headwater')"), 1);
    ck_assert(pipeline_log_says(&p, "start with --on-lost-slot resync"));
    ck_assert_int_eq(pipeline_readyz(&p), 503);
    ck_assert(test_program_running(&p.reconciler));
    ck_assert(slot_is_lost());
    ck_assert_uint_eq(pipeline_last_seq(&p, "KV_headwater"), before);

    test_postgres_drop_slot(&p.pg, "headwater");
    pipeline_stop(&p);
    recover_without_slot("it does not exist any more", "recovery=rebuild");
    pipeline_stop(&p);
}
END_TEST

START_TEST(test_plugin_disallowed)
{
    HW_AUTO_FREE char *known =
        test_sql(&p.pg, "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'");

    if (known == NULL) {
        puts("not tested: this server has no output_plugin_libraries");
        return;
    }
    lead_once();
    free(test_sql(&p.pg, "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput'"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    free(test_sql(&p.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication"));
    test_wait_for(pipeline_readyz(&p) == 503 && pipeline_log_says(&p, "output_plugin_libraries"),
                  30);
    pipeline_set_content(&p, "{\"a\":1}");
    ck_assert(!pipeline_up_to_date(&p, "n1", 1));
    free(test_sql(&p.pg, "ALTER SYSTEM RESET output_plugin_libraries"));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    test_wait_for(pipeline_readyz(&p) == 200, 30);
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

    pipeline_make_nodes(&p, 3);
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
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    test_wait_for(pipeline_last_seq(&p, "KV_headwater") > before + 200, 30);
    kill(p.reconciler.pid, SIGSTOP);
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result))
        ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQfinish(conn);
    pipeline_set_content(&p, "{\"a\":\"the other one\"}");
    /* wal_sender_timeout frees the slot, and the standby looks twice a second. */
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 120); /* usually 10 s */
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

/* ---- agents ---- */

struct node {
    struct test_program agent;
    char *dir, *output, *count;
};

static void start_agent(struct node *n, const char *name)
{
    n->dir = test_temp_dir();
    n->output = hw_sprintf("%s/config", n->dir);
    n->count = hw_sprintf("%s/count", n->dir);
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", n->dir);
    /* Each run of the command adds one byte. */
    HW_AUTO_FREE char *apply = hw_sprintf("sh -c 'printf x >> %s'", n->count);
    const char *const argv[] = {
        "headwater-agent", "--nats",      p.nats.url, "--node",  name,  "--output",
        n->output,         "--state-dir", state,      "--apply", apply, NULL};

    test_program_start(&n->agent, argv, NULL);
}

static void stop_agent(struct node *n)
{
    pipeline_stop_program(&n->agent);
    free(n->dir);
    free(n->output);
    free(n->count);
}

static bool runs(const struct node *n, const char *content)
{
    HW_AUTO_FREE char *file = test_read_file(n->output);

    return strstr(file, content) != NULL;
}

static size_t applies(const struct node *n)
{
    HW_AUTO_FREE char *bytes = test_read_file(n->count);

    return strlen(bytes);
}

static bool reports_epoch(const char *epoch)
{
    return test_sql_is(&p.pg, epoch,
                       "SELECT running_epoch FROM headwater.reported WHERE node = 'n1'");
}

/* ---- another history of the database ---- */

/* The server's data becomes what was copied of it. */
static void restore_database(const char *copy, const char *data)
{
    test_postgres_stop(&p.pg);
    put_back(copy, data);
    test_postgres_restart(&p.pg);
}

/* On the same timeline, nothing tells an older state that was put back on purpose from a server
 * that lags behind: a person does. */
static void take_over(void)
{
    HW_AUTO_FREE char *said = NULL;

    test_wait_for(pipeline_readyz(&p) == 503 &&
                      pipeline_log_says(&p, "this database lacks the checkpoint's last change"),
                  30);
    ck_assert_msg(
        test_program_run((const char *[]){"headwater-reconciler", "take-over", "--database",
                                          p.pg.reconciler_url, "--nats", p.nats.url, NULL},
                         NULL, NULL, &said) == 0,
        "%s", said);
}

START_TEST(test_database_restored)
{
    HW_AUTO_FREE char *data = hw_sprintf("%s/data", p.pg.dir);
    HW_AUTO_FREE char *copy = hw_sprintf("%s/copy", p.pg.dir);

    lead_once();
    test_postgres_stop(&p.pg);
    copy_tree(data, copy);
    test_postgres_restart(&p.pg);
    free(test_sql(&p.pg, "INSERT INTO headwater.node (name) VALUES ('n4')"));
    change_content(10);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n4", 1));

    restore_database(copy, data);
    take_over();
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 30);
    ck_assert(pipeline_equal(&p)); /* n4 is gone, too */
    ck_assert(pipeline_up_to_date(&p, "n2", 2) && pipeline_up_to_date(&p, "n3", 2));
    change_content(3);
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 2));

    restore_database(copy, data);
    take_over();
    test_wait_for(pipeline_up_to_date(&p, "n1", 3), 30);
    ck_assert(pipeline_equal(&p));
    pipeline_set_content(&p, "{\"a\":\"third\"}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 3));

    /* And when nobody looks before its log is longer than the other one was. */
    pipeline_stop(&p);
    restore_database(copy, data);
    change_content(100);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "msg=started"), 30);
    take_over();
    test_wait_for(pipeline_up_to_date(&p, "n1", 4), 30);
    ck_assert(pipeline_equal(&p));
    struct pipeline_messages all = pipeline_messages(&p, 0, DESIRED);
    pipeline_fences_grow(&all);
    pipeline_messages_free(&all);
    pipeline_stop(&p);
}
END_TEST

/* The standby takes the place of the server, at its address. All that the server committed came to
 * it, for a server that is shut down waits for that. */
static void fail_over(struct test_postgres *standby)
{
    test_postgres_stop(&p.pg);
    test_standby_promote(standby);
    test_postgres_stop(standby);
    standby->port = p.pg.port;
    snprintf(standby->url, sizeof(standby->url), "%s", p.pg.url);
    test_postgres_restart(standby);
    snprintf(standby->reconciler_url, sizeof(standby->reconciler_url), "%s", p.pg.reconciler_url);
    snprintf(standby->api_url, sizeof(standby->api_url), "%s", p.pg.api_url);
    test_remove_tree(p.pg.dir);
    p.pg = *standby;
}

START_TEST(test_standby_promoted)
{
    struct test_postgres standby;
    struct node n1;

    lead_once();
    start_agent(&n1, "n1");
    test_wait_for(reports_epoch("1"), 30);
    test_standby_start(&p.pg, NULL, NULL, &standby);
    pipeline_set_content(&p, "{\"a\":\"first\"}");
    test_wait_for(runs(&n1, "first"), 20);
    pipeline_wait_until_caught_up(&p);
    HW_AUTO_FREE char *old = pipeline_value(&p, "KV_headwater", DESIRED "n1");
    natsMsg *msg = pipeline_last(&p, "KV_headwater", DESIRED "n1");
    const char *lsn = NULL;
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Headwater-LSN", &lsn), NATS_OK);
    HW_AUTO_FREE char *old_lsn = hw_strdup(lsn);
    natsMsg_Destroy(msg);
    test_wait_for(test_sql_is(&standby, "t", "SELECT pg_last_wal_replay_lsn() >= '%s'", old_lsn),
                  30);

    fail_over(&standby);
    /* Nothing was lost: it is one history, and one epoch. */
    test_wait_for(pipeline_times_in_log(&p.reconciler, compared) > 1, 60);
    ck_assert(pipeline_up_to_date(&p, "n1", 1));
    pipeline_set_content(&p, "{\"a\":\"second\"}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    ck_assert(pipeline_equal(&p));
    test_wait_for(runs(&n1, "second"), 20);

    /* Of the time before, put in while nobody is there to repair it. */
    pipeline_stop(&p);
    const size_t before = applies(&n1);
    pipeline_put(&p, DESIRED "n1", old, "Headwater-Epoch", "1", "Headwater-LSN", old_lsn, NULL);
    test_wait_for(pipeline_times_in_log(
                      &n1.agent, "refused a desired entry older than one accepted before") > 0,
                  30);
    ck_assert(runs(&n1, "second"));
    ck_assert_uint_eq(applies(&n1), before);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    ck_assert(pipeline_equal(&p));
    stop_agent(&n1);
    pipeline_stop(&p);
}
END_TEST

/* ---- replays that are asked for ---- */

static bool replays(int times)
{
    return pipeline_times_in_log(&p.reconciler, "replayed from the log") == times;
}

START_TEST(test_replay_asked_for)
{
    lead_once();
    test_wait_for(archive_exists(), 20);
    uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    HW_AUTO_FREE char *from = test_sql(&p.pg, "SELECT pg_current_wal_insert_lsn()::text");
    change_content(6);
    pipeline_wait_until_caught_up(&p);
    struct pipeline_messages of_n1 = pipeline_messages(&p, before, DESIRED "n1");
    ck_assert_uint_eq(of_n1.count, 6);

    /* In SQL. The others have what they have, and get nothing. */
    pipeline_purge(&p, "KV_headwater", DESIRED "n1");
    before = pipeline_last_seq(&p, "KV_headwater");
    free(test_sql(&p.pg, "SELECT headwater.replay('%s')", from));
    test_wait_for(replays(1), 30);
    pipeline_wait_until_caught_up(&p);
    struct pipeline_messages found = pipeline_messages(&p, before, DESIRED);
    pipeline_same_revisions(&of_n1, &found);
    pipeline_messages_free(&found);
    /* Behind the comparison that follows, nothing notices a purge. */
    test_wait_for(pipeline_times_in_log(&p.reconciler, compared) > 1, 30);

    /* On the command line: first what there would be … */
    pipeline_purge(&p, "KV_headwater", DESIRED "n1");
    before = pipeline_last_seq(&p, "KV_headwater");
    HW_AUTO_FREE char *contents = NULL;
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-cdc", "replay", "--dry-run", "--database",
                                          p.pg.reconciler_url, "--from", from, NULL},
                         NULL, NULL, &contents),
        0);
    ck_assert_msg(strstr(contents, "nodes         3") != NULL, "%s", contents);
    free(test_sql(&p.pg, "SELECT headwater.heartbeat()"));
    pipeline_wait_until_caught_up(&p);
    found = pipeline_messages(&p, before, DESIRED);
    ck_assert_uint_eq(found.count, 0);
    pipeline_messages_free(&found);
    ck_assert(replays(1));

    /* … and then it. */
    HW_AUTO_FREE char *progress = NULL;
    const int status = test_program_run((const char *[]){"headwater-cdc", "replay", "--database",
                                                         p.pg.reconciler_url, "--from", from, NULL},
                                        NULL, NULL, &progress);
    ck_assert_msg(status == 0, "%s", progress);
    HW_AUTO_FREE char *summary = hw_sprintf("replayed %s to ", from);
    ck_assert_msg(strstr(progress, summary) != NULL, "%s", progress);
    ck_assert(replays(2));
    pipeline_wait_until_caught_up(&p);
    found = pipeline_messages(&p, before, DESIRED);
    pipeline_same_revisions(&of_n1, &found);
    pipeline_messages_free(&found);
    pipeline_messages_free(&of_n1);
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* ---- NATS lost whole ---- */

START_TEST(test_nats_wiped_in_the_second_epoch)
{
    struct node n1;

    lead_once();
    pipeline_stop(&p);
    /* Ahead of the database: it was restored. */
    pipeline_put(&p, DESIRED "n2", "{}", "Headwater-Epoch", "1", "Headwater-LSN", "FFFF/0", NULL);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n2", 2), 30);
    pipeline_set_content(&p, "{\"a\":2}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 30);
    start_agent(&n1, "n1");
    test_wait_for(reports_epoch("2"), 30);
    pipeline_wait_until_caught_up(&p);
    const size_t before = applies(&n1);
    ck_assert_uint_gt(before, 0);

    pipeline_stop_nats(&p);
    test_nats_wipe(&p.nats);
    pipeline_restart_nats(&p);
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 60);
    ck_assert(pipeline_equal(&p)); /* waits until the others are there, too */
    ck_assert(pipeline_up_to_date(&p, "n2", 2) && pipeline_up_to_date(&p, "n3", 2));
    /* The agent is back as well, and reports; what it runs is what is desired. */
    HW_AUTO_FREE char *report = NULL;
    test_wait_for((report = pipeline_value(&p, "KV_headwater_reports", REPORTED "n1")) != NULL, 60);
    ck_assert_msg(strstr(report, "\"applied\"") != NULL, "%s", report);
    pipeline_set_content(&p, "{\"a\":\"and on\"}");
    test_wait_for(runs(&n1, "and on"), 30);
    test_wait_for(applies(&n1) == before + 1, 30);
    test_wait_for(reports_epoch("2"), 20);
    stop_agent(&n1);
    pipeline_stop(&p);
}
END_TEST

/* All is lost but a backup of the database: what the nodes have had since is in no place that can
 * be read, except for what they say. */
START_TEST(test_all_lost_but_a_backup)
{
    HW_AUTO_FREE char *data = hw_sprintf("%s/data", p.pg.dir);
    HW_AUTO_FREE char *copy = hw_sprintf("%s/copy", p.pg.dir);
    struct node n1;

    lead_once();
    pipeline_stop(&p);
    test_postgres_stop(&p.pg);
    copy_tree(data, copy);
    test_postgres_restart(&p.pg);
    pipeline_start(&p, NULL);
    start_agent(&n1, "n1");
    pipeline_set_content(&p, "{\"a\":\"lost\"}");
    change_content(20);
    pipeline_set_content(&p, "{\"a\":\"lost, too\"}");
    pipeline_wait_until_caught_up(&p);
    test_wait_for(runs(&n1, "lost, too"), 30);
    pipeline_stop(&p);

    pipeline_stop_nats(&p);
    test_nats_wipe(&p.nats);
    restore_database(copy, data);
    HW_AUTO_FREE char *restored = test_sql(&p.pg, "SELECT content FROM headwater.config");
    pipeline_restart_nats(&p);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_log_says(&p, "nodes refuse what is older"), 60);
    test_wait_for(pipeline_up_to_date(&p, "n1", 2), 60);
    test_wait_for(runs(&n1, restored), 60);
    ck_assert(pipeline_equal(&p));
    ck_assert(pipeline_up_to_date(&p, "n2", 2) && pipeline_up_to_date(&p, "n3", 2));
    pipeline_set_content(&p, "{\"a\":\"and on\"}");
    test_wait_for(runs(&n1, "and on"), 30);
    test_wait_for(reports_epoch("2"), 20);

    /* A node that names an epoch which cannot be is not believed. */
    pipeline_put(&p, REPORTED "n2",
                 "{\"node\":\"n2\",\"state\":\"applied\",\"running\":{\"revision\":1,\"digest\":"
                 "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
                 "\"epoch\":4000000000,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"}}",
                 NULL);
    test_wait_for(pipeline_log_says(&p, "names an epoch that cannot be"), 30);
    pipeline_set_content(&p, "{\"a\":\"still the second\"}");
    test_wait_for(runs(&n1, "still the second"), 30);
    test_wait_for(reports_epoch("2"), 20);
    stop_agent(&n1);
    pipeline_stop(&p);
}
END_TEST

/* ---- a transaction that is larger than what is in flight ---- */

/* Has the stream come so far? Sees how much memory is resident meanwhile. */
static bool reached(uint64_t seq, long *most_kib)
{
    const long now = test_own_kib(p.reconciler.pid);

    if (now > *most_kib)
        *most_kib = now;
    return pipeline_last_seq(&p, "KV_headwater") >= seq;
}

START_TEST(test_large_transaction_under_kill)
{
    enum { NODES = SANITIZED ? 10000 : 100000, KILLS = SANITIZED ? 3 : 10 };
    long most = 0;

    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(leads_and_compared(), 30);
    pipeline_wait_until_caught_up(&p);
    pipeline_stop(&p);
    free(test_sql(&p.pg,
                  "INSERT INTO headwater.node (name)"
                  " SELECT 'x' || i FROM generate_series(1, %d) i",
                  NODES));
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    for (int i = 0; i < KILLS; i++) {
        const uint64_t last = pipeline_last_seq(&p, "KV_headwater");
        const uint64_t some = 1 + arc4random_uniform(NODES / (KILLS + 1));

        pipeline_start(&p, NULL);
        test_wait_for(reached(last + some, &most), 60);
        ck_assert(WIFSIGNALED(test_program_stop(&p.reconciler, SIGKILL)));
    }
    pipeline_start(&p, NULL);
    test_wait_for(reached(before + NODES, &most) && leads_and_compared(), 90);
    pipeline_wait_until_caught_up(&p);
    ck_assert_msg(SANITIZED || most < 150L * 1024, "%ld KiB", most);
    ck_assert(pipeline_equal(&p));
    ck_assert(!pipeline_log_says(&p, "repairing an entry"));
    struct pipeline_messages found = pipeline_messages(&p, before, DESIRED);
    pipeline_fences_grow(&found);
    ck_assert_uint_eq(found.count, NODES);
    for (size_t i = 1; i < found.count; i++)
        ck_assert_int_eq(hw_fence_compare(found.list[i].fence, found.list[0].fence), 0);
    pipeline_messages_free(&found);
    pipeline_stop(&p);
}
END_TEST

TEST_MAIN_BETWEEN("recovery paths", 300, setup, teardown, test_nats_rolled_back, test_drift,
                  test_purged_key, test_hidden_fence, test_objects_are_collected, test_slot_dropped,
                  test_slot_dropped_and_its_archive_kept, test_slot_lost,
                  test_slot_lost_and_left_to_the_operator, test_plugin_disallowed,
                  test_frozen_leader, test_database_restored, test_standby_promoted,
                  test_replay_asked_for, test_nats_wiped_in_the_second_epoch,
                  test_all_lost_but_a_backup, test_large_transaction_under_kill)
