/*
 * The one way to talk to NATS: a connection that never gives up, and JetStream on top of it.
 *
 * libnats calls back on threads of its own. All of these calls reach the loop through one mailbox
 * (mailbox.h), so that users of this header live on one thread. Functions marked "blocks" wait for
 * the server, at most for the connection's timeout; no other function waits.
 *
 * While there is no connection, nothing is kept to be sent later: a publish fails at once, and
 * whoever wanted it does it again when `up` is called. What is late would be out of order.
 */
#ifndef HW_NATS_CONNECTION_H
#define HW_NATS_CONNECTION_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "common/loop.h"
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
    /* Called when the reason is found, at most some seconds after down; once a minute while the
     * outage lasts; and when the reason has changed. NULL: no reason is looked for. */
    void (*away)(void *arg, const struct hw_nats_away *away);
    /* The files of hw_nats_options: they were read again, or cannot be, or a certificate ends soon,
     * which is told once a day. warn: somebody has to do something. detail may be NULL. From the
     * loop, also before hw_nats_open has returned. NULL: nobody is told. */
    void (*files)(void *arg, bool warn, const char *what, const char *detail);
    /* A reader of this connection (watch.h) begins anew in so many milliseconds: how it is called,
     * and why. NULL: nobody is told. */
    void (*reader)(void *arg, const char *of, const char *why, int64_t pause_ms);
    void *arg;
};

struct hw_nats_options {
    const char *url;    /* nats://host:port, comma-separated for a cluster */
    const char *name;   /* of the connection, as the server's monitoring shows it */
    int64_t timeout_ms; /* of calls that wait for the server; 0: 2000 */
    int max_pending;    /* asynchronous publishes in flight at most; 0: 4096 */
    int reconnect_ms;   /* the pause between two attempts to connect doubles up to this, and each is
                           drawn at random from its upper half, so that a fleet does not come back
                           in one moment; 0: 500 */
    int64_t first_ms;   /* the first attempt waits a random part of this */
    int64_t unread_ms;  /* a reader for whom messages wait that long, while it reads none, is stuck;
                           0: a minute */
    struct hw_nats_files files; /* read anew before each connection, when they have changed */
    /* For clients to whom the server, or a leaf node on the way, denies the subjects $JS.API and
     * $KV: "$JS.API" is replaced by the prefix, and "$KV" gets it in front. NULL or "": no prefix.
     */
    const char *prefix;
};

/*
 * Starts connecting and returns. A server that is away, or that refuses this client, is tried again
 * for ever, with growing pauses. HW_EINVAL for files and URLs that cannot be used, and no other
 * failure: whatever a server does, it does later.
 */
enum hw_status hw_nats_open(struct hw_loop *loop, const struct hw_nats_options *options,
                            const struct hw_nats_events *events, struct hw_nats **nats,
                            struct hw_error *err) HW_CHECKED;
/* Publishes in flight end with HW_ESTOPPED, from within this call, and no callback comes
 * afterwards. Must not be called from a callback. NULL is fine. */
void hw_nats_close(struct hw_nats *nats);

/* Reads the files again now. Where they have changed and can be used, the connection is made anew
 * with them, and true is returned; those that cannot be used leave everything as it is. */
bool hw_nats_reload(struct hw_nats *nats);

bool hw_nats_up(const struct hw_nats *nats);
/* The reason that away told last; "" while the connection is up, and until a reason is found. */
const char *hw_nats_why_away(const struct hw_nats *nats);
/* The servers, without users and passwords. */
const char *hw_nats_url(const struct hw_nats *nats);
/* From within up: for how many ms the connection had been away; 0: away was not called. */
int64_t hw_nats_was_away(const struct hw_nats *nats);
/* What the server complained of last, such as a denied publish; or "". */
const char *hw_nats_last_trouble(const struct hw_nats *nats);

/* Modules built on top hear of the connection beside its owner. The struct is part of the module's
 * own, and must be taken off the list before that goes. */
struct hw_nats_listener {
    void (*up)(void *arg);
    void (*trouble)(void *arg);      /* messages of a subscription were dropped: too many waited */
    const char *(*stuck)(void *arg); /* why a reader is, see hw_nats_stuck; NULL: it is not */
    void *arg;
    struct hw_nats_listener *next;
};
void hw_nats_listen(struct hw_nats *nats, struct hw_nats_listener *listener);
void hw_nats_unlisten(struct hw_nats *nats, struct hw_nats_listener *listener);

/* Why a reader of this connection is stuck: messages wait, and for a minute it has read none that
 * it had not read before. NULL: none is, or there is no connection. Valid until the loop turns. */
const char *hw_nats_stuck(const struct hw_nats *nats);
int64_t hw_nats_unread_ms(const struct hw_nats *nats);
/* For readers: tells the owner. */
void hw_nats_tell_reader(struct hw_nats *nats, const char *of, const char *why, int64_t pause_ms);

/* libnats' own handles, for modules built on top; NULL while there is no connection. */
jsCtx *hw_nats_js(struct hw_nats *nats);
natsConnection *hw_nats_connection(struct hw_nats *nats);
struct hw_loop *hw_nats_loop(struct hw_nats *nats);
size_t hw_nats_max_payload(const struct hw_nats *nats); /* bytes; 1 MiB while it is not known */

/* ---- plain subscriptions ---- */

/* Calls fn on the loop for each message of subject, also after a reconnect. Where there is no
 * connection, or one that is about to close, the next one brings it. HW_EINVAL for a subject that
 * is none, and no other failure. */
enum hw_status hw_nats_subscribe(struct hw_nats *nats, const char *subject, hw_nats_msg_fn *fn,
                                 void *arg, struct hw_nats_sub **sub,
                                 struct hw_error *err) HW_CHECKED;
void hw_nats_unsubscribe(struct hw_nats_sub *sub); /* NULL is fine */

/* Sends a text on a plain subject to whoever listens now; "": a message without data. While the
 * connection is down, nothing is sent, then or later. */
void hw_nats_signal(struct hw_nats *nats, const char *subject, const char *text);

/* Do messages of subscriptions wait to be read on the loop? */
bool hw_nats_has_mail(const struct hw_nats *nats);

/*
 * Sends a request and waits for the first answer (blocks). The answer is given as it came, whatever
 * it says, also when the server itself sent it because nobody listens to the subject. The caller
 * destroys it. A subject of JetStream's API is sent with the prefix, where there is one.
 *
 * The library's own request function judges an answer by its status line, which whoever stored a
 * message may have written (stored.h); this one judges nothing.
 */
enum hw_status hw_nats_request(struct hw_nats *nats, const char *subject, const void *data,
                               size_t size, natsMsg **answer, struct hw_error *err) HW_CHECKED;

/*
 * ---- JetStream publishing ----
 *
 * A publish can say which sequence the newest message of its subject must have; the server refuses
 * it otherwise. That is the compare-and-set by which, of two writers, one fails.
 */
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
