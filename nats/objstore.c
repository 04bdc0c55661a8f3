#include "nats/objstore.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/clock.h"
#include "nats/stored.h"
#include "nats/watch.h"

/*
 * A chunk leaves room for the header that a direct get puts before it, with subject, sequence and
 * time: from 2.11 on nats-server closes the connection of a leaf node to which it would have to
 * send more than max_payload, so that nobody behind that leaf could read the object.
 */
enum {
    CHUNK_MOST = 1 << 20,
    HEADER_ROOM = 4 << 10,
    NUID_MAX = 40,
};

#define SUBJECT_MAX 512

static char *stream_of(char out[static SUBJECT_MAX], const char *bucket)
{
    snprintf(out, SUBJECT_MAX, HW_OBJ_STREAM "%s", bucket);
    return out;
}

static char *chunk_subject(char out[static SUBJECT_MAX], const char *bucket, const char *nuid)
{
    snprintf(out, SUBJECT_MAX, "$O.%s.C.%s", bucket, nuid);
    return out;
}

static char *meta_subject(char out[static SUBJECT_MAX], const char *bucket, const char *name)
{
    HW_AUTO_FREE char *encoded = hw_base64url_encode(name, strlen(name));

    snprintf(out, SUBJECT_MAX, "$O.%s.M.%s", bucket, encoded);
    return out;
}

enum hw_status hw_obj_ensure(struct hw_nats *nats, const char *bucket, int replicas,
                             struct hw_error *err)
{
    char name[SUBJECT_MAX], chunks[SUBJECT_MAX], metas[SUBJECT_MAX];
    const char *subjects[] = {chunks, metas};
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    enum hw_status status;
    natsStatus s;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    s = js_GetStreamInfo(&info, hw_nats_js(nats), stream_of(name, bucket), NULL, &code);
    if (s == NATS_OK) {
        jsStreamInfo_Destroy(info);
        return HW_OK;
    }
    status = hw_nats_fail(err, s, code, "looking at object bucket %s", bucket);
    if (status != HW_ENOENT)
        return status;
    snprintf(chunks, sizeof(chunks), "$O.%s.C.>", bucket);
    snprintf(metas, sizeof(metas), "$O.%s.M.>", bucket);
    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 2;
    config.Discard = js_DiscardNew;
    config.Storage = js_FileStorage;
    config.Replicas = replicas;
    config.AllowRollup = true;
    config.AllowDirect = true;
    s = js_AddStream(NULL, hw_nats_js(nats), &config, NULL, &code);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, code, "creating object bucket %s", bucket);
    return HW_OK;
}

/* ---- metadata (ADR-20, "ObjectInfo") ---- */

struct meta {
    char name[128];
    char nuid[NUID_MAX];
    size_t size;
    size_t chunks;
    bool deleted;
    struct hw_digest digest;
    uint64_t seq; /* of the metadata message */
};

static enum hw_status parse_digest(const char *text, struct hw_digest *digest, struct hw_error *err)
{
    static const char prefix[] = "SHA-256=";
    unsigned char *bytes = NULL;
    size_t size = 0;
    enum hw_status status;

    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
        return hw_fail(err, HW_ECORRUPT, "the digest is not SHA-256");
    text += sizeof(prefix) - 1;
    status = hw_base64url_decode(text, strlen(text), &bytes, &size, err);
    if (status == HW_OK && size != sizeof(digest->bytes))
        status = hw_fail(err, HW_ECORRUPT, "the digest has %zu bytes instead of 32", size);
    if (status == HW_OK)
        memcpy(digest->bytes, bytes, sizeof(digest->bytes));
    free(bytes);
    return status;
}

static enum hw_status parse_meta(natsMsg *msg, uint64_t seq, struct meta *meta,
                                 struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    json_int_t size = 0, chunks = 0;
    const char *name = "", *nuid = "", *digest = "";
    int deleted = 0;

    if (hw_json_parse_object(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &root,
                             err) != HW_OK ||
        hw_json_unpack(root, err, "{s?s, s:s, s?I, s?I, s?s, s?b}", "name", &name, "nuid", &nuid,
                       "size", &size, "chunks", &chunks, "digest", &digest, "deleted",
                       &deleted) != HW_OK)
        goto corrupt;
    if (size < 0 || chunks < 0 || strlen(nuid) >= NUID_MAX || strpbrk(nuid, ".*> ") != NULL) {
        hw_fail(err, HW_ECORRUPT, "size, chunks or nuid is out of range");
        goto corrupt;
    }
    *meta = (struct meta){
        .size = (size_t)size, .chunks = (size_t)chunks, .deleted = deleted != 0, .seq = seq};
    snprintf(meta->name, sizeof(meta->name), "%s", name);
    snprintf(meta->nuid, sizeof(meta->nuid), "%s", nuid);
    if (!meta->deleted && parse_digest(digest, &meta->digest, err) != HW_OK)
        goto corrupt;
    return HW_OK;
corrupt:
    if (err != NULL)
        err->status = HW_ECORRUPT;
    hw_fail_in(err, "object metadata");
    return HW_ECORRUPT;
}

/* A deleted object gives HW_OK with meta->deleted. With HW_ECORRUPT, meta->seq is set as well. */
static enum hw_status read_meta(struct hw_nats *nats, const char *bucket, const char *name,
                                struct meta *meta, struct hw_error *err)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    struct hw_stored stored;
    enum hw_status status;

    status = hw_stored_last(nats, stream_of(stream, bucket), meta_subject(subject, bucket, name),
                            &stored, err);
    if (status == HW_ENOENT)
        return hw_fail(err, HW_ENOENT, "object %s: not in bucket %s", name, bucket);
    if (status != HW_OK)
        return status;
    status = parse_meta(stored.msg, stored.seq, meta, err);
    if (status != HW_OK) {
        meta->seq = stored.seq;
        hw_fail_in(err, "object %s", name);
    }
    hw_stored_clear(&stored);
    return status;
}

enum hw_status hw_obj_stat(struct hw_nats *nats, const char *bucket, const char *name, size_t *size,
                           struct hw_error *err)
{
    struct meta meta = {0};
    const enum hw_status status = read_meta(nats, bucket, name, &meta, err);

    if (status != HW_OK)
        return status;
    if (meta.deleted)
        return hw_fail(err, HW_ENOENT, "object %s: deleted from bucket %s", name, bucket);
    *size = meta.size;
    return HW_OK;
}

/* ---- putting: first the chunks, and when all are acknowledged, the metadata ---- */

struct put {
    struct hw_nats *nats;
    char bucket[128];
    char name[128];
    char nuid[NUID_MAX];
    size_t size;
    struct hw_digest digest;
    char *meta;     /* the JSON text */
    size_t waiting; /* acknowledgements that are still to come */
    struct hw_ack result;
    hw_ack_fn *done;
    void *arg;
};

static void finish_put(struct put *put)
{
    if (put->result.status != HW_OK)
        hw_fail_in(&put->result.err, "putting object %s", put->name);
    put->done(put->arg, &put->result);
    free(put->meta);
    free(put);
}

/* Removes chunks that nothing refers to. */
static void purge_chunks(struct hw_nats *nats, const char *bucket, const char *nuid)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    jsOptions options;

    if (nuid[0] == '\0')
        return;
    jsOptions_Init(&options);
    options.Stream.Purge.Subject = chunk_subject(subject, bucket, nuid);
    /* Chunks that a failure leaves behind are orphans, which are removed later. */
    if (js_PurgeStream(hw_nats_js(nats), stream_of(stream, bucket), &options, NULL) != NATS_OK)
        return;
}

static enum hw_status publish_meta(struct put *put, uint64_t expected_seq, struct hw_error *err);

static void on_meta_ack(void *arg, const struct hw_ack *ack)
{
    struct put *put = arg;
    struct meta meta = {0};

    put->result = *ack;
    if (ack->status == HW_ECONFLICT) {
        struct hw_error *err = &put->result.err;
        const enum hw_status found = read_meta(put->nats, put->bucket, put->name, &meta, err);

        put->result.status = found;
        if (found == HW_OK && !meta.deleted && meta.size == put->size &&
            hw_digest_equal(&meta.digest, &put->digest)) {
            put->result.seq = meta.seq;
            purge_chunks(put->nats, put->bucket, put->nuid);
        } else if (found == HW_OK || found == HW_ECORRUPT) {
            put->result.status = publish_meta(put, meta.seq, err);
            if (put->result.status == HW_OK)
                return;
        }
    }
    finish_put(put);
}

static enum hw_status publish_meta(struct put *put, uint64_t expected_seq, struct hw_error *err)
{
    char subject[SUBJECT_MAX];
    natsMsg *msg = NULL;
    natsStatus s;

    s = natsMsg_Create(&msg, meta_subject(subject, put->bucket, put->name), NULL, put->meta,
                       (int)strlen(put->meta));
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, "Nats-Rollup", "sub");
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return hw_nats_fail(err, s, 0, "building object metadata");
    }
    return hw_nats_publish(put->nats, msg, expected_seq, on_meta_ack, put, err);
}

static void chunks_done(struct put *put)
{
    if (put->result.status == HW_OK) {
        put->result.status = publish_meta(put, HW_SEQ_NONE, &put->result.err);
        if (put->result.status == HW_OK)
            return;
    }
    finish_put(put);
}

static void on_chunk_ack(void *arg, const struct hw_ack *ack)
{
    struct put *put = arg;

    if (put->result.status == HW_OK && ack->status != HW_OK)
        put->result = *ack;
    if (--put->waiting == 0)
        chunks_done(put);
}

/* libnats keeps its generator of unique ids to itself, but every inbox ends in such an id. */
static void make_nuid(char out[static NUID_MAX])
{
    natsInbox *inbox = NULL;
    const char *dot;

    if (natsInbox_Create(&inbox) != NATS_OK)
        abort(); /* out of memory */
    dot = strrchr(inbox, '.');
    snprintf(out, NUID_MAX, "%s", dot != NULL ? dot + 1 : inbox);
    natsInbox_Destroy(inbox);
}

static char *make_meta(const struct put *put, size_t chunks, size_t chunk_size)
{
    struct hw_buf text = {0};

    HW_AUTO_FREE char *encoded = hw_base64url_encode(put->digest.bytes, sizeof(put->digest.bytes));
    hw_buf_puts(&text, "{\"name\":");
    hw_buf_json_string(&text, put->name, strlen(put->name));
    hw_buf_printf(&text,
                  ",\"options\":{\"max_chunk_size\":%zu},\"bucket\":\"%s\",\"nuid\":\"%s\","
                  "\"size\":%zu,\"mtime\":\"0001-01-01T00:00:00Z\",\"chunks\":%zu,"
                  "\"digest\":\"SHA-256=%s\"}",
                  chunk_size, put->bucket, put->nuid, put->size, chunks, encoded);
    return text.data;
}

static size_t chunk_size_of(size_t max_payload)
{
    const size_t most = max_payload < CHUNK_MOST ? max_payload : CHUNK_MOST;

    return most > (size_t)2 * HEADER_ROOM ? most - HEADER_ROOM : most / 2;
}

enum hw_status hw_obj_put(struct hw_nats *nats, const char *bucket, const char *name,
                          const void *data, size_t size, hw_ack_fn *done, void *arg,
                          struct hw_error *err)
{
    const size_t chunk_size = chunk_size_of(hw_nats_max_payload(nats));
    const size_t chunks = (size + chunk_size - 1) / chunk_size;
    enum hw_status status = HW_OK;
    char subject[SUBJECT_MAX];
    struct put *put;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "putting object %s: NATS cannot be reached now", name);
    put = hw_alloc(sizeof(*put));
    put->nats = nats;
    snprintf(put->bucket, sizeof(put->bucket), "%s", bucket);
    snprintf(put->name, sizeof(put->name), "%s", name);
    make_nuid(put->nuid);
    put->size = size;
    hw_digest_of(data, size, &put->digest);
    put->meta = make_meta(put, chunks, chunk_size);
    put->done = done;
    put->arg = arg;
    chunk_subject(subject, bucket, put->nuid);

    for (size_t i = 0; i < chunks && status == HW_OK; i++) {
        const size_t from = i * chunk_size;
        const size_t len = size - from < chunk_size ? size - from : chunk_size;
        natsMsg *msg = NULL;
        natsStatus s = natsMsg_Create(&msg, subject, NULL, (const char *)data + from, (int)len);

        status = s == NATS_OK ? hw_nats_publish(nats, msg, HW_SEQ_ANY, on_chunk_ack, put, err)
                              : hw_nats_fail(err, s, 0, "building a chunk");
        if (status == HW_OK)
            put->waiting++;
    }
    if (chunks == 0)
        status = publish_meta(put, HW_SEQ_NONE, err);
    if (status != HW_OK && put->waiting == 0) {
        free(put->meta);
        free(put);
        return status;
    }
    if (status != HW_OK) {
        /* Some chunks are on their way, and the last acknowledgement ends the put. */
        put->result.status = status;
        if (err != NULL)
            put->result.err = *err;
    }
    return HW_OK;
}

/* ---- getting ---- */

static enum hw_status read_chunks(struct hw_nats *nats, const char *bucket, const struct meta *meta,
                                  unsigned char *data, struct hw_error *err)
{
    char stream[SUBJECT_MAX], subject[SUBJECT_MAX];
    uint64_t next_seq = 1;
    size_t done = 0;

    stream_of(stream, bucket);
    chunk_subject(subject, bucket, meta->nuid);
    for (size_t i = 0; i < meta->chunks; i++) {
        struct hw_stored stored;
        const enum hw_status status = hw_stored_next(nats, stream, subject, next_seq, &stored, err);

        if (status == HW_ENOENT)
            return hw_fail(err, HW_ECORRUPT, "chunk %zu of %zu is missing", i + 1, meta->chunks);
        if (status != HW_OK) {
            hw_fail_in(err, "chunk %zu of %zu", i + 1, meta->chunks);
            return status;
        }
        const size_t len = (size_t)natsMsg_GetDataLength(stored.msg);
        if (len > meta->size - done) {
            hw_stored_clear(&stored);
            return hw_fail(err, HW_ECORRUPT, "more bytes than the %zu it should have", meta->size);
        }
        memcpy(data + done, natsMsg_GetData(stored.msg), len);
        done += len;
        next_seq = stored.seq + 1;
        hw_stored_clear(&stored);
    }
    if (done != meta->size)
        return hw_fail(err, HW_ECORRUPT, "%zu bytes instead of the %zu it should have", done,
                       meta->size);
    return HW_OK;
}

enum hw_status hw_obj_get(struct hw_nats *nats, const char *bucket, const char *name, size_t max,
                          unsigned char **data, size_t *size, struct hw_digest *digest,
                          struct hw_error *err)
{
    unsigned char *bytes = NULL;
    struct hw_digest actual;
    struct meta meta = {0};
    enum hw_status status;

    status = read_meta(nats, bucket, name, &meta, err);
    if (status != HW_OK)
        return status;
    if (meta.deleted)
        return hw_fail(err, HW_ENOENT, "object %s: deleted from bucket %s", name, bucket);
    if (meta.size > max)
        return hw_fail(err, HW_ELIMIT, "object %s: %zu bytes, at most %zu are expected", name,
                       meta.size, max);
    bytes = malloc(meta.size + 1);
    if (bytes == NULL)
        return hw_fail(err, HW_ELIMIT, "object %s: no memory for %zu bytes", name, meta.size);
    status = read_chunks(nats, bucket, &meta, bytes, err);
    if (status == HW_OK) {
        hw_digest_of(bytes, meta.size, &actual);
        if (!hw_digest_equal(&actual, &meta.digest))
            status = hw_fail(err, HW_ECORRUPT, "its bytes do not match the digest in its metadata");
    }
    if (status != HW_OK) {
        free(bytes);
        return hw_fail_in(err, "object %s", name);
    }
    bytes[meta.size] = '\0';
    if (digest != NULL)
        *digest = actual;
    *size = meta.size;
    *data = bytes;
    return HW_OK;
}

/* ---- deleting ---- */

struct removal {
    struct hw_nats *nats;
    char bucket[128];
    char nuid[NUID_MAX];
    hw_ack_fn *done;
    void *arg;
};

static void on_removed(void *arg, const struct hw_ack *ack)
{
    struct removal *removal = arg;

    if (ack->status == HW_OK)
        purge_chunks(removal->nats, removal->bucket, removal->nuid);
    removal->done(removal->arg, ack);
    free(removal);
}

enum hw_status hw_obj_delete(struct hw_nats *nats, const char *bucket, const char *name,
                             hw_ack_fn *done, void *arg, struct hw_error *err)
{
    struct meta meta = {0};
    char subject[SUBJECT_MAX];
    struct removal *removal;
    natsMsg *msg = NULL;
    enum hw_status status;
    natsStatus s;

    status = read_meta(nats, bucket, name, &meta, err);
    if (status != HW_OK && status != HW_ENOENT && status != HW_ECORRUPT)
        return status;
    HW_AUTO_FREE char *value =
        hw_sprintf("{\"name\":\"%s\",\"bucket\":\"%s\",\"nuid\":\"%s\",\"size\":0,"
                   "\"mtime\":\"0001-01-01T00:00:00Z\",\"chunks\":0,\"deleted\":true}",
                   name, bucket, meta.nuid);
    s = natsMsg_Create(&msg, meta_subject(subject, bucket, name), NULL, value, (int)strlen(value));
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, "Nats-Rollup", "sub");
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return hw_nats_fail(err, s, 0, "building object metadata");
    }
    removal = hw_alloc(sizeof(*removal));
    *removal = (struct removal){.nats = nats, .done = done, .arg = arg};
    snprintf(removal->bucket, sizeof(removal->bucket), "%s", bucket);
    snprintf(removal->nuid, sizeof(removal->nuid), "%s", meta.nuid);
    status = hw_nats_publish(nats, msg, meta.seq, on_removed, removal, err);
    if (status != HW_OK)
        free(removal);
    return status;
}

/* ---- chunks that no object has ---- */

/* Is the last message of subject older than that? False also when it cannot be read. */
static bool is_older(struct hw_nats *nats, const char *stream, const char *subject, int64_t ms)
{
    struct hw_stored stored;
    bool older;

    if (hw_stored_last(nats, stream, subject, &stored, NULL) != HW_OK)
        return false;
    older = stored.time_ns + ms * 1000000 <= hw_clock_now();
    hw_stored_clear(&stored);
    return older;
}

enum hw_status hw_obj_remove_orphans(struct hw_nats *nats, const char *bucket, int64_t older_ms,
                                     int most, hw_obj_described_fn *described, void *arg,
                                     int *removed, struct hw_error *err)
{
    char stream[SUBJECT_MAX], chunks[SUBJECT_MAX];
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    jsOptions options;
    natsStatus s;

    *removed = 0;
    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    jsOptions_Init(&options);
    options.Stream.Info.SubjectsFilter = chunk_subject(chunks, bucket, ">");
    s = js_GetStreamInfo(&info, hw_nats_js(nats), stream_of(stream, bucket), &options, &code);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, code, "listing the chunks of object bucket %s", bucket);
    const jsStreamStateSubjects *subjects = info->State.Subjects;
    for (int i = 0; subjects != NULL && i < subjects->Count && *removed < most; i++) {
        const char *subject = subjects->List[i].Subject;
        const char *nuid = subject + strlen(chunks) - 1;

        if (described(arg, nuid) || !is_older(nats, stream, subject, older_ms))
            continue;
        purge_chunks(nats, bucket, nuid);
        ++*removed;
    }
    jsStreamInfo_Destroy(info);
    return HW_OK;
}

/* ---- watching ---- */

struct hw_obj_watch {
    struct hw_watch *watch;
    struct hw_obj_watch_events events;
    bool done;
};

static void on_caught_up(void *arg)
{
    struct hw_obj_watch *watch = arg;

    if (watch->done)
        return;
    watch->done = true;
    watch->events.done(watch->events.arg);
}

static void on_meta(void *arg, natsMsg *msg, uint64_t seq)
{
    struct hw_obj_watch *watch = arg;
    const char *encoded = strrchr(natsMsg_GetSubject(msg), '.') + 1;
    HW_AUTO_FREE unsigned char *name = NULL;
    char hex[HW_DIGEST_HEX_MAX];
    struct meta meta = {0};
    bool is_valid;
    size_t len = 0;

    if (hw_base64url_decode(encoded, strlen(encoded), &name, &len, NULL) != HW_OK ||
        memchr(name, '\0', len) != NULL)
        return; /* no object of ours has such a name */
    is_valid = parse_meta(msg, seq, &meta, NULL) == HW_OK && !meta.deleted;
    watch->events.entry(watch->events.arg, (const char *)name, is_valid ? meta.nuid : "",
                        is_valid &&
                            strcmp(hw_digest_hex(&meta.digest, hex), (const char *)name) == 0);
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    const struct hw_obj_watch *watch = arg;

    watch->events.lost(watch->events.arg, why);
}

static const struct hw_watch_events watch_events = {
    .message = on_meta,
    .caught_up = on_caught_up,
    .restarting = on_restarting,
};

struct hw_obj_watch *hw_obj_watch_start(struct hw_nats *nats, const char *bucket,
                                        const struct hw_obj_watch_events *events)
{
    struct hw_obj_watch *watch = hw_alloc(sizeof(*watch));
    char stream[SUBJECT_MAX], filter[SUBJECT_MAX];

    watch->events = *events;
    snprintf(filter, sizeof(filter), "$O.%s.M.>", bucket);
    watch->watch = hw_watch_start(nats, "objects", stream_of(stream, bucket), filter,
                                  HW_DELIVER_LAST, &watch_events, watch);
    return watch;
}

void hw_obj_watch_stop(struct hw_obj_watch *watch)
{
    if (watch == NULL)
        return;
    hw_watch_stop(watch->watch);
    free(watch);
}
