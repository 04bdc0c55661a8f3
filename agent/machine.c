/*
 * The machine of one agent: the table of its phases, and its life.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/attempt.h"
#include "agent/confirmation.h"
#include "agent/connection.h"
#include "agent/core.h"
#include "agent/drift.h"
#include "agent/instance.h"
#include "agent/recovery.h"
#include "agent/rollback.h"
#include "agent/target.h"
#include "agent/trust.h"
#include "base/memory.h"

static const struct agent_transition transitions[] = {
    {AGENT_IDLE, AGENT_EVENT_BEGIN, AGENT_FETCHING, agent_attempt_fetch,
     "its time has come: getting the bytes"},
    {AGENT_IDLE, AGENT_EVENT_RECOVER, AGENT_ROLLING_BACK, agent_rollback_begin,
     "the node is not as it was left: back to what is good"},
    {AGENT_IDLE, AGENT_EVENT_TAKE_BACK, AGENT_ROLLING_BACK, agent_rollback_begin,
     "NATS was not reached since it was applied: back to what ran before"},
    {AGENT_FETCHING, AGENT_EVENT_DONE, AGENT_VERIFYING, agent_attempt_verify, "the bytes are here"},
    {AGENT_FETCHING, AGENT_EVENT_POSTPONED, AGENT_IDLE, agent_target_rest,
     "NATS is away: nothing to report"},
    {AGENT_FETCHING, AGENT_EVENT_FAILED, AGENT_IDLE, agent_attempt_conclude, "nothing was touched"},
    {AGENT_VERIFYING, AGENT_EVENT_DONE, AGENT_VALIDATING, agent_attempt_validate,
     "the bytes are those that are desired"},
    {AGENT_VERIFYING, AGENT_EVENT_FAILED, AGENT_IDLE, agent_attempt_conclude,
     "the bytes are not those that are desired"},
    {AGENT_VALIDATING, AGENT_EVENT_DONE, AGENT_APPLYING, agent_attempt_apply,
     "the node may use it"},
    {AGENT_VALIDATING, AGENT_EVENT_FAILED, AGENT_IDLE, agent_attempt_conclude,
     "it was refused before anything was touched"},
    {AGENT_APPLYING, AGENT_EVENT_POSTPONED, AGENT_IDLE, agent_target_rest,
     "held meanwhile: nothing was touched"},
    {AGENT_APPLYING, AGENT_EVENT_DONE, AGENT_CHECKING, agent_attempt_check,
     "it is in use: is the node well?"},
    {AGENT_APPLYING, AGENT_EVENT_FAILED, AGENT_ROLLING_BACK, agent_rollback_begin,
     "the node goes on with the last known good"},
    {AGENT_CHECKING, AGENT_EVENT_DONE, AGENT_IDLE, agent_attempt_settle,
     "it runs, and the disk says so"},
    {AGENT_CHECKING, AGENT_EVENT_FAILED, AGENT_ROLLING_BACK, agent_rollback_begin,
     "the node is not well: back to the last known good"},
    {AGENT_ROLLING_BACK, AGENT_EVENT_DONE, AGENT_IDLE, agent_attempt_conclude,
     "the last known good runs again"},
    {AGENT_ROLLING_BACK, AGENT_EVENT_FAILED, AGENT_IDLE, agent_attempt_conclude,
     "not even the last known good could be brought back"},
};

/* ---- what the owner says ---- */

void agent_answer(struct agent *a, const char *error, bool again)
{
    switch (a->phase) {
    case AGENT_VALIDATING:
    case AGENT_APPLYING:
    case AGENT_CHECKING:
        agent_attempt_answered(a, error, again);
        break;
    case AGENT_ROLLING_BACK:
        agent_rollback_answered(a, error, again);
        break;
    default:
        break;
    }
}

void agent_forget(struct agent *a, const char *ref)
{
    agent_proposer_forget(a->proposer, ref);
}

void agent_retry(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);

    agent_trust_reload(a);
    agent_connection_reload(a);
    next.trial.attempts = 0;
    agent_core_save_or_tell(a, &next);
    a->retry = true;
    a->failures = 0;
    if (a->phase == AGENT_IDLE && agent_state_running_failed(&next))
        a->recover = a->touched = true;
    if (a->recover || a->target.set)
        agent_target_due_in(a, 0);
    agent_watch_look(a->watch, 0);
}

/* ---- opening and closing ---- */

static void read_boot_id(struct agent *a)
{
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, a->boot_id, 36) : 0;

    if (n != 36)
        strcpy(a->boot_id, "unknown");
    if (fd >= 0)
        close(fd);
}

/* A damaged state is set aside, and the agent starts as on its first day: NATS says what is
 * desired, and the output says what is there. */
static enum hw_status open_store(struct agent *a, struct hw_error *err)
{
    enum hw_status status = agent_store_open(a->options.state_dir, &a->store, err);
    struct hw_error why;

    if (status != HW_OK)
        return status;
    status = agent_store_load(a->store, a->options.node, &why);
    if (status == HW_ECORRUPT)
        agent_core_tell(a, HW_LOG_WARN, "the state is damaged; starting without it", NULL,
                        why.message);
    else if (status != HW_OK)
        return hw_fail(err, status, "%s", why.message);
    return HW_OK;
}

/* It is no error: it may be mended, and the node goes on. */
static void tell_of_output(struct agent *a)
{
    const char *const oddity = agent_output_oddity(&a->options.output);

    if (oddity != NULL)
        agent_core_tell(a, HW_LOG_WARN, oddity, NULL, a->output);
}

enum hw_status agent_open(struct hw_loop *loop, const struct agent_options *options,
                          const struct agent_hooks *hooks, struct agent **out, struct hw_error *err)
{
    struct agent *a = hw_alloc(sizeof(*a));
    enum hw_status status;

    a->loop = loop;
    a->options = *options;
    a->hooks = *hooks;
    a->transitions = transitions;
    a->transition_count = HW_COUNT(transitions);
    a->output = agent_output_path(&options->output);
    read_boot_id(a);
    agent_instance_draw(a->instance);
    status = open_store(a, err);
    if (status == HW_OK)
        status = agent_trust_open(a, err);
    if (status == HW_OK)
        status = agent_proposals_open(options->state_dir, err);
    if (status == HW_OK)
        status = agent_connection_open(a, err);
    if (status != HW_OK) {
        agent_close(a);
        return status;
    }
    tell_of_output(a);
    agent_drift_watch(a);
    agent_recovery_begin(a);
    agent_core_report(a);
    agent_confirmation_await(a);
    agent_connection_join(a);
    *out = a;
    return HW_OK;
}

void agent_close(struct agent *a)
{
    if (a == NULL)
        return;
    hw_timer_stop(&a->step);
    hw_timer_stop(&a->due);
    hw_timer_stop(&a->confirm);
    agent_notice_free(a->notice);
    agent_connection_close(a);
    agent_store_close(a->store);
    hw_trust_free(a->trust);
    free(a->output);
    free(a->sources);
    free(a->file);
    free(a->data);
    free(a);
}
