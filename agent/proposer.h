/*
 * Sends the proposals that wait in the state directory, one after another, and hears what was
 * decided. The key cfg.proposed.<node> holds one proposal. It is written again after a reconnect
 * and now and then, until cfg.decided.<node> names it; then the next one follows. Without proposals
 * nothing is asked of NATS.
 */
#ifndef HW_AGENT_PROPOSER_H
#define HW_AGENT_PROPOSER_H

#include "agent/proposal.h"
#include "nats/connection.h"

struct agent_proposer;

struct agent_proposer_events {
    /* Called again, also after a restart, until agent_proposer_forget answers it. */
    void (*decided)(void *arg, const struct agent_decision *decision);
    void (*trouble)(void *arg, const char *what, const char *why); /* called once in an outage */
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

/* Looks within that time, because something may have been proposed. again: NATS was away, so what
 * was sent before may be lost. */
void agent_proposer_look(struct agent_proposer *proposer, int64_t within_ms, bool again);

/* The program knows the decision: it is told no more. */
void agent_proposer_forget(struct agent_proposer *proposer, const char *ref);

#endif
