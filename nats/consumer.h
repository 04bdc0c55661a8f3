/*
 * A push consumer: the server sends the messages that a stream has stored under the subjects that
 * match a filter, one after another (NATS ADR-15, and
 * https://docs.nats.io/reference/reference-protocols/nats_api_reference).
 *
 * A stored message is data, whatever it says. Between the stored messages the server sends control
 * messages: heartbeats, and questions of flow control, which are answered by publishing to a
 * subject that they name. The library's own subscription recognises a control message by its form:
 * it is empty, and its header block has a status (seen with 3.4.1, read in 3.9). Anyone who may
 * store a message can give it that form, and would thereby publish with the rights of whoever reads
 * it. Here a control message is recognised by where it comes from: the server sends it under the
 * consumer's own inbox, which nobody else knows, and a stored message under the subject that it has
 * in the stream.
 */
#ifndef HW_NATS_CONSUMER_H
#define HW_NATS_CONSUMER_H

#include "nats/connection.h"

enum hw_deliver {
    HW_DELIVER_LAST, /* the last message of every subject, then every new message */
    HW_DELIVER_ALL,  /* every message that is kept, then every new message */
};

struct hw_delivered {
    uint64_t seq;     /* of the message in the stream */
    uint64_t number;  /* of the delivery: 1, 2, 3 … without a gap */
    uint64_t pending; /* messages that were still to come when this one was sent; a server that was
                         killed before may count wrong */
};

struct hw_consumer;
struct hw_consumer_events {
    /* The server has made it; so many messages matched then. The first of them may have come
     * before. */
    void (*made)(void *arg, uint64_t waiting);
    /* It could not be made. The consumer may be stopped here. */
    void (*failed)(void *arg, const struct hw_error *why);
    void (*message)(void *arg, natsMsg *msg, const struct hw_delivered *delivered); /* borrowed */
    /* Messages were lost, or the server is silent, and nothing comes any more: stop the consumer,
     * but not from within message. */
    void (*lost)(void *arg, const char *why);
};

/*
 * Asks the server for the consumer, without waiting for the answer. Its messages come on the loop,
 * in the order of the stream, until the consumer or the connection is lost. events must live as
 * long as the consumer.
 */
enum hw_status hw_consumer_start(struct hw_nats *nats, const char *stream, const char *filter,
                                 enum hw_deliver deliver, const struct hw_consumer_events *events,
                                 void *arg, struct hw_consumer **consumer,
                                 struct hw_error *err) HW_CHECKED;
void hw_consumer_stop(struct hw_consumer *consumer); /* does not block; NULL is fine */

/* Reads the reply subject of a message that a consumer delivered, or returns false for any other:
 * "$JS.ACK.<stream>.<consumer>.<tries>.<seq>.<number>.<time>.<pending>", or the same with domain
 * and account before the stream. */
bool hw_delivered_parse(const char *reply, struct hw_delivered *delivered) HW_CHECKED;

#endif
