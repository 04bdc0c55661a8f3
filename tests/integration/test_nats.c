/* Connection, key-value buckets and object store against a real nats-server. */
#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "base/names.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "nats/stored.h"
#include "protocol/entry.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define BUCKET "b"
#define OK(call)                                                                                   \
    do {                                                                                           \
        err = (struct hw_error){0};                                                                \
        const enum hw_status status_ = (call);                                                     \
        ck_assert_msg(status_ == HW_OK, #call ": %s: %s", hw_status_name(status_), err.message);   \
    } while (0)
#define FAILS(call, status)                                                                        \
    do {                                                                                           \
        err = (struct hw_error){0};                                                                \
        ck_assert_str_eq(hw_status_name(call), hw_status_name(status));                            \
        ck_assert_str_ne(err.message, "");                                                         \
    } while (0)

static struct test_nats server;
static struct hw_loop *loop;
static struct hw_nats *nats;
static struct hw_error err;
static bool up;
static int ups, downs;

static void on_up(void *arg)
{
    (void)arg;
    up = true;
    ups++;
}

static void on_down(void *arg, const char *why)
{
    (void)arg;
    ck_assert_ptr_nonnull(why);
    up = false;
    downs++;
}

static void wait_for(const bool *flag, const char *what)
{
    ck_assert_msg(hw_loop_run_until(loop, flag, test_patient_ms(30000)),
                  "timed out waiting for: %s", what);
}

/* How often a reader began anew, and its last pause. */
static int restarts;
static int64_t last_pause;
static char restart_why[256];

static void on_reader(void *arg, const char *of, const char *why, int64_t pause_ms)
{
    (void)arg;
    if (strcmp(of, "what is tested") != 0)
        return;
    restarts++;
    last_pause = pause_ms;
    snprintf(restart_why, sizeof(restart_why), "%s", why);
}

static void open_nats(int max_pending)
{
    const struct hw_nats_options options = {.url = server.url,
                                            .name = "test",
                                            .max_pending = max_pending,
                                            .unread_ms = 2000,
                                            .timeout_ms = test_patient_ms(10000)};
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .reader = on_reader};
    OK(hw_loop_new(&loop, &err));
    OK(hw_nats_open(loop, &options, &events, &nats, &err));
}

static void close_nats(void)
{
    hw_nats_close(nats);
    hw_loop_free(loop);
    test_nats_remove(&server);
}

/* A server, a connection and a bucket. */
static void begin(void)
{
    const struct hw_kv_config config = {.bucket = BUCKET, .history = 16, .replicas = 1};
    struct hw_kv_stream stream;
    test_nats_start(&server);
    open_nats(0);
    wait_for(&up, "the connection");
    OK(hw_kv_ensure(nats, &config, &stream, &err));
}

/* ---- the connection ------------------------------------------------------------------------- */

START_TEST(test_connects_when_the_server_comes)
{
    struct hw_stored stored;
    test_nats_start(&server);
    test_nats_stop(&server);
    open_nats(0);
    ck_assert(!hw_loop_run_until(loop, &up, 100));
    ck_assert(!hw_nats_up(nats));
    FAILS(hw_stored_last(nats, "KV_" BUCKET, "$KV.b.k", &stored, &err), HW_EUNAVAIL);
    test_nats_restart(&server);
    wait_for(&up, "the connection");
    ck_assert(hw_nats_up(nats));
    ck_assert_uint_eq(hw_nats_max_payload(nats), 1 << 20);
    close_nats();
}
END_TEST

static int threads_with(int policy)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    ck_assert_ptr_nonnull(tasks);
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;)
        if (task->d_name[0] != '.')
            count += sched_getscheduler((pid_t)strtol(task->d_name, NULL, 10)) == policy;
    closedir(tasks);
    return count;
}

/* Opens the library from a thread with this policy, which is as it was afterwards. false: a
 * container's filter lets nobody choose one. */
static bool open_with(int policy)
{
    const struct sched_param none = {0};

    if (sched_setscheduler(0, policy, &none) != 0)
        return false;
    test_nats_start(&server);
    open_nats(0);
    wait_for(&up, "the connection");
    ck_assert_int_eq(sched_getscheduler(0), policy);
    return true;
}

/* The threads that libnats has for all connections stand back … */
START_TEST(test_threads_of_the_library)
{
    if (!open_with(SCHED_OTHER))
        return;
    ck_assert_int_gt(threads_with(SCHED_BATCH), 0);
    close_nats();
}
END_TEST

/* … unless the host program has chosen something for its own. */
START_TEST(test_threads_of_a_host_with_a_policy)
{
    if (!open_with(SCHED_IDLE))
        return;
    ck_assert_int_eq(threads_with(SCHED_BATCH), 0);
    close_nats();
}
END_TEST

static char heard[64];
static bool heard_any;

static void on_heard(void *arg, natsMsg *msg)
{
    ck_assert_ptr_eq(arg, heard);
    snprintf(heard, sizeof(heard), "%.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
    heard_any = true;
}

static void wait_down_and_up(void)
{
    const int before = downs;
    while (downs == before) {
        const bool never = false;
        hw_loop_run_until(loop, &never, 10);
    }
    test_nats_restart(&server);
    wait_for(&up, "the connection after a restart");
}

/* What is asked for meanwhile is there when it is connected. */
START_TEST(test_the_first_try_may_wait)
{
    const struct hw_nats_options options = {.url = server.url, .name = "late", .first_ms = 500};
    const struct hw_nats_events events = {.up = on_up, .down = on_down};
    struct hw_nats_sub *sub;

    test_nats_start(&server);
    OK(hw_loop_new(&loop, &err));
    OK(hw_nats_open(loop, &options, &events, &nats, &err));
    ck_assert_ptr_null(hw_nats_connection(nats));
    OK(hw_nats_subscribe(nats, "some.subject", on_heard, heard, &sub, &err));
    hw_nats_signal(nats, "some.subject", ""); /* goes nowhere */
    wait_for(&up, "the connection");
    ck_assert(!heard_any);
    hw_nats_signal(nats, "some.subject", "");
    wait_for(&heard_any, "a message");
    ck_assert_str_eq(heard, "");
    close_nats();
}
END_TEST

START_TEST(test_subscriptions_outlive_a_restart)
{
    struct hw_nats_sub *sub;
    begin();
    OK(hw_nats_subscribe(nats, "hint.>", on_heard, heard, &sub, &err));
    test_nats_kill(&server);
    wait_down_and_up();
    ck_assert_int_eq(ups, 2);
    ck_assert_int_eq(downs, 1);
    ck_assert_int_eq(natsConnection_PublishString(hw_nats_connection(nats), "hint.a", "hello"),
                     NATS_OK);
    wait_for(&heard_any, "the message");
    ck_assert_str_eq(heard, "hello");
    hw_nats_unsubscribe(sub);
    close_nats();
}
END_TEST

/* ---- key-value buckets --------------------------------------------------------------------------
 */

static void expect_entry(const char *key, const char *value, uint64_t seq)
{
    struct hw_kv_entry entry;
    OK(hw_kv_get(nats, BUCKET, key, &entry, &err));
    ck_assert_str_eq(entry.key, key);
    ck_assert_uint_eq(entry.seq, seq);
    ck_assert_int_eq(entry.deleted, value == NULL);
    ck_assert_uint_eq(entry.size, value != NULL ? strlen(value) : 0);
    if (value != NULL)
        ck_assert_mem_eq(entry.value, value, strlen(value));
    hw_kv_entry_clear(&entry);
}

START_TEST(test_put_get_delete)
{
    uint64_t seq = 0;
    begin();
    struct hw_kv_entry entry;
    FAILS(hw_kv_get(nats, BUCKET, "a.b", &entry, &err), HW_ENOENT);
    OK(hw_kv_put(nats, BUCKET, "a.b", "one", 3, HW_SEQ_ANY, &seq, &err));
    expect_entry("a.b", "one", seq);
    OK(hw_kv_put(nats, BUCKET, "a.b", "", 0, HW_SEQ_ANY, &seq, &err));
    expect_entry("a.b", "", seq);
    OK(hw_kv_put(nats, BUCKET, "a.b", NULL, 0, HW_SEQ_ANY, &seq, &err));
    expect_entry("a.b", NULL, seq);
    ck_assert_uint_eq(seq, 3);
    close_nats();
}
END_TEST

START_TEST(test_bucket_is_made_once)
{
    const struct hw_kv_config other = {.bucket = BUCKET, .history = 3, .replicas = 1};
    struct hw_kv_stream stream, again;
    begin();
    OK(hw_kv_stat(nats, BUCKET, &stream, &err));
    ck_assert_int_gt(stream.created_ns, INT64_C(1600000000000000000));
    ck_assert_uint_eq(stream.last_seq, 0);
    OK(hw_kv_put(nats, BUCKET, "k", "v", 1, HW_SEQ_ANY, NULL, &err));
    OK(hw_kv_ensure(nats, &other, &again, &err));
    ck_assert_int_eq(again.created_ns, stream.created_ns);
    ck_assert_uint_eq(again.last_seq, 1);
    ck_assert_uint_eq(again.messages, 1);
    FAILS(hw_kv_stat(nats, "absent", &stream, &err), HW_ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "absent"));
    close_nats();
}
END_TEST

/* Bucket and entries are what libnats' own key-value calls expect, and the reverse. */
START_TEST(test_layout_is_that_of_other_clients)
{
    kvStore *kv = NULL;
    kvEntry *theirs = NULL;
    kvStatus *bucket = NULL;
    uint64_t seq;
    begin();
    OK(hw_kv_put(nats, BUCKET, "cfg.x", "ours", 4, HW_SEQ_ANY, &seq, &err));
    ck_assert_int_eq(js_KeyValue(&kv, hw_nats_js(nats), BUCKET), NATS_OK);
    ck_assert_int_eq(kvStore_Get(&theirs, kv, "cfg.x"), NATS_OK);
    ck_assert_str_eq(kvEntry_ValueString(theirs), "ours");
    ck_assert_uint_eq(kvEntry_Revision(theirs), seq);
    kvEntry_Destroy(theirs);
    ck_assert_int_eq(kvStore_Status(&bucket, kv), NATS_OK);
    ck_assert_int_eq(kvStatus_History(bucket), 16);
    kvStatus_Destroy(bucket);
    ck_assert_int_eq(kvStore_UpdateString(&seq, kv, "cfg.x", "theirs", seq), NATS_OK);
    expect_entry("cfg.x", "theirs", seq);
    OK(hw_kv_put(nats, BUCKET, "cfg.x", NULL, 0, seq, &seq, &err));
    ck_assert_int_eq(kvStore_Get(&theirs, kv, "cfg.x"), NATS_NOT_FOUND);
    ck_assert_int_eq(kvStore_CreateString(&seq, kv, "cfg.x", "again"), NATS_OK);
    ck_assert_int_eq(kvStore_Delete(kv, "cfg.x"), NATS_OK);
    expect_entry("cfg.x", NULL, seq + 1);
    kvStore_Destroy(kv);
    close_nats();
}
END_TEST

struct acked {
    struct hw_ack ack;
    int times;
    bool done;
};

static void on_ack(void *arg, const struct hw_ack *ack)
{
    struct acked *acked = arg;
    acked->times++;
    acked->ack = *ack;
    acked->done = true;
}

/* Publishes without waiting, then waits. */
static struct hw_ack put_async(const char *key, const char *value, uint64_t expected)
{
    struct acked acked = {0};
    natsMsg *msg = NULL;
    OK(hw_kv_message(BUCKET, key, value, strlen(value), &msg, &err));
    OK(hw_nats_publish(nats, msg, expected, on_ack, &acked, &err));
    ck_assert_int_eq(acked.times, 0);
    ck_assert_uint_eq(hw_nats_in_flight(nats), 1);
    wait_for(&acked.done, "the acknowledgement");
    ck_assert_int_eq(acked.times, 1);
    ck_assert_uint_eq(hw_nats_in_flight(nats), 0);
    return acked.ack;
}

START_TEST(test_compare_and_set)
{
    uint64_t first, second, seq = 0;
    begin();
    OK(hw_kv_put(nats, BUCKET, "k", "1", 1, HW_SEQ_NONE, &first, &err));
    FAILS(hw_kv_put(nats, BUCKET, "k", "x", 1, HW_SEQ_NONE, &seq, &err), HW_ECONFLICT);
    OK(hw_kv_put(nats, BUCKET, "other", "o", 1, HW_SEQ_NONE, NULL, &err));
    OK(hw_kv_put(nats, BUCKET, "k", "2", 1, first, &second, &err));
    FAILS(hw_kv_put(nats, BUCKET, "k", "x", 1, first, &seq, &err), HW_ECONFLICT);
    FAILS(hw_kv_put(nats, BUCKET, "k", "x", 1, second + 1, &seq, &err), HW_ECONFLICT);
    ck_assert_uint_eq(seq, 0); /* left alone by failures */
    expect_entry("k", "2", second);

    ck_assert_int_eq(put_async("k", "x", HW_SEQ_NONE).status, HW_ECONFLICT);
    ck_assert_int_eq(put_async("k", "x", first).status, HW_ECONFLICT);
    const struct hw_ack refused = put_async("k", "x", second + 1);
    ck_assert_int_eq(refused.status, HW_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(refused.err.message, "10071"));
    ck_assert_ptr_nonnull(strstr(refused.err.message, "$KV.b.k"));
    expect_entry("k", "2", second);
    const struct hw_ack third = put_async("k", "3", second);
    ck_assert_int_eq(third.status, HW_OK);
    expect_entry("k", "3", third.seq);
    ck_assert_int_eq(put_async("k2", "1", HW_SEQ_NONE).status, HW_OK);
    ck_assert_int_eq(put_async("k", "4", HW_SEQ_ANY).status, HW_OK);

    /* A deletion marker is an entry: the key is not new again. */
    const struct hw_ack fifth = put_async("k", "5", HW_SEQ_ANY);
    OK(hw_kv_put(nats, BUCKET, "k", NULL, 0, fifth.seq, &seq, &err));
    FAILS(hw_kv_put(nats, BUCKET, "k", "x", 1, HW_SEQ_NONE, NULL, &err), HW_ECONFLICT);
    OK(hw_kv_put(nats, BUCKET, "k", "6", 1, seq, NULL, &err));
    close_nats();
}
END_TEST

START_TEST(test_fences_travel_in_headers)
{
    const struct hw_fence fence = {.epoch = 3, .lsn = 0x16B374D848};
    struct hw_kv_entry entry;
    natsMsg *msg = NULL;
    begin();
    for (int deleted = 0; deleted < 2; deleted++) {
        OK(hw_entry_message(BUCKET, "k", deleted ? NULL : "v", deleted ? 0 : 1, &fence, NULL, &msg,
                            &err));
        OK(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err));
        OK(hw_kv_get(nats, BUCKET, "k", &entry, &err));
        const char *epoch, *lsn;
        ck_assert_int_eq(natsMsgHeader_Get(entry.msg, "Headwater-Epoch", &epoch), NATS_OK);
        ck_assert_int_eq(natsMsgHeader_Get(entry.msg, "Headwater-LSN", &lsn), NATS_OK);
        ck_assert_str_eq(epoch, "3");
        ck_assert_str_eq(lsn, "16/B374D848");
        ck_assert_int_eq(entry.deleted, deleted);
        ck_assert(hw_entry_of(&entry).fenced);
        ck_assert_int_eq(hw_fence_compare(hw_entry_of(&entry).fence, fence), 0);
        hw_kv_entry_clear(&entry);
    }
    /* Whatever else stands in these headers is no fence. */
    static const char *const wrong[][2] = {{"x", "0/1"}, {"-1", "0/1"}, {"1", "nothing"},
                                           {"1", "1"},   {"1x", "0/1"}, {NULL, "0/1"},
                                           {"1", NULL}};
    for (size_t i = 0; i < HW_COUNT(wrong); i++) {
        OK(hw_kv_message(BUCKET, "k", "v", 1, &msg, &err));
        if (wrong[i][0] != NULL)
            natsMsgHeader_Set(msg, "Headwater-Epoch", wrong[i][0]);
        if (wrong[i][1] != NULL)
            natsMsgHeader_Set(msg, "Headwater-LSN", wrong[i][1]);
        OK(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err));
        OK(hw_kv_get(nats, BUCKET, "k", &entry, &err));
        ck_assert_msg(!hw_entry_of(&entry).fenced, "took case %zu", i);
        hw_kv_entry_clear(&entry);
    }
    close_nats();
}
END_TEST

START_TEST(test_rollup_is_refused_where_it_is_off)
{
    const struct hw_kv_config open_config = {
        .bucket = "open", .history = 5, .replicas = 1, .allow_rollup = true};
    struct hw_kv_stream stream;
    natsMsg *msg = NULL;
    begin();
    OK(hw_kv_ensure(nats, &open_config, &stream, &err));
    static const char *const buckets[] = {BUCKET, "open"};
    for (int allowed = 0; allowed < 2; allowed++) {
        OK(hw_kv_put(nats, buckets[allowed], "k", "1", 1, HW_SEQ_ANY, NULL, &err));
        OK(hw_kv_put(nats, buckets[allowed], "l", "1", 1, HW_SEQ_ANY, NULL, &err));
        OK(hw_kv_message(buckets[allowed], "k", "2", 1, &msg, &err));
        natsMsgHeader_Set(msg, "Nats-Rollup", "all");
        if (allowed)
            OK(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err));
        else
            FAILS(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err), HW_EPROTO);
        OK(hw_kv_stat(nats, buckets[allowed], &stream, &err));
        ck_assert_uint_eq(stream.messages, allowed ? 1 : 2);
    }
    close_nats();
}
END_TEST

/* The republished subject tells of what was stored, and only of that. */
START_TEST(test_republish_is_a_hint_of_stored_entries)
{
    const struct hw_kv_config config = {.bucket = "r",
                                        .history = 1,
                                        .replicas = 1,
                                        .republish_from = "$KV.r.cfg.desired.>",
                                        .republish_to = "hints.desired.>"};
    struct hw_kv_stream stream;
    struct hw_nats_sub *sub;
    begin();
    OK(hw_kv_ensure(nats, &config, &stream, &err));
    OK(hw_nats_subscribe(nats, "hints.desired.n1", on_heard, heard, &sub, &err));
    OK(hw_kv_put(nats, "r", "cfg.desired.n2", "for another", 11, HW_SEQ_ANY, NULL, &err));
    FAILS(hw_kv_put(nats, "r", "cfg.desired.n1", "refused", 7, 99, NULL, &err), HW_ECONFLICT);
    OK(hw_kv_put(nats, "r", "cfg.desired.n1", "stored", 6, HW_SEQ_ANY, NULL, &err));
    wait_for(&heard_any, "the hint");
    ck_assert_str_eq(heard, "stored");
    hw_nats_unsubscribe(sub);
    close_nats();
}
END_TEST

START_TEST(test_valid_keys)
{
    static const char *const good[] = {"a", "cfg.desired.node-1", "A_b-9.x.y", "-", "_"};
    static const char *const bad[] = {"",   ".",   "a.",  ".a",  "a..b",     "a b", "a*",
                                      "a>", "a/b", "a=b", "a\n", "\xC3\xA9", "$a",  "a.>"};
    for (size_t i = 0; i < HW_COUNT(good); i++)
        ck_assert_msg(hw_kv_key_valid(good[i]), "refused %s", good[i]);
    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(!hw_kv_key_valid(bad[i]), "took %s", bad[i]);

    char name[HW_NAME_MOST + 2] = "";
    memset(name, 'x', HW_NAME_MOST + 1);
    ck_assert(hw_kv_key_valid(name) && !hw_name_valid(name));
    name[HW_NAME_MOST] = '\0';
    ck_assert(hw_name_valid(name));
    ck_assert(!hw_name_valid("") && !hw_name_valid("a."));
}
END_TEST

/* ---- publishing when things break ------------------------------------------------------------ */

START_TEST(test_publish_needs_a_connection_and_room)
{
    struct acked acked = {0}, never = {0};
    natsMsg *msg = NULL;
    test_nats_start(&server);
    open_nats(1);
    OK(hw_kv_message(BUCKET, "k", "v", 1, &msg, &err));
    FAILS(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_ack, &never, &err), HW_EUNAVAIL);
    wait_for(&up, "the connection");
    const struct hw_kv_config config = {.bucket = BUCKET, .history = 1, .replicas = 1};
    struct hw_kv_stream stream;
    OK(hw_kv_ensure(nats, &config, &stream, &err));
    OK(hw_kv_message(BUCKET, "k", "v", 1, &msg, &err));
    OK(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_ack, &acked, &err));
    OK(hw_kv_message(BUCKET, "k", "v", 1, &msg, &err));
    FAILS(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_ack, &never, &err), HW_EUNAVAIL);
    wait_for(&acked.done, "the acknowledgement");
    ck_assert_int_eq(acked.ack.status, HW_OK);
    OK(hw_kv_message(BUCKET, "k", "v", 1, &msg, &err));
    OK(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_ack, &acked, &err));
    close_nats();
    ck_assert_int_eq(acked.times, 2);
    ck_assert_int_eq(acked.ack.status, HW_ESTOPPED);
    ck_assert_int_eq(never.times, 0);
}
END_TEST

START_TEST(test_publish_without_a_bucket)
{
    begin();
    struct acked acked = {0};
    natsMsg *msg = NULL;
    OK(hw_kv_message("absent", "k", "v", 1, &msg, &err));
    OK(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_ack, &acked, &err));
    wait_for(&acked.done, "the refusal");
    ck_assert_int_ne(acked.ack.status, HW_OK);
    ck_assert_ptr_nonnull(strstr(acked.ack.err.message, "absent"));
    OK(hw_kv_message("absent", "k", "v", 1, &msg, &err));
    FAILS(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err), HW_EUNAVAIL);
    close_nats();
}
END_TEST

enum { MANY = 3000 };
static struct acked many[MANY];
static int answered;
static bool some_answered;

static void on_one_of_many(void *arg, const struct hw_ack *ack)
{
    on_ack(arg, ack);
    answered++;
    some_answered = answered >= 200;
}

/*
 * The server is killed while publishes are in flight. Each ends exactly once: acknowledged, and
 * then it is there after the restart; or with an unknown outcome, and then nothing arrives late.
 */
START_TEST(test_outcome_unknown_when_the_server_is_killed)
{
    struct hw_kv_entry entry;
    char key[32], value[32];
    int started = 0;
    begin();
    for (bool killed = false; started < MANY && (!killed || up); started++) {
        natsMsg *msg = NULL;
        snprintf(key, sizeof(key), "k%d", started);
        snprintf(value, sizeof(value), "v%d", started);
        OK(hw_kv_message(BUCKET, key, value, strlen(value), &msg, &err));
        if (hw_nats_publish(nats, msg, HW_SEQ_NONE, on_one_of_many, &many[started], &err) != HW_OK)
            break;
        if (started == 1000) { /* from here on none is read before the kill */
            wait_for(&some_answered, "the first acknowledgements");
            kill(server.pid, SIGSTOP);
        }
        if (started == 2000) {
            test_nats_kill(&server);
            killed = true;
        }
    }
    ck_assert_int_ge(started, 1000);
    wait_down_and_up();
    const double until = test_deadline(30);
    while (answered < started && test_now() < until) {
        const bool never = false;
        hw_loop_run_until(loop, &never, 20);
    }
    ck_assert_int_eq(answered, started);
    int known = 0, lost = 0, stored_unknown = 0;
    for (int i = 0; i < started; i++) {
        ck_assert_int_eq(many[i].times, 1);
        snprintf(key, sizeof(key), "k%d", i);
        const enum hw_status found = hw_kv_get(nats, BUCKET, key, &entry, &err);
        if (many[i].ack.status == HW_OK) {
            ck_assert_msg(found == HW_OK, "%s was acknowledged and is lost: %s", key, err.message);
            ck_assert_uint_eq(entry.seq, many[i].ack.seq);
            known++;
        } else {
            ck_assert_msg(many[i].ack.status == HW_ETIMEOUT || many[i].ack.status == HW_EUNAVAIL,
                          "%s: %s", key, many[i].ack.err.message);
            ck_assert(found == HW_OK || found == HW_ENOENT);
            *(found == HW_OK ? &stored_unknown : &lost) += 1;
        }
        if (found == HW_OK)
            hw_kv_entry_clear(&entry);
    }
    ck_assert_int_ge(known, 200);
    ck_assert_int_gt(lost, 0); /* the server was stopped when the last ones were sent */
    /* Life goes on, and what was lost can be published again. */
    ck_assert_int_eq(put_async("after", "v", HW_SEQ_NONE).status, HW_OK);
    close_nats();
}
END_TEST

/* ---- watching
 * ------------------------------------------------------------------------------------ */

static char seen[256]; /* key=value; of each entry, "!" when caught up, "?" when restarting */
static bool caught_up;

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    (void)arg;
    const size_t len = strlen(seen);
    snprintf(seen + len, sizeof(seen) - len, "%s=%.*s%s;", entry->key, (int)entry->size,
             entry->value, entry->deleted ? "X" : "");
}

static void on_caught_up(void *arg)
{
    (void)arg;
    strncat(seen, "!", sizeof(seen) - strlen(seen) - 1);
    caught_up = true;
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    (void)arg;
    ck_assert_str_ne(why->message, "");
    if (strchr(seen, '?') == NULL)
        strncat(seen, "?", sizeof(seen) - strlen(seen) - 1);
}

static const struct hw_kv_watch_events watch_events = {
    .entry = on_entry,
    .caught_up = on_caught_up,
    .restarting = on_restarting,
    .of = "what is tested",
};

static void put(const char *key, const char *value)
{
    OK(hw_kv_put(nats, BUCKET, key, value, value != NULL ? strlen(value) : 0, HW_SEQ_ANY, NULL,
                 &err));
}

static void wait_seen(const char *expected)
{
    const double until = test_deadline(30);
    while (strcmp(seen, expected) != 0 && test_now() < until) {
        const bool never = false;
        hw_loop_run_until(loop, &never, 10);
    }
    ck_assert_str_eq(seen, expected);
}

/* Behind a lost connection a watch may begin more than once, and then tells again. */
static void wait_told(const char *expected)
{
    const double until = test_deadline(30);
    while (strstr(seen, expected) == NULL && test_now() < until) {
        const bool never = false;
        hw_loop_run_until(loop, &never, 10);
    }
    ck_assert_msg(strstr(seen, expected) != NULL, "no %s in %s", expected, seen);
}

START_TEST(test_watch)
{
    struct hw_kv_watch *watch;
    begin();
    put("r.a", "1");
    put("r.b", "1");
    put("r.a", "2");
    put("other", "1");
    put("r.c", "1");
    put("r.c", NULL);
    OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &watch_events, &watch, &err));
    wait_seen("r.b=1;r.a=2;r.c=X;!");
    put("other", "2");
    put("r.b", "2");
    put("r.b", "3");
    put("r.a", NULL);
    wait_seen("r.b=1;r.a=2;r.c=X;!r.b=2;r.b=3;r.a=X;");
    seen[0] = '\0';
    hw_kv_watch_restart(watch);
    wait_seen("r.c=X;r.b=3;r.a=X;!");
    hw_kv_watch_stop(watch);
    put("r.a", "unseen");
    hw_kv_watch_stop(NULL);
    close_nats();
}
END_TEST

START_TEST(test_watch_of_an_empty_bucket)
{
    struct hw_kv_watch *watch;
    begin();
    OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &watch_events, &watch, &err));
    wait_seen("!");
    put("r.a", "1");
    wait_seen("!r.a=1;");
    hw_kv_watch_stop(watch);
    close_nats();
}
END_TEST

START_TEST(test_watch_goes_on_after_restarts)
{
    struct hw_kv_watch *watch;
    begin();
    put("r.a", "1");
    OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &watch_events, &watch, &err));
    wait_seen("r.a=1;!");
    for (int graceful = 0; graceful < 2; graceful++) {
        seen[0] = '\0';
        caught_up = false;
        if (graceful)
            test_nats_stop(&server);
        else
            test_nats_kill(&server);
        wait_down_and_up();
        wait_for(&caught_up, "the watch to catch up");
        ck_assert_ptr_nonnull(strstr(seen, "r.a="));
        seen[0] = '\0';
        put("r.a", graceful ? "3" : "2");
        wait_told(graceful ? "r.a=3;" : "r.a=2;");
    }
    hw_kv_watch_stop(watch);
    close_nats();
}
END_TEST

/* While nothing can be read, the reader tries less and less often, says so each time, and is stuck
 * after a while. */
START_TEST(test_a_reader_that_begins_anew)
{
    const struct hw_kv_config config = {.bucket = BUCKET, .history = 16, .replicas = 1};
    const bool never = false;
    struct hw_kv_stream stream;
    struct hw_kv_watch *watch;

    begin();
    put("r.a", "1");
    OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &watch_events, &watch, &err));
    wait_seen("r.a=1;!");
    ck_assert_int_eq(restarts, 0);
    ck_assert_int_eq(js_DeleteStream(hw_nats_js(nats), "KV_" BUCKET, NULL, NULL), NATS_OK);
    hw_kv_watch_restart(watch);
    const double until = test_deadline(30);
    while (hw_nats_stuck(nats) == NULL && test_now() < until)
        hw_loop_run_until(loop, &never, 10);
    const char *const stuck = hw_nats_stuck(nats);
    ck_assert_ptr_nonnull(stuck);
    ck_assert_msg(strncmp(stuck, "what is tested: ", 16) == 0 && strstr(stuck, restart_why) != NULL,
                  "%s", stuck);
    /* 0.1, 0.2, 0.4, 0.8 s and more: a pause that did not grow would have been taken ten times. */
    ck_assert_int_ge(restarts, 2);
    ck_assert_int_le(restarts, 6);
    ck_assert_int_ge(last_pause, 400);
    OK(hw_kv_ensure(nats, &config, &stream, &err));
    caught_up = false;
    wait_for(&caught_up, "the watch to catch up");
    ck_assert_ptr_null(hw_nats_stuck(nats));
    hw_kv_watch_stop(watch);
    close_nats();
}
END_TEST

START_TEST(test_watch_waits_for_a_lost_bucket)
{
    const struct hw_kv_config config = {.bucket = BUCKET, .history = 16, .replicas = 1};
    struct hw_kv_stream stream;
    struct hw_kv_watch *watch;
    begin();
    put("r.a", "1");
    OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &watch_events, &watch, &err));
    wait_seen("r.a=1;!");
    test_nats_stop(&server);
    test_nats_wipe(&server);
    seen[0] = '\0';
    wait_down_and_up();
    wait_told("?");
    OK(hw_kv_ensure(nats, &config, &stream, &err));
    ck_assert_uint_eq(stream.last_seq, 0);
    wait_told("!");
    put("r.b", "1");
    wait_told("r.b=1;");
    hw_kv_watch_stop(watch);
    close_nats();
}
END_TEST

static void on_any(void *arg, struct hw_kv_entry *entry)
{
    (void)arg, (void)entry;
}

static void on_end(void *arg)
{
    (void)arg;
}

static void on_stored(void *arg, const struct hw_ack *ack)
{
    ck_assert_int_eq(ack->status, HW_OK);
    *(bool *)arg = true;
}

/* Closed while all keys are still coming, or just when the server lets go of the watch. */
START_TEST(test_close_in_the_midst_of_a_watch)
{
    enum { KEYS = 4000, TIMES = 60 };
    static bool acked[KEYS];
    const bool never = false;
    begin();
    for (int i = 0; i < KEYS; i++) {
        HW_AUTO_FREE char *key = hw_sprintf("r.%d", i);
        natsMsg *msg = NULL;
        OK(hw_kv_message(BUCKET, key, "1", 1, &msg, &err));
        OK(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_stored, &acked[i], &err));
    }
    wait_for(&acked[KEYS - 1], "the keys");
    for (int i = 0; i < TIMES; i++) {
        struct hw_kv_watch *watch;
        const struct hw_kv_watch_events events = {.entry = on_any, .caught_up = on_end};
        OK(hw_kv_watch_start(nats, BUCKET, "r.>", HW_DELIVER_LAST, &events, &watch, &err));
        hw_loop_run_until(loop, &never, i % 30);
        hw_kv_watch_stop(watch);
        hw_loop_run_until(loop, &never, i % 3);
        hw_nats_close(nats);
        hw_loop_free(loop);
        up = false;
        open_nats(0);
        wait_for(&up, "the connection");
    }
    close_nats();
}
END_TEST

/* ---- objects --------------------------------------------------------------------------------- */

static unsigned char *pattern(size_t size)
{
    unsigned char *data = hw_alloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((i * 2654435761U) >> 11);
    return data;
}

static struct hw_ack put_object(const char *name, const void *data, size_t size)
{
    struct acked acked = {0};
    OK(hw_obj_put(nats, BUCKET, name, data, size, on_ack, &acked, &err));
    wait_for(&acked.done, "the object");
    ck_assert_int_eq(acked.times, 1);
    return acked.ack;
}

static void expect_object(const char *name, const void *data, size_t size)
{
    struct hw_digest expected, digest;
    unsigned char *got = NULL;
    size_t got_size = 0, stat_size = 0;
    OK(hw_obj_get(nats, BUCKET, name, size, &got, &got_size, &digest, &err));
    ck_assert_uint_eq(got_size, size);
    ck_assert_mem_eq(got, data, size);
    ck_assert_int_eq(got[size], '\0');
    hw_digest_of(data, size, &expected);
    ck_assert(hw_digest_equal(&digest, &expected));
    free(got);
    OK(hw_obj_stat(nats, BUCKET, name, &stat_size, &err));
    ck_assert_uint_eq(stat_size, size);
}

static void begin_objects(void)
{
    begin();
    OK(hw_obj_ensure(nats, BUCKET, 1, &err));
    OK(hw_obj_ensure(nats, BUCKET, 1, &err));
}

START_TEST(test_objects_of_many_sizes)
{
    static const size_t sizes[] = {0,
                                   1,
                                   (128 << 10) - 1,
                                   128 << 10,
                                   (128 << 10) + 1,
                                   1 << 20,
                                   (1 << 20) - 1,
                                   (1 << 20) + 1,
                                   16 << 20};
    HW_AUTO_FREE unsigned char *data = pattern(16 << 20);
    begin_objects();
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        struct hw_digest digest;
        char name[HW_DIGEST_HEX_MAX];
        unsigned char *got;
        size_t size;
        hw_digest_of(data, sizes[i], &digest);
        hw_digest_hex(&digest, name);
        FAILS(hw_obj_stat(nats, BUCKET, name, &size, &err), HW_ENOENT);
        FAILS(hw_obj_get(nats, BUCKET, name, 1, &got, &size, NULL, &err), HW_ENOENT);
        ck_assert_int_eq(put_object(name, data, sizes[i]).status, HW_OK);
        expect_object(name, data, sizes[i]);
        if (sizes[i] > 0)
            FAILS(hw_obj_get(nats, BUCKET, name, sizes[i] - 1, &got, &size, NULL, &err), HW_ELIMIT);
    }
    close_nats();
}
END_TEST

static uint64_t object_messages(void)
{
    jsStreamInfo *info = NULL;
    ck_assert_int_eq(js_GetStreamInfo(&info, hw_nats_js(nats), "OBJ_" BUCKET, NULL, NULL), NATS_OK);
    const uint64_t messages = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return messages;
}

/* Bytes of a chunk that is not the last, with the default maximum payload (docs/protocol.md). */
enum { CHUNK = (1 << 20) - (4 << 10) };

/* Never overwritten; who comes second leaves nothing behind. */
START_TEST(test_object_put_twice)
{
    HW_AUTO_FREE unsigned char *data = pattern((size_t)3 * CHUNK);
    struct acked twice[2] = {0};
    begin_objects();
    ck_assert_int_eq(put_object("x", data, (size_t)3 * CHUNK).status, HW_OK);
    ck_assert_uint_eq(object_messages(), 4);
    ck_assert_int_eq(put_object("x", data, (size_t)3 * CHUNK).status, HW_OK);
    ck_assert_uint_eq(object_messages(), 4);
    expect_object("x", data, (size_t)3 * CHUNK);
    for (int i = 0; i < 2; i++)
        OK(hw_obj_put(nats, BUCKET, "y", data, (size_t)2 * CHUNK, on_ack, &twice[i], &err));
    for (int i = 0; i < 2; i++) {
        wait_for(&twice[i].done, "the object");
        ck_assert_int_eq(twice[i].ack.status, HW_OK);
    }
    ck_assert_uint_eq(object_messages(), 7);
    expect_object("y", data, (size_t)2 * CHUNK);
    close_nats();
}
END_TEST

static void publish(const char *subject, const void *data, size_t size, const char *rollup)
{
    natsMsg *msg = NULL;
    ck_assert_int_eq(natsMsg_Create(&msg, subject, NULL, data, (int)size), NATS_OK);
    if (rollup != NULL)
        ck_assert_int_eq(natsMsgHeader_Set(msg, "Nats-Rollup", rollup), NATS_OK);
    OK(hw_nats_publish_wait(nats, msg, HW_SEQ_ANY, NULL, &err));
}

static void publish_meta(const char *name, const char *json)
{
    HW_AUTO_FREE char *encoded = hw_base64url_encode(name, strlen(name));
    HW_AUTO_FREE char *subject = hw_sprintf("$O.b.M.%s", encoded);
    publish(subject, json, strlen(json), "sub");
}

/* Chunks of 128 KiB, whatever order and members: as other clients of the store write them. */
START_TEST(test_object_of_another_client)
{
    const size_t size = (300 << 10) + 17, chunk = 128 << 10;
    HW_AUTO_FREE unsigned char *data = pattern(size);
    struct hw_digest digest;
    begin_objects();
    hw_digest_of(data, size, &digest);
    HW_AUTO_FREE char *encoded = hw_base64url_encode(digest.bytes, sizeof(digest.bytes));
    for (size_t from = 0; from < size; from += chunk) {
        publish("$O.b.C.TheirNuid", data + from, size - from < chunk ? size - from : chunk, NULL);
        publish("$O.b.C.AnotherNuid", "in between", 10, NULL);
    }
    HW_AUTO_FREE char *meta = hw_sprintf(
        "{\"bucket\":\"b\",\"chunks\":3,\"deleted\":false,\"description\":\"theirs\",\"digest\":"
        "\"SHA-256=%s\",\"headers\":{\"a\":[\"b\"]},\"metadata\":{\"k\":\"v\"},\"mtime\":"
        "\"2026-01-31T12:00:00Z\",\"name\":\"some name\",\"nuid\":\"TheirNuid\",\"options\":"
        "{\"max_chunk_size\":131072},\"size\":%zu}",
        encoded, size);
    publish_meta("some name", meta);
    expect_object("some name", data, size);
    close_nats();
}
END_TEST

/* Reads metadata of an object as it is in the stream; the caller frees it. */
static char *read_meta(const char *name, struct hw_stored *stored)
{
    HW_AUTO_FREE char *encoded = hw_base64url_encode(name, strlen(name));
    HW_AUTO_FREE char *subject = hw_sprintf("$O.b.M.%s", encoded);
    OK(hw_stored_last(nats, "OBJ_" BUCKET, subject, stored, &err));
    return hw_strndup(natsMsg_GetData(stored->msg), (size_t)natsMsg_GetDataLength(stored->msg));
}

START_TEST(test_object_metadata_says_what_the_layout_wants)
{
    struct hw_stored stored;
    begin_objects();
    ck_assert_int_eq(put_object("abc", "abc", 3).status, HW_OK);
    HW_AUTO_FREE char *meta = read_meta("abc", &stored);
    const char *rollup = NULL;
    ck_assert_int_eq(natsMsgHeader_Get(stored.msg, "Nats-Rollup", &rollup), NATS_OK);
    ck_assert_str_eq(rollup, "sub");
    hw_stored_clear(&stored);
    ck_assert_ptr_nonnull(strstr(meta, "\"name\":\"abc\""));
    ck_assert_ptr_nonnull(strstr(meta, "\"bucket\":\"b\""));
    ck_assert_ptr_nonnull(strstr(meta, "\"size\":3"));
    ck_assert_ptr_nonnull(strstr(meta, "\"chunks\":1"));
    ck_assert_ptr_nonnull(
        strstr(meta, "\"digest\":\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\""));
    close_nats();
}
END_TEST

/* A direct get of a chunk is the chunk and a header; a server sends no leaf node more than its
 * maximum payload. */
START_TEST(test_a_chunk_fits_with_a_header)
{
    HW_AUTO_FREE char *data = calloc(1, 3 << 20);
    struct hw_stored chunk;
    begin_objects();
    ck_assert_int_eq(put_object("x", data, 3 << 20).status, HW_OK);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        OK(hw_stored_at(nats, "OBJ_" BUCKET, seq, &chunk, &err));
        const size_t size = (size_t)natsMsg_GetDataLength(chunk.msg);
        ck_assert_msg(size + 1024 <= hw_nats_max_payload(nats), "%zu", size);
        ck_assert_msg(size > 1000000, "%zu", size);
        hw_stored_clear(&chunk);
    }
    close_nats();
}
END_TEST

static void erase(uint64_t seq)
{
    ck_assert_int_eq(js_DeleteMsg(hw_nats_js(nats), "OBJ_" BUCKET, seq, NULL, NULL), NATS_OK);
}

static void expect_corrupt(const char *name)
{
    unsigned char *data = NULL;
    size_t size;
    FAILS(hw_obj_get(nats, BUCKET, name, 64 << 20, &data, &size, NULL, &err), HW_ECORRUPT);
    ck_assert_ptr_null(data);
    ck_assert_msg(strstr(err.message, name) != NULL, "which object? %s", err.message);
}

START_TEST(test_damaged_objects_are_refused)
{
    const size_t size_of_three = (size_t)3 * CHUNK - 2;
    HW_AUTO_FREE unsigned char *data = pattern(size_of_three);
    struct hw_stored stored;
    begin_objects();

    /* The chunks of x are messages 1 to 3, its metadata is 4. */
    ck_assert_int_eq(put_object("missing", data, size_of_three).status, HW_OK);
    erase(2);
    expect_corrupt("missing");

    /* The last chunk with one bit flipped, under the same subject: 5 to 7, metadata 8. */
    ck_assert_int_eq(put_object("flipped", data, size_of_three).status, HW_OK);
    natsMsg *chunk = NULL;
    ck_assert_int_eq(js_GetMsg(&chunk, hw_nats_js(nats), "OBJ_" BUCKET, 7, NULL, NULL), NATS_OK);
    HW_AUTO_FREE char *subject = hw_strdup(natsMsg_GetSubject(chunk));
    natsMsg_Destroy(chunk);
    erase(7);
    data[size_of_three - 1] ^= 0x10;
    publish(subject, data + (size_t)2 * CHUNK, CHUNK - 2, NULL);
    expect_corrupt("flipped");
    data[size_of_three - 1] ^= 0x10;

    /* Too short, too long, without any chunk. */
    HW_AUTO_FREE char *meta = read_meta("flipped", &stored);
    hw_stored_clear(&stored);
    erase(9);
    publish(subject, data + (size_t)2 * CHUNK, CHUNK - 3, NULL);
    expect_corrupt("flipped");
    erase(10);
    publish(subject, data + (size_t)2 * CHUNK, CHUNK - 2, NULL);
    expect_object("flipped", data,
                  size_of_three); /* repaired: the damage above was all there was */
    char *size = strstr(meta, "\"size\":3133438");
    ck_assert_ptr_nonnull(size);
    size[strlen("\"size\":313343")] = '7';
    publish_meta("flipped", meta);
    expect_corrupt("flipped");
    size[strlen("\"size\":313343")] = '9';
    publish_meta("flipped", meta);
    expect_corrupt("flipped");
    close_nats();
}
END_TEST

START_TEST(test_damaged_metadata_is_refused)
{
    static const char *const bad[] = {
        "",
        "garbage",
        "[]",
        "{}",
        "{\"nuid\":7}",
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1}",
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1,\"digest\":\"MD5=AAAA\"}",
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1,\"digest\":\"SHA-256=AAAA\"}",
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1,\"digest\":\"SHA-256=***\"}",
        "{\"nuid\":\"n\",\"size\":-1,\"chunks\":1,\"digest\":"
        "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}",
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":-1,\"digest\":"
        "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}",
        "{\"nuid\":\">\",\"size\":3,\"chunks\":1,\"digest\":"
        "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}",
        /* everything in order, but the bytes are "xyz" */
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1,\"digest\":"
        "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}",
        /* more chunks than there are */
        "{\"nuid\":\"n\",\"size\":3,\"chunks\":1000000000000,\"digest\":"
        "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}",
    };
    unsigned char *data = NULL;
    size_t size;
    begin_objects();
    publish("$O.b.C.n", "xyz", 3, NULL);
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        publish_meta("name", bad[i]);
        expect_corrupt("name");
    }
    publish_meta("name", "{\"nuid\":\"n\",\"size\":1000000000000000,\"chunks\":1,\"digest\":"
                         "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}");
    FAILS(hw_obj_get(nats, BUCKET, "name", 16 << 20, &data, &size, NULL, &err), HW_ELIMIT);

    /* Whoever puts the object writes over it. */
    ck_assert_int_eq(put_object("name", "abc", 3).status, HW_OK);
    expect_object("name", "abc", 3);
    publish_meta("name", "garbage");
    ck_assert_int_eq(put_object("name", "abc", 3).status, HW_OK);
    expect_object("name", "abc", 3);
    close_nats();
}
END_TEST

START_TEST(test_deleted_object)
{
    unsigned char *data = NULL;
    size_t size = 0;
    begin_objects();
    ck_assert_int_eq(put_object("x", "abc", 3).status, HW_OK);
    publish_meta("x", "{\"name\":\"x\",\"bucket\":\"b\",\"nuid\":\"\",\"size\":0,\"chunks\":0,"
                      "\"digest\":\"\",\"deleted\":true,\"mtime\":\"2026-01-31T12:00:00Z\"}");
    FAILS(hw_obj_stat(nats, BUCKET, "x", &size, &err), HW_ENOENT);
    FAILS(hw_obj_get(nats, BUCKET, "x", 10, &data, &size, NULL, &err), HW_ENOENT);
    ck_assert_int_eq(put_object("x", "abc", 3).status, HW_OK);
    expect_object("x", "abc", 3);
    close_nats();
}
END_TEST

static char listed[256];
static bool list_done;

static void on_listed(void *arg, const char *name, const char *nuid, bool there)
{
    (void)nuid;
    ck_assert_ptr_eq(arg, listed);
    const size_t len = strlen(listed);
    snprintf(listed + len, sizeof(listed) - len, "%.8s:%s ", name, there ? "there" : "gone");
}

static void on_list_done(void *arg)
{
    (void)arg;
    list_done = true;
}

static void on_list_lost(void *arg, const struct hw_error *why)
{
    (void)arg;
    ck_abort_msg("%s", why->message);
}

static void on_expected_loss(void *arg, const struct hw_error *why)
{
    ck_assert_int_eq(why->status, HW_ENOENT);
    *(bool *)arg = true;
}

static void on_counted(void *arg, const char *name, const char *nuid, bool there)
{
    (void)nuid;
    (void)name;
    (void)there;
    ++*(size_t *)arg;
}

static struct hw_obj_watch *start_list(void)
{
    const struct hw_obj_watch_events events = {
        .entry = on_listed, .done = on_list_done, .lost = on_list_lost, .arg = listed};
    struct hw_obj_watch *list;
    listed[0] = '\0';
    list_done = false;
    list = hw_obj_watch_start(nats, BUCKET, &events);
    wait_for(&list_done, "the list");
    return list;
}

static void expect_list(const char *expected)
{
    struct hw_obj_watch *list = start_list();
    ck_assert_str_eq(listed, expected);
    hw_obj_watch_stop(list);
}

static void on_deleted(void *arg, const struct hw_ack *ack)
{
    ck_assert_int_eq(ack->status, HW_OK);
    *(bool *)arg = true;
}

static bool told_of(const char *text)
{
    const bool never = false;
    hw_loop_run_until(loop, &never, 5);
    return strcmp(listed, text) == 0;
}

START_TEST(test_list_of_objects)
{
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char none[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    bool deleted = false;
    begin_objects();
    expect_list("");
    ck_assert_int_eq(put_object(abc, "abc", 3).status, HW_OK);
    ck_assert_int_eq(put_object(none, "", 0).status, HW_OK);
    ck_assert_int_eq(put_object("gone", "abcd", 4).status, HW_OK);
    ck_assert_int_eq(put_object("other", "ab", 2).status, HW_OK); /* not what its name says */
    publish_meta("gone",
                 "{\"name\":\"gone\",\"bucket\":\"b\",\"nuid\":\"\",\"size\":0,\"chunks\":0,"
                 "\"digest\":\"\",\"deleted\":true,\"mtime\":\"2026-01-31T12:00:00Z\"}");
    publish_meta("broken", "no metadata");
    struct hw_obj_watch *list = start_list();
    ck_assert_str_eq(listed, "ba7816bf:there e3b0c442:there other:gone gone:gone broken:gone ");

    /* It goes on: a deletion, by us, takes the chunks along; so does nothing that is not there. */
    listed[0] = '\0';
    OK(hw_obj_delete(nats, BUCKET, abc, on_deleted, &deleted, &err));
    wait_for(&deleted, "the deletion");
    test_wait_for(told_of("ba7816bf:gone "), 30);
    size_t size;
    ck_assert_int_eq(hw_obj_stat(nats, BUCKET, abc, &size, &err), HW_ENOENT);
    hw_obj_watch_stop(list);
    ck_assert_int_eq(put_object(abc, "abc", 3).status, HW_OK);
    OK(hw_obj_stat(nats, BUCKET, abc, &size, &err));
    ck_assert_uint_eq(size, 3);

    list = NULL;
    hw_obj_watch_stop(NULL);
    bool lost = false;
    const struct hw_obj_watch_events events = {
        .entry = on_listed, .done = on_list_done, .lost = on_expected_loss, .arg = &lost};
    list = hw_obj_watch_start(nats, "absent", &events);
    wait_for(&lost, "the loss");
    hw_obj_watch_stop(list);
    close_nats();
}
END_TEST

static bool begun(const size_t *entries)
{
    const bool never = false;
    hw_loop_run_until(loop, &never, 1);
    return *entries > 0;
}

/* Starts a list whose consumer is deleted when the first entries are there; tells how many came. */
static size_t list_without_consumer(void)
{
    size_t entries = 0;
    const struct hw_obj_watch_events events = {
        .entry = on_counted, .done = on_list_done, .lost = on_list_lost, .arg = &entries};
    jsConsumerNamesList *names = NULL;

    list_done = false;
    struct hw_obj_watch *list = hw_obj_watch_start(nats, BUCKET, &events);
    test_wait_for(begun(&entries), 30);
    ck_assert_int_eq(js_ConsumerNames(&names, hw_nats_js(nats), "OBJ_b", NULL, NULL), NATS_OK);
    ck_assert_int_ge(names->Count, 1); /* with what an earlier one may have left for now */
    for (int i = 0; i < names->Count; i++)
        js_DeleteConsumer(hw_nats_js(nats), "OBJ_b", names->List[i], NULL, NULL);
    jsConsumerNamesList_Destroy(names);
    wait_for(&list_done, "the list");
    hw_obj_watch_stop(list);
    return entries;
}

/* Its consumer is gone before it has delivered everything. The server may be faster than we are at
 * deleting it, so it takes some tries to come between. */
START_TEST(test_list_outlives_its_consumer)
{
    enum { OBJECTS = 40000, TRIES = 50 };
    static bool acked[OBJECTS];
    size_t entries = 0;
    begin_objects();
    for (int i = 0; i < OBJECTS; i++) {
        HW_AUTO_FREE char *name = hw_sprintf("%09d", i);
        HW_AUTO_FREE char *encoded = hw_base64url_encode(name, strlen(name));
        HW_AUTO_FREE char *subject = hw_sprintf("$O.b.M.%s", encoded);
        const char meta[] = "{\"name\":\"x\",\"nuid\":\"n\",\"size\":3,\"chunks\":1,\"digest\":"
                            "\"SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}";
        natsMsg *msg = NULL;
        ck_assert_int_eq(natsMsg_Create(&msg, subject, NULL, meta, (int)strlen(meta)), NATS_OK);
        OK(hw_nats_publish(nats, msg, HW_SEQ_ANY, on_stored, &acked[i], &err));
        if (i % 1000 == 999)
            wait_for(&acked[i], "the metadata");
    }
    for (int tries = 0; entries <= OBJECTS && tries < TRIES; tries++) {
        entries = list_without_consumer();
        ck_assert_uint_ge(entries, OBJECTS);
    }
    ck_assert_uint_gt(entries, OBJECTS); /* some came twice */
    close_nats();
}
END_TEST

/* Killed while chunks are in flight: it ends once, not with success, and can be done again. */
START_TEST(test_object_put_when_the_server_is_killed)
{
    HW_AUTO_FREE unsigned char *data = pattern(8 << 20);
    struct acked acked = {0};
    size_t size;
    begin_objects();
    kill(server.pid, SIGSTOP);
    OK(hw_obj_put(nats, BUCKET, "x", data, 64 << 10, on_ack, &acked, &err));
    test_nats_kill(&server);
    wait_down_and_up();
    wait_for(&acked.done, "the end of the put");
    ck_assert_int_eq(acked.times, 1);
    ck_assert(acked.ack.status == HW_ETIMEOUT || acked.ack.status == HW_EUNAVAIL);
    FAILS(hw_obj_stat(nats, BUCKET, "x", &size, &err), HW_ENOENT);
    ck_assert_int_eq(put_object("x", data, 8 << 20).status, HW_OK);
    expect_object("x", data, 8 << 20);
    close_nats();
}
END_TEST

TEST_MAIN("nats", 120, test_connects_when_the_server_comes, test_threads_of_the_library,
          test_threads_of_a_host_with_a_policy, test_the_first_try_may_wait,
          test_subscriptions_outlive_a_restart, test_put_get_delete, test_bucket_is_made_once,
          test_layout_is_that_of_other_clients, test_compare_and_set, test_fences_travel_in_headers,
          test_rollup_is_refused_where_it_is_off, test_republish_is_a_hint_of_stored_entries,
          test_valid_keys, test_publish_needs_a_connection_and_room, test_publish_without_a_bucket,
          test_outcome_unknown_when_the_server_is_killed, test_watch, test_watch_of_an_empty_bucket,
          test_watch_goes_on_after_restarts, test_watch_waits_for_a_lost_bucket,
          test_a_reader_that_begins_anew, test_close_in_the_midst_of_a_watch,
          test_objects_of_many_sizes, test_object_put_twice, test_object_of_another_client,
          test_object_metadata_says_what_the_layout_wants, test_a_chunk_fits_with_a_header,
          test_damaged_objects_are_refused, test_damaged_metadata_is_refused, test_deleted_object,
          test_list_of_objects, test_list_outlives_its_consumer,
          test_object_put_when_the_server_is_killed)
