/*
 * The public face, headwater_agent.h: the life of a handle, its threads, what the program wishes,
 * and the dispatching of what the agent has for the program.
 */
#include "agent/library/headwater_agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/library/call.h"
#include "agent/library/decision.h"
#include "agent/library/handle.h"
#include "agent/library/line.h"
#include "agent/library/options.h"
#include "agent/library/status.h"
#include "base/memory.h"
#include "common/version.h"

int headwater_agent_version(void)
{
    return HEADWATER_AGENT_VERSION;
}

const char *headwater_agent_version_text(void)
{
    return HW_VERSION;
}

const char *headwater_agent_phase_name(enum headwater_agent_phase phase)
{
    return agent_phase_name((enum agent_phase)phase);
}

/* ---- to the program ---- */

/* Everything is taken out under the lock in one go. Then the callbacks are called without it, in
 * this order: log, decisions, status, call. A call comes last because it may take long. */
int headwater_agent_dispatch(struct headwater_agent *a)
{
    struct headwater_agent_status status;
    struct library_decision *decisions;
    struct library_line *lines;
    struct library_call *call;
    size_t lost;
    uint64_t wakes;
    bool changed;
    int count = 0;

    if (read(a->fd, &wakes, sizeof(wakes)) < 0)
        return 0;
    pthread_mutex_lock(&a->lock);
    lines = HW_TAKE(a->lines);
    a->lines_end = &a->lines;
    a->line_count = 0;
    lost = a->lines_lost;
    a->lines_lost = 0;
    decisions = HW_TAKE(a->decisions);
    a->decisions_end = &a->decisions;
    changed = a->changed;
    a->changed = false;
    status = a->status;
    call = HW_TAKE(a->call);
    if (call != NULL) {
        a->out = call;
        a->pending = a->calling = true;
    }
    pthread_mutex_unlock(&a->lock);

    count += library_lines_give(a, lines, lost);
    count += library_decisions_give(a, decisions);
    if (changed && a->options.changed != NULL) {
        a->options.changed(a->options.arg, &status);
        count++;
    }
    if (call != NULL) {
        library_call_make(a, call);
        count++;
    }
    return count;
}

int headwater_agent_fd(const struct headwater_agent *a)
{
    return a->fd;
}

/* ---- threads ---- */

/* The library's own thread for callbacks. */
static void *call_back(void *arg)
{
    struct headwater_agent *a = arg;
    struct pollfd fds[] = {{.fd = a->fd, .events = POLLIN}, {.fd = a->quit_fd, .events = POLLIN}};

    while (fds[1].revents == 0) {
        if (poll(fds, HW_COUNT(fds), -1) < 0)
            continue;
        if (fds[1].revents == 0 && fds[0].revents != 0)
            headwater_agent_dispatch(a);
    }
    return NULL;
}

/* A thread without signals: they are the program's business. */
static int start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int headwater_agent_start_thread(struct headwater_agent *a)
{
    int rc;

    if (a->caller_runs) {
        errno = EALREADY;
        return -1;
    }
    rc = start_thread(&a->caller, call_back, a);
    a->caller_runs = rc == 0;
    errno = rc;
    return rc == 0 ? 0 : -1;
}

/* ---- wishes ---- */

static void do_retry(void *arg)
{
    struct headwater_agent *a = arg;

    agent_retry(a->core);
}

static void do_look_around(void *arg)
{
    struct headwater_agent *a = arg;

    agent_look_around(a->core);
}

void headwater_agent_retry(struct headwater_agent *a)
{
    hw_loop_post(a->loop, do_retry, a);
}

static int fail_with(char error[HEADWATER_AGENT_ERROR_MAX], const struct hw_error *err)
{
    if (error != NULL)
        snprintf(error, HEADWATER_AGENT_ERROR_MAX, "%s", err->message);
    return -1;
}

int headwater_agent_hold(struct headwater_agent *a, const char *reason,
                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct hw_error err;

    if (agent_hold_set(a->options.state_dir, reason != NULL ? reason : "", &err) != HW_OK)
        return fail_with(error, &err);
    hw_loop_post(a->loop, do_look_around, a);
    return 0;
}

int headwater_agent_release(struct headwater_agent *a, char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct hw_error err;

    if (agent_hold_end(a->options.state_dir, &err) != HW_OK)
        return fail_with(error, &err);
    hw_loop_post(a->loop, do_look_around, a);
    return 0;
}

int headwater_agent_propose(struct headwater_agent *a,
                            const struct headwater_agent_proposal *proposal,
                            char ref[HEADWATER_AGENT_REF_MAX],
                            char error[HEADWATER_AGENT_ERROR_MAX])
{
    char name[AGENT_REF_MAX];
    struct hw_error err;

    if (proposal->size < sizeof(*proposal)) {
        hw_fail(&err, HW_EINVAL, "proposal.size is %zu: headwater_agent_proposal_init() sets it",
                proposal->size);
        return fail_with(error, &err);
    }
    const struct agent_proposal p = {.config = proposal->config,
                                     .base_revision = proposal->base_revision,
                                     .data = proposal->data,
                                     .size = proposal->data_size,
                                     .media_type = proposal->media_type,
                                     .message = proposal->message};
    if (agent_proposal_put(a->options.state_dir, a->options.node, &p, name, &err) != HW_OK)
        return fail_with(error, &err);
    if (ref != NULL)
        memcpy(ref, name, sizeof(name));
    hw_loop_post(a->loop, do_look_around, a);
    return 0;
}

/* A program that was built with an older header has a shorter struct, and one with a newer
 * header a longer one. The part that both know is copied, and the rest is 0. */
void headwater_agent_get_status(struct headwater_agent *a, struct headwater_agent_status *status,
                                size_t size)
{
    struct headwater_agent_status now;

    pthread_mutex_lock(&a->lock);
    now = a->status;
    pthread_mutex_unlock(&a->lock);
    memset(status, 0, size);
    memcpy(status, &now, size < sizeof(now) ? size : sizeof(now));
}

/* ---- life ---- */

static void *run(void *arg)
{
    struct headwater_agent *a = arg;
    struct hw_error err;

    if (hw_loop_run(a->loop, &err) != HW_OK)
        library_line_add(a, HW_LOG_ERROR, "the agent has stopped", NULL, err.message);
    return NULL;
}

static void stop_loop(void *arg)
{
    hw_loop_stop(arg);
}

static enum hw_status start(struct headwater_agent *a, struct hw_error *err)
{
    const struct headwater_agent_options *const o = &a->options;
    const struct agent_hooks hooks = {.validates = o->validate != NULL,
                                      .applies = o->apply != NULL,
                                      .checks = o->health != NULL,
                                      .call = library_call_add,
                                      .told = library_line_add,
                                      .decided = o->decided != NULL ? library_decision_add : NULL,
                                      .changed = library_status_update,
                                      .arg = a};
    enum hw_status status;

    a->core_options = library_options_core(o);
    a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->fd < 0 || a->quit_fd < 0)
        return hw_fail_errno(err, "making an event descriptor");
    status = hw_loop_new(&a->loop, err);
    if (status == HW_OK)
        status = agent_open(a->loop, &a->core_options, &hooks, &a->core, err);
    if (status != HW_OK)
        return status;
    library_status_update(a);
    errno = start_thread(&a->thread, run, a);
    a->thread_runs = errno == 0;
    return errno == 0 ? HW_OK : hw_fail_errno(err, "starting a thread");
}

int headwater_agent_new(const struct headwater_agent_options *options, struct headwater_agent **out,
                        char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct headwater_agent *a;
    struct hw_error err;

    if (library_options_check(options, &err) != HW_OK)
        return fail_with(error, &err);
    a = hw_alloc(sizeof(*a));
    library_options_copy(&a->options, options);
    a->fd = a->quit_fd = -1;
    a->lines_end = &a->lines;
    a->decisions_end = &a->decisions;
    pthread_mutex_init(&a->lock, NULL);
    if (start(a, &err) != HW_OK) {
        headwater_agent_free(a);
        return fail_with(error, &err);
    }
    *out = a;
    return 0;
}

/* The threads end first, so that nothing below can be used any more. Lines that wait are still
 * given to the program: the last one often says why it had to end. */
void headwater_agent_free(struct headwater_agent *a)
{
    if (a == NULL)
        return;
    if (a->caller_runs) {
        if (write(a->quit_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0)
            abort(); /* an empty eventfd takes it */
        pthread_join(a->caller, NULL);
    }
    if (a->thread_runs) {
        hw_loop_stop(a->loop);
        hw_loop_post(a->loop, stop_loop, a->loop);
        pthread_join(a->thread, NULL);
    }
    agent_close(a->core);
    hw_loop_free(a->loop);
    library_lines_give(a, a->lines, 0);
    library_decisions_free(a->decisions); /* these are told again after a restart */
    library_decisions_free(a->known);
    library_call_free(a->call);
    library_call_free(a->out);
    if (a->fd >= 0)
        close(a->fd);
    if (a->quit_fd >= 0)
        close(a->quit_fd);
    pthread_mutex_destroy(&a->lock);
    library_options_clear(&a->options);
    free(a);
}
