#include "agent/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/backoff.h"

#define TRY_LIMIT_MS 300000 /* between attempts at one document */

/* ---- the hold ---- */

void agent_target_read_hold(struct agent *a)
{
    const struct agent_hold before = a->hold;

    agent_hold_read(a->options.state_dir, &a->hold);
    if (before.set == a->hold.set && strcmp(before.since, a->hold.since) == 0 &&
        strcmp(before.reason, a->hold.reason) == 0)
        return;
    agent_core_tell(a, HW_LOG_INFO, a->hold.set ? "held: new configuration waits" : "released",
                    NULL, a->hold.set ? a->hold.reason : NULL);
    if (!a->hold.set && a->target.set)
        agent_target_due_in(a, 0);
    agent_core_report(a);
}

bool agent_target_held(struct agent *a)
{
    agent_target_read_hold(a);
    return a->hold.set;
}

/* ---- when ---- */

/* Does the target come before going back? Not where it could not begin at all. */
static bool comes_first(struct agent *a)
{
    return a->stuck && a->target.set && a->untried && a->its_turn &&
           (hw_nats_up(a->nats) || agent_store_has(a->store, &a->target)) && !agent_target_held(a);
}

static void on_due(void *arg)
{
    struct agent *a = arg;

    if (a->phase != AGENT_IDLE)
        return;
    if (a->recover && !comes_first(a)) { /* a hold does not stop it */
        a->recovering = true;
        agent_core_take(a, AGENT_EVENT_RECOVER);
    } else if (a->target.set && !agent_target_held(a)) {
        a->its_turn = false;
        agent_core_take(a, AGENT_EVENT_BEGIN);
    }
}

void agent_target_due_in(struct agent *a, int64_t ms)
{
    hw_timer_start(a->loop, &a->due, ms, on_due, a);
}

void agent_target_due_later(struct agent *a)
{
    agent_target_due_in(a, hw_backoff_ms(++a->failures, TRY_LIMIT_MS));
}

void agent_target_keep_sources(struct agent *a)
{
    const struct agent_document *const running = &agent_core_state(a)->running;
    struct hw_error err;

    if (a->sources == NULL || !running->set || !hw_digest_equal(&running->digest, &a->sources_of))
        return;
    if (agent_store_put_sources(a->store, running, a->sources, &err) != HW_OK)
        agent_core_tell(a, HW_LOG_WARN, "cannot keep what the document is made of", running,
                        err.message);
    free(HW_TAKE(a->sources));
}

void agent_target_rest(struct agent *a)
{
    free(a->data);
    free(a->file);
    a->data = NULL;
    a->file = NULL;
    a->failure.set = false;
    agent_target_keep_sources(a);
    if (a->overlooked)
        agent_notice_soon(a->notice);
    a->overlooked = false;
    if (a->recover && !hw_timer_running(&a->due))
        agent_target_due_later(a);
    /* The connection may have come back between the attempt and now. */
    if (a->target.set && !hw_timer_running(&a->due) && hw_nats_up(a->nats))
        agent_target_due_in(a, 0);
}
