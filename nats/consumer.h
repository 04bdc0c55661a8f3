/*
 * A push consumer: what a stream has stored under the subjects that match a filter, as the server
 * sends it (NATS ADR-15, and
 * https://docs.nats.io/reference/reference-protocols/nats_api_reference).
 *
 * What is stored is data, whatever it says. The library's own subscription to a stream takes an
 * empty message whose header block has a status for a word of the server, and publishes to the
 * subject that it names (seen with 3.4.1, read in 3.9): whoever may store a message could publish
 * with the rights of whoever reads it. Here a control message is told by where it comes from: the
 * server sends it under the consumer's own inbox, which nobody else knows, and a stored message
 * under the subject that it has in the stream.
 */
#ifndef HW_NATS_CONSUMER_H
#define HW_NATS_CONSUMER_H

#include "nats/connection.h"

enum hw_deliver {
    HW_DELIVER_LAST, /* of every subject the last message, then every new one */
    HW_DELIVER_ALL,  /* every message that is kept, then every new one */
};

struct hw_delivered {
    uint64_t seq;     /* of the message in the stream */
    uint64_t number;  /* of the delivery: 1, 2, 3 … without a gap */
    uint64_t pending; /* messages that were still to come then; a server that was killed may err */
};

struct hw_consumer;
struct hw_consumer_events {
    void (*message)(void *arg, natsMsg *msg, const struct hw_delivered *delivered); /* borrowed */
    /* Messages were lost, or the server is silent: nothing comes any more. Stop it; not from
     * message. */
    void (*lost)(void *arg, const char *why);
};

/*
 * Makes the consumer, and has it deliver: its messages come on the loop, in the order of the
 * stream, until it is lost or the connection is. *waiting: how many there were when it began.
 * events is kept. Blocks.
 */
enum hw_status hw_consumer_start(struct hw_nats *nats, const char *stream, const char *filter,
                                 enum hw_deliver deliver, const struct hw_consumer_events *events,
                                 void *arg, struct hw_consumer **consumer, uint64_t *waiting,
                                 struct hw_error *err) HW_CHECKED;
void hw_consumer_stop(struct hw_consumer *consumer); /* does not block; NULL is fine */

/* What the reply subject of a message says that a consumer delivered; false: it is none of those.
 * reply: "$JS.ACK.<stream>.<consumer>.<tries>.<seq>.<number>.<time>.<pending>", or with domain and
 * account before the stream. */
bool hw_delivered_parse(const char *reply, struct hw_delivered *delivered) HW_CHECKED;

#endif
