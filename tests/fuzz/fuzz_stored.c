/*
 * What anyone who may write a key has stored: a header block and a body, as a consumer delivers
 * them and as direct get answers, through everything that reads them up to reports, proposals and
 * entries. Whatever they are, they are data: read as what the server says that they are, passed on
 * once, and nothing is published because of them.
 *
 * The input: two bytes, the length of the header block (the low one first), the block, the body.
 * The connection is this target's own; from the consumer on all is the real thing.
 */
#include <nats/nats.h>
#include <string.h>

#include "agent/desired.h"
#include "base/json.h"
#include "nats/kv.h"
#include "nats/stored.h"
#include "protocol/entry.h"
#include "protocol/proposal.h"
#include "protocol/report.h"
#include "tests/fuzz/fuzz.h"

/* Of the library, exported by it and in none of its headers: how it makes the messages that it
 * reads from the server. The block is the first hdrLen bytes of buf; 0: there is none. */
natsStatus natsMsg_create(natsMsg **newMsg, const char *subject, int subjLen, const char *reply,
                          int replyLen, const char *buf, int bufLen, int hdrLen);

#define BUCKET  "headwater_reports"
#define STREAM  "KV_" BUCKET
#define KEY     "cfg.reported.daq1"
#define SUBJECT "$KV." BUCKET "." KEY
#define SEQ     4711
#define TIME    "2026-01-31T12:00:00.5Z"

static struct hw_loop *loop;
static hw_nats_msg_fn *deliver;   /* to the consumer's subscription */
static hw_nats_msg_fn *tell_made; /* … and that it is there */
static void *deliver_to;
static natsMsg *answer; /* of the next request */
static bool caught_up;
static uint64_t deliveries;

/* What the entry should be that the watch passes on. */
static struct {
    const uint8_t *body;
    size_t size;
    int times;
} expected;

/* ---- the connection, where nothing may be published ---- */

struct hw_loop *hw_nats_loop(struct hw_nats *nats)
{
    (void)nats;
    return loop;
}

bool hw_nats_up(const struct hw_nats *nats)
{
    (void)nats;
    return true;
}

bool hw_nats_has_mail(const struct hw_nats *nats)
{
    (void)nats;
    return false;
}

jsCtx *hw_nats_js(struct hw_nats *nats)
{
    (void)nats;
    return NULL;
}

natsConnection *hw_nats_connection(struct hw_nats *nats)
{
    (void)nats;
    return NULL;
}

int64_t hw_nats_unread_ms(const struct hw_nats *nats)
{
    (void)nats;
    return 60000;
}

void hw_nats_tell_reader(struct hw_nats *nats, const char *of, const char *why, int64_t pause_ms)
{
    (void)nats, (void)of, (void)pause_ms;
    fprintf(stderr, "%s\n", why);
    FUZZ_HOLDS(!"no message was lost");
}

void hw_nats_listen(struct hw_nats *nats, struct hw_nats_listener *listener)
{
    (void)nats, (void)listener;
}

void hw_nats_unlisten(struct hw_nats *nats, struct hw_nats_listener *listener)
{
    (void)nats, (void)listener;
}

enum hw_status hw_nats_subscribe(struct hw_nats *nats, const char *subject, hw_nats_msg_fn *fn,
                                 void *arg, struct hw_nats_sub **sub, struct hw_error *err)
{
    (void)nats, (void)err;
    if (strstr(subject, ".answer") != NULL) {
        tell_made = fn;
    } else {
        deliver = fn;
        deliver_to = arg;
    }
    *sub = NULL;
    return HW_OK;
}

void hw_nats_unsubscribe(struct hw_nats_sub *sub)
{
    (void)sub;
}

void hw_nats_signal(struct hw_nats *nats, const char *subject, const char *text)
{
    (void)nats, (void)text;
    fprintf(stderr, "published to %s\n", subject);
    FUZZ_HOLDS(!"nothing is published");
}

enum hw_status hw_nats_request(struct hw_nats *nats, const char *subject, const void *data,
                               size_t size, natsMsg **out, struct hw_error *err)
{
    (void)nats, (void)subject, (void)data, (void)size, (void)err;
    *out = HW_TAKE(answer);
    return HW_OK;
}

enum hw_status hw_nats_publish_wait(struct hw_nats *nats, natsMsg *msg, uint64_t expected_seq,
                                    uint64_t *seq, struct hw_error *err)
{
    (void)nats, (void)msg, (void)expected_seq, (void)seq, (void)err;
    FUZZ_HOLDS(!"nothing is published");
    return HW_OK;
}

enum hw_status hw_nats_fail(struct hw_error *err, natsStatus s, jsErrCode code, const char *fmt,
                            ...)
{
    (void)fmt;
    return hw_fail(err, HW_EUNAVAIL, "%s, %d", natsStatus_GetText(s), (int)code);
}

const char *hw_nats_last_trouble(const struct hw_nats *nats)
{
    (void)nats;
    return "";
}

void hw_nats_fail_also(struct hw_error *err, const char *trouble)
{
    (void)err, (void)trouble;
}

static void answer_that_it_is_made(void *arg)
{
    static const char made[] = "{\"name\":\"C1\",\"num_pending\":0}";
    natsMsg *msg;

    FUZZ_HOLDS(natsMsg_Create(&msg, arg, NULL, made, sizeof(made) - 1) == NATS_OK);
    tell_made(deliver_to, msg);
    natsMsg_Destroy(msg);
    free(arg);
}

/* Instead of the library's: the one request is for the consumer. */
natsStatus natsConnection_PublishRequest(natsConnection *nc, const char *subject, const char *reply,
                                         const void *data, int size)
{
    static struct hw_timer timer;

    (void)nc, (void)data, (void)size;
    FUZZ_HOLDS(strcmp(subject, "$JS.API.CONSUMER.CREATE." STREAM) == 0);
    hw_timer_start(loop, &timer, 0, answer_that_it_is_made, hw_strdup(reply));
    return NATS_OK;
}

/* ---- the readers ---- */

static void read_as_all(const struct hw_kv_entry *stored)
{
    const struct hw_entry found = hw_entry_of(stored), *const entry = &found;
    HW_AUTO_JSON json_t *members = NULL;
    HW_AUTO_JSON json_t *report = NULL;
    HW_AUTO_FREE char *ref = NULL;
    struct agent_document document = {0};
    struct hw_error err = {0};
    struct hw_fence newest;

    FUZZ_HOLDS(entry->seq == SEQ && strcmp(entry->key, KEY) == 0);
    FUZZ_HOLDS(entry->size == expected.size &&
               (entry->size == 0 || memcmp(entry->value, expected.body, entry->size) == 0));
    FUZZ_HOLDS(!entry->fenced || entry->fence.epoch <= UINT32_MAX);
    if (hw_report_read("daq1", entry->value, entry->size, &report, &newest, &err) != HW_OK)
        FUZZ_HOLDS(err.message[0] != '\0');
    (void)!hw_proposal_read("daq1", entry->value, entry->size, &members, &ref, &err);
    (void)!agent_desired_decode(entry, "daq1", NULL, &document, &err);
    free(agent_desired_sources(entry));
}

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    (void)arg;
    expected.times++;
    read_as_all(entry);
}

static void on_caught_up(void *arg)
{
    *(bool *)arg = true;
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    (void)arg;
    fprintf(stderr, "%s\n", why->message);
    FUZZ_HOLDS(!"the watch begins anew");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct hw_kv_watch_events events = {.entry = on_entry,
                                              .caught_up = on_caught_up,
                                              .restarting = on_restarting,
                                              .arg = &caught_up};
    static struct hw_kv_watch *watch; /* for as long as the program runs */
    struct hw_error err;

    (void)argc;
    (void)argv;
    FUZZ_HOLDS(nats_Open(-1) == NATS_OK);
    FUZZ_HOLDS(hw_loop_new(&loop, &err) == HW_OK);
    FUZZ_HOLDS(hw_kv_watch_start(NULL, BUCKET, "cfg.>", HW_DELIVER_ALL, &events, &watch, &err) ==
               HW_OK);
    FUZZ_HOLDS(hw_loop_run_until(loop, &caught_up, 10000));
    FUZZ_HOLDS(deliver != NULL);
    return 0;
}

/* block and body become one run of bytes, as they come from the socket. */
static natsMsg *message(const char *subject, const char *reply, const void *block,
                        size_t block_size, const void *body, size_t body_size)
{
    HW_AUTO_FREE char *bytes = hw_alloc(block_size + body_size + 1);
    natsMsg *msg;

    if (block_size > 0)
        memcpy(bytes, block, block_size);
    if (body_size > 0)
        memcpy(bytes + block_size, body, body_size);
    FUZZ_HOLDS(natsMsg_create(&msg, subject, (int)strlen(subject), reply,
                              reply != NULL ? (int)strlen(reply) : 0, bytes,
                              (int)(block_size + body_size),
                              block_size > 0 ? (int)block_size : -1) == NATS_OK);
    return msg;
}

static void from_a_consumer(const void *block, size_t block_size)
{
    HW_AUTO_FREE char *reply = hw_sprintf("$JS.ACK." STREAM ".C1.1.%d.%llu.1700000000000000000.0",
                                          SEQ, (unsigned long long)++deliveries);
    natsMsg *msg = message(SUBJECT, reply, block, block_size, expected.body, expected.size);

    expected.times = 0;
    deliver(deliver_to, msg);
    FUZZ_HOLDS(expected.times == 1);
    natsMsg_Destroy(msg);
}

/* The server puts its own fields in place of the last two bytes of the block that was stored
 * (genHeader of nats-server). */
static void by_direct_get(const void *block, size_t block_size)
{
    static const char fields[] = "Nats-Stream: " STREAM "\r\nNats-Subject: " SUBJECT
                                 "\r\nNats-Sequence: 4711\r\nNats-Time-Stamp: " TIME "\r\n\r\n";
    static const char none[] = "NATS/1.0\r\n";
    const size_t kept = block_size > 2 ? block_size - 2 : 0;
    HW_AUTO_FREE char *given = hw_alloc(kept + sizeof(none) + sizeof(fields));
    struct hw_kv_entry entry;
    struct hw_error err = {0};
    size_t size = kept;

    if (kept > 0)
        memcpy(given, block, kept);
    else
        size = strlen(strcpy(given, none));
    memcpy(given + size, fields, strlen(fields));
    answer = message("_INBOX.x", NULL, given, size + strlen(fields), expected.body, expected.size);
    if (hw_kv_get(NULL, BUCKET, KEY, &entry, &err) == HW_OK) {
        read_as_all(&entry);
        hw_kv_entry_clear(&entry);
    } else { /* cannot be read, but never "there is none" or "nobody is there" */
        FUZZ_HOLDS(err.status == HW_EPROTO && err.message[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t block = data[0] + ((size_t)data[1] << 8);
    if (block > size - 2)
        block = size - 2;
    expected.body = data + 2 + block;
    expected.size = size - 2 - block;
    from_a_consumer(data + 2, block);
    by_direct_get(data + 2, block);
    return 0;
}
