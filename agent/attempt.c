#include "agent/attempt.h"

#include <string.h>

#include "agent/confirmation.h"
#include "agent/target.h"
#include "base/memory.h"
#include "base/points.h"
#include "nats/objstore.h"

/* So many timeouts in a row are taken for an outage, which is not reported as a failure. */
#define QUIET_FAILURES 3

/* ---- fetching and verifying ---- */

static void fail_to_fetch(struct agent *a, enum hw_status status, const char *why)
{
    switch (status) {
    case HW_EUNAVAIL:
    case HW_ETIMEOUT:
        /* Even while the connection stands, the server may be on its way up or down. */
        if (!hw_nats_up(a->nats) || a->failures < QUIET_FAILURES) {
            agent_core_tell(a, HW_LOG_WARN, "cannot fetch; trying again", &a->target, why);
            agent_target_due_later(a);
            agent_core_schedule(a, AGENT_EVENT_POSTPONED);
            break;
        }
        agent_core_fail(a, AGENT_STAGE_FETCH, true, why);
        break;
    case HW_ECORRUPT:
    case HW_ELIMIT:
        agent_core_fail(a, AGENT_STAGE_VERIFY, true, why);
        break;
    default:
        agent_core_fail(a, AGENT_STAGE_FETCH, true, why);
        break;
    }
}

void agent_attempt_fetch(struct agent *a)
{
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_error err;
    enum hw_status status;
    char *copy;

    if (agent_store_get(a->store, &a->target, &copy, NULL) == HW_OK) {
        a->data = (unsigned char *)copy;
        a->got = a->target;
        agent_core_schedule(a, AGENT_EVENT_DONE);
        return;
    }
    if (!hw_nats_up(a->nats)) {
        agent_core_schedule(a, AGENT_EVENT_POSTPONED);
        return;
    }
    status = hw_obj_get(a->nats, a->options.bucket, hw_digest_hex(&a->target.digest, hex),
                        AGENT_DOCUMENT_MAX, &a->data, &a->got.size, &a->got.digest, &err);
    if (status != HW_OK) {
        fail_to_fetch(a, status, err.message);
        return;
    }
    HW_POINT("fetched");
    agent_core_schedule(a, AGENT_EVENT_DONE);
}

void agent_attempt_verify(struct agent *a)
{
    char desired[HW_DIGEST_STR_MAX];
    char got[HW_DIGEST_STR_MAX];

    if (a->got.size == a->target.size && hw_digest_equal(&a->got.digest, &a->target.digest)) {
        agent_core_schedule(a, AGENT_EVENT_DONE);
        return;
    }
    agent_core_note(a, AGENT_STAGE_VERIFY,
                    "the object has %zu bytes and digest %s, not %zu bytes and %s", a->got.size,
                    hw_digest_format(&a->got.digest, got), a->target.size,
                    hw_digest_format(&a->target.digest, desired));
    a->again = true; /* the reconciler may write the object again */
    agent_core_schedule(a, AGENT_EVENT_FAILED);
}

/* ---- validating ---- */

void agent_attempt_validate(struct agent *a)
{
    struct hw_error err;

    if (agent_store_put(a->store, &a->target, a->data, &err) != HW_OK) {
        agent_core_fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else if (!a->hooks.validates) {
        agent_core_schedule(a, AGENT_EVENT_DONE);
    } else {
        HW_POINT("validating");
        agent_core_call(a, &a->target, agent_store_path(a->store, &a->target));
    }
}

/* ---- applying ---- */

/* Before a document of ours was ever in place, a file that is there already is what a rollback
 * must bring back: it is kept as the previous document. */
static enum hw_status keep_found(struct agent *a, struct agent_state *next, struct hw_error *err)
{
    struct agent_document found;
    HW_AUTO_FREE char *bytes = NULL;
    enum hw_status status;

    if (next->running.set || next->previous.set)
        return HW_OK;
    status = agent_output_read(&a->options.output, &found, &bytes, err);
    if (status == HW_ENOENT)
        return HW_OK;
    if (status == HW_OK)
        status = agent_store_put(a->store, &found, bytes, err);
    if (status == HW_OK)
        next->previous = found;
    return status;
}

/* Writes down that the node is about to be touched. From now on a start cannot take the output
 * alone for the truth, nor what it finds there for someone else's work. */
static enum hw_status open_trial(struct agent *a, struct agent_state *next, struct hw_error *err)
{
    if (hw_fence_compare(next->trial.fence, a->target.fence) != 0)
        next->trial.attempts = 0;
    else if (next->trial.open)
        next->trial.attempts--; /* it was counted when it was opened */
    next->trial.fence = a->target.fence;
    next->trial.attempts++;
    next->trial.open = true;
    return agent_store_save(a->store, next, err);
}

void agent_attempt_apply(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);
    struct hw_error err;
    enum hw_status status;

    if (agent_target_held(a)) {
        agent_core_schedule(a, AGENT_EVENT_POSTPONED);
        return;
    }
    if (next.trial.attempts >= AGENT_ATTEMPTS_MAX &&
        hw_fence_compare(next.trial.fence, a->target.fence) == 0) {
        agent_core_fail(a, AGENT_STAGE_APPLY, false,
                        "the agent was stopped in the midst of applying this, again and again");
        return;
    }
    if (next.running.set && !agent_store_has(a->store, &next.running))
        agent_core_keep_copy(a);
    a->untried = false;
    status = keep_found(a, &next, &err);
    if (status == HW_OK)
        status = open_trial(a, &next, &err);
    if (status == HW_OK)
        status = agent_output_put(&a->options.output, &a->target, a->data, &err);
    HW_POINT("applying");
    if (status != HW_OK) {
        agent_core_fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else if (!a->hooks.applies) {
        a->touched = a->hooks.checks;
        agent_core_schedule(a, AGENT_EVENT_DONE);
    } else {
        a->touched = true;
        agent_core_call(a, &a->target, agent_core_path(a, &a->target));
    }
}

/* ---- checking ---- */

void agent_attempt_check(struct agent *a)
{
    HW_POINT("checking");
    if (a->hooks.checks)
        agent_core_call(a, &a->target, agent_core_path(a, &a->target));
    else
        agent_attempt_answered(a, NULL, false);
}

/* This write is the one moment at which a document becomes the running one. */
static bool record_running(struct agent *a, struct hw_error *err)
{
    struct agent_state next = *agent_core_state(a);

    /* A document that was never confirmed is nothing to go back to. */
    if (next.running.set && !(next.unconfirmed && a->options.confirm_ms > 0))
        next.previous = next.running;
    next.unconfirmed = a->options.confirm_ms > 0 && next.previous.set;
    next.running = a->target;
    next.nothing = false;
    agent_time_now(next.running.applied_at);
    next.fence = a->target.fence;
    next.desired_revision = a->target.revision;
    next.failed.set = false;
    next.refused.set = false;
    next.trial.open = false;
    next.trial.attempts = 0;
    return agent_core_save(a, &next, err);
}

void agent_attempt_answered(struct agent *a, const char *error, bool again)
{
    const bool well = error == NULL || error[0] == '\0';
    struct hw_error err;

    if (!well) {
        agent_core_fail(a,
                        a->phase == AGENT_VALIDATING ? AGENT_STAGE_VALIDATE
                        : a->phase == AGENT_CHECKING ? AGENT_STAGE_HEALTH
                                                     : AGENT_STAGE_APPLY,
                        again, error);
        return;
    }
    if (a->phase == AGENT_CHECKING) {
        if (!record_running(a, &err)) {
            agent_core_fail(a, AGENT_STAGE_APPLY, true, err.message);
            return;
        }
        HW_POINT("recorded");
    }
    agent_core_schedule(a, AGENT_EVENT_DONE);
}

/* ---- the end ---- */

void agent_attempt_settle(struct agent *a)
{
    agent_core_tell(a, HW_LOG_INFO, "applied", &agent_core_state(a)->running, NULL);
    a->counts.applied++;
    a->target.set = false;
    a->failures = 0;
    a->touched = a->recover = a->stuck = false;
    a->drift.set = false;
    agent_store_sweep(a->store);
    agent_output_sweep(&a->options.output);
    agent_core_report(a);
    agent_confirmation_await(a);
    agent_target_rest(a);
}

static bool same_failure(const struct agent_failure *a, const struct agent_failure *b)
{
    return a->set && b->set && a->stage == b->stage &&
           hw_digest_equal(&a->document.digest, &b->document.digest) &&
           hw_fence_compare(a->document.fence, b->document.fence) == 0 &&
           strcmp(a->error, b->error) == 0;
}

/* What the state says after it; the log is told of a failure that it does not know yet. */
static void conclude_state(struct agent *a, struct agent_state *next)
{
    static const char *const words[] = {
        [AGENT_STAGE_FETCH] = "cannot fetch",
        [AGENT_STAGE_VERIFY] = "refused",
        [AGENT_STAGE_VALIDATE] = "refused by the node's own check",
        [AGENT_STAGE_APPLY] = "cannot apply",
        [AGENT_STAGE_HEALTH] = "not well after applying",
    };
    const bool failed = a->failure.set, recovered = a->recovering;
    const bool owed = a->recover && !a->went_back; /* the recovery is as it was before */

    if (a->unsaved.set)
        next->failed = a->unsaved;
    /* A recovery ends an interrupted attempt, which counts. A failure that the agent has seen
     * itself sets the count to 0. */
    if (next->trial.open && !recovered && !owed)
        next->trial.attempts = 0;
    next->trial.open = next->trial.open && (a->stuck || owed);
    if (failed && !recovered) {
        next->fence = a->target.fence;
        next->desired_revision = a->target.revision;
        next->refused.set = false;
    }
    if (failed && !same_failure(&next->failed, &a->failure)) {
        agent_core_tell(a, HW_LOG_WARN, words[a->failure.stage], &a->failure.document,
                        a->failure.error);
        /* The failure of what is desired stays on record. That the way back failed as well stands
         * in its text. */
        if (!recovered || !next->failed.set || agent_state_running_failed(next))
            next->failed = a->failure;
    } else if (!failed && (agent_state_running_failed(next) || next->desired_revision == 0)) {
        next->failed.set = false;
    }
    if (!failed)
        agent_core_tell(a, HW_LOG_INFO, "brought back", &next->running, NULL);
}

void agent_attempt_conclude(struct agent *a)
{
    const bool failed = a->failure.set, recovered = a->recovering;
    struct agent_state next = *agent_core_state(a);
    struct hw_error err;

    a->counts.failed += failed ? 1 : 0;
    a->counts.gone_back += a->went_back ? 1 : 0;
    conclude_state(a, &next);
    if (recovered && !failed && a->drift.set && !a->drift.healed) {
        a->drift.healed = true;
        a->counts.healed++;
        a->healed_at = hw_loop_now();
    }
    if (!agent_core_save(a, &next, &err)) {
        if (!a->unsaved.set)
            agent_core_tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
        a->unsaved = next.failed;
    }
    if (failed && !recovered && !a->again)
        a->target.set = false;

    /* A document that was refused before the node was touched leaves a recovery owed. */
    if (a->went_back)
        a->recover = a->stuck;
    a->its_turn = recovered;
    a->went_back = a->recovering = false;
    if (!a->recover)
        a->touched = a->stuck = false;
    if (a->recover || (failed && a->target.set && !recovered))
        agent_target_due_later(a);
    else if (a->target.set)
        agent_target_due_in(a, 0);
    else
        a->failures = 0;
    agent_store_sweep(a->store);
    agent_core_report(a);
    agent_target_rest(a);
}
