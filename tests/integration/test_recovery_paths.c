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

int main(void)
{
    const TTest *const tests[] = {
        test_nats_rolled_back,
        test_drift,
        test_purged_key,
        test_objects_are_collected,
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
