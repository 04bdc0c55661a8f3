#include "nats/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"

enum {
    HEARTBEAT_MS = 2000, /* between heartbeats of a server that has nothing to deliver */
    SILENT_MS = 6000,    /* without any message: three heartbeats are missing */
    ANSWER_MS = 5000,    /* for the server to make a consumer */
    SUBJECT_MOST = 512,
};

struct hw_consumer {
    struct hw_nats *nats;
    const struct hw_consumer_events *events;
    void *arg;
    char *stream, *filter;
    char *name;                  /* that the server gave it; NULL: it is not made yet */
    natsInbox *inbox;            /* the subject that the server delivers to */
    struct hw_nats_sub *sub;     /* to that; nats-server takes a wildcard for no interest */
    struct hw_nats_sub *answers; /* to what the server says of the request */
    uint64_t received;           /* number of the last delivery */
    bool lost;
    struct hw_timer silence;
};

bool hw_delivered_parse(const char *reply, struct hw_delivered *delivered)
{
    enum { OF_SHORT = 9, OF_LONG = 11, TOKENS = 12 };
    const char *tokens[TOKENS];
    struct hw_delivered read;
    int count = 0;

    if (reply == NULL || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    for (const char *p = reply; p != NULL && count < TOKENS; count++) {
        tokens[count] = p;
        p = strchr(p, '.');
        if (p != NULL)
            p++;
    }
    if (count != OF_SHORT && count < OF_LONG)
        return false;
    /* The long form has domain and account before the stream, and may have more behind the rest. */
    const char **const last = tokens + (count == OF_SHORT ? OF_SHORT : OF_LONG) - 1;
    if (!hw_number_parse_until(last[-3], '.', &read.seq) ||
        !hw_number_parse_until(last[-2], '.', &read.number) ||
        !hw_number_parse_until(last[0], '.', &read.pending))
        return false;
    *delivered = read;
    return true;
}

/* Tells the owner once, who stops the consumer then. */
static void lose(struct hw_consumer *consumer, const char *why)
{
    if (consumer->lost)
        return;
    consumer->lost = true;
    hw_timer_stop(&consumer->silence);
    consumer->events->lost(consumer->arg, why);
}

/* Whoever is told stops the consumer, so nothing of it is used afterwards. */
static void fail(struct hw_consumer *consumer, natsStatus s, jsErrCode code)
{
    struct hw_error err;

    hw_nats_fail(&err, s, code, "watching %s in stream %s", consumer->filter, consumer->stream);
    hw_nats_fail_also(&err, hw_nats_last_trouble(consumer->nats));
    consumer->lost = true;
    hw_timer_stop(&consumer->silence);
    consumer->events->failed(consumer->arg, &err);
}

static void on_silence(void *arg)
{
    struct hw_consumer *consumer = arg;

    /* If the loop stood still, messages may have come that it has not read yet. */
    if (hw_nats_has_mail(consumer->nats))
        hw_timer_start(hw_nats_loop(consumer->nats), &consumer->silence, SILENT_MS, on_silence,
                       consumer);
    else if (consumer->name == NULL)
        fail(consumer, NATS_TIMEOUT, 0);
    else
        lose(consumer, "the server is silent");
}

/*
 * Flow control keeps a slow reader from having too much waiting: each time that the server has sent
 * about that much, it asks, and sends no more until it is answered. The answer is an empty message
 * to a subject that the question names. Only "$JS.FC.<stream>.<consumer>.<something>" is answered,
 * so that a forged question cannot have us publish anything else. Since the mail is read in order,
 * the answer goes out when everything before the question has been read.
 */
static void answer_flow(struct hw_consumer *consumer, const char *subject)
{
    HW_AUTO_FREE char *own =
        hw_sprintf("$JS.FC.%s.%s.", consumer->stream, consumer->name != NULL ? consumer->name : "");

    if (consumer->name != NULL && subject != NULL && strncmp(subject, own, strlen(own)) == 0)
        hw_nats_signal(consumer->nats, subject, "");
}

static void on_control(struct hw_consumer *consumer, natsMsg *msg)
{
    const char *value = NULL;
    uint64_t sent;

    if (natsMsg_GetReply(msg) != NULL) {
        answer_flow(consumer, natsMsg_GetReply(msg));
        return;
    }
    /* A heartbeat says which delivery was the last, and whether the server waits for an answer. */
    if (natsMsgHeader_Get(msg, "Nats-Consumer-Stalled", &value) == NATS_OK)
        answer_flow(consumer, value);
    if (natsMsgHeader_Get(msg, "Nats-Last-Consumer", &value) == NATS_OK &&
        hw_number_parse(value, &sent) && sent != consumer->received)
        lose(consumer, "messages were lost");
}

/* The answer to CONSUMER.CREATE. */
static void on_answer(void *arg, natsMsg *msg)
{
    struct hw_consumer *consumer = arg;
    HW_AUTO_JSON json_t *root = NULL;
    json_int_t waiting = 0, sent = 0, code = 0, number = 0;
    const char *name;

    if (consumer->lost || consumer->name != NULL)
        return;
    if (natsMsg_IsNoResponders(msg)) {
        fail(consumer, NATS_NO_RESPONDERS, 0);
        return;
    }
    if (hw_json_parse_object(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &root,
                             NULL) != HW_OK ||
        hw_json_unpack(root, NULL, "{s:s, s?I, s?{s?I}}", "name", &name, "num_pending", &waiting,
                       "delivered", "consumer_seq", &sent) != HW_OK) {
        /* An error has no name. */
        if (root != NULL)
            (void)!hw_json_unpack(root, NULL, "{s:{s?I, s?I}}", "error", "code", &code, "err_code",
                                  &number);
        fail(consumer, code == 404 ? NATS_NOT_FOUND : NATS_ERR, (jsErrCode)number);
        return;
    }
    consumer->name = hw_strdup(name);
    consumer->events->made(consumer->arg, (uint64_t)(waiting + sent));
}

static void on_message(void *arg, natsMsg *msg)
{
    struct hw_consumer *consumer = arg;
    struct hw_delivered delivered;

    if (consumer->lost)
        return;
    hw_timer_start(hw_nats_loop(consumer->nats), &consumer->silence, SILENT_MS, on_silence,
                   consumer);
    if (strcmp(natsMsg_GetSubject(msg), consumer->inbox) == 0) {
        on_control(consumer, msg);
        return;
    }
    if (!hw_delivered_parse(natsMsg_GetReply(msg), &delivered))
        return; /* not from a stream */
    if (delivered.number != consumer->received + 1) {
        lose(consumer, "messages were lost");
        return;
    }
    consumer->received = delivered.number;
    consumer->events->message(consumer->arg, msg, &delivered);
}

static enum hw_status ask(struct hw_consumer *consumer, enum hw_deliver deliver,
                          struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_sprintf("$JS.API.CONSUMER.CREATE.%s", consumer->stream);
    HW_AUTO_FREE char *reply = hw_sprintf("%s.answer", consumer->inbox);
    HW_AUTO_JSON json_t *request = json_pack(
        "{s:s, s:{s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:i}}", "stream_name", consumer->stream,
        "config", "deliver_subject", consumer->inbox, "filter_subject", consumer->filter,
        "deliver_policy", deliver == HW_DELIVER_ALL ? "all" : "last_per_subject", "ack_policy",
        "none", "idle_heartbeat", (json_int_t)HEARTBEAT_MS * 1000000, "flow_control", true,
        "mem_storage", true, "num_replicas", 1);
    HW_AUTO_FREE char *body = hw_json_dump(request);
    const enum hw_status status =
        hw_nats_subscribe(consumer->nats, reply, on_answer, consumer, &consumer->answers, err);
    const natsStatus s =
        status != HW_OK ? NATS_OK
                        : natsConnection_PublishRequest(hw_nats_connection(consumer->nats), subject,
                                                        reply, body, (int)strlen(body));

    return s == NATS_OK ? status
                        : hw_nats_fail(err, s, 0, "watching %s in stream %s", consumer->filter,
                                       consumer->stream);
}

enum hw_status hw_consumer_start(struct hw_nats *nats, const char *stream, const char *filter,
                                 enum hw_deliver deliver, const struct hw_consumer_events *events,
                                 void *arg, struct hw_consumer **out, struct hw_error *err)
{
    struct hw_consumer *consumer;
    enum hw_status status;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    consumer = hw_alloc(sizeof(*consumer));
    *consumer = (struct hw_consumer){.nats = nats,
                                     .events = events,
                                     .arg = arg,
                                     .stream = hw_strdup(stream),
                                     .filter = hw_strdup(filter)};
    if (natsInbox_Create(&consumer->inbox) != NATS_OK)
        abort(); /* out of memory */
    status = hw_nats_subscribe(nats, consumer->inbox, on_message, consumer, &consumer->sub, err);
    if (status == HW_OK)
        status = ask(consumer, deliver, err);
    if (status != HW_OK) {
        hw_consumer_stop(consumer);
        return status;
    }
    hw_timer_start(hw_nats_loop(nats), &consumer->silence, ANSWER_MS, on_silence, consumer);
    *out = consumer;
    return HW_OK;
}

/* Asks the server to delete the consumer. If the request is lost, the server does so by itself some
 * seconds after the subscription has gone. */
static void delete_at_server(const struct hw_consumer *consumer)
{
    char subject[SUBJECT_MOST];

    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.DELETE.%s.%s", consumer->stream,
             consumer->name);
    hw_nats_signal(consumer->nats, subject, "");
}

void hw_consumer_stop(struct hw_consumer *consumer)
{
    if (consumer == NULL)
        return;
    hw_timer_stop(&consumer->silence);
    hw_nats_unsubscribe(consumer->sub);
    hw_nats_unsubscribe(consumer->answers);
    if (consumer->name != NULL)
        delete_at_server(consumer);
    natsInbox_Destroy(consumer->inbox);
    free(consumer->stream);
    free(consumer->filter);
    free(consumer->name);
    free(consumer);
}
