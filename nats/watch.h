/*
 * A watch of a stream's subjects: what stands there, then one call of caught_up, then every new
 * message, all on the loop and in stream order. It is begun anew, from the first step, when
 * messages were lost or the connection was, and now and then by itself: a consumer may go silent
 * without an error. Buckets of keys and of objects are watched through it (kv.h, objstore.h).
 */
#ifndef HW_NATS_WATCH_H
#define HW_NATS_WATCH_H

#include "common/status.h"
#include "nats/connection.h"
#include "nats/consumer.h"

struct hw_watch;

struct hw_watch_events {
    /* (Again); may be NULL. A failure is one to start: restarting is called, and it is tried later.
     */
    enum hw_status (*starting)(void *arg, struct hw_error *err);
    void (*message)(void *arg, natsMsg *msg, uint64_t seq); /* borrowed; seq: of the stream */
    void (*caught_up)(void *arg);
    void (*restarting)(void *arg, const struct hw_error *why); /* could not start; may be NULL */
    /* Messages were lost; it is begun anew in so many milliseconds, more each time. May be NULL;
     * not to be stopped from here. */
    void (*lost)(void *arg, const char *why, int64_t pause_ms);
};

/* From the loop, not at once; blocks then. It may be stopped from caught_up and restarting, not
 * from message. events is kept. */
struct hw_watch *hw_watch_start(struct hw_nats *nats, const char *stream, const char *filter,
                                enum hw_deliver deliver, const struct hw_watch_events *events,
                                void *arg);
void hw_watch_restart(struct hw_watch *watch);
void hw_watch_stop(struct hw_watch *watch); /* NULL is fine */

#endif
