/*
 * Watches the desired entry of one node without a consumer on the server, of which ten thousand
 * would be too many: a plain subscription to the bucket's republished subject tells when to look,
 * and the key is read by direct get. A hint is believed in nothing but that.
 */
#ifndef HW_AGENT_WATCH_H
#define HW_AGENT_WATCH_H

#include "nats/kv.h"

struct agent_watch;

struct agent_watch_events {
    void (*none)(void *arg);                                   /* there is no such key */
    void (*entry)(void *arg, const struct hw_kv_entry *entry); /* as it is now; known ones too */
    void (*looked)(void *arg); /* after every look, whatever came of it */
    void (*trouble)(void *arg, const struct hw_error *why); /* once an outage, not once a look */
    void *arg;
};

/* Watches cfg.desired.<node> with the hints on <bucket>.desired.<node>. The first look is to be
 * asked for; without a hint there is another one every poll_ms, more or less. */
enum hw_status agent_watch_start(struct hw_nats *nats, const char *bucket, const char *node,
                                 int64_t poll_ms, const struct agent_watch_events *events,
                                 struct agent_watch **watch, struct hw_error *err) HW_CHECKED;
/* Call after hw_nats_close. NULL is fine. */
void agent_watch_free(struct agent_watch *watch);

/* Looks within that time, and on failure again, with growing delays, while connected. */
void agent_watch_look(struct agent_watch *watch, int64_t within_ms);

/* While held, a look waits; it is made when the watch is released. */
void agent_watch_hold(struct agent_watch *watch, bool hold);

/* The name of the key. */
const char *agent_watch_key(const struct agent_watch *watch);

#endif
