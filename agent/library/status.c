#include "agent/library/status.h"

#include <stdio.h>
#include <string.h>

#include "agent/report.h"

_Static_assert((int)HEADWATER_AGENT_IDLE == (int)AGENT_IDLE &&
                   (int)HEADWATER_AGENT_VALIDATING == (int)AGENT_VALIDATING &&
                   (int)HEADWATER_AGENT_ROLLING_BACK == (int)AGENT_ROLLING_BACK,
               "phases are the same inside and outside");

static bool same_status(const struct headwater_agent_status *x,
                        const struct headwater_agent_status *y)
{
    return x->phase == y->phase && x->connected == y->connected && x->held == y->held &&
           x->drift == y->drift && x->unconfirmed == y->unconfirmed &&
           x->nothing_desired == y->nothing_desired && x->running == y->running &&
           x->desired == y->desired && x->failed == y->failed && x->connects == y->connects &&
           x->applies == y->applies && x->failures == y->failures && x->rollbacks == y->rollbacks &&
           x->heals == y->heals && strcmp(x->state, y->state) == 0 &&
           strcmp(x->failed_stage, y->failed_stage) == 0 &&
           strcmp(x->failed_error, y->failed_error) == 0 &&
           strcmp(x->nats_error, y->nats_error) == 0 && x->unread == y->unread &&
           strcmp(x->unread_error, y->unread_error) == 0 && strcmp(x->conflict, y->conflict) == 0 &&
           strcmp(x->running_digest, y->running_digest) == 0;
}

/* This is called after every change inside, and most of them do not show. The program is told
 * only of a status that differs from the last one. */
void library_status_update(void *arg)
{
    struct headwater_agent *a = arg;
    struct headwater_agent_status s = {0};
    struct agent_view view;
    const struct agent_state *const state = &view.state;

    if (a->core == NULL)
        return;
    agent_look(a->core, &view);
    s.phase = (enum headwater_agent_phase)view.phase;
    s.connected = view.connected;
    s.held = state->hold.set;
    s.drift = state->drift.set && !state->drift.healed;
    s.unconfirmed = state->unconfirmed;
    s.nothing_desired = state->nothing;
    s.running = -1;
    if (state->running.set) {
        s.running = state->running.revision;
        snprintf(s.running_digest, sizeof(s.running_digest), "%s",
                 hw_digest_format(&state->running.digest, (char[HW_DIGEST_STR_MAX]){0}));
    }
    s.desired = state->hold.waiting > 0 ? state->hold.waiting : state->desired_revision;
    if (state->fence.epoch > 0 || state->refused.set)
        snprintf(s.state, sizeof(s.state), "%s", agent_report_state(state));
    if (state->refused.set || state->failed.set) {
        snprintf(s.failed_stage, sizeof(s.failed_stage), "%s",
                 agent_stage_name(state->refused.set ? AGENT_STAGE_VERIFY : state->failed.stage));
        s.failed = state->refused.set ? 0 : state->failed.document.revision;
        agent_text_clean(s.failed_error, sizeof(s.failed_error),
                         state->refused.set ? state->refused.error : state->failed.error,
                         strlen(state->refused.set ? state->refused.error : state->failed.error));
    }
    s.connects = view.counts.connected;
    s.applies = view.counts.applied;
    s.failures = view.counts.failed;
    s.rollbacks = view.counts.gone_back;
    s.heals = view.counts.healed;
    agent_text_clean(s.nats_error, sizeof(s.nats_error), view.why_away, strlen(view.why_away));
    s.unread = view.unread;
    agent_text_clean(s.unread_error, sizeof(s.unread_error), view.why_unread,
                     strlen(view.why_unread));
    snprintf(s.conflict, sizeof(s.conflict), "%s", view.twin);
    pthread_mutex_lock(&a->lock);
    a->changed |= !same_status(&a->status, &s);
    a->status = s;
    pthread_mutex_unlock(&a->lock);
    library_wake(a);
}
