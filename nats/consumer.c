#include "nats/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/number.h"

enum {
    HEARTBEAT_MS = 2000, /* between heartbeats of a server that has nothing to deliver */
    SILENT_MS = 6000,    /* without any message: three heartbeats are missing */
    SUBJECT_MOST = 512,
};

struct hw_consumer {
    struct hw_nats *nats;
    const struct hw_consumer_events *events;
    void *arg;
    char *stream;
    char *name;       /* that the server gave it; NULL: it is not made yet */
    natsInbox *inbox; /* the subject that the server delivers to */
    struct hw_nats_sub *sub;
    uint64_t received; /* number of the last delivery */
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

static void on_silence(void *arg)
{
    struct hw_consumer *consumer = arg;

    /* If the loop stood still, messages may have come that it has not read yet. */
    if (hw_nats_has_mail(consumer->nats))
        hw_timer_start(hw_nats_loop(consumer->nats), &consumer->silence, SILENT_MS, on_silence,
                       consumer);
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
    HW_AUTO_FREE char *own = hw_sprintf("$JS.FC.%s.%s.", consumer->stream, consumer->name);

    if (subject != NULL && strncmp(subject, own, strlen(own)) == 0)
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

static enum hw_status make(struct hw_consumer *consumer, const char *filter,
                           enum hw_deliver deliver, uint64_t *waiting, struct hw_error *err)
{
    jsConsumerConfig config;
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s;

    jsConsumerConfig_Init(&config);
    config.DeliverSubject = consumer->inbox;
    config.FilterSubject = filter;
    config.DeliverPolicy = deliver == HW_DELIVER_ALL ? js_DeliverAll : js_DeliverLastPerSubject;
    config.AckPolicy = js_AckNone;
    config.Heartbeat = (int64_t)HEARTBEAT_MS * 1000000;
    config.FlowControl = true;
    config.MemoryStorage = true;
    config.Replicas = 1;
    s = js_AddConsumer(&info, hw_nats_js(consumer->nats), consumer->stream, &config, NULL, &code);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, code, "watching %s in stream %s", filter, consumer->stream);
    consumer->name = hw_strdup(info->Name);
    *waiting = info->NumPending + info->Delivered.Consumer;
    jsConsumerInfo_Destroy(info);
    return HW_OK;
}

enum hw_status hw_consumer_start(struct hw_nats *nats, const char *stream, const char *filter,
                                 enum hw_deliver deliver, const struct hw_consumer_events *events,
                                 void *arg, struct hw_consumer **out, uint64_t *waiting,
                                 struct hw_error *err)
{
    struct hw_consumer *consumer;
    enum hw_status status;

    if (!hw_nats_up(nats))
        return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
    consumer = hw_alloc(sizeof(*consumer));
    *consumer = (struct hw_consumer){
        .nats = nats, .events = events, .arg = arg, .stream = hw_strdup(stream)};
    if (natsInbox_Create(&consumer->inbox) != NATS_OK)
        abort(); /* out of memory */
    status = hw_nats_subscribe(nats, consumer->inbox, on_message, consumer, &consumer->sub, err);
    if (status == HW_OK)
        status = make(consumer, filter, deliver, waiting, err);
    if (status != HW_OK) {
        hw_consumer_stop(consumer);
        return status;
    }
    hw_timer_start(hw_nats_loop(nats), &consumer->silence, SILENT_MS, on_silence, consumer);
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
    if (consumer->name != NULL)
        delete_at_server(consumer);
    natsInbox_Destroy(consumer->inbox);
    free(consumer->stream);
    free(consumer->name);
    free(consumer);
}
