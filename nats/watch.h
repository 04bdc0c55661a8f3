/*
 * A watch of a stream's subjects: first the messages that are stored, then one call of caught_up,
 * then every new message, all on the loop and in stream order. The watch begins anew, with the
 * stored messages, when messages or the connection were lost, and every five minutes by itself,
 * because a consumer may go silent without an error. Buckets of keys and of objects are watched
 * through it (kv.h, objstore.h).
 *
 * A message that cannot be read, or a server that is wrong about itself, could have a watch begin
 * anew for ever. So the pauses before it does so grow, from 0.1 s to 30 s; the owner of the
 * connection is told each time (hw_nats_events.reader); and a watch for which messages wait, while
 * it reads none that it had not read before, is stuck after a minute (hw_nats_stuck).
 */
#ifndef HW_NATS_WATCH_H
#define HW_NATS_WATCH_H

#include "base/status.h"
#include "nats/connection.h"
#include "nats/consumer.h"

struct hw_watch;

struct hw_watch_events {
    /* The watch is about to begin, or to begin anew. After an error it does not: restarting is
     * called, and it is tried again after the pause. May be NULL. */
    enum hw_status (*starting)(void *arg, struct hw_error *err);
    void (*message)(void *arg, natsMsg *msg, uint64_t seq); /* borrowed; seq: of the stream */
    void (*caught_up)(void *arg);
    /* It could not begin, for this reason, and is tried again. May be NULL. */
    void (*restarting)(void *arg, const struct hw_error *why);
};

/* of: what it reads, in a word for logs and metrics. Begins from the loop, soon, and blocks then.
 * It may be stopped from caught_up and restarting, but not from message. events must live as long
 * as the watch. */
struct hw_watch *hw_watch_start(struct hw_nats *nats, const char *of, const char *stream,
                                const char *filter, enum hw_deliver deliver,
                                const struct hw_watch_events *events, void *arg);
void hw_watch_restart(struct hw_watch *watch); /* begins anew, soon */
void hw_watch_stop(struct hw_watch *watch);    /* NULL is fine */

#endif
