#include "agent/rollback.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/points.h"

/* What ran is lost: the output has other bytes, and the copy of it is damaged. The state forgets
 * it, and the desired entry is read again, so that it is fetched anew. */
static void forget_lost(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);
    struct hw_error err;

    if (next.running.set)
        next.running.set = false;
    else
        next.previous.set = false;
    if (!agent_core_save(a, &next, &err))
        agent_core_note(a, AGENT_STAGE_APPLY, "%s", err.message);
    a->retry = true;
    agent_watch_look(a->watch, 0);
}

/* Loads its bytes from the copy, or from the output if that still has them. */
static enum hw_status load(struct agent *a, const struct agent_document *good, struct hw_error *err)
{
    HW_AUTO_FREE char *bytes = NULL;
    struct agent_document found;
    enum hw_status status = agent_store_get(a->store, good, &bytes, err);

    if ((status == HW_ENOENT || status == HW_ECORRUPT) &&
        agent_output_read(&a->options.output, &found, &bytes, NULL) == HW_OK &&
        hw_digest_equal(&found.digest, &good->digest))
        status = HW_OK;
    if (status != HW_OK)
        return status;
    free(a->data);
    a->data = (unsigned char *)HW_TAKE(bytes);
    return HW_OK;
}

void agent_rollback_begin(struct agent *a)
{
    const struct agent_state *const state = agent_core_state(a);
    const struct agent_document *const good = &a->good;
    struct hw_error err;
    enum hw_status status = HW_OK;
    bool in_place;

    a->stuck = false;
    a->went_back = true;
    a->good = state->running.set ? state->running : state->previous;
    in_place = good->set && agent_output_is(&a->options.output, good);
    if (!good->set && state->trial.open) {
        status = agent_output_remove(&a->options.output, &err);
    } else if (good->set && (!in_place || (a->touched && a->hooks.applies))) {
        status = load(a, good, &err);
        if (status == HW_ENOENT || status == HW_ECORRUPT) {
            agent_core_note(a, AGENT_STAGE_APPLY, "the last known good is lost: %s", err.message);
            forget_lost(a);
            agent_core_schedule(a, AGENT_EVENT_FAILED);
            return;
        }
        if (status == HW_OK && !in_place) {
            status = agent_output_put(&a->options.output, good, a->data, &err);
            a->touched = true;
        }
    }
    /* The bytes may be in place because a killed agent put them there, and not yet be on the
     * disk. */
    if (status == HW_OK && state->trial.open)
        status = agent_output_sync(&a->options.output, &err);
    HW_POINT("rolling-back");
    if (status != HW_OK) {
        agent_core_note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s",
                        (long long)good->revision, err.message);
        a->stuck = true;
        agent_core_schedule(a, AGENT_EVENT_FAILED);
    } else if (good->set && a->touched && a->hooks.applies) {
        agent_core_call(a, good, agent_core_path(a, good));
    } else {
        agent_core_schedule(a, AGENT_EVENT_DONE);
    }
}

void agent_rollback_answered(struct agent *a, const char *error, bool again)
{
    const bool well = error == NULL || error[0] == '\0';

    if (!well)
        agent_core_note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s",
                        (long long)a->good.revision, error);
    a->stuck = !well && again;
    agent_core_schedule(a, well ? AGENT_EVENT_DONE : AGENT_EVENT_FAILED);
}
