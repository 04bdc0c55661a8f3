/*
 * Keeps the key cfg.reported.<node> equal to the node's report: publishes what differs, again and
 * again with growing delays until the server has acknowledged it, and looks after every reconnect,
 * and now and then, whether it is still there. Only the newest report counts; older ones that never
 * left are dropped.
 */
#ifndef HW_AGENT_REPORTER_H
#define HW_AGENT_REPORTER_H

#include "common/json.h"
#include "nats/connection.h"

struct agent_reporter;

struct agent_reporter_events {
    void (*trouble)(void *arg, const struct hw_error *why); /* once an outage, not once a try */
    void (*agreed)(void *arg); /* the server said that the key holds the report, or took it */
    void *arg;
};

/* nats must outlive the reporter. bucket: of the reports. */
struct agent_reporter *agent_reporter_new(struct hw_nats *nats, const char *bucket,
                                          const char *node, int64_t poll_ms,
                                          const struct agent_reporter_events *events);
/* Call after hw_nats_close. NULL is fine. */
void agent_reporter_free(struct agent_reporter *reporter);

/* Takes report, which may be NULL: nothing to say. */
void agent_reporter_set(struct agent_reporter *reporter, json_t *report);

/* Compares with what the bucket holds now; call when connected again. It does so every poll_ms,
 * more or less, from then on. */
void agent_reporter_check(struct agent_reporter *reporter);

#endif
