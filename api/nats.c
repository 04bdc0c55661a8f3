#include "api/nats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/json.h"
#include "base/memory.h"
#include "common/log.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "protocol/keys.h"
#include "protocol/subjects.h"

enum {
    ANSWER_MS = 500,   /* for all answers to come */
    FRESH_MS = 1000,   /* for which they are good */
    CONNECT_MS = 1000, /* connecting may hold up the loop for so long, once */
    RECONNECT_MS = 2000,
    SUBJECT_MAX = 320,
    NOT_FOUND = 404,      /* JetStream's words for: no such stream … */
    NO_JETSTREAM = 503,   /* … and none for this account */
    SAID_MOST = 64 << 10, /* bytes of an answer; anyone on NATS could give it */
};

/*
 * What is asked: who leads, and of each stream how it stands, by JetStream's own subject and by the
 * one that the API's account has for it, since an account without JetStream answers for itself on
 * the former.
 */
enum { STREAMS = 3, LEADER = 0, INFO = 1, MAPPED = INFO + STREAMS, QUESTIONS = MAPPED + STREAMS };

static const struct {
    const char *prefix, *suffix; /* of a stream's name, around the bucket's */
} streams[STREAMS] = {{HW_KV_STREAM, ""}, {HW_KV_STREAM, HW_BUCKET_REPORTS}, {HW_OBJ_STREAM, ""}};

struct asker {
    STAILQ_ENTRY(asker) link;
    api_nats_done_fn *done;
    void *arg;
};

struct api_nats {
    struct api_nats_config config;
    struct hw_nats *conn; /* NULL: nobody said where NATS is */
    char *trouble;        /* why it is away; NULL: it is not known */
    bool stopped;

    natsInbox *inbox;
    struct hw_nats_sub *sub;
    unsigned serial; /* of the questions that are out, or were last */
    STAILQ_HEAD(askers, asker) askers;
    struct hw_timer deadline;
    int heard; /* answers to them, so far */
    int64_t heard_at;

    json_t *said[QUESTIONS]; /* or NULL: no answer */
    bool nobody[QUESTIONS];  /* the server says that nobody listens for the question */
};

/* ---- what is known, as JSON ---- */

/* The URL without user and password, which may be in it. */
static json_t *url_json(const struct api_nats *nats)
{
    char url[256];

    if (nats->conn == NULL || !hw_nats_up(nats->conn) ||
        natsConnection_GetConnectedUrl(hw_nats_connection(nats->conn), url, sizeof(url)) != NATS_OK)
        return json_null();
    const char *scheme_end = strstr(url, "://"), *host = strrchr(url, '@');
    if (host == NULL)
        return json_string(url);
    return json_sprintf("%.*s%s", scheme_end != NULL ? (int)(scheme_end + 3 - url) : 0, url,
                        host + 1);
}

static char *stream_name(const struct api_nats *nats, int stream)
{
    return hw_sprintf("%s%s%s", streams[stream].prefix, nats->config.bucket,
                      streams[stream].suffix);
}

/* The code of a refusal by JetStream, 0 for any other answer. */
static int refusal(json_t *answer)
{
    json_int_t code;

    return hw_json_unpack(answer, NULL, "{s:{s:I}}", "error", "code", &code) == HW_OK ? (int)code
                                                                                      : 0;
}

/* NULL: nobody said anything of it. */
static json_t *answer_of(const struct api_nats *nats, int stream)
{
    json_t *const own = nats->said[INFO + stream], *const mapped = nats->said[MAPPED + stream];

    return mapped != NULL ? mapped : own != NULL && refusal(own) != NO_JETSTREAM ? own : NULL;
}

/* The members of an answer to STREAM.INFO that a reader of /v1/system may want. */
static json_t *stream_json(const struct api_nats *nats, int stream)
{
    HW_AUTO_FREE char *name = stream_name(nats, stream);
    json_t *const answer = answer_of(nats, stream);
    json_t *object = json_pack("{s:s, s:n, s:n, s:n, s:n, s:n, s:n}", "name", name, "exists",
                               "messages", "bytes", "last_sequence", "created_at", "replicas");
    const char *created;
    json_int_t messages, bytes, last, replicas;

    if (answer == NULL)
        return object;
    if (refusal(answer) == NOT_FOUND)
        json_object_set_new(object, "exists", json_false());
    if (hw_json_unpack(answer, NULL, "{s:s, s:{s:I}, s:{s:I, s:I, s:I}}", "created", &created,
                       "config", "num_replicas", &replicas, "state", "messages", &messages, "bytes",
                       &bytes, "last_seq", &last) != HW_OK)
        return object;
    json_object_set_new(object, "exists", json_true());
    json_object_set_new(object, "messages", json_integer(messages));
    json_object_set_new(object, "bytes", json_integer(bytes));
    json_object_set_new(object, "last_sequence", json_integer(last));
    json_object_set_new(object, "created_at", json_string(created));
    json_object_set_new(object, "replicas", json_integer(replicas));
    return object;
}

/* Null where nothing was heard. */
static json_t *jetstream_json(const struct api_nats *nats)
{
    if (answer_of(nats, 0) != NULL)
        return json_true();
    return nats->nobody[INFO] || nats->said[INFO] != NULL ? json_false() : json_null();
}

static json_t *nats_json(const struct api_nats *nats)
{
    const bool is_asked = nats->conn != NULL, up = is_asked && hw_nats_up(nats->conn);
    json_t *list = json_null(), *jetstream = json_null();

    if (up) {
        list = json_array();
        for (int i = 0; i < STREAMS; i++)
            json_array_append_new(list, stream_json(nats, i));
        jetstream = jetstream_json(nats);
    }
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:s, s:o}", "configured", is_asked, "connected",
                     is_asked ? json_boolean(up) : json_null(), "url", url_json(nats), "error",
                     is_asked && !up && nats->trouble != NULL ? json_string(nats->trouble)
                                                              : json_null(),
                     "jetstream", jetstream, "bucket", nats->config.bucket, "streams", list);
}

static json_t *leader_json(const struct api_nats *nats)
{
    const bool up = nats->conn != NULL && hw_nats_up(nats->conn);
    json_t *said = up && nats->said[LEADER] != NULL ? json_incref(nats->said[LEADER]) : json_null();

    return json_pack("{s:s, s:o}", "answer",
                     !up                    ? "unknown"
                     : !json_is_null(said)  ? "answered"
                     : nats->nobody[LEADER] ? "nobody"
                                            : "silent",
                     "said", said);
}

/* ---- asking ---- */

static void answer_all(struct api_nats *nats)
{
    struct askers askers = STAILQ_HEAD_INITIALIZER(askers);
    struct asker *asker;

    STAILQ_CONCAT(&askers, &nats->askers);
    HW_AUTO_JSON json_t *about_nats = nats_json(nats);
    HW_AUTO_JSON json_t *leader = leader_json(nats);
    while ((asker = STAILQ_FIRST(&askers)) != NULL) {
        STAILQ_REMOVE_HEAD(&askers, link);
        asker->done(asker->arg, about_nats, leader);
        free(asker);
    }
}

/* All that was asked is answered, or its time is over. */
static void conclude(void *arg)
{
    struct api_nats *nats = arg;

    hw_timer_stop(&nats->deadline);
    nats->heard_at = hw_loop_now();
    answer_all(nats);
}

static void forget(struct api_nats *nats)
{
    for (int i = 0; i < QUESTIONS; i++)
        json_decref(HW_TAKE(nats->said[i]));
    memset(nats->nobody, 0, sizeof(nats->nobody));
    nats->heard = 0;
}

/* Comes to <inbox>.<serial>.<question>. */
static void on_answer(void *arg, natsMsg *msg)
{
    struct api_nats *nats = arg;
    const char *subject = natsMsg_GetSubject(msg) + strlen(nats->inbox);
    char *end = NULL;

    const unsigned long serial = strtoul(subject + 1, &end, 10);
    const unsigned long question = *end == '.' ? strtoul(end + 1, NULL, 10) : QUESTIONS;
    if (serial != nats->serial || question >= QUESTIONS || STAILQ_EMPTY(&nats->askers) ||
        nats->said[question] != NULL || nats->nobody[question] ||
        natsMsg_GetDataLength(msg) > SAID_MOST)
        return; /* too late, or not the first */
    if (natsMsg_IsNoResponders(msg))
        nats->nobody[question] = true;
    else if (hw_json_parse_object(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg),
                                  &nats->said[question], NULL) != HW_OK)
        return;
    if (++nats->heard == QUESTIONS)
        conclude(nats);
}

static void ask_all(struct api_nats *nats)
{
    const char *const bucket = nats->config.bucket;
    char reply[SUBJECT_MAX];

    forget(nats);
    nats->serial++;
    hw_timer_start(nats->config.loop, &nats->deadline, ANSWER_MS, conclude, nats);
    for (int i = 0; i < QUESTIONS; i++) {
        HW_AUTO_FREE char *stream = i > LEADER ? stream_name(nats, (i - INFO) % STREAMS) : NULL;

        HW_AUTO_FREE char *subject = i == LEADER  ? hw_subject_leader(bucket)
                                     : i < MAPPED ? hw_sprintf("$JS.API.STREAM.INFO.%s", stream)
                                                  : hw_subject_stream(bucket, stream);

        snprintf(reply, sizeof(reply), "%s.%u.%d", nats->inbox, nats->serial, i);
        (void)natsConnection_PublishRequest(hw_nats_connection(nats->conn), subject, reply, NULL,
                                            0);
    }
}

void api_nats_ask(struct api_nats *nats, api_nats_done_fn *done, void *arg)
{
    const bool asking = !STAILQ_EMPTY(&nats->askers);
    const bool up = nats->conn != NULL && !nats->stopped && hw_nats_up(nats->conn);
    struct asker *asker = hw_alloc(sizeof(*asker));

    asker->done = done;
    asker->arg = arg;
    STAILQ_INSERT_TAIL(&nats->askers, asker, link);
    if (!up || (!asking && nats->heard_at != 0 && hw_loop_now() - nats->heard_at < FRESH_MS))
        answer_all(nats);
    else if (!asking)
        ask_all(nats);
}

/* ---- the connection ---- */

/* What was heard on another connection is not known of this one. */
static void forget_all(struct api_nats *nats)
{
    hw_timer_stop(&nats->deadline);
    forget(nats);
    nats->heard_at = 0;
}

static void on_up(void *arg)
{
    struct api_nats *nats = arg;

    free(HW_TAKE(nats->trouble));
    forget_all(nats);
    hw_log_info("connected to NATS", HW_S("bucket", nats->config.bucket));
}

static void on_down(void *arg, const char *why)
{
    struct api_nats *nats = arg;

    if (nats->stopped)
        return;
    free(nats->trouble);
    nats->trouble = hw_strdup(why);
    hw_log_warn("NATS cannot be reached: what it knows of the system stays unknown",
                HW_S("bucket", nats->config.bucket), HW_S("error", why));
    if (!STAILQ_EMPTY(&nats->askers))
        answer_all(nats);
    forget_all(nats);
}

static void on_files(void *arg, bool warn, const char *what, const char *detail)
{
    const struct api_nats *nats = arg;

    hw_log(warn ? HW_LOG_WARN : HW_LOG_INFO, what, HW_S("bucket", nats->config.bucket),
           HW_S("detail", detail));
}

bool api_nats_reload(struct api_nats *nats)
{
    return nats->conn != NULL && hw_nats_reload(nats->conn);
}

enum hw_status api_nats_open(const struct api_nats_config *config, struct api_nats **out,
                             struct hw_error *err)
{
    struct api_nats *nats = hw_alloc(sizeof(*nats));
    const struct hw_nats_options options = {.url = config->url,
                                            .name = "headwater-api",
                                            .timeout_ms = CONNECT_MS,
                                            .reconnect_ms = RECONNECT_MS,
                                            .files = config->files};
    const struct hw_nats_events events = {
        .up = on_up, .down = on_down, .files = on_files, .arg = nats};
    enum hw_status status = HW_OK;

    nats->config = *config;
    STAILQ_INIT(&nats->askers);
    if (config->url != NULL && *config->url != '\0') {
        HW_AUTO_FREE char *replies = NULL;

        if (natsInbox_Create(&nats->inbox) != NATS_OK)
            abort(); /* out of memory */
        replies = hw_sprintf("%s.*.*", nats->inbox);
        status = hw_nats_open(config->loop, &options, &events, &nats->conn, err);
        if (status == HW_OK)
            status = hw_nats_subscribe(nats->conn, replies, on_answer, nats, &nats->sub, err);
    }
    if (status != HW_OK) {
        api_nats_free(nats);
        return status;
    }
    *out = nats;
    return HW_OK;
}

void api_nats_stop(struct api_nats *nats)
{
    nats->stopped = true;
    if (!STAILQ_EMPTY(&nats->askers))
        answer_all(nats);
}

void api_nats_free(struct api_nats *nats)
{
    if (nats == NULL)
        return;
    api_nats_stop(nats);
    hw_timer_stop(&nats->deadline);
    hw_nats_unsubscribe(nats->sub);
    hw_nats_close(nats->conn);
    natsInbox_Destroy(nats->inbox);
    free(nats->trouble);
    forget(nats);
    free(nats);
}
