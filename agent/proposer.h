/*
 * Sends the proposals that wait in the state directory, one after another, and hears what became of
 * them. The key cfg.proposed.<node> holds one proposal: it is put there again, after a reconnect
 * and now and then, until cfg.decided.<node> names it; then the next one is. Without proposals it
 * asks NATS nothing.
 */
#ifndef HW_AGENT_PROPOSER_H
#define HW_AGENT_PROPOSER_H

#include "agent/proposal.h"
#include "nats/connection.h"

struct agent_proposer;

struct agent_proposer_events {
    /* To be answered with agent_proposer_forget, also after a restart: until then it may come
     * again. */
    void (*decided)(void *arg, const struct agent_decision *decision);
    void (*trouble)(void *arg, const char *what, const char *why); /* once an outage */
    void *arg;
};

struct agent_proposer_config {
    struct hw_nats *nats; /* must outlive the proposer */
    const char *bucket;   /* the reports bucket is <bucket>_reports */
    const char *node;
    const char *state_dir;
    int64_t poll_ms;
};

/* The strings are borrowed. */
enum hw_status agent_proposer_start(const struct agent_proposer_config *config,
                                    const struct agent_proposer_events *events,
                                    struct agent_proposer **proposer,
                                    struct hw_error *err) HW_CHECKED;
/* Call after hw_nats_close. NULL is fine. */
void agent_proposer_free(struct agent_proposer *proposer);

/* Looks, soon: something may have been proposed. again: NATS was away, so nothing of what was sent
 * is taken for granted. */
void agent_proposer_look(struct agent_proposer *proposer, int64_t within_ms, bool again);

/* The program knows of the decision. */
void agent_proposer_forget(struct agent_proposer *proposer, const char *ref);

#endif
