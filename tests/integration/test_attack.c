/*
 * A node that turned bad, direct and behind a leaf node: it has the account that the programs print
 * for a node, another vendor's client and the protocol itself, and does whatever that allows
 * (attack.mjs). After each attack the buckets and all that others have in them are as they were,
 * and what another node reports and proposes, and what is desired of it, arrives as ever. Skipped,
 * with a sentence, where Node.js, npm or its registry is missing.
 */
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/memory.h"
#include "tests/support/accounts.h"
#include "tests/support/agent_program.h"
#include "tests/support/node.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum {
    SKIPPED = 77,
    ARRIVES_S = 5,      /* what others do, with patience */
    CONSUMERS_MOST = 9, /* made while an attack goes on, and until the others were heard */
    ANSWER_MS = 30000,
};

#define PROPOSED "$KV.headwater_reports.cfg.proposed."
#define PREFIX   "edge"

static const char *const attacks[] = {"control_headers", "replies", "rollups",      "expectations",
                                      "newer_headers",   "reads",   "stream_calls", "others",
                                      "bodies",          "fences",  "flood"};
static const char *const streams[] = {"KV_headwater", "KV_headwater_reports", "OBJ_headwater"};

/* The two bad nodes. */
static const struct bad {
    const char *node, *prefix;
} direct = {"bad", ""}, behind_leaf = {"far", PREFIX};

static struct test_pipeline p;
static struct test_nats leaf;
static char *node_dir; /* where the client is installed */
static char *dir;      /* of the servers' configuration */

/* ---- servers ---- */

static char *node_account(const char *node, const char *prefix)
{
    return test_account("headwater-agent", node, prefix, node);
}

static void configure(struct test_nats *nats, const char *name, const char *text)
{
    nats->config = hw_sprintf("%s/%s.conf", dir, name);
    agent_program_write(nats->config, text);
    test_nats_restart(nats);
}

static void start_nats(void)
{
    HW_AUTO_FREE char *core = test_account("headwater-reconciler", NULL, "", "core");
    HW_AUTO_FREE char *one = node_account("n1", "");
    HW_AUTO_FREE char *two = node_account("n2", "");
    HW_AUTO_FREE char *bad = node_account(direct.node, direct.prefix);
    HW_AUTO_FREE char *far = node_account(behind_leaf.node, behind_leaf.prefix);
    const int port = test_free_port();
    HW_AUTO_FREE char *hub =
        hw_sprintf("accounts {\n%s%s%s%s%s}\n"
                   "leafnodes {host: 127.0.0.1, port: %d, authorization: {users: [{user: site, "
                   "password: site, account: \"headwater.far\"}]}}\n",
                   core, one, two, bad, far, port);
    HW_AUTO_FREE char *site =
        hw_sprintf("jetstream {domain: site}\n"
                   "accounts {\"headwater.far\": {users: [{user: far, password: far}]\n%s}\n"
                   "leafnodes {remotes: [{url: \"nats://site:site@127.0.0.1:%d\", account: "
                   "\"headwater.far\"}]}\n",
                   strstr(far, "default_permissions"), port);

    test_nats_start(&p.nats);
    configure(&p.nats, "hub", hub);
    snprintf(p.nats.url, sizeof(p.nats.url), "nats://core:core@127.0.0.1:%d", p.nats.port);
    test_nats_start(&leaf);
    configure(&leaf, "leaf", site);
}

static char *url_of(const struct bad *bad)
{
    return hw_sprintf("nats://%s:%s@127.0.0.1:%d", bad->node, bad->node,
                      bad == &direct ? p.nats.port : leaf.port);
}

static void start_servers(void)
{
    dir = test_temp_dir();
    test_postgres_start(&p.pg, true, NULL);
    start_nats();
    p.monitor = test_free_port();
    pipeline_make_nodes(&p, 2);
    free(test_sql(&p.pg, "INSERT INTO headwater.node (name) VALUES ('bad'), ('far')"));
    pipeline_start(&p, NULL);
}

static void stop_servers(void)
{
    pipeline_stop(&p);
    test_nats_remove(&leaf);
    test_nats_remove(&p.nats);
    test_postgres_remove(&p.pg);
}

/* ---- as a test sees them ---- */

static struct test_pipeline n1, n2; /* connected as these nodes */
static natsSubscription *consumers_made;

/* What nobody but a node that found a way would ask. */
static const char *const forbidden[] = {"$JS.API.STREAM.DELETE.>",  "$JS.API.STREAM.PURGE.>",
                                        "$JS.API.STREAM.UPDATE.>",  "$JS.API.STREAM.MSG.DELETE.>",
                                        "$JS.API.STREAM.RESTORE.>", "$JS.API.CONSUMER.DURABLE.>"};
static natsSubscription *asked[HW_COUNT(forbidden)];

static void connect_as(struct test_pipeline *node, const char *name)
{
    HW_AUTO_FREE char *url = hw_sprintf("nats://%s:%s@127.0.0.1:%d", name, name, p.nats.port);

    test_nats_connect(url, 0, &node->nc, &node->js);
}

/* Each test is a process of its own, which has no threads of another's. */
static void connect_all(void)
{
    test_nats_connect(p.nats.url, 0, &p.nc, &p.js);
    connect_as(&n1, "n1");
    connect_as(&n2, "n2");
    ck_assert_int_eq(natsConnection_SubscribeSync(&consumers_made, p.nc,
                                                  "$JS.EVENT.ADVISORY.CONSUMER.CREATED.>"),
                     NATS_OK);
    for (size_t i = 0; i < HW_COUNT(forbidden); i++)
        ck_assert_int_eq(natsConnection_SubscribeSync(&asked[i], p.nc, forbidden[i]), NATS_OK);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0) && pipeline_up_to_date(&p, "n2", 0), 30);
}

static void disconnect(struct test_pipeline *node)
{
    jsCtx_Destroy(node->js);
    natsConnection_Destroy(node->nc);
}

static void disconnect_all(void)
{
    natsSubscription_Destroy(consumers_made);
    for (size_t i = 0; i < HW_COUNT(forbidden); i++)
        natsSubscription_Destroy(asked[i]);
    disconnect(&n1);
    disconnect(&n2);
    disconnect(&p);
}

static uint64_t heard_by(natsSubscription *sub)
{
    uint64_t count = 0;

    ck_assert_int_eq(natsConnection_FlushTimeout(p.nc, test_patient_ms(ANSWER_MS)), NATS_OK);
    ck_assert_int_eq(natsSubscription_QueuedMsgs(sub, &count), NATS_OK);
    return count;
}

/* An answer of JetStream's own interface, which has messages as data, whatever they look like. */
static json_t *ask(const char *call, const char *stream, const char *body)
{
    HW_AUTO_FREE char *subject = hw_sprintf("$JS.API.%s.%s", call, stream);
    struct hw_error err;
    natsMsg *answer = NULL;
    json_t *root;

    ck_assert_int_eq(
        natsConnection_RequestString(&answer, p.nc, subject, body, test_patient_ms(ANSWER_MS)),
        NATS_OK);
    const enum hw_status status = hw_json_parse_object(
        natsMsg_GetData(answer), (size_t)natsMsg_GetDataLength(answer), &root, &err);
    ck_assert_msg(status == HW_OK, "%s: %s", subject, err.message);
    natsMsg_Destroy(answer);
    return root;
}

/* May a bad node, or the reconciler by itself, have written it meanwhile? What one of them sent may
 * still be dealt with while the other attacks. */
static bool changes(const char *subject)
{
    static const struct bad *const all[] = {&direct, &behind_leaf};

    for (size_t i = 0; i < HW_COUNT(all); i++) {
        HW_AUTO_FREE char *reported = hw_sprintf(REPORTED "%s", all[i]->node);
        HW_AUTO_FREE char *proposed = hw_sprintf(PROPOSED "%s", all[i]->node);
        HW_AUTO_FREE char *decided = hw_sprintf(DECIDED "%s", all[i]->node);

        if (strcmp(subject, reported) == 0 || strcmp(subject, proposed) == 0 ||
            strcmp(subject, decided) == 0)
            return true;
    }
    return strcmp(subject, CHECKPOINT) == 0;
}

/*
 * What a message of another node's key says. A report may name a newer fence than the database can
 * write; the reconciler then raises the epoch now and then, and writes every entry anew. So of an
 * entry its document counts, and not the fence under which it was written.
 */
static json_t *said(json_t *message)
{
    const char *const subject = json_string_value(json_object_get(message, "subject"));
    const char *const data = json_string_value(json_object_get(message, "data"));
    HW_AUTO_FREE unsigned char *text = NULL;
    struct hw_error err;
    json_t *value;
    size_t size;

    if (strncmp(subject, "$KV.headwater.cfg.", strlen("$KV.headwater.cfg.")) != 0 || data == NULL)
        return json_incref(message);
    if (hw_base64_decode(data, strlen(data), &text, &size, &err) != HW_OK ||
        hw_json_parse_object((const char *)text, size, &value, &err) != HW_OK)
        return json_incref(message);
    json_object_del(value, "epoch");
    json_object_del(value, "lsn");
    json_object_del(value, "committed_at");
    return value;
}

/* {"<stream>": {"config", "created", "messages": {"<subject>": the last one}}}, without what the
 * bad nodes may change. */
static json_t *look(void)
{
    json_t *all = json_object();

    for (size_t i = 0; i < HW_COUNT(streams); i++) {
        HW_AUTO_JSON json_t *info = ask("STREAM.INFO", streams[i], "");
        json_t *messages = json_object();

        for (json_int_t seq = 1;;) {
            HW_AUTO_FREE char *next =
                hw_sprintf("{\"seq\":%lld,\"next_by_subj\":\">\"}", (long long)seq);
            HW_AUTO_JSON json_t *answer = ask("STREAM.MSG.GET", streams[i], next);
            json_t *message = json_object_get(answer, "message");
            const char *subject = json_string_value(json_object_get(message, "subject"));

            if (subject == NULL)
                break;
            seq = json_integer_value(json_object_get(message, "seq")) + 1;
            if (!changes(subject))
                json_object_set_new(messages, subject, said(message));
        }
        json_object_set_new(all, streams[i],
                            json_pack("{s:O, s:O, s:o}", "config", json_object_get(info, "config"),
                                      "created", json_object_get(info, "created"), "messages",
                                      messages));
    }
    return all;
}

/* Fails for the first member that differs. */
static void check_equal(const char *what, const json_t *was, const json_t *is)
{
    HW_AUTO_FREE char *old = json_dumps(was, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    HW_AUTO_FREE char *new = json_dumps(is, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    const char *member;
    json_t *value;

    if (json_is_object(was) && json_is_object(is) && json_object_size(was) == json_object_size(is))
        json_object_foreach((json_t *)(uintptr_t)was, member, value)
            check_equal(member, value, json_object_get(is, member));
    ck_assert_msg(json_equal(was, is), "%s was:\n%.1000s\nand is:\n%.1000s", what,
                  old != NULL ? old : "nothing", new != NULL ? new : "nothing");
}

static void check_same(const json_t *before, const json_t *now)
{
    for (size_t i = 0; i < HW_COUNT(streams); i++)
        check_equal(streams[i], json_object_get(before, streams[i]),
                    json_object_get(now, streams[i]));
}

/* What others do arrives as it always did. */
static void check_others_are_served(void)
{
    HW_AUTO_FREE char *word = test_sql(&p.pg, "SELECT 'r' || txid_current()");
    HW_AUTO_FREE char *report = hw_sprintf(
        "{\"node\":\"n1\",\"state\":\"applied\",\"agent\":\"%s\",\"boot_id\":\"b\"}", word);
    HW_AUTO_FREE char *content = hw_sprintf("{\"a\":\"%s\"}", word);
    HW_AUTO_FREE char *proposal =
        hw_sprintf("{\"node\":\"n2\",\"ref\":\"%s\",\"config\":\"c\",\"base_revision\":1,"
                   "\"content\":\"{\\\"b\\\":\\\"%s\\\"}\",\"message\":\"m\"}",
                   word, word);

    pipeline_put(&n1, REPORTED "n1", report, NULL);
    pipeline_put(&n2, PROPOSED "n2", proposal, NULL);
    test_wait_for(
        test_sql_is(&p.pg, word, "SELECT agent FROM headwater.reported WHERE node = 'n1'"),
        ARRIVES_S);
    test_wait_for(test_sql_is(&p.pg, "1",
                              "SELECT count(*) FROM headwater.proposal WHERE node = 'n2' AND "
                              "ref = '%s'",
                              word),
                  ARRIVES_S);
    pipeline_set_content(&p, content);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0) && pipeline_up_to_date(&p, "n2", 0), ARRIVES_S);
}

static void check_nothing_was_asked(uint64_t consumers_before)
{
    for (size_t i = 0; i < HW_COUNT(forbidden); i++)
        ck_assert_msg(heard_by(asked[i]) == 0, "somebody asked %s", forbidden[i]);
    ck_assert_uint_le(heard_by(consumers_made) - consumers_before, CONSUMERS_MOST);
}

/* ---- the attacks ---- */

enum { ARGUMENTS_MOST = 16 };

/* Tells the node more than it can know: where the server delivers to the reconciler. */
static void arguments(const struct bad *bad, const char *attack, char *argv[ARGUMENTS_MOST])
{
    size_t count = 0;

    argv[count++] = hw_strdup("node");
    argv[count++] = hw_sprintf("%s/attack.mjs", node_dir);
    argv[count++] = url_of(bad);
    argv[count++] = hw_strdup(bad->node);
    argv[count++] = hw_strdup(bad->prefix);
    argv[count++] = hw_strdup(attack);
    for (size_t i = 0; i < HW_COUNT(streams); i++) {
        HW_AUTO_JSON json_t *list = ask("CONSUMER.LIST", streams[i], "");
        json_t *consumer;
        size_t at;

        json_array_foreach(json_object_get(list, "consumers"), at, consumer) {
            const char *inbox = json_string_value(
                json_object_get(json_object_get(consumer, "config"), "deliver_subject"));

            if (inbox != NULL && count < ARGUMENTS_MOST - 1)
                argv[count++] = hw_strdup(inbox);
        }
    }
    ck_assert_uint_ge(count, 8); /* reports and proposals are read at least */
    argv[count] = NULL;
}

static void free_arguments(char *argv[ARGUMENTS_MOST])
{
    for (size_t i = 0; argv[i] != NULL; i++)
        free(argv[i]);
}

static void attacked(const struct bad *bad, const char *attack)
{
    HW_AUTO_JSON json_t *before = look();
    const uint64_t consumers = heard_by(consumers_made);
    HW_AUTO_FREE char *printed = NULL;
    char *argv[ARGUMENTS_MOST];

    arguments(bad, attack, argv);
    const int status = test_program_run((const char *const *)argv, NULL, NULL, &printed);
    free_arguments(argv);
    ck_assert_msg(status == 0, "%s: node ended with %d:\n%s", attack, status, printed);
    ck_assert_msg(strcmp(printed, "done\n") == 0, "%s: the node heard of others:\n%s", attack,
                  printed);
    HW_AUTO_JSON json_t *after = look();
    check_same(before, after);
    check_others_are_served();
    check_nothing_was_asked(consumers);
}

START_TEST(test_direct)
{
    attacked(&direct, attacks[_i]);
}
END_TEST

START_TEST(test_behind_a_leaf)
{
    attacked(&behind_leaf, attacks[_i]);
}
END_TEST

/* While others are served, a node that listens everywhere hears nothing of it. */
static void hears_nothing(const struct bad *bad)
{
    struct test_program node;
    char *argv[ARGUMENTS_MOST];

    arguments(bad, "listen", argv);
    test_program_start(&node, (const char *const *)argv, NULL);
    test_wait_for(pipeline_times_in_log(&node, "listening") > 0, 30);
    for (int i = 0; i < 3; i++)
        check_others_are_served();
    test_program_stop(&node, SIGTERM);
    free_arguments(argv);
    HW_AUTO_FREE char *printed = test_read_file(node.log);
    ck_assert_msg(strcmp(printed, "listening\ndone\n") == 0, "it heard:\n%s", printed);
}

START_TEST(test_hears_nothing)
{
    hears_nothing(&direct);
    hears_nothing(&behind_leaf);
}
END_TEST

/* What they stored last is still there when a reconciler begins. */
START_TEST(test_begins_among_what_they_stored)
{
    attacked(&direct, "control_headers");
    attacked(&behind_leaf, "control_headers");
    /* It is another process's child. */
    ck_assert_int_eq(kill(p.reconciler.pid, SIGTERM), 0);
    ck_assert(test_reap(p.reconciler.pid, test_patience() * 20, NULL));
    const uint64_t consumers = heard_by(consumers_made);
    pipeline_start(&p, NULL);
    pipeline_set_content(&p, "{}");
    pipeline_wait_until_caught_up(&p);
    check_others_are_served();
    check_nothing_was_asked(consumers);
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

int main(void)
{
    node_dir =
        test_node_dir("nats@2.29.3", (const char *const[]){"tests/integration/attack.mjs", NULL});
    if (node_dir == NULL)
        return SKIPPED;
    Suite *suite = suite_create("attack");
    TCase *tcase = tcase_create("attack");
    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start_servers, stop_servers);
    tcase_add_checked_fixture(tcase, connect_all, disconnect_all);
    tcase_add_loop_test(tcase, test_direct, 0, (int)HW_COUNT(attacks));
    tcase_add_loop_test(tcase, test_behind_a_leaf, 0, (int)HW_COUNT(attacks));
    tcase_add_test(tcase, test_hears_nothing);
    tcase_add_test(tcase, test_begins_among_what_they_stored);
    suite_add_tcase(suite, tcase);
    const int result = test_suite_finish(suite);
    free(node_dir);
    return result;
}
