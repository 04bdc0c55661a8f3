/*
 * A nats-server with exactly the configuration that the programs print, TLS and nkeys: a node gets
 * its configuration and reports, and whatever else it tries is refused or has no effect. The same
 * behind a leaf node, which denies what JetStream's own subjects are.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "nats/kv.h"
#include "nats/stored.h"
#include "tests/support/agent_program.h"
#include "tests/support/nats_keys.h"
#include "tests/support/suite.h"

#define OK(call) ck_assert_msg((call) == HW_OK, "%s", err.message)

static struct agent_program a = {.node = "daq-1"};
static struct hw_error err;
static char *dir, *config;
static struct hw_nats_files core, node;
static struct test_nats leaf; /* where the node connects, if its directory is set */
/* Connected as the node: for what is not answered, and for what is, however long it takes. */
static struct hw_nats *ours, *patient;
static bool ours_up, patient_up;

#define PREFIX "edge"
#define LEAF   (leaf.dir[0] != '\0')
#define URL    (LEAF ? leaf.url : a.up.server.url)

static char *file(const char *name)
{
    return hw_sprintf("%s/%s", dir, name);
}

static char *print(const char *const argv[])
{
    char *text;

    ck_assert_msg(test_program_run(argv, NULL, NULL, &text) == 0, "%s", text);
    return text;
}

static void on_up(void *arg)
{
    *(bool *)arg = true;
}

/* A subject as the node must name it. */
static char *subject(const char *name)
{
    if (!LEAF)
        return hw_strdup(name);
    return hw_sprintf(PREFIX ".%s",
                      name + (strncmp(name, "$JS.API.", 8) == 0 ? strlen("$JS.API.") : 0));
}

static char *permissions(const char *name, const char *nkey, bool mapped)
{
    return print((const char *const[]){"headwater-agent", "permissions", "--node", name,
                                       "--nats-nkey", nkey, mapped ? "--nats-prefix" : NULL, PREFIX,
                                       NULL});
}

static char *users_of(const char *account)
{
    const char *const users = strstr(account, "users:");

    ck_assert_ptr_nonnull(users);
    return hw_sprintf("%.*s", (int)strcspn(users, "\n"), users);
}

/* A server of the node's site, which has a JetStream of its own, and passes its account on. */
static void start_leaf(const char *account, int port)
{
    HW_AUTO_FREE char *users = users_of(account);
    HW_AUTO_FREE char *text = hw_sprintf(
        "jetstream {domain: site}\n"
        "accounts {\"headwater.daq-1\": {%s\n%s}\n"
        "tls {cert_file: \"%s/server.pem\", key_file: \"%s/server.key\", ca_file: \"%s/ca.pem\", "
        "verify: true}\n"
        "leafnodes {remotes: [{url: \"tls://daq-1:secret@localhost:%d\", account: "
        "\"headwater.daq-1\", tls: {ca_file: \"%s/ca.pem\"}}]}\n",
        users, strstr(account, "default_permissions"), dir, dir, dir, port, dir);

    leaf.config = file("leaf.conf");
    agent_program_write(leaf.config, text);
    test_nats_restart(&leaf);
    snprintf(leaf.url, sizeof(leaf.url), "tls://localhost:%d", leaf.port);
}

/* Until an answer comes from beyond the leaf node, that nothing is there. */
static void wait_until_joined(void)
{
    struct hw_stored stored;

    for (const double until = test_deadline(60);;) {
        const enum hw_status status =
            hw_stored_last(ours, "KV_headwater_reports", "$KV.headwater_reports.cfg.reported.daq-1",
                           &stored, &err);

        if (status == HW_ENOENT)
            return;
        ck_assert_msg(test_now() < until, "%s", err.message);
        upstream_turn(&a.up, 50);
    }
}

static void open_servers(bool behind_leaf)
{
    HW_AUTO_FREE char *second = NULL;
    HW_AUTO_FREE char *leaves = NULL;
    const int leaf_port = behind_leaf ? test_free_port() : 0;

    if (behind_leaf)
        test_nats_start(&leaf);
    dir = test_temp_dir();
    test_nats_certificates(dir);
    core = (struct hw_nats_files){.ca = file("ca.pem"),
                                  .cert = file("client.pem"),
                                  .key = file("client.key"),
                                  .nkey = file("core.nk")};
    node = core;
    node.nkey = file("daq-1.nk");
    second = file("daq-2.nk");
    test_nats_seed(core.nkey);
    test_nats_seed(node.nkey);
    test_nats_seed(second);
    HW_AUTO_FREE char *one = print((const char *const[]){"headwater-reconciler", "permissions",
                                                         "--nats-nkey", core.nkey, NULL});
    HW_AUTO_FREE char *two = permissions("daq-1", node.nkey, LEAF);
    HW_AUTO_FREE char *three = permissions("daq-2", second, false);
    leaves = hw_sprintf("leafnodes {host: 127.0.0.1, port: %d, tls: {cert_file: \"%s/server.pem\", "
                        "key_file: \"%s/server.key\"}, authorization: {users: [{user: daq-1, "
                        "password: secret, account: \"headwater.daq-1\"}]}}\n",
                        leaf_port, dir, dir);
    HW_AUTO_FREE char *text = hw_sprintf(
        "accounts {\n%s%s%s}\n"
        "tls {cert_file: \"%s/server.pem\", key_file: \"%s/server.key\", ca_file: \"%s/ca.pem\", "
        "verify: true}\n%s",
        one, two, three, dir, dir, dir, behind_leaf ? leaves : "");
    config = file("nats.conf");
    agent_program_write(config, text);

    upstream_open_secured(&a.up, config, "tls://localhost", &core);
    if (behind_leaf)
        start_leaf(two, leaf_port);
}

static void connect_as_node(struct hw_nats **nats, bool *up, int64_t timeout_ms)
{
    const struct hw_nats_events events = {.up = on_up, .arg = up};
    const struct hw_nats_options options = {.url = URL,
                                            .name = "node",
                                            .timeout_ms = timeout_ms,
                                            .files = node,
                                            .prefix = LEAF ? PREFIX : NULL};

    *up = false;
    OK(hw_nats_open(a.up.loop, &options, &events, nats, &err));
    ck_assert(hw_loop_run_until(a.up.loop, up, test_patient_ms(60000)));
}

static void begin(bool behind_leaf)
{
    open_servers(behind_leaf);
    upstream_make_buckets(&a.up);
    connect_as_node(&ours, &ours_up, 500);
    connect_as_node(&patient, &patient_up, 30000);
    if (behind_leaf)
        wait_until_joined();
}

static void end(void)
{
    hw_nats_close(ours);
    hw_nats_close(patient);
    if (LEAF)
        test_nats_remove(&leaf);
    upstream_close(&a.up);
}

static uint64_t last_seq(const char *bucket)
{
    struct hw_kv_stream stream;

    OK(hw_kv_stat(a.up.nats, bucket, &stream, &err));
    return stream.last_seq;
}

static uint64_t messages(const char *bucket)
{
    struct hw_kv_stream stream;

    OK(hw_kv_stat(a.up.nats, bucket, &stream, &err));
    return stream.messages;
}

static uint64_t last_object(void)
{
    jsStreamInfo *info;

    ck_assert_int_eq(js_GetStreamInfo(&info, hw_nats_js(a.up.nats), "OBJ_headwater", NULL, NULL),
                     NATS_OK);
    const uint64_t last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return last;
}

static void report(struct hw_nats *nats, const char *of, const char *text)
{
    HW_AUTO_FREE char *key = hw_sprintf("cfg.reported.%s", of);
    natsMsg *msg;

    OK(hw_kv_message("headwater_reports", key, text, strlen(text), &msg, &err));
    OK(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err));
}

/* What the node has sent so far has come to the server, and what that told a leaf node so far. */
static void settle(void)
{
    ck_assert_int_eq(natsConnection_Flush(hw_nats_connection(ours)), NATS_OK);
    report(patient, "daq-1", "mine");
}

static bool last_is(const char *bucket, const char *key, const char *text)
{
    struct hw_kv_entry entry;

    OK(hw_kv_get(a.up.nats, bucket, key, &entry, &err));
    const bool is = entry.size == strlen(text) && memcmp(entry.value, text, entry.size) == 0;
    hw_kv_entry_clear(&entry);
    return is;
}

#define BOTH_WAYS(name)                                                                            \
    START_TEST(test_##name)                                                                        \
    {                                                                                              \
        name(false);                                                                               \
    }                                                                                              \
    END_TEST                                                                                       \
    START_TEST(test_##name##_behind_a_leaf)                                                        \
    {                                                                                              \
        name(true);                                                                                \
    }                                                                                              \
    END_TEST

static void a_node_is_configured_and_reports(bool behind_leaf)
{
    begin(behind_leaf);
    a.dir = test_temp_dir();
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", a.dir);
    HW_AUTO_FREE char *output = hw_sprintf("%s/output.conf", a.dir);
    HW_AUTO_FREE char *big = hw_alloc(1500001); /* more than one chunk */

    a.state_dir = state;
    upstream_desire(&a.up, "daq-1", 1, "one\n");
    agent_program_start(&a,
                        (const char *const[]){"--output", output, "--nats", URL, "--nats-ca",
                                              node.ca, "--nats-cert", node.cert, "--nats-key",
                                              node.key, "--nats-nkey", node.nkey, "--poll", "1h",
                                              LEAF ? "--nats-prefix" : NULL, PREFIX, NULL},
                        NULL);
    upstream_expect_applied(&a.up, "daq-1", 1);
    ck_assert(agent_program_file_is(output, "one\n"));
    memset(big, 'x', 1500000);
    upstream_desire(&a.up, "daq-1", 2, big); /* told by a hint alone */
    upstream_expect_applied(&a.up, "daq-1", 2);
    ck_assert(agent_program_file_is(output, big));
    agent_program_stop(&a);
    end();
}
BOTH_WAYS(a_node_is_configured_and_reports)

static int heard;

static void on_heard(void *arg, natsMsg *msg)
{
    (void)arg;
    (void)msg;
    heard++;
}

static void a_node_proposes_and_is_answered(bool behind_leaf)
{
    struct hw_kv_entry entry;
    struct hw_nats_sub *sub;

    begin(behind_leaf);
    heard = 0;
    OK(hw_nats_subscribe(ours, "headwater.decided.daq-1", on_heard, NULL, &sub, &err));
    ck_assert_int_eq(natsConnection_Flush(hw_nats_connection(ours)), NATS_OK);
    OK(hw_kv_put(patient, "headwater_reports", "cfg.proposed.daq-1", "mine", 4, HW_SEQ_ANY, NULL,
                 &err));
    ck_assert(last_is("headwater_reports", "cfg.proposed.daq-1", "mine"));
    OK(hw_kv_put(a.up.nats, "headwater", "cfg.decided.daq-1", "answer", 6, HW_SEQ_ANY, NULL, &err));
    for (const double until = test_deadline(60); heard == 0 && test_now() < until;)
        upstream_turn(&a.up, 10);
    ck_assert_int_eq(heard, 1);
    OK(hw_kv_get(patient, "headwater", "cfg.decided.daq-1", &entry, &err));
    ck_assert_uint_eq(entry.size, 6);
    hw_kv_entry_clear(&entry);
    end();
}
BOTH_WAYS(a_node_proposes_and_is_answered)

static void a_node_reads_no_other_key(bool behind_leaf)
{
    static const char *const others[] = {
        "$KV.headwater.cfg.desired.daq-2", "$KV.headwater.cfg.desired.>",
        "$KV.headwater.cfg.decided.daq-2", "$KV.headwater.cfg.checkpoint"};
    static const char ask[] = "{\"last_by_subj\":\"$KV.headwater.cfg.desired.daq-2\"}";
    struct hw_stored stored;
    natsMsg *msg = NULL;

    begin(behind_leaf);
    upstream_desire(&a.up, "daq-1", 1, "mine\n");
    upstream_desire(&a.up, "daq-2", 1, "theirs\n");
    OK(hw_kv_put(a.up.nats, "headwater", "cfg.decided.daq-2", "theirs", 6, HW_SEQ_ANY, NULL, &err));
    OK(hw_stored_last(patient, "KV_headwater", "$KV.headwater.cfg.desired.daq-1", &stored, &err));
    hw_stored_clear(&stored);
    for (size_t i = 0; i < HW_COUNT(others); i++)
        ck_assert_int_ne(hw_stored_last(ours, "KV_headwater", others[i], &stored, &err), HW_OK);
    for (uint64_t seq = 1; seq <= last_seq("headwater"); seq++)
        ck_assert_int_ne(hw_stored_at(ours, "KV_headwater", seq, &stored, &err), HW_OK);
    /* The subject that is asked decides, not what is in the request. */
    HW_AUTO_FREE char *own =
        subject("$JS.API.DIRECT.GET.KV_headwater.$KV.headwater.cfg.desired.daq-1");
    const natsStatus s =
        natsConnection_RequestString(&msg, hw_nats_connection(ours), own, ask, 30000);
    ck_assert_int_eq(s, NATS_OK);
    if (natsMsg_GetDataLength(msg) > 0)
        ck_assert_ptr_null(strstr(natsMsg_GetData(msg), "daq-2"));
    natsMsg_Destroy(msg);
    end();
}
BOTH_WAYS(a_node_reads_no_other_key)

static void on_mine(void *arg, natsMsg *msg)
{
    (void)msg;
    *(bool *)arg = true;
}

static void a_node_hears_of_no_other(bool behind_leaf)
{
    static const char *const subjects[] = {"headwater.desired.daq-2",
                                           "headwater.decided.daq-2",
                                           "headwater.checkpoint",
                                           "$KV.>",
                                           "$O.>",
                                           "_INBOX.>"};
    struct hw_nats_sub *sub, *own;

    begin(behind_leaf);
    heard = 0;
    for (size_t i = 0; i < HW_COUNT(subjects); i++)
        OK(hw_nats_subscribe(ours, subjects[i], on_heard, NULL, &sub, &err));
    ck_assert_int_eq(natsConnection_Flush(hw_nats_connection(ours)), NATS_OK);
    upstream_desire(&a.up, "daq-2", 1, "theirs\n");
    OK(hw_kv_put(a.up.nats, "headwater", "cfg.decided.daq-2", "theirs", 6, HW_SEQ_ANY, NULL, &err));
    report(a.up.nats, "daq-2", "{}");
    /* What comes last, comes, once a leaf node has passed the subscription on: everything before it
     * would have. */
    bool mine = false;
    OK(hw_nats_subscribe(ours, "headwater.desired.daq-1", on_mine, &mine, &own, &err));
    const double until = test_deadline(60);
    for (int revision = 1; !mine && test_now() < until; revision++) {
        upstream_desire(&a.up, "daq-1", revision, "mine\n");
        upstream_turn(&a.up, 100);
    }
    ck_assert(mine);
    ck_assert_int_eq(heard, 0);
    end();
}
BOTH_WAYS(a_node_hears_of_no_other)

static void a_node_gives_signs_of_its_own_life_alone(bool behind_leaf)
{
    struct hw_nats_sub *sub;

    begin(behind_leaf);
    heard = 0;
    OK(hw_nats_subscribe(a.up.nats, "headwater.alive.>", on_heard, NULL, &sub, &err));
    ck_assert_int_eq(natsConnection_Flush(hw_nats_connection(a.up.nats)), NATS_OK);
    settle(); /* a leaf node knows of the subscription */
    hw_nats_signal(ours, "headwater.alive.daq-2", "");
    hw_nats_signal(ours, "headwater.alive.daq-1", "");
    for (const double until = test_deadline(60); heard == 0 && test_now() < until;)
        upstream_turn(&a.up, 10);
    ck_assert_int_eq(heard, 1);
    end();
}
BOTH_WAYS(a_node_gives_signs_of_its_own_life_alone)

/* A sign of life that wants an answer gets none, and nats-server remembers nothing of it. */
static void a_node_wants_answers_in_vain(bool behind_leaf)
{
    enum { SIGNS = 150000, MOST_KIB = 50 << 10 };
    struct hw_nats_sub *answers, *signs;

    begin(behind_leaf);
    OK(hw_nats_subscribe(a.up.nats, "headwater.alive.>", on_heard, NULL, &signs, &err));
    OK(hw_nats_subscribe(ours, "_INBOX.mine.*", on_heard, NULL, &answers, &err));
    settle(); /* a leaf node knows of the subscription */
    const long before = test_own_kib(a.up.server.pid);
    for (int i = 0; i < SIGNS; i++) {
        HW_AUTO_FREE char *reply = hw_sprintf("_INBOX.mine.%d", i);

        ck_assert_int_eq(natsConnection_PublishRequestString(hw_nats_connection(ours),
                                                             "headwater.alive.daq-1", reply, ""),
                         NATS_OK);
    }
    settle();
    ck_assert_int_le(test_own_kib(a.up.server.pid) - before, MOST_KIB);
    end();
}
BOTH_WAYS(a_node_wants_answers_in_vain)

static void a_node_writes_no_other_key(bool behind_leaf)
{
    static const char *const subjects[] = {"$KV.headwater.cfg.desired.daq-1",
                                           "$KV.headwater.cfg.desired.daq-2",
                                           "$KV.headwater.cfg.checkpoint",
                                           "$KV.headwater.cfg.decided.daq-1",
                                           "$KV.headwater_reports.cfg.reported.daq-2",
                                           "$KV.headwater_reports.cfg.proposed.daq-2",
                                           "$O.headwater.M.x",
                                           "$O.headwater.C.x",
                                           "headwater.desired.daq-2"};
    natsMsg *msg;

    begin(behind_leaf);
    report(a.up.nats, "daq-2", "theirs");
    const uint64_t desired = last_seq("headwater"), objects = last_object();
    for (size_t i = 0; i < HW_COUNT(subjects); i++) {
        ck_assert_int_eq(natsMsg_Create(&msg, subjects[i], NULL, "bad", 3), NATS_OK);
        ck_assert_int_ne(hw_nats_publish_wait(ours, msg, HW_SEQ_ANY, NULL, &err), HW_OK);
    }
    settle();
    ck_assert_uint_eq(last_seq("headwater"), desired);
    ck_assert_uint_eq(last_object(), objects);
    ck_assert_uint_eq(messages("headwater_reports"), 2);
    end();
}
BOTH_WAYS(a_node_writes_no_other_key)

static void a_node_reaches_nothing_through_a_reply_subject(bool behind_leaf)
{
    static const char *const replies[] = {"$KV.headwater.cfg.desired.daq-2",
                                          "$KV.headwater.cfg.checkpoint",
                                          "$KV.headwater_reports.cfg.reported.daq-2",
                                          "$JS.API.STREAM.DELETE.KV_headwater",
                                          "$JS.API.STREAM.PURGE.KV_headwater",
                                          "headwater.desired.daq-2",
                                          "$O.headwater.M.x",
                                          "$O.headwater.C.x"};

    begin(behind_leaf);
    HW_AUTO_FREE char *write = subject("$KV.headwater_reports.cfg.reported.daq-1");
    HW_AUTO_FREE char *read =
        subject("$JS.API.DIRECT.GET.KV_headwater.$KV.headwater.cfg.desired.daq-1");
    upstream_desire(&a.up, "daq-2", 1, "theirs\n");
    report(a.up.nats, "daq-2", "theirs");
    const uint64_t desired = last_seq("headwater"), objects = last_object();
    for (size_t i = 0; i < HW_COUNT(replies); i++) {
        ck_assert_int_eq(natsConnection_PublishRequestString(hw_nats_connection(ours), write,
                                                             replies[i], "mine"),
                         NATS_OK);
        ck_assert_int_eq(
            natsConnection_PublishRequestString(hw_nats_connection(ours), read, replies[i], ""),
            NATS_OK);
    }
    settle();
    report(patient, "daq-1", "mine");
    ck_assert_uint_eq(last_seq("headwater"), desired);
    ck_assert_uint_eq(last_object(), objects);
    /* One of daq-2, and all of daq-1: what is sent was stored, and only its answers went nowhere.
     */
    ck_assert_uint_eq(messages("headwater_reports"), 1 + HW_COUNT(replies) + 2);
    ck_assert(last_is("headwater_reports", "cfg.reported.daq-2", "theirs"));
    end();
}
BOTH_WAYS(a_node_reaches_nothing_through_a_reply_subject)

static void a_node_rolls_nothing_up(bool behind_leaf)
{
    static const char *const ways[] = {"all", "sub"};

    begin(behind_leaf);
    report(a.up.nats, "daq-2", "theirs");
    report(patient, "daq-1", "mine");
    for (size_t i = 0; i < HW_COUNT(ways); i++) {
        natsMsg *msg;

        OK(hw_kv_message("headwater_reports", "cfg.reported.daq-1", "bad", 3, &msg, &err));
        ck_assert_int_eq(natsMsgHeader_Set(msg, "Nats-Rollup", ways[i]), NATS_OK);
        ck_assert_int_ne(hw_nats_publish_wait(ours, msg, HW_SEQ_ANY, NULL, &err), HW_OK);
    }
    ck_assert_uint_eq(messages("headwater_reports"), 2);
    ck_assert(last_is("headwater_reports", "cfg.reported.daq-2", "theirs"));
    end();
}
BOTH_WAYS(a_node_rolls_nothing_up)

static void a_node_makes_and_deletes_no_streams_or_consumers(bool behind_leaf)
{
    static const char *const streams[] = {"KV_headwater", "KV_headwater_reports", "OBJ_headwater"};
    jsConsumerConfig consumer;
    jsStreamConfig stream;

    begin(behind_leaf);
    report(a.up.nats, "daq-2", "theirs");
    jsStreamConfig_Init(&stream);
    stream.Name = "mine";
    stream.Subjects = (const char *[]){"mine.>"};
    stream.SubjectsLen = 1;
    ck_assert_int_ne(js_AddStream(NULL, hw_nats_js(ours), &stream, NULL, NULL), NATS_OK);
    jsConsumerConfig_Init(&consumer);
    consumer.Durable = "mine";
    for (size_t i = 0; i < HW_COUNT(streams); i++) {
        jsStreamInfo *info = NULL;

        ck_assert_int_ne(js_AddConsumer(NULL, hw_nats_js(ours), streams[i], &consumer, NULL, NULL),
                         NATS_OK);
        ck_assert_int_ne(js_PurgeStream(hw_nats_js(ours), streams[i], NULL, NULL), NATS_OK);
        ck_assert_int_ne(js_DeleteStream(hw_nats_js(ours), streams[i], NULL, NULL), NATS_OK);
        ck_assert_int_eq(js_GetStreamInfo(&info, hw_nats_js(a.up.nats), streams[i], NULL, NULL),
                         NATS_OK);
        ck_assert_int_eq(info->State.Consumers, 0);
        jsStreamInfo_Destroy(info);
    }
    ck_assert_uint_eq(messages("headwater_reports"), 1);
    end();
}
BOTH_WAYS(a_node_makes_and_deletes_no_streams_or_consumers)

/* nats-server before 2.10.27 heeds some calls of its administrators whoever asks them. */
static void a_node_asks_nothing_of_the_server(bool behind_leaf)
{
    static const char *const subjects[] = {"$JS.API.ACCOUNT.PURGE.headwater",
                                           "$JS.API.ACCOUNT.STREAM.MOVE.headwater.KV_headwater",
                                           "$JS.API.META.LEADER.STEPDOWN"};

    begin(behind_leaf);
    report(a.up.nats, "daq-2", "theirs");
    upstream_desire(&a.up, "daq-2", 1, "theirs\n");
    for (size_t i = 0; i < HW_COUNT(subjects); i++)
        ck_assert_int_eq(natsConnection_PublishRequestString(hw_nats_connection(ours), subjects[i],
                                                             "_INBOX.x", ""),
                         NATS_OK);
    settle();
    ck_assert_uint_eq(messages("headwater_reports"), 2);
    ck_assert_uint_eq(messages("headwater"), 1);
    ck_assert_uint_gt(last_object(), 0);
    end();
}
BOTH_WAYS(a_node_asks_nothing_of_the_server)

/* What the prefix is for: the node's own subjects, as JetStream has them, do not get through. */
START_TEST(test_a_leaf_denies_what_is_not_mapped)
{
    natsMsg *msg = NULL;

    begin(true);
    upstream_desire(&a.up, "daq-1", 1, "mine\n");
    ck_assert_int_ne(natsConnection_RequestString(
                         &msg, hw_nats_connection(ours),
                         "$JS.API.DIRECT.GET.KV_headwater.$KV.headwater.cfg.desired.daq-1", "",
                         500),
                     NATS_OK);
    ck_assert_int_eq(natsConnection_PublishString(hw_nats_connection(ours),
                                                  "$KV.headwater_reports.cfg.reported.daq-1",
                                                  "bad"),
                     NATS_OK);
    settle();
    ck_assert_uint_eq(messages("headwater_reports"), 1);
    end();
}
END_TEST

static void start_agent(struct test_program *agent, const char *name, const char *url,
                        const char *prefix, const char *trust)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/%s.state", dir, name);
    HW_AUTO_FREE char *output = hw_sprintf("%s/%s.conf", dir, name);
    HW_AUTO_FREE char *nkey = hw_sprintf("%s/%s.nk", dir, name);

    test_program_start(agent,
                       (const char *const[]){"headwater-agent",
                                             "--node",
                                             name,
                                             "--nats",
                                             url,
                                             "--state-dir",
                                             state,
                                             "--output",
                                             output,
                                             "--trust",
                                             trust,
                                             "--nats-ca",
                                             node.ca,
                                             "--nats-cert",
                                             node.cert,
                                             "--nats-key",
                                             node.key,
                                             "--nats-nkey",
                                             nkey,
                                             prefix != NULL ? "--nats-prefix" : NULL,
                                             prefix,
                                             NULL},
                       NULL);
}

/* All programs, and every line of defence: accounts, TLS, signatures; one node behind a leaf node.
 */
START_TEST(test_the_whole_system)
{
    struct test_program reconciler, direct, behind;
    struct test_postgres pg;

    open_servers(true);
    test_postgres_start(&pg, true, NULL);
    test_sign_keys(dir, "sign");
    HW_AUTO_FREE char *private = file("sign.key");
    HW_AUTO_FREE char *public = file("sign.pub");
    test_program_start(&reconciler,
                       (const char *const[]){"headwater-reconciler", "--database",
                                             pg.reconciler_url, "--nats", a.up.server.url,
                                             "--nats-ca", core.ca, "--nats-cert", core.cert,
                                             "--nats-key", core.key, "--nats-nkey", core.nkey,
                                             "--sign-key", private, NULL},
                       NULL);
    start_agent(&behind, "daq-1", leaf.url, PREFIX, public);
    start_agent(&direct, "daq-2", a.up.server.url, NULL, public);
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('daq-1'), ('daq-2');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":1}');"
                       "INSERT INTO headwater.assignment (name, config, selector)"
                       " VALUES ('all', 'c', '{}')"));
    for (int change = 1; change <= 2; change++) {
        test_wait_for(test_sql_is(&pg, "2",
                                  "SELECT count(*) FROM headwater.fleet"
                                  " WHERE state = 'in_sync' AND reported_revision = %d",
                                  change),
                      60);
        free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":2}'"));
    }
    test_program_stop(&behind, SIGTERM);
    test_program_stop(&direct, SIGTERM);
    test_program_stop(&reconciler, SIGTERM);
    test_postgres_remove(&pg);
    end();
}
END_TEST

static char said[512];

static void on_refused(void *arg, const struct hw_nats_away *away)
{
    (void)arg;
    snprintf(said, sizeof(said), "%s", away->why);
}

/* Opens with these files: it never comes up, and the reason has this word. */
static void is_refused(const char *url, const struct hw_nats_files *files, const char *word)
{
    const struct hw_nats_events events = {.up = on_up, .away = on_refused, .arg = &ours_up};
    const struct hw_nats_options options = {.url = url, .name = "refused", .files = *files};
    struct hw_nats *nats;

    ours_up = false;
    said[0] = '\0';
    OK(hw_nats_open(a.up.loop, &options, &events, &nats, &err));
    for (const double until = test_deadline(60);
         strstr(said, word) == NULL && !ours_up && test_now() < until;)
        upstream_turn(&a.up, 10);
    ck_assert(!ours_up);
    ck_assert_msg(strstr(said, word) != NULL, "%s", said);
    hw_nats_close(nats);
}

static void is_let_in(const char *url, const struct hw_nats_files *files)
{
    const struct hw_nats_events events = {.up = on_up, .arg = &ours_up};
    const struct hw_nats_options options = {.url = url, .name = "let in", .files = *files};
    struct hw_nats *nats;

    ours_up = false;
    OK(hw_nats_open(a.up.loop, &options, &events, &nats, &err));
    ck_assert(hw_loop_run_until(a.up.loop, &ours_up, test_patient_ms(60000)));
    hw_nats_close(nats);
}

START_TEST(test_who_is_not_known_stays_out_and_hears_why)
{
    begin(false);
    HW_AUTO_FREE char *address = hw_sprintf("tls://127.0.0.1:%d", a.up.server.port);
    HW_AUTO_FREE char *other = file("other.pem");
    HW_AUTO_FREE char *stranger = file("stranger.nk");
    struct hw_nats_files files = node;

    test_nats_seed(stranger);
    files.nkey = stranger;
    is_refused(a.up.server.url, &files, "--nats-nkey");
    /* Who names authorities means those, and not the system's as well. */
    setenv("SSL_CERT_FILE", node.ca, 1);
    files = node;
    files.ca = other;
    is_refused(a.up.server.url, &files, "--nats-ca");
    files.ca = NULL;
    is_let_in(a.up.server.url, &files);
    unsetenv("SSL_CERT_FILE");
    is_refused(address, &node, "name the URL's host");
    files = (struct hw_nats_files){.ca = node.ca, .nkey = node.nkey};
    is_refused(a.up.server.url, &files, "--nats-cert");
    end();
}
END_TEST

START_TEST(test_a_credentials_file_lets_in)
{
    dir = test_temp_dir();
    HW_AUTO_FREE char *text = test_nats_operator(dir);
    HW_AUTO_FREE char *conf = file("nats.conf");
    HW_AUTO_FREE char *user = file("user.creds");
    HW_AUTO_FREE char *stranger = file("stranger.creds");

    agent_program_write(conf, text);
    upstream_open_secured(&a.up, conf, "nats://127.0.0.1", &(struct hw_nats_files){.creds = user});
    is_refused(a.up.server.url, &(struct hw_nats_files){.creds = stranger}, "--nats-creds");
    upstream_close(&a.up);
}
END_TEST

START_TEST(test_files_that_cannot_be_used)
{
    dir = test_temp_dir();
    HW_AUTO_FREE char *seed = file("seed");
    HW_AUTO_FREE char *junk = file("junk");
    HW_AUTO_FREE char *missing = file("missing");
    const struct {
        struct hw_nats_files files;
        const char *words;
    } cases[] = {
        {{.ca = missing}, "--nats-ca"},
        {{.ca = junk}, "--nats-ca"},
        {{.cert = junk}, "--nats-key need"},
        {{.key = junk}, "--nats-cert and"},
        {{.cert = junk, .key = junk}, "--nats-cert"},
        {{.creds = missing}, "--nats-creds"},
        {{.nkey = missing}, "--nats-nkey"},
        {{.nkey = junk}, "no nkey seed"},
        {{.nkey = seed, .creds = junk}, "only one"},
    };
    const struct hw_nats_events events = {0};
    struct hw_loop *loop;
    struct hw_nats *nats;

    test_nats_seed(seed);
    agent_program_write(junk, "SUBSTANCE of no kind\n");
    OK(hw_loop_new(&loop, &err));
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        const struct hw_nats_options options = {.url = "nats://127.0.0.1:1",
                                                .files = cases[i].files};

        ck_assert_int_ne(hw_nats_open(loop, &options, &events, &nats, &err), HW_OK);
        ck_assert_msg(strstr(err.message, cases[i].words) != NULL, "%zu: %s", i, err.message);
    }
    hw_loop_free(loop);
    const struct hw_nats_files files = {.nkey = seed};
    ck_assert_ptr_null(hw_nats_exposed(&files));
    ck_assert_int_eq(chmod(seed, 0644), 0);
    ck_assert_ptr_eq(hw_nats_exposed(&files), seed);
}
END_TEST

TEST_MAIN("nats permissions", 180, test_a_node_is_configured_and_reports,
          test_a_node_is_configured_and_reports_behind_a_leaf, test_a_node_proposes_and_is_answered,
          test_a_node_proposes_and_is_answered_behind_a_leaf, test_a_node_reads_no_other_key,
          test_a_node_reads_no_other_key_behind_a_leaf, test_a_node_hears_of_no_other,
          test_a_node_hears_of_no_other_behind_a_leaf,
          test_a_node_gives_signs_of_its_own_life_alone,
          test_a_node_gives_signs_of_its_own_life_alone_behind_a_leaf,
          test_a_node_wants_answers_in_vain, test_a_node_wants_answers_in_vain_behind_a_leaf,
          test_a_node_writes_no_other_key, test_a_node_writes_no_other_key_behind_a_leaf,
          test_a_node_reaches_nothing_through_a_reply_subject,
          test_a_node_reaches_nothing_through_a_reply_subject_behind_a_leaf,
          test_a_node_rolls_nothing_up, test_a_node_rolls_nothing_up_behind_a_leaf,
          test_a_node_makes_and_deletes_no_streams_or_consumers,
          test_a_node_makes_and_deletes_no_streams_or_consumers_behind_a_leaf,
          test_a_node_asks_nothing_of_the_server,
          test_a_node_asks_nothing_of_the_server_behind_a_leaf,
          test_a_leaf_denies_what_is_not_mapped, test_the_whole_system,
          test_who_is_not_known_stays_out_and_hears_why, test_a_credentials_file_lets_in,
          test_files_that_cannot_be_used)
