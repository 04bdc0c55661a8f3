#include "agent/library/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/library/shown.h"
#include "base/memory.h"

struct library_call {
    enum agent_phase phase;
    struct library_shown shown;
    char *file;
};

void library_call_add(void *arg, const struct agent_call *from)
{
    struct headwater_agent *a = arg;
    struct library_call *call = hw_alloc(sizeof(*call));

    call->phase = from->phase;
    library_shown_set(&call->shown, from->document);
    call->file = hw_strdup(from->file);
    call->shown.document.data = from->data;
    call->shown.document.file = call->file;
    call->shown.document.going_back = from->phase == AGENT_ROLLING_BACK;
    pthread_mutex_lock(&a->lock);
    a->call = call;
    pthread_mutex_unlock(&a->lock);
    library_wake(a);
}

void library_call_free(struct library_call *call)
{
    if (call == NULL)
        return;
    free(call->file);
    free(call);
}

/* On the agent's thread. */
static void take_answer(void *arg)
{
    struct headwater_agent *a = arg;
    enum headwater_agent_result result;
    char answer[HEADWATER_AGENT_ERROR_MAX];
    struct library_call *out;

    pthread_mutex_lock(&a->lock);
    result = a->result;
    memcpy(answer, a->answer, sizeof(answer));
    out = HW_TAKE(a->out);
    pthread_mutex_unlock(&a->lock);
    library_call_free(out);
    if (result != HEADWATER_AGENT_OK && answer[0] == '\0')
        snprintf(answer, sizeof(answer), "refused without a reason");
    agent_answer(a->core, result == HEADWATER_AGENT_OK ? NULL : answer,
                 result == HEADWATER_AGENT_UNAVAILABLE);
}

/* With the lock held. */
static void set_answer(struct headwater_agent *a, enum headwater_agent_result result,
                       const char *error)
{
    a->pending = false;
    a->result = result;
    agent_text_clean(a->answer, sizeof(a->answer), error, strlen(error));
}

void headwater_agent_finish(struct headwater_agent *a, enum headwater_agent_result result,
                            const char *error)
{
    pthread_mutex_lock(&a->lock);
    if (a->pending && result != HEADWATER_AGENT_PENDING) {
        set_answer(a, result, error != NULL ? error : "");
        /* The callback may still be reading its document; library_call_make goes on when it has
         * returned. */
        if (!a->calling)
            hw_loop_post(a->loop, take_answer, a);
    }
    pthread_mutex_unlock(&a->lock);
}

void library_call_make(struct headwater_agent *a, struct library_call *call)
{
    const struct headwater_agent_options *const o = &a->options;
    const struct headwater_agent_document *const document = library_shown_get(&call->shown);
    char error[HEADWATER_AGENT_ERROR_MAX] = "";
    enum headwater_agent_result result;

    switch (call->phase) {
    case AGENT_VALIDATING:
        result = o->validate(o->arg, document, error);
        break;
    case AGENT_CHECKING:
        result = o->health(o->arg, document, error);
        break;
    default:
        result = o->apply(o->arg, document, error);
        break;
    }
    error[sizeof(error) - 1] = '\0';
    pthread_mutex_lock(&a->lock);
    a->calling = false;
    if (result != HEADWATER_AGENT_PENDING)
        set_answer(a, result, error);
    if (!a->pending) /* headwater_agent_finish may have come before the callback returned */
        hw_loop_post(a->loop, take_answer, a);
    pthread_mutex_unlock(&a->lock);
}
