/*
 * Whose bucket it is, with real databases: each case of the table in docs/operations.md, the
 * deliberate take-over, and a leader that yields. tests/unit/test_reconciler_ownership.c has the
 * table itself.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/copies.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/standby.h"
#include "tests/support/suite.h"

enum { SOON_S = 60, AFTER_S = 3 };

static const char back[] = "standing back: the bucket is somebody else's";
static const char waiting[] = "waiting: the bucket is another database's";
static const char *const after[] = {"--take-over-after", "3s", NULL};

/* Two databases with a reconciler each, and one NATS for both. */
static struct test_pipeline a, b;

/* The program listens when this returns. */
static void start(struct test_pipeline *p, const char *const options[])
{
    pipeline_start(p, options);
    test_wait_for(pipeline_log_says(p, "msg=started"), SOON_S);
}

/* A leads; n1 to n3 have what it says. */
static void setup(void)
{
    pipeline_open(&a, NULL);
    pipeline_make_nodes(&a, 3);
    start(&a, NULL);
    test_wait_for(pipeline_readyz(&a) == 200, SOON_S);
    pipeline_wait_until_caught_up(&a);
    b = a;
    b.pg = (struct test_postgres){0};
    b.monitor = test_free_port();
}

static void teardown(void)
{
    if (b.pg.pid != 0)
        test_postgres_remove(&b.pg);
    pipeline_close(&a);
}

/* ---- asking ---- */

static bool readyz_is(const struct test_pipeline *p, int status, const char *word)
{
    struct test_answer answer = test_http(p->monitor, "GET", "/readyz", NULL, NULL, 0);
    const bool right = answer.status == status && strstr(answer.body, word) != NULL;

    test_answer_free(&answer);
    return right;
}

static int times(const struct test_pipeline *p, const char *text)
{
    return pipeline_times_in_log(&p->reconciler, text);
}

static int epoch(void)
{
    HW_AUTO_FREE char *value = pipeline_value(&a, "KV_headwater", CHECKPOINT);
    const char *at = value != NULL ? strstr(value, "\"epoch\":") : NULL;

    return at != NULL ? (int)strtol(at + strlen("\"epoch\":"), NULL, 10) : 0;
}

/* What is in the checkpoint, as text. */
static bool checkpoint_has(const char *text)
{
    HW_AUTO_FREE char *value = pipeline_value(&a, "KV_headwater", CHECKPOINT);

    return value != NULL && strstr(value, text) != NULL;
}

/* It stands back, is not ready, says so once, names both databases and the command; and made
 * nothing. */
static void expect_back(const struct test_pipeline *p, const char *said, const char *why)
{
    HW_AUTO_FREE char *ours = hw_sprintf("127.0.0.1:%d/", a.pg.port);
    HW_AUTO_FREE char *theirs = hw_sprintf("127.0.0.1:%d/", b.pg.port);

    test_wait_for(readyz_is(p, 503, why), SOON_S);
    ck_assert(pipeline_log_says(p, said));
    ck_assert(readyz_is(p, 503, "headwater-reconciler take-over --bucket headwater --slot "));
    ck_assert_msg(readyz_is(p, 503, ours) && readyz_is(p, 503, theirs), "it does not name both");
    ck_assert_int_eq(times(p, "msg=leading"), 0);
    ck_assert(test_sql_is(&p->pg, "f",
                          "SELECT EXISTS (SELECT FROM pg_replication_slots"
                          " WHERE database <> 'headwater' OR NOT active AND slot_name !~ 'archive')"
                          " AND %d <> %d",
                          p->pg.port, a.pg.port));
}

/* The messages of nodes' keys. */
static size_t entries(void)
{
    struct pipeline_messages all = pipeline_messages(&a, 0, DESIRED);
    const size_t count = all.count;

    pipeline_messages_free(&all);
    return count;
}

static int take_over(const struct test_pipeline *p, const char *option, char **said)
{
    return test_program_run((const char *[]){"headwater-reconciler", "take-over", "--database",
                                             p->pg.reconciler_url, "--nats", p->nats.url,
                                             "--log-level", "error", option, NULL},
                            NULL, NULL, said);
}

/* ---- two databases of one server ---- */

/* A stands and B stands back, for as long as both run. */
START_TEST(test_a_healthy_leader_stands)
{
    free(test_sql(&a.pg, "CREATE DATABASE other TEMPLATE template0"));
    HW_AUTO_FREE char *load =
        hw_sprintf("for f in sql/migrations/*.sql; do psql -X -q -v ON_ERROR_STOP=1 -d "
                   "postgresql://postgres@127.0.0.1:%d/other -f $f || exit 1; done",
                   a.pg.port);
    ck_assert_int_eq(test_program_run((const char *[]){"sh", "-c", load, NULL}, NULL, NULL, NULL),
                     0);
    b.pg = a.pg;
    snprintf(b.pg.url, sizeof(b.pg.url), "postgresql://postgres@127.0.0.1:%d/other", a.pg.port);
    snprintf(b.pg.reconciler_url, sizeof(b.pg.reconciler_url),
             "postgresql://headwater_reconciler@127.0.0.1:%d/other", a.pg.port);
    pipeline_make_nodes(&b, 3); /* the same names, other content */
    pipeline_set_content(&b, "{\"a\":\"of b\"}");
    const size_t before = entries();

    start(&b, (const char *[]){"--slot", "other", NULL});
    expect_back(&b, back, "a reconciler of another database leads");
    for (const double until = test_now() + 5; test_now() < until; test_pause())
        ck_assert(!pipeline_log_says(&b, "msg=leading"));
    ck_assert_int_eq(epoch(), 1);
    ck_assert_uint_eq(entries(), before);
    ck_assert_int_eq(times(&b, back), 1);
    ck_assert_int_eq(pipeline_readyz(&a), 200);
    ck_assert_int_eq(times(&a, "msg=leading"), 1);
    pipeline_set_content(&a, "{\"a\":1}");
    test_wait_for(pipeline_up_to_date(&a, "n1", 1), SOON_S);

    /* A leader that stands still says nothing; its slot speaks for it. */
    pipeline_wait_until_caught_up(&a);
    const size_t then = entries();
    kill(a.reconciler.pid, SIGSTOP);
    test_wait_for(pipeline_log_says(&b, "Two slots must not write one bucket"), SOON_S);
    kill(a.reconciler.pid, SIGCONT);
    test_wait_for(readyz_is(&b, 503, "a reconciler of another database leads"), SOON_S);

    /* Without it, the checkpoint says whose the bucket is, and that is for good. */
    pipeline_stop(&a);
    test_wait_for(readyz_is(&b, 503, "this database lacks the checkpoint's last change"), SOON_S);
    ck_assert_uint_eq(entries(), then);
    pipeline_stop(&b);
    b.pg.pid = 0;
}
END_TEST

/* ---- copies of the files, and promotions ---- */

/* The same cluster on the same timeline, and its changelog has all: only the address tells. */
START_TEST(test_a_clone_waits)
{
    test_postgres_clone(&a.pg, &b.pg);
    start(&b, after);
    expect_back(&b, back, "a reconciler of another database leads");
    ck_assert_int_eq(pipeline_readyz(&a), 200);

    pipeline_stop(&a);
    const double since = test_now();
    test_wait_for(readyz_is(&b, 503, "written from another address"), SOON_S);
    test_wait_for(pipeline_log_says(&b, waiting), SOON_S);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert(test_now() - since > AFTER_S - 1);
    ck_assert(pipeline_equal(&b));

    /* A comes back: it has what the checkpoint says, and B leads. */
    start(&a, NULL);
    expect_back(&a, back, "a reconciler of another database leads");
    /* When B has changed something, A is a stale one, also when nobody leads. */
    pipeline_set_content(&b, "{\"a\":\"of b\"}");
    pipeline_wait_until_caught_up(&b);
    pipeline_stop(&b);
    test_wait_for(readyz_is(&a, 503, "this database lacks the checkpoint's last change"), SOON_S);
    pipeline_stop(&a);
}
END_TEST

START_TEST(test_a_promotion_without_loss_goes_on)
{
    test_standby_start(&a.pg, NULL, NULL, &b.pg);
    pipeline_set_content(&a, "{\"a\":1}");
    pipeline_wait_until_caught_up(&a);
    test_standby_wait(&a.pg, &b.pg);
    pipeline_stop(&a);
    test_standby_wait(&a.pg, &b.pg);
    test_standby_promote(&b.pg);
    start(&b, (const char *[]){"--take-over-after", "never", NULL});
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 1);
    ck_assert(checkpoint_has("\"timeline\":2"));
    pipeline_set_content(&b, "{\"a\":2}");
    test_wait_for(pipeline_up_to_date(&b, "n1", 1), SOON_S);
    pipeline_wait_until_caught_up(&b);
    ck_assert(pipeline_equal(&b));
    test_wait_for(test_sql_is(&b.pg, "2 1",
                              "SELECT concat_ws(' ', timeline, epoch) FROM headwater.epoch"
                              " ORDER BY id DESC LIMIT 1"),
                  SOON_S);

    /* The primary that was replaced comes back: while B leads, and when nobody does. Of the two
     * reasons the timeline is named, and take-over changes it. */
    start(&a, NULL);
    expect_back(&a, back, "a reconciler of another database leads");
    pipeline_stop(&b);
    test_wait_for(readyz_is(&a, 503, "this server was replaced by a promotion"), SOON_S);
    const size_t before = entries();
    for (const double until = test_now() + 2; test_now() < until; test_pause())
        ck_assert(!pipeline_log_says(&a, "msg=leading"));
    ck_assert_uint_eq(entries(), before);
    HW_AUTO_FREE char *said = NULL;
    ck_assert_msg(take_over(&a, NULL, &said) == 0, "%s", said);
    test_wait_for(pipeline_readyz(&a) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 2);
    ck_assert(pipeline_equal(&a));
    pipeline_stop(&a);
}
END_TEST

START_TEST(test_a_promotion_with_loss_begins_an_epoch)
{
    test_standby_start(&a.pg, NULL, NULL, &b.pg);
    test_standby_wait(&a.pg, &b.pg);
    free(test_sql(&b.pg, "ALTER SYSTEM SET primary_conninfo = ''"));
    free(test_sql(&b.pg, "SELECT pg_reload_conf()"));
    test_wait_for(test_sql_is(&a.pg, "0",
                              "SELECT count(*) FROM pg_stat_replication"
                              " WHERE application_name = 'walreceiver'"),
                  SOON_S);
    pipeline_set_content(&a, "{\"a\":\"lost\"}");
    pipeline_wait_until_caught_up(&a);
    test_standby_promote(&b.pg);

    /* While A lives, B stands back. When it does not, B goes on at once, in an epoch of its own. */
    start(&b, (const char *[]){"--take-over-after", "never", NULL});
    expect_back(&b, back, "a reconciler of another database leads");
    ck_assert(test_program_stop(&a.reconciler, SIGKILL) != 0);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 2);
    ck_assert(pipeline_up_to_date(&b, "n1", 2));
    ck_assert(pipeline_equal(&b));

    pipeline_stop(&b);
    start(&a, NULL);
    test_wait_for(pipeline_log_says(&a, back), SOON_S);
    ck_assert_int_eq(epoch(), 2);
    pipeline_stop(&a);
}
END_TEST

/* ---- another cluster ---- */

/* A dump that was restored: the changelog is the same, the cluster is not. */
START_TEST(test_a_restored_dump_waits)
{
    test_postgres_start_other(&b.pg);
    test_postgres_restore_dump(&a.pg, &b.pg);
    start(&b, after);
    expect_back(&b, back, "a reconciler of another database leads");

    pipeline_stop(&a);
    test_wait_for(pipeline_log_says(&b, waiting), SOON_S);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 2);
    ck_assert(pipeline_equal(&b));
    pipeline_set_content(&b, "{\"a\":\"of b\"}");
    test_wait_for(pipeline_up_to_date(&b, "n1", 2), SOON_S);

    /* A comes back: to it, B is the other cluster. It stands back, waits, and never begins with
     * "never". */
    start(&a, (const char *[]){"--take-over-after", "never", NULL});
    expect_back(&a, back, "a reconciler of another database leads");
    pipeline_stop(&b);
    test_wait_for(readyz_is(&a, 503, "the checkpoint is of another database cluster"), SOON_S);
    for (const double until = test_now() + AFTER_S; test_now() < until; test_pause())
        ck_assert(!pipeline_log_says(&a, "msg=leading"));
    ck_assert_int_eq(epoch(), 2);
    pipeline_stop(&a);
}
END_TEST

/* Every node says that it runs the revision with this digest, in this epoch. */
static void report(int revision, const char *digest, int in_epoch)
{
    for (int i = 1; i <= 3; i++) {
        HW_AUTO_FREE char *subject = hw_sprintf(REPORTED "n%d", i);
        HW_AUTO_FREE char *value = hw_sprintf(
            "{\"node\":\"n%d\",\"state\":\"applied\",\"running\":{\"revision\":%d,\"digest\":\"%"
            "s\","
            "\"epoch\":%d,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null,"
            "\"desired_revision\":%d,\"agent\":\"a\",\"boot_id\":\"b\","
            "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
            i, revision, digest, in_epoch, revision);

        pipeline_put(&a, subject, value, NULL);
    }
}

static bool all_reported(const struct test_postgres *pg, int revision, int in_epoch)
{
    return test_sql_is(pg, "3",
                       "SELECT count(*) FROM headwater.reported"
                       " WHERE running_revision = %d AND running_epoch = %d",
                       revision, in_epoch);
}

/* The status of a wait for a position, and how many nodes are pending; or applied, where none is.
 */
static int wait_for(const struct test_api *api, const char *lsn, const char *timeout, int *nodes)
{
    HW_AUTO_FREE char *target = hw_sprintf("/v1/wait?lsn=%s&timeout=%s", lsn, timeout);
    struct test_answer answer = test_http(api->port, "GET", target, NULL, NULL, 0);
    HW_AUTO_JSON json_t *object = json_loads(answer.body, 0, NULL);
    const int status = answer.status;

    *nodes =
        (int)json_integer_value(json_object_get(object, status == 200 ? "applied" : "pending"));
    test_answer_free(&answer);
    return status;
}

/* What the old server committed behind the dump is lost, and so are its positions and revisions: no
 * node has applied what was never sent to it, whatever number it names. */
START_TEST(test_a_lost_history_counts_for_nothing)
{
    struct test_api api;
    int nodes;

    /* Positions of the old server, far ahead of those of the new one. */
    for (int i = 0; i < 8; i++)
        free(test_sql(&a.pg, "SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()"));
    pipeline_set_content(&a, "{\"a\":1}");
    pipeline_wait_until_caught_up(&a);
    test_postgres_start_other(&b.pg);
    test_postgres_restore_dump(&a.pg, &b.pg);
    ck_assert(test_sql_is(&b.pg, "t",
                          "SELECT min(wal_lsn) > pg_current_wal_insert_lsn()"
                          " FROM headwater.desired"));
    pipeline_set_content(&a, "{\"a\":2}");
    pipeline_set_content(&a, "{\"a\":3}");
    HW_AUTO_FREE char *lost = test_sql(&a.pg, "SELECT min(digest) FROM headwater.desired");
    report(4, lost, 1);
    test_wait_for(all_reported(&a.pg, 4, 1), SOON_S);
    pipeline_wait_until_caught_up(&a);
    pipeline_stop(&a);

    /* Changed before anybody leads here: a wait for it is no shorter. */
    HW_AUTO_FREE char *before = test_sql(&b.pg, "SELECT pg_current_wal_insert_lsn()");
    pipeline_set_content(&b, "{\"a\":\"of b\"}");
    HW_AUTO_FREE char *now = test_sql(&b.pg, "SELECT pg_current_wal_insert_lsn()");

    start(&b, after);
    test_wait_for(pipeline_log_says(&b, waiting), SOON_S);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 2);
    test_wait_for(all_reported(&b.pg, 4, 1), SOON_S);
    test_wait_for(test_sql_is(&b.pg, "2", "SELECT max(epoch) FROM headwater.epoch"), SOON_S);
    HW_AUTO_FREE char *digest = test_sql(&b.pg, "SELECT min(digest) FROM headwater.desired");

    /* What there was before this server is before its positions. */
    ck_assert(test_sql_is(&b.pg, "2",
                          "SELECT revision FROM headwater.desired_at('n1', '%s'::pg_lsn)", before));
    ck_assert(test_sql_is(&b.pg, "3",
                          "SELECT revision FROM headwater.desired_at('n1', '%s'::pg_lsn)", now));
    test_api_start(&api, b.pg.api_url, NULL);
    ck_assert_int_eq(wait_for(&api, now, "500ms", &nodes), 504);
    ck_assert_int_eq(nodes, 3);
    /* The same bytes, and yet said of the history that is no more. */
    report(3, digest, 1);
    test_wait_for(all_reported(&b.pg, 3, 1), SOON_S);
    ck_assert_int_eq(wait_for(&api, now, "500ms", &nodes), 504);
    report(3, digest, 2);
    ck_assert_int_eq(wait_for(&api, now, "60s", &nodes), 200);
    ck_assert_int_eq(nodes, 3);
    test_api_stop(&api);
    pipeline_stop(&b);
}
END_TEST

/* A database that has nothing to do with the one before. */
START_TEST(test_a_stranger_waits_and_takes_over)
{
    HW_AUTO_FREE char *said = NULL, *again = NULL;

    test_postgres_start_other(&b.pg);
    pipeline_make_nodes(&b, 2);
    pipeline_set_content(&b, "{\"a\":\"of b\"}");
    start(&b, (const char *[]){"--take-over-after", "never", NULL});
    expect_back(&b, back, "a reconciler of another database leads");

    /* On purpose, at once, under a leader at work: who stands back for good now is A. */
    ck_assert_msg(take_over(&b, "--json", &said) == 0, "%s", said);
    HW_AUTO_JSON json_t *object = NULL;
    ck_assert_int_eq(hw_json_parse_object(said, strlen(said), &object, NULL), HW_OK);
    ck_assert(json_is_true(json_object_get(object, "taken")));
    ck_assert_int_eq(json_integer_value(json_object_get(object, "epoch")), 2);
    HW_AUTO_FREE char *from = hw_sprintf("127.0.0.1:%d/headwater", a.pg.port);
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(object, "from")), from));
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    test_wait_for(pipeline_log_says(&a, back), SOON_S);
    ck_assert_int_eq(pipeline_readyz(&a), 503);
    ck_assert_int_eq(epoch(), 2);
    ck_assert(pipeline_equal(&b));

    /* Once more changes nothing. */
    ck_assert_msg(take_over(&b, NULL, &again) == 0, "%s", again);
    ck_assert_ptr_nonnull(strstr(again, "nothing was done"));
    ck_assert_int_eq(epoch(), 2);
    ck_assert_int_eq(times(&b, "msg=leading"), 1);
    pipeline_stop(&a);
    pipeline_stop(&b);
}
END_TEST

/* The act holds until somebody comes for whom it was done. */
START_TEST(test_a_take_over_holds_before_its_leader_comes)
{
    HW_AUTO_FREE char *said = NULL;

    test_postgres_start_other(&b.pg);
    pipeline_make_nodes(&b, 2);
    ck_assert_msg(take_over(&b, NULL, &said) == 0, "%s", said);
    test_wait_for(readyz_is(&a, 503, "the bucket was taken over for another database"), SOON_S);
    ck_assert(pipeline_log_says(&a, back));
    ck_assert(checkpoint_has("\"taken_over\":true"));
    start(&b, NULL);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    test_wait_for(!checkpoint_has("taken_over"), SOON_S);
    ck_assert_int_eq(epoch(), 2);
    test_wait_for(readyz_is(&a, 503, "a reconciler of another database leads"), SOON_S);
    pipeline_stop(&a);
    pipeline_stop(&b);
}
END_TEST

/* ---- a leader that yields ---- */

static json_t *ask_leader(void)
{
    natsMsg *answer = NULL;
    json_t *said = NULL;

    if (natsConnection_RequestString(&answer, a.nc, "headwater.leader", "", 10000) == NATS_OK &&
        natsMsg_GetDataLength(answer) > 0)
        ck_assert_int_eq(hw_json_parse_object(natsMsg_GetData(answer),
                                              (size_t)natsMsg_GetDataLength(answer), &said, NULL),
                         HW_OK);
    natsMsg_Destroy(answer);
    return said;
}

static bool leader_says(const char *member, const char *text)
{
    HW_AUTO_JSON json_t *said = ask_leader();
    const char *found = json_string_value(json_object_get(said, member));

    return found != NULL && strstr(found, text) != NULL;
}

START_TEST(test_a_leader_yields)
{
    ck_assert(leader_says("state", "streaming"));
    ck_assert(!leader_says("yielded", ""));
    free(test_sql(&a.pg, "ALTER SYSTEM SET default_transaction_read_only = on"));
    free(test_sql(&a.pg, "SELECT pg_reload_conf()"));
    test_wait_for(leader_says("yielded", "takes no writes"), SOON_S);
    ck_assert(leader_says("state", "yielded"));
    test_wait_for(readyz_is(&a, 503, "takes no writes"), SOON_S);
    ck_assert(test_sql_is(&a.pg, "0", "SELECT count(*) FROM pg_stat_replication"));

    /* It takes the bucket up again by itself, in the same epoch, when it can. */
    free(test_sql(&a.pg, "ALTER SYSTEM RESET default_transaction_read_only"));
    free(test_sql(&a.pg, "SELECT pg_reload_conf()"));
    test_wait_for(pipeline_readyz(&a) == 200, SOON_S);
    ck_assert(leader_says("state", "streaming"));
    ck_assert_int_eq(epoch(), 1);

    /* A standby of it is promoted while it is gone: that one need not wait. */
    test_standby_start(&a.pg, NULL, NULL, &b.pg);
    test_standby_wait(&a.pg, &b.pg);
    test_postgres_stop(&a.pg);
    test_wait_for(leader_says("state", "yielded"), SOON_S);
    test_standby_promote(&b.pg);
    start(&b, (const char *[]){"--take-over-after", "never", NULL});
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    ck_assert(leader_says("state", "streaming") || leader_says("state", "rebuilding"));
    test_postgres_restart(&a.pg);
    test_wait_for(pipeline_log_says(&a, back), SOON_S);
    test_wait_for(pipeline_readyz(&b) == 200, SOON_S);
    pipeline_stop(&a);
    pipeline_stop(&b);
}
END_TEST

/* ---- what older versions wrote ---- */

START_TEST(test_an_older_checkpoint)
{
    HW_AUTO_FREE char *value = NULL;

    pipeline_stop(&a);
    value = pipeline_value(&a, "KV_headwater", CHECKPOINT);
    char *address = strstr(value, ",\"address\"");
    ck_assert_ptr_nonnull(address);
    strcpy(address, "}");
    pipeline_put(&a, CHECKPOINT, value, NULL);
    start(&a, (const char *[]){"--take-over-after", "never", NULL});
    test_wait_for(pipeline_readyz(&a) == 200, SOON_S);
    ck_assert_int_eq(epoch(), 1);
    ck_assert(pipeline_log_says(&a, "recovery=\"resume behind the checkpoint\""));
    pipeline_stop(&a);
}
END_TEST

TEST_MAIN_BETWEEN("ownership", 300, setup, teardown, test_a_healthy_leader_stands,
                  test_a_clone_waits, test_a_promotion_without_loss_goes_on,
                  test_a_promotion_with_loss_begins_an_epoch, test_a_restored_dump_waits,
                  test_a_lost_history_counts_for_nothing, test_a_stranger_waits_and_takes_over,
                  test_a_take_over_holds_before_its_leader_comes, test_a_leader_yields,
                  test_an_older_checkpoint)
