/*
 * Keeps the key cfg.reported.<node> equal to the node's report. It publishes a report that differs,
 * and tries again with growing delays until the server has acknowledged it. It looks whether the
 * report is still there after every reconnect, and now and then. Only the newest report counts; an
 * older one that was never sent is dropped.
 *
 * Two agents of one name would overwrite each other's report for ever. So a report is published
 * only on top of the entry that was seen last (the server refuses it otherwise), and what lies on
 * top of ours and is another instance's is a twin's. That is told, and from then on the twin's
 * report is overwritten only after a delay that grows. What the first look finds is no twin's: it
 * may be what this node reported before a restart.
 */
#ifndef HW_AGENT_REPORTER_H
#define HW_AGENT_REPORTER_H

#include "base/json.h"
#include "nats/connection.h"

struct agent_reporter;

struct agent_reporter_events {
    void (*trouble)(void *arg,
                    const struct hw_error *why); /* called once in an outage, not at each try */
    void (*agreed)(
        void *arg); /* the key holds the report: the server said so, or acknowledged it */
    /* The key holds the report of another instance, which wrote it after us; called at each look
     * that finds it. NULL: for a long time nobody did. */
    void (*twin)(void *arg, const char *instance);
    /* The key holds a report of our instance that we did not write: we are one of two copies of a
     * running machine. Draw another instance, and set the report anew. */
    void (*copied)(void *arg);
    void *arg;
};

/* nats must outlive the reporter. bucket: of the reports. */
struct agent_reporter *agent_reporter_new(struct hw_nats *nats, const char *bucket,
                                          const char *node, int64_t poll_ms,
                                          const struct agent_reporter_events *events);
/* Call after hw_nats_close. NULL is fine. */
void agent_reporter_free(struct agent_reporter *reporter);

/* Takes over the report, which is to be in the key from now on. NULL: there is nothing to say. */
void agent_reporter_set(struct agent_reporter *reporter, json_t *report);

/* Compares the report with the key; call it after a reconnect. From then on it does so about every
 * poll_ms. */
void agent_reporter_check(struct agent_reporter *reporter);

#endif
