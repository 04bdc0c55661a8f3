#include "agent/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/report.h"
#include "base/memory.h"
#include "common/unlisted.h"

/* ---- telling ---- */

void agent_core_tell(struct agent *a, enum hw_log_level level, const char *what,
                     const struct agent_document *document, const char *detail)
{
    if (a->hooks.told != NULL)
        a->hooks.told(a->hooks.arg, level, what, document, detail);
}

void agent_core_changed(struct agent *a)
{
    if (a->hooks.changed != NULL)
        a->hooks.changed(a->hooks.arg);
}

/* ---- the state ---- */

const struct agent_state *agent_core_state(const struct agent *a)
{
    return agent_store_state(a->store);
}

bool agent_core_save(struct agent *a, const struct agent_state *next, struct hw_error *err)
{
    if (agent_store_save(a->store, next, err) != HW_OK)
        return false;
    a->unsaved.set = false;
    return true;
}

bool agent_core_save_or_tell(struct agent *a, const struct agent_state *next)
{
    struct hw_error err;

    if (agent_core_save(a, next, &err))
        return true;
    agent_core_tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
    return false;
}

/* A failure that the disk did not take is shown and reported all the same. It is kept in memory
 * until the disk takes a state again. */
void agent_look(const struct agent *a, struct agent_view *view)
{
    struct agent_state *const state = &view->state;

    view->phase = a->phase;
    view->why_unread = a->watch != NULL ? agent_watch_stuck(a->watch) : "";
    view->unread = a->watch != NULL ? agent_watch_failed(a->watch) : 0;
    view->counts = a->counts;
    view->connected = a->nats != NULL && hw_nats_up(a->nats);
    view->twin = a->twin;
    view->why_away = a->nats != NULL ? hw_nats_why_away(a->nats) : "";
    *state = *agent_core_state(a);
    if (a->unsaved.set) {
        state->failed = a->unsaved;
        if (hw_fence_compare(state->fence, a->unsaved.document.fence) < 0) {
            state->fence = a->unsaved.document.fence;
            state->desired_revision = a->unsaved.document.revision;
        }
    }
    state->hold = a->hold;
    state->hold.waiting = a->hold.set && a->target.set ? a->target.revision : 0;
    state->drift = a->drift;
}

void agent_core_report(struct agent *a)
{
    struct agent_view view;

    agent_look(a, &view);
    agent_reporter_set(a->reporter, agent_report_build(&view.state, a->options.node, a->boot_id,
                                                       a->instance, a->options.heartbeat_ms));
    agent_core_changed(a);
}

void agent_core_keep_copy(struct agent *a)
{
    const struct agent_document *running = &agent_core_state(a)->running;
    HW_AUTO_FREE char *copy = NULL;
    HW_AUTO_FREE char *bytes = NULL;
    struct agent_document found;
    struct hw_error err;
    enum hw_status status;

    if (agent_store_get(a->store, running, &copy, NULL) == HW_OK)
        return;
    status = agent_output_read(&a->options.output, &found, &bytes, &err);
    if (status == HW_OK && hw_digest_equal(&found.digest, &running->digest))
        status = agent_store_put(a->store, running, bytes, &err);
    if (status != HW_OK)
        agent_core_tell(a, HW_LOG_WARN, "cannot keep a copy of what runs", running, err.message);
}

/* ---- moving ---- */

const char *agent_phase_name(enum agent_phase phase)
{
    static const char *const names[] = {
        [AGENT_IDLE] = "idle",
        [AGENT_FETCHING] = "fetching",
        [AGENT_VERIFYING] = "verifying",
        [AGENT_VALIDATING] = "validating",
        [AGENT_APPLYING] = "applying",
        [AGENT_CHECKING] = "checking",
        [AGENT_ROLLING_BACK] = "rolling back",
    };

    return (size_t)phase < HW_COUNT(names) ? names[phase] : "unknown";
}

static const char *event_name(enum agent_event event)
{
    static const char *const names[] = {
        [AGENT_EVENT_BEGIN] = "begin",     [AGENT_EVENT_DONE] = "done",
        [AGENT_EVENT_FAILED] = "failed",   [AGENT_EVENT_POSTPONED] = "postponed",
        [AGENT_EVENT_RECOVER] = "recover", [AGENT_EVENT_TAKE_BACK] = "take-back",
    };

    return names[event];
}

static void tell_unlisted(void *arg, const char *message, const char *detail)
{
    agent_core_tell(arg, HW_LOG_WARN, message, NULL, detail);
}

void agent_core_take(struct agent *a, enum agent_event event)
{
    for (size_t i = 0; i < a->transition_count; i++) {
        const struct agent_transition *t = &a->transitions[i];

        if (t->from == a->phase && t->event == event) {
            agent_core_tell(a, HW_LOG_DEBUG, t->comment, a->target.set ? &a->target : NULL, NULL);
            a->phase = t->to;
            if (a->phase != AGENT_IDLE)
                agent_core_changed(a);
            t->action(a);
            if (a->phase == AGENT_IDLE)
                agent_core_changed(a);
            agent_core_pause(a);
            return;
        }
    }
    hw_unlisted_event_tell("agent", agent_phase_name(a->phase), event_name(event), tell_unlisted,
                           a);
}

void agent_core_pause(struct agent *a)
{
    agent_watch_pause(a->watch, a->phase != AGENT_IDLE || (a->recover && !a->stuck));
}

static void on_step(void *arg)
{
    struct agent *a = arg;

    agent_core_take(a, a->next);
}

void agent_core_schedule(struct agent *a, enum agent_event event)
{
    a->next = event;
    hw_timer_start(a->loop, &a->step, 0, on_step, a);
}

void agent_core_note(struct agent *a, enum agent_stage stage, const char *fmt, ...)
{
    struct agent_failure *f = &a->failure;
    char text[AGENT_ERROR_MAX];
    size_t used = 0;
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (!f->set) {
        *f = (struct agent_failure){.set = true, .stage = stage};
        f->document = a->recovering ? agent_core_state(a)->running : a->target;
        agent_time_now(f->at);
    } else {
        used = strnlen(f->error, sizeof(f->error) - 3);
        memcpy(f->error + used, "; ", 3);
        used += 2;
    }
    agent_text_clean(f->error + used, sizeof(f->error) - used, text, strlen(text));
}

void agent_core_fail(struct agent *a, enum agent_stage stage, bool again, const char *text)
{
    agent_core_note(a, stage, "%s", text);
    a->again = again;
    agent_core_schedule(a, AGENT_EVENT_FAILED);
}

/* The owner may answer within this call; the answer then schedules an event, and nothing here
 * runs after it. */
void agent_core_call(struct agent *a, const struct agent_document *document, char *file)
{
    free(a->file);
    a->file = file;
    a->hooks.call(a->hooks.arg,
                  &(struct agent_call){
                      .phase = a->phase, .document = document, .data = a->data, .file = a->file});
}

char *agent_core_path(const struct agent *a, const struct agent_document *document)
{
    return a->output != NULL ? hw_strdup(a->output) : agent_store_path(a->store, document);
}
