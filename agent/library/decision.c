#include "agent/library/decision.h"

#include <stdlib.h>

#include "base/memory.h"

struct library_decision {
    struct agent_decision of;
    struct library_decision *next;
};

_Static_assert(HEADWATER_AGENT_REF_MAX == AGENT_REF_MAX, "names are of one length");

void library_decision_add(void *arg, const struct agent_decision *of)
{
    struct headwater_agent *a = arg;
    struct library_decision *decision = hw_alloc(sizeof(*decision));

    decision->of = *of;
    pthread_mutex_lock(&a->lock);
    *a->decisions_end = decision;
    a->decisions_end = &decision->next;
    pthread_mutex_unlock(&a->lock);
    library_wake(a);
}

void library_decisions_free(struct library_decision *decisions)
{
    while (decisions != NULL) {
        struct library_decision *const next = decisions->next;

        free(decisions);
        decisions = next;
    }
}

/* On the agent's thread. */
static void forget_known(void *arg)
{
    struct headwater_agent *a = arg;
    struct library_decision *known;

    pthread_mutex_lock(&a->lock);
    known = HW_TAKE(a->known);
    pthread_mutex_unlock(&a->lock);
    for (const struct library_decision *d = known; d != NULL; d = d->next)
        agent_forget(a->core, d->of.ref);
    library_decisions_free(known);
}

static void give(struct headwater_agent *a, struct library_decision *decision)
{
    const struct headwater_agent_decision shown = {.ref = decision->of.ref,
                                                   .config = decision->of.config,
                                                   .state = decision->of.state,
                                                   .reason = decision->of.reason,
                                                   .revision = decision->of.revision};

    a->options.decided(a->options.arg, &shown);
    pthread_mutex_lock(&a->lock);
    decision->next = a->known;
    a->known = decision;
    pthread_mutex_unlock(&a->lock);
    hw_loop_post(a->loop, forget_known, a);
}

int library_decisions_give(struct headwater_agent *a, struct library_decision *decisions)
{
    int count = 0;

    while (decisions != NULL) {
        struct library_decision *const next = decisions->next;

        give(a, decisions);
        decisions = next;
        count++;
    }
    return count;
}
