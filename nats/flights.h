/*
 * Publishes in flight. A publish to JetStream is acknowledged by the server when the message is
 * stored, or refused with a reason; until then nobody knows which. Waiting for each would cost one
 * round trip a message, so many are on their way at once, and each remembers here whom to tell what
 * became of it. A flight is found by the address of its message, which libnats gives back together
 * with the acknowledgement.
 *
 * Every flight ends exactly once: it lands (the server answered, or libnats gave up waiting), or
 * all that are left are ended together when the connection is gone for good.
 */
#ifndef HW_NATS_FLIGHTS_H
#define HW_NATS_FLIGHTS_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct hw_mail;

/* What became of a publish. */
struct hw_ack {
    enum hw_status status; /* HW_OK; HW_ECONFLICT: the expectation failed (JetStream error 10071);
                              HW_ETIMEOUT, HW_EUNAVAIL: outcome unknown; others: refused */
    uint64_t seq;          /* of the stored message when HW_OK */
    struct hw_error err;
};
typedef void hw_ack_fn(void *arg, const struct hw_ack *ack);

struct hw_flight {
    const natsMsg *msg; /* NULL: the place is free */
    hw_ack_fn *done;
    void *arg;
};

/* A hash table with open addressing and linear probing, at most half full. */
struct hw_flights {
    struct hw_flight *places;
    size_t mask; /* places, less one */
    size_t count;
};

void hw_flights_init(struct hw_flights *flights, size_t most);
void hw_flights_free(struct hw_flights *flights);

/* The caller sees to it that there are no more than `most`. */
void hw_flights_add(struct hw_flights *flights, struct hw_flight flight);
/* Takes the flight of msg out without telling anybody; false: there is none. */
bool hw_flights_take(struct hw_flights *flights, const natsMsg *msg, struct hw_flight *flight);

/* Tells what a letter of the kind HW_MAIL_ACK says of its flight. trouble: for hw_nats_fail_also.
 */
void hw_flights_land(struct hw_flights *flights, const struct hw_mail *mail, const char *trouble);
/* Tells all that are in flight that nothing of them will be heard; they may begin new ones. */
void hw_flights_end_all(struct hw_flights *flights, enum hw_status status);

#endif
