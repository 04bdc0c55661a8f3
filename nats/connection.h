/*
 * The one way to talk to NATS: a connection that never gives up, and JetStream on top of it.
 *
 * libnats calls back on threads of its own; everything here hands those calls to the loop, so that
 * users of this header live on one thread. Calls that wait for the server (marked "blocks") wait at
 * most the connection's timeout.
 */
#ifndef HW_NATS_CONNECTION_H
#define HW_NATS_CONNECTION_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/status.h"
#include "nats/error.h"
#include "nats/flights.h"
#include "nats/subscriptions.h"
#include "nats/tls.h"

struct hw_nats;

/* Why there is no connection, for people. */
struct hw_nats_away {
    const char *url; /* without users and passwords */
    const char *why; /* what was found, and what to do about it; no secret */
    int64_t for_ms;  /* how long it has lasted */
};

struct hw_nats_events {
    void (*up)(void *arg); /* connected, or connected again: re-read what may have changed */
    void (*down)(void *arg, const char *why); /* lost, or not there at the first attempt */
    /* When it is known why, some seconds behind down at most; each minute while it lasts; and when
     * the reason has become another one. May be NULL: then nobody looks for the reason. */
    void (*away)(void *arg, const struct hw_nats_away *away);
    void *arg;
};

struct hw_nats_options {
    const char *url;    /* nats://host:port, comma-separated for a cluster */
    const char *name;   /* of the connection, as the server's monitoring shows it */
    int64_t timeout_ms; /* of calls that wait for the server; 0: 2000 */
    int max_pending;    /* asynchronous publishes in flight at most; 0: 4096 */
    int reconnect_ms;   /* longest time between tries to connect, which grows up to it and is drawn
                           from its upper half, so that a fleet does not come in one moment; 0: 500 */
    int64_t first_ms;   /* the first try waits a random part of this */
    struct hw_nats_files files;
    /* Subjects that begin with $JS.API begin with this instead, and those with $KV have it in
     * front: for whom the server, or a leaf node on the way, denies the former. NULL or "": as they
     * are. */
    const char *prefix;
};

/*
 * Starts connecting and returns; a server that is away, or refuses this client, is tried again for
 * ever. Fails (HW_EINVAL) for files that cannot be used.
 */
enum hw_status hw_nats_open(struct hw_loop *loop, const struct hw_nats_options *options,
                            const struct hw_nats_events *events, struct hw_nats **nats,
                            struct hw_error *err) HW_CHECKED;
/* Publishes in flight end with HW_ESTOPPED, from within this call; nothing comes afterwards. Not
 * from within a callback. NULL is fine. */
void hw_nats_close(struct hw_nats *nats);

bool hw_nats_up(const struct hw_nats *nats);
/* The reason that away told last; "" while it is up, or nothing is known yet. */
const char *hw_nats_why_away(const struct hw_nats *nats);
/* The servers, without users and passwords. */
const char *hw_nats_url(const struct hw_nats *nats);
/* From within up: for how many ms it had been away, as away told; 0: it had not. */
int64_t hw_nats_was_away(const struct hw_nats *nats);
/* The last thing that went wrong asynchronously, such as a denied publish; or "". */
const char *hw_nats_last_trouble(const struct hw_nats *nats);

/* Further listeners besides the owner, for modules built on top. Embedded in the listener's owner.
 */
struct hw_nats_listener {
    void (*up)(void *arg);
    void (*trouble)(void *arg); /* messages of a subscription were dropped: too many waited */
    void *arg;
    struct hw_nats_listener *next;
};
void hw_nats_listen(struct hw_nats *nats, struct hw_nats_listener *listener);
void hw_nats_unlisten(struct hw_nats *nats, struct hw_nats_listener *listener);
jsCtx *hw_nats_js(struct hw_nats *nats);
natsConnection *hw_nats_connection(struct hw_nats *nats);
struct hw_loop *hw_nats_loop(struct hw_nats *nats);
size_t hw_nats_max_payload(const struct hw_nats *nats); /* bytes; 1 MiB while it is not known */

/* ---- plain subscriptions; fn runs on the loop. They outlive the loss of the connection. ---- */
enum hw_status hw_nats_subscribe(struct hw_nats *nats, const char *subject, hw_nats_msg_fn *fn,
                                 void *arg, struct hw_nats_sub **sub,
                                 struct hw_error *err) HW_CHECKED;
void hw_nats_unsubscribe(struct hw_nats_sub *sub); /* NULL is fine */

/* An empty message on a plain subject, for whoever listens now. While the connection is down it is
 * not sent, then or later. */
void hw_nats_signal(struct hw_nats *nats, const char *subject);

/* Whether messages of subscriptions wait to be read on the loop. */
bool hw_nats_has_mail(const struct hw_nats *nats);

/*
 * Asks, and waits for the first answer (blocks): the message as it came, whatever it says, also
 * when the server itself sent it because nobody listens there. The caller destroys it. A subject
 * of JetStream's API is sent with the prefix, where there is one.
 */
enum hw_status hw_nats_request(struct hw_nats *nats, const char *subject, const void *data,
                               size_t size, natsMsg **answer, struct hw_error *err) HW_CHECKED;

/* ---- JetStream publishing ---- */
#define HW_SEQ_ANY  UINT64_MAX    /* no expectation about the subject's last sequence */
#define HW_SEQ_NONE ((uint64_t)0) /* the subject must have no message yet */

/*
 * Publishes without waiting. msg is taken in every case. When HW_OK is returned, done is called
 * exactly once, later, from the loop; after any other status it is never called.
 */
enum hw_status hw_nats_publish(struct hw_nats *nats, natsMsg *msg, uint64_t expected_seq,
                               hw_ack_fn *done, void *arg, struct hw_error *err) HW_CHECKED;
size_t hw_nats_in_flight(const struct hw_nats *nats);

/* Publishes and waits (blocks). msg is taken. */
enum hw_status hw_nats_publish_wait(struct hw_nats *nats, natsMsg *msg, uint64_t expected_seq,
                                    uint64_t *seq, struct hw_error *err) HW_CHECKED;

#endif
