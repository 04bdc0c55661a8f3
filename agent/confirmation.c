#include "agent/confirmation.h"

void agent_confirmation_reached(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);

    if (!hw_timer_running(&a->confirm))
        return;
    hw_timer_stop(&a->confirm);
    next.unconfirmed = false;
    agent_core_save_or_tell(a, &next);
    agent_core_tell(a, HW_LOG_INFO, "confirmed: NATS was reached", &next.running, NULL);
    agent_core_changed(a);
}

/* Time is up. The document is to blame until NATS was reached while it ran. */
/* The state says "taken back" on disk before the node is touched. A crash in between is an open
 * trial, which the next start brings to its end. */
static void on_time_up(void *arg)
{
    struct agent *a = arg;
    struct agent_state next = *agent_core_state(a);

    if (a->phase != AGENT_IDLE || a->recover) {
        agent_confirmation_await(a);
        return;
    }
    /* A newer document that waits is read again when NATS is back. */
    a->target = next.running;
    a->again = false;
    a->touched = true;
    agent_core_note(a, AGENT_STAGE_HEALTH, "NATS was not reached within %g s of applying it",
                    (double)a->options.confirm_ms / 1000);
    /* Revision 0 is a file that was there before the agent: it is gone back to, but it is not
     * reported as what runs. */
    if (next.previous.revision > 0) {
        next.running = next.previous;
        next.previous.set = false;
    } else {
        next.running.set = false;
    }
    next.unconfirmed = false;
    next.failed = a->failure;
    next.trial.fence = a->target.fence;
    next.trial.attempts = 0;
    next.trial.open = true;
    if (!agent_core_save_or_tell(a, &next)) {
        a->target.set = a->failure.set = a->touched = false;
        agent_confirmation_await(a);
        return;
    }
    agent_core_tell(a, HW_LOG_WARN, "not confirmed", &a->target, a->failure.error);
    agent_core_take(a, AGENT_EVENT_TAKE_BACK);
}

void agent_confirmation_await(struct agent *a)
{
    if (agent_core_state(a)->unconfirmed && a->options.confirm_ms > 0)
        hw_timer_start(a->loop, &a->confirm, a->options.confirm_ms, on_time_up, a);
    else
        hw_timer_stop(&a->confirm);
}
