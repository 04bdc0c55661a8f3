#include "agent/drift.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/target.h"
#include "base/file.h"
#include "base/memory.h"

#define HEAL_PAUSE_MS 5000 /* between two healings: the other writer may not give up either */

void agent_drift_look(struct agent *a)
{
    const struct agent_document *const running = &agent_core_state(a)->running;
    const char *const what = a->output != NULL && access(a->output, F_OK) != 0 && errno == ENOENT
                                 ? "the output is missing"
                                 : "the output has other content than what runs";
    int64_t pause;

    if (!running->set || agent_output_is(&a->options.output, running)) {
        if (a->drift.set && !a->drift.healed) {
            a->drift.set = false;
            agent_core_tell(a, HW_LOG_INFO, "the output is again what runs", NULL, NULL);
            agent_core_report(a);
        }
        return;
    }
    if (!a->drift.set || a->drift.healed || strcmp(a->drift.error, what) != 0) {
        a->drift.set = true;
        a->drift.healed = false;
        agent_time_now(a->drift.at);
        snprintf(a->drift.error, sizeof(a->drift.error), "%s", what);
        agent_core_tell(a, HW_LOG_WARN, "drift", running, what);
        agent_core_report(a);
    }
    if (!a->options.heal || a->hold.set)
        return;
    pause = a->healed_at > 0 ? a->healed_at + HEAL_PAUSE_MS - hw_loop_now() : 0;
    a->recover = true;
    agent_core_pause(a);
    agent_target_due_in(a, pause > 0 ? pause : 0);
}

/* During an attempt the output differs from the state because the agent itself is changing it.
 * The look is made up for when the agent rests. */
static void look_around(void *arg)
{
    struct agent *a = arg;

    agent_target_read_hold(a);
    agent_proposer_look(a->proposer, 0, false);
    if (a->phase == AGENT_IDLE && !a->recover)
        agent_drift_look(a);
    else
        a->overlooked = true;
}

void agent_look_around(struct agent *a)
{
    agent_notice_soon(a->notice);
}

void agent_drift_watch(struct agent *a)
{
    const struct agent_output *const output = &a->options.output;
    HW_AUTO_FREE char *proposals = hw_sprintf("%s/proposals", a->options.state_dir);

    /* Agents that share a connection are many, and a user may have 128 inotify instances
     * (fs.inotify.max_user_instances): they look now and then only. */
    a->notice =
        agent_notice_new(a->loop, a->options.poll_ms, a->options.nats == NULL, look_around, a);
    agent_notice_add(a->notice, a->options.state_dir, "hold");
    agent_notice_add(a->notice, proposals, NULL);
    if (output->file != NULL) {
        const char *const slash = strrchr(output->file, '/');
        HW_AUTO_FREE char *dir = hw_file_parent(output->file);

        agent_notice_add(a->notice, dir, slash != NULL ? slash + 1 : output->file);
    } else if (output->dir != NULL) {
        agent_notice_add(a->notice, output->dir, NULL);
    }
}
