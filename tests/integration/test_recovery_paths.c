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

int main(void)
{
    const TTest *const tests[] = {
        test_nats_rolled_back,
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
