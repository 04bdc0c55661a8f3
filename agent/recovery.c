#include "agent/recovery.h"

#include "agent/attempt.h"
#include "agent/drift.h"
#include "agent/target.h"

void agent_recovery_begin(struct agent *a)
{
    const struct agent_state *const state = agent_core_state(a);

    agent_hold_read(a->options.state_dir, &a->hold);
    if (state->trial.open) {
        agent_core_tell(a, HW_LOG_WARN, "was stopped in the midst of applying; going back", NULL,
                        NULL);
        a->recover = a->touched = true;
    } else if (state->running.set) {
        agent_drift_look(a);
        if (!a->drift.set) {
            agent_core_tell(a, HW_LOG_INFO, "runs already", &state->running, NULL);
            agent_core_keep_copy(a);
        }
        if (agent_state_running_failed(state) || (a->hooks.applies && a->output == NULL))
            a->recover = a->touched = true;
    }
    /* A restart is a reason to try again what failed, unless it failed by stopping the agent. */
    a->retry = state->failed.set && state->trial.attempts < AGENT_ATTEMPTS_MAX;
    agent_core_pause(a);
    if (a->recover)
        agent_target_due_in(a, 0);
}
