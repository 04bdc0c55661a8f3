#include "nats/subscriptions.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "nats/mailbox.h"

enum { LEAVING_MS = 2000 }; /* between taking a subscription out of the connection and freeing it */

struct hw_nats_sub {
    struct hw_subscriptions *subs;
    uint64_t id; /* never used twice: a letter may still name a subscription that is gone */
    char *subject;
    natsSubscription *sub; /* NULL: there is no connection */
    hw_nats_msg_fn *fn;
    void *arg;
    struct hw_nats_sub *next;
};

/* ---- messages ---- */

/* The closure of one subscription's callback; freed when libnats says that it is through. */
struct address {
    struct hw_mailbox *box;
    uint64_t id;
};

/* On a thread of libnats. */
static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    const struct address *to = closure;

    (void)nc;
    (void)sub;
    hw_mailbox_post(to->box, &(struct hw_mail){.kind = HW_MAIL_MESSAGE, .msg = msg, .sub = to->id});
}

static void leave(struct hw_subscriptions *subs, natsSubscription *sub, struct address *to);

/*
 * A connection may close at any moment, also between two lines of this function, and is none from
 * then on: nothing that is subscribed can depend on it. So a subscription that cannot be made now
 * is no failure. It is remembered, and the connection that follows brings it. Whatever else may
 * keep the library from making it, the connection is closed, so that one follows.
 */
static void subscribe(struct hw_nats_sub *sub)
{
    struct hw_subscriptions *subs = sub->subs;
    struct address *to = hw_alloc(sizeof(*to));

    *to = (struct address){.box = subs->box, .id = sub->id};
    if (natsConnection_Subscribe(&sub->sub, subs->nc, sub->subject, on_message, to) != NATS_OK) {
        sub->sub = NULL;
        free(to);
        natsConnection_Close(subs->nc);
    } else if (natsSubscription_SetOnCompleteCB(sub->sub, free, to) != NATS_OK) {
        leave(subs, HW_TAKE(sub->sub), to);
        natsConnection_Close(subs->nc);
    }
}

void hw_subscriptions_deliver(const struct hw_subscriptions *subs, uint64_t id, natsMsg *msg)
{
    const struct hw_nats_sub *sub = subs->list;

    while (sub != NULL && sub->id != id)
        sub = sub->next;
    if (sub != NULL)
        sub->fn(sub->arg, msg);
}

/* ---- leaving ---- */

/*
 * libnats' reading thread looks a subscription up, lets go of the connection's lock, and only then
 * takes the subscription's (seen with 3.4.1; mended in 3.6): a subscription that is freed in
 * between crashes it. So a subscription is taken out of the connection first, and freed two seconds
 * later, when no thread can still be on its way to it.
 */
struct leaving {
    natsSubscription *sub;
    struct address *to; /* freed with it; NULL: libnats frees it */
    int64_t due;        /* hw_loop_now(): when it may be freed */
    struct leaving *next;
};

static void free_leaving(struct hw_subscriptions *subs, int64_t now)
{
    while (subs->leaving != NULL && subs->leaving->due <= now) {
        struct leaving *leaving = subs->leaving;

        subs->leaving = leaving->next;
        natsSubscription_Destroy(leaving->sub);
        free(leaving->to);
        free(leaving);
    }
    if (subs->leaving == NULL)
        subs->leaving_end = &subs->leaving;
}

static void on_leaving_timer(void *arg)
{
    struct hw_subscriptions *subs = arg;

    free_leaving(subs, hw_loop_now());
    if (subs->leaving != NULL)
        hw_timer_start(subs->loop, &subs->leaving_timer, LEAVING_MS, on_leaving_timer, subs);
}

static void leave(struct hw_subscriptions *subs, natsSubscription *sub, struct address *to)
{
    struct leaving *leaving = hw_alloc(sizeof(*leaving));

    /* Where it fails there is no connection that anything could arrive by. */
    (void)natsSubscription_Unsubscribe(sub);
    *leaving = (struct leaving){.sub = sub, .to = to, .due = hw_loop_now() + LEAVING_MS};
    *subs->leaving_end = leaving;
    subs->leaving_end = &leaving->next;
    if (!hw_timer_running(&subs->leaving_timer))
        hw_timer_start(subs->loop, &subs->leaving_timer, LEAVING_MS, on_leaving_timer, subs);
}

/* ---- the list ---- */

void hw_subscriptions_init(struct hw_subscriptions *subs, struct hw_loop *loop,
                           struct hw_mailbox *box)
{
    *subs = (struct hw_subscriptions){.loop = loop, .box = box};
    subs->leaving_end = &subs->leaving;
}

bool hw_subscription_valid(const char *subject)
{
    if (*subject == '\0' || *subject == '.' || strpbrk(subject, " \t\r\n") != NULL ||
        strstr(subject, "..") != NULL)
        return false;
    return subject[strlen(subject) - 1] != '.';
}

struct hw_nats_sub *hw_subscriptions_add(struct hw_subscriptions *subs, const char *subject,
                                         hw_nats_msg_fn *fn, void *arg)
{
    struct hw_nats_sub *sub = hw_alloc(sizeof(*sub));

    *sub = (struct hw_nats_sub){.subs = subs,
                                .id = ++subs->last_id,
                                .subject = hw_strdup(subject),
                                .fn = fn,
                                .arg = arg,
                                .next = subs->list};
    subs->list = sub;
    if (subs->nc != NULL)
        subscribe(sub);
    return sub;
}

static void free_sub(struct hw_nats_sub *sub)
{
    free(sub->subject);
    free(sub);
}

void hw_subscriptions_remove(struct hw_nats_sub *sub)
{
    if (sub == NULL)
        return;
    for (struct hw_nats_sub **p = &sub->subs->list; *p != NULL; p = &(*p)->next) {
        if (*p == sub) {
            *p = sub->next;
            break;
        }
    }
    if (sub->sub != NULL)
        leave(sub->subs, sub->sub, NULL);
    free_sub(sub);
}

void hw_subscriptions_attach(struct hw_subscriptions *subs, natsConnection *nc)
{
    subs->nc = nc;
    for (struct hw_nats_sub *sub = subs->list; sub != NULL; sub = sub->next)
        subscribe(sub);
}

void hw_subscriptions_detach(struct hw_subscriptions *subs)
{
    subs->nc = NULL;
    for (struct hw_nats_sub *sub = subs->list; sub != NULL; sub = sub->next) {
        natsSubscription_Destroy(sub->sub);
        sub->sub = NULL;
    }
    free_leaving(subs, INT64_MAX);
}

void hw_subscriptions_clear(struct hw_subscriptions *subs)
{
    hw_timer_stop(&subs->leaving_timer);
    while (subs->list != NULL) {
        struct hw_nats_sub *sub = subs->list;

        subs->list = sub->next;
        free_sub(sub);
    }
}
