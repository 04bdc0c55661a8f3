/*
 * Watches the desired entry of one node. Ten thousand consumers would be too many for a server, so
 * there is none: a plain subscription to the subject on which the bucket republishes its entries
 * says when to look, and the key is read by direct get. Nothing else in such a hint is believed.
 */
#ifndef HW_AGENT_WATCH_H
#define HW_AGENT_WATCH_H

#include "protocol/entry.h"

struct agent_watch;

struct agent_watch_events {
    void (*none)(void *arg); /* there is no such key */
    /* the entry as it is now, also one that was given before */
    void (*entry)(void *arg, const struct hw_entry *entry);
    void (*looked)(void *arg); /* after every look, however it ended */
    /* The key cannot be read: called at once, and each minute while it lasts. */
    void (*trouble)(void *arg, const struct hw_error *why);
    void *arg;
};

/* Watches cfg.desired.<node> with the hints on <bucket>.desired.<node>. The caller asks for the
 * first look; without hints a look follows about every poll_ms. */
enum hw_status agent_watch_start(struct hw_nats *nats, const char *bucket, const char *node,
                                 int64_t poll_ms, const struct agent_watch_events *events,
                                 struct agent_watch **watch, struct hw_error *err) HW_CHECKED;
/* Call after hw_nats_close. NULL is fine. */
void agent_watch_free(struct agent_watch *watch);

/* Looks within that time. A look that fails is made again with growing delays, while NATS is
 * connected. */
void agent_watch_look(struct agent_watch *watch, int64_t within_ms);

/* The same, now that NATS is there again: what failed before says nothing any more. */
void agent_watch_rejoin(struct agent_watch *watch, int64_t within_ms);

/* While the watch is paused, a look waits; it is made when the pause ends. */
void agent_watch_pause(struct agent_watch *watch, bool pause);

/* Reads that failed so far; and why the last ones did, when they have failed for a minute and more
 * though NATS is connected, or else "". */
uint64_t agent_watch_failed(const struct agent_watch *watch);
const char *agent_watch_stuck(const struct agent_watch *watch);

/* The name of the key. */
const char *agent_watch_key(const struct agent_watch *watch);

#endif
