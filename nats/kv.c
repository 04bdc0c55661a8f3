#include "nats/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/number.h"
#include "nats/stored.h"
#include "nats/watch.h"

#define SUBJECT_MAX 384 /* "$KV.", a bucket, a key */

static char *subject_of(char out[static SUBJECT_MAX], const char *bucket, const char *key)
{
    snprintf(out, SUBJECT_MAX, "$KV.%s.%s", bucket, key);
    return out;
}

static char *stream_of(char out[static SUBJECT_MAX], const char *bucket)
{
    snprintf(out, SUBJECT_MAX, HW_KV_STREAM "%s", bucket);
    return out;
}

bool hw_kv_key_valid(const char *key)
{
    return hw_name_is_dotted(key);
}

bool hw_kv_bucket_valid(const char *bucket)
{
    return hw_kv_key_valid(bucket) && strchr(bucket, '.') == NULL;
}

/* ---- buckets ---- */

static void describe(const jsStreamInfo *info, struct hw_kv_stream *stream)
{
    *stream = (struct hw_kv_stream){
        .created_ns = info->Created, .last_seq = info->State.LastSeq, .messages = info->State.Msgs};
}

enum hw_status hw_kv_stat(struct hw_nats *nats, const char *bucket, struct hw_kv_stream *stream,
                          struct hw_error *err)
{
    char name[SUBJECT_MAX];
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    s = js_GetStreamInfo(&info, hw_nats_js(nats), stream_of(name, bucket), NULL, &code);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, code, "looking at bucket %s", bucket);
    describe(info, stream);
    jsStreamInfo_Destroy(info);
    return HW_OK;
}

enum hw_status hw_kv_purge(struct hw_nats *nats, const char *bucket, const char *key,
                           uint64_t before, struct hw_error *err)
{
    char name[SUBJECT_MAX], subject[SUBJECT_MAX];
    jsOptions options;
    jsErrCode code = 0;
    natsStatus s;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    jsOptions_Init(&options);
    options.Stream.Purge.Subject = subject_of(subject, bucket, key);
    options.Stream.Purge.Sequence = before;
    s = js_PurgeStream(hw_nats_js(nats), stream_of(name, bucket), &options, &code);
    return s == NATS_OK ? HW_OK : hw_nats_fail(err, s, code, "purging %s", subject);
}

enum hw_status hw_kv_ensure(struct hw_nats *nats, const struct hw_kv_config *config,
                            struct hw_kv_stream *stream, struct hw_error *err)
{
    char name[SUBJECT_MAX], subject[SUBJECT_MAX];
    const char *subjects[] = {subject_of(subject, config->bucket, ">")};
    jsRePublish republish = {.Source = config->republish_from, .Destination = config->republish_to};
    jsStreamConfig stream_config;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    enum hw_status status;
    natsStatus s;

    status = hw_kv_stat(nats, config->bucket, stream, err);
    if (status != HW_ENOENT)
        return status;
    jsStreamConfig_Init(&stream_config);
    stream_config.Name = stream_of(name, config->bucket);
    stream_config.Description = config->description;
    stream_config.Subjects = subjects;
    stream_config.SubjectsLen = 1;
    stream_config.MaxMsgsPerSubject = config->history;
    stream_config.Discard = js_DiscardNew;
    stream_config.Storage = js_FileStorage;
    stream_config.Replicas = config->replicas;
    if (config->value_most > 0)
        stream_config.MaxMsgSize = config->value_most;
    stream_config.AllowRollup = config->allow_rollup;
    stream_config.DenyDelete = true;
    stream_config.AllowDirect = true;
    if (config->republish_from != NULL)
        stream_config.RePublish = &republish;
    s = js_AddStream(&info, hw_nats_js(nats), &stream_config, NULL, &code);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, code, "creating bucket %s", config->bucket);
    describe(info, stream);
    jsStreamInfo_Destroy(info);
    return HW_OK;
}

/* ---- entries ---- */

/* Takes msg, which is stored under subject. */
static void read_entry(const char *bucket, natsMsg *msg, const char *subject, uint64_t seq,
                       struct hw_kv_entry *entry)
{
    const size_t prefix = strlen("$KV.") + strlen(bucket) + 1;
    const char *operation = NULL;

    if (natsMsgHeader_Get(msg, "KV-Operation", &operation) != NATS_OK)
        operation = NULL;
    *entry = (struct hw_kv_entry){
        .seq = seq,
        .deleted = operation != NULL && strcmp(operation, "PUT") != 0,
        .key = strlen(subject) > prefix ? subject + prefix : "",
        .value = natsMsg_GetData(msg),
        .size = (size_t)natsMsg_GetDataLength(msg),
        .msg = msg,
    };
    if (entry->value == NULL)
        entry->value = "";
}

void hw_kv_entry_clear(struct hw_kv_entry *entry)
{
    natsMsg_Destroy(entry->msg);
    *entry = (struct hw_kv_entry){0};
}

enum hw_status hw_kv_get(struct hw_nats *nats, const char *bucket, const char *key,
                         struct hw_kv_entry *entry, struct hw_error *err)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    struct hw_stored stored;
    const enum hw_status status = hw_stored_last(nats, stream_of(stream, bucket),
                                                 subject_of(subject, bucket, key), &stored, err);

    if (status != HW_OK)
        return status;
    read_entry(bucket, stored.msg, stored.subject, stored.seq, entry);
    return HW_OK;
}

enum hw_status hw_kv_get_at(struct hw_nats *nats, const char *bucket, uint64_t seq,
                            struct hw_kv_entry *entry, struct hw_error *err)
{
    char stream[SUBJECT_MAX];
    struct hw_stored stored;
    const enum hw_status status = hw_stored_at(nats, stream_of(stream, bucket), seq, &stored, err);

    if (status != HW_OK)
        return status;
    read_entry(bucket, stored.msg, stored.subject, stored.seq, entry);
    return HW_OK;
}

enum hw_status hw_kv_get_next(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t seq, struct hw_kv_entry *entry, struct hw_error *err)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    struct hw_stored stored;
    const enum hw_status status = hw_stored_next(
        nats, stream_of(stream, bucket), subject_of(subject, bucket, key), seq, &stored, err);

    if (status != HW_OK)
        return status;
    read_entry(bucket, stored.msg, stored.subject, stored.seq, entry);
    return HW_OK;
}

enum hw_status hw_kv_message(const char *bucket, const char *key, const void *value, size_t size,
                             natsMsg **out, struct hw_error *err)
{
    char subject[SUBJECT_MAX];
    natsMsg *msg = NULL;
    natsStatus s;

    s = natsMsg_Create(&msg, subject_of(subject, bucket, key), NULL, value, (int)size);
    if (s == NATS_OK && value == NULL)
        s = natsMsgHeader_Set(msg, "KV-Operation", "DEL");
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return hw_nats_fail(err, s, 0, "building a message for key %s", key);
    }
    *out = msg;
    return HW_OK;
}

enum hw_status hw_kv_put(struct hw_nats *nats, const char *bucket, const char *key,
                         const void *value, size_t size, uint64_t expected_seq, uint64_t *seq,
                         struct hw_error *err)
{
    natsMsg *msg = NULL;
    const enum hw_status status = hw_kv_message(bucket, key, value, size, &msg, err);

    if (status != HW_OK)
        return status;
    return hw_nats_publish_wait(nats, msg, expected_seq, seq, err);
}

/* ---- watching ---- */

struct hw_kv_watch {
    struct hw_watch *watch;
    struct hw_kv_watch_events events;
    char bucket[SUBJECT_MAX];
};

static void on_watch_message(void *arg, natsMsg *msg, uint64_t seq)
{
    struct hw_kv_watch *watch = arg;
    struct hw_kv_entry entry;

    read_entry(watch->bucket, msg, natsMsg_GetSubject(msg), seq, &entry);
    watch->events.entry(watch->events.arg, &entry);
}

static enum hw_status on_watch_starting(void *arg, struct hw_error *err)
{
    const struct hw_kv_watch *watch = arg;

    return watch->events.starting != NULL ? watch->events.starting(watch->events.arg, err) : HW_OK;
}

static void on_watch_caught_up(void *arg)
{
    const struct hw_kv_watch *watch = arg;

    watch->events.caught_up(watch->events.arg);
}

static void on_watch_restarting(void *arg, const struct hw_error *why)
{
    const struct hw_kv_watch *watch = arg;

    if (watch->events.restarting != NULL)
        watch->events.restarting(watch->events.arg, why);
}

static const struct hw_watch_events watch_events = {
    .starting = on_watch_starting,
    .message = on_watch_message,
    .caught_up = on_watch_caught_up,
    .restarting = on_watch_restarting,
};

enum hw_status hw_kv_watch_start(struct hw_nats *nats, const char *bucket, const char *filter,
                                 enum hw_deliver deliver, const struct hw_kv_watch_events *events,
                                 struct hw_kv_watch **out, struct hw_error *err)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    struct hw_kv_watch *watch;

    if (strlen(bucket) + strlen(filter) + 8 > SUBJECT_MAX)
        return hw_fail(err, HW_EINVAL, "bucket %s: name too long", bucket);
    watch = hw_alloc(sizeof(*watch));
    watch->events = *events;
    snprintf(watch->bucket, sizeof(watch->bucket), "%s", bucket);
    watch->watch =
        hw_watch_start(nats, events->of != NULL ? events->of : bucket, stream_of(stream, bucket),
                       subject_of(subject, bucket, filter), deliver, &watch_events, watch);
    *out = watch;
    return HW_OK;
}

void hw_kv_watch_restart(struct hw_kv_watch *watch)
{
    hw_watch_restart(watch->watch);
}

void hw_kv_watch_stop(struct hw_kv_watch *watch)
{
    if (watch == NULL)
        return;
    hw_watch_stop(watch->watch);
    free(watch);
}

/* ---- probing: the JetStream API's STREAM.INFO is asked for without waiting ---- */

struct hw_kv_probe {
    struct hw_nats *nats;
    char subject[SUBJECT_MAX]; /* of the request */
    natsInbox *inbox;
    struct hw_nats_sub *sub;
    int64_t every_ms;
    struct hw_timer timer;
    const uint64_t *mark; /* its value travels with the question, as the last part of the reply
                             subject */
    hw_kv_probe_fn *told;
    void *arg;
};

static void on_probe_answer(void *arg, natsMsg *msg)
{
    struct hw_kv_probe *probe = arg;
    HW_AUTO_JSON json_t *root = NULL;
    const char *mark = strrchr(natsMsg_GetSubject(msg), '.');
    uint64_t asked_at;
    json_int_t last, code;

    if (mark == NULL || !hw_number_parse(mark + 1, &asked_at))
        return;
    if (hw_json_parse_object(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &root,
                             NULL) != HW_OK)
        return;
    if (hw_json_unpack(root, NULL, "{s:{s:I}}", "state", "last_seq", &last) == HW_OK)
        probe->told(probe->arg, HW_OK, (uint64_t)last, asked_at);
    else if (hw_json_unpack(root, NULL, "{s:{s:I}}", "error", "code", &code) == HW_OK &&
             code == 404)
        probe->told(probe->arg, HW_ENOENT, 0, asked_at);
}

static void ask(void *arg)
{
    struct hw_kv_probe *probe = arg;
    char reply[SUBJECT_MAX];

    hw_timer_start(hw_nats_loop(probe->nats), &probe->timer, probe->every_ms, ask, probe);
    snprintf(reply, sizeof(reply), "%s.%" PRIu64, probe->inbox, *probe->mark);
    /* If the question is lost, the next one comes soon. */
    if (hw_nats_up(probe->nats))
        (void)natsConnection_PublishRequest(hw_nats_connection(probe->nats), probe->subject, reply,
                                            NULL, 0);
}

enum hw_status hw_kv_probe_start(struct hw_nats *nats, const char *bucket, int64_t every_ms,
                                 const uint64_t *mark, hw_kv_probe_fn *told, void *arg,
                                 struct hw_kv_probe **out, struct hw_error *err)
{
    struct hw_kv_probe *probe = hw_alloc(sizeof(*probe));
    char replies[SUBJECT_MAX];
    enum hw_status status;

    *probe = (struct hw_kv_probe){
        .nats = nats, .every_ms = every_ms, .mark = mark, .told = told, .arg = arg};
    snprintf(probe->subject, sizeof(probe->subject), "$JS.API.STREAM.INFO." HW_KV_STREAM "%s",
             bucket);
    if (natsInbox_Create(&probe->inbox) != NATS_OK)
        abort(); /* out of memory */
    snprintf(replies, sizeof(replies), "%s.*", probe->inbox);
    status = hw_nats_subscribe(nats, replies, on_probe_answer, probe, &probe->sub, err);
    if (status != HW_OK) {
        hw_kv_probe_stop(probe);
        return status;
    }
    hw_timer_start(hw_nats_loop(nats), &probe->timer, every_ms, ask, probe);
    *out = probe;
    return HW_OK;
}

void hw_kv_probe_stop(struct hw_kv_probe *probe)
{
    if (probe == NULL)
        return;
    hw_timer_stop(&probe->timer);
    hw_nats_unsubscribe(probe->sub);
    natsInbox_Destroy(probe->inbox);
    free(probe);
}
