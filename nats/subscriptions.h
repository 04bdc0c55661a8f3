/*
 * The plain subscriptions of one connection (core NATS, without JetStream). A subscription outlives
 * the loss of its connection: libnats makes it anew on a reconnect, and a connection that is opened
 * afresh takes over all of them.
 */
#ifndef HW_NATS_SUBSCRIPTIONS_H
#define HW_NATS_SUBSCRIPTIONS_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"

struct hw_mailbox;
struct hw_nats_sub;
typedef void hw_nats_msg_fn(void *arg, natsMsg *msg); /* msg is destroyed after fn returns */

struct hw_subscriptions {
    struct hw_loop *loop;
    struct hw_mailbox *box; /* messages come through it */
    natsConnection *nc;     /* NULL: there is none now */
    uint64_t last_id;
    struct hw_nats_sub *list;
    struct leaving *leaving, **leaving_end;
    struct hw_timer leaving_timer;
};

void hw_subscriptions_init(struct hw_subscriptions *subs, struct hw_loop *loop,
                           struct hw_mailbox *box);

/* May it be subscribed to: words with a dot between them, without a blank? */
bool hw_subscription_valid(const char *subject);

/* Calls fn on the loop for each message of subject, which must be a valid one. Without a
 * connection, and on one that closes, the next connection brings it. */
struct hw_nats_sub *hw_subscriptions_add(struct hw_subscriptions *subs, const char *subject,
                                         hw_nats_msg_fn *fn, void *arg);
/* fn is not called any more. NULL is fine. */
void hw_subscriptions_remove(struct hw_nats_sub *sub);

/* Hands a message over to the subscription with this number; one that is gone gets none. */
void hw_subscriptions_deliver(const struct hw_subscriptions *subs, uint64_t id, natsMsg *msg);

/* Makes all subscriptions on a new connection. */
void hw_subscriptions_attach(struct hw_subscriptions *subs, natsConnection *nc);
/* The connection is closed, and its threads have ended. */
void hw_subscriptions_detach(struct hw_subscriptions *subs);
/* Removes all, after detach. */
void hw_subscriptions_clear(struct hw_subscriptions *subs);

#endif
