/*
 * The public face, headwater_agent.h: the agent on a loop and a thread of its own, and what it has
 * for the program on a list that the program's thread works off.
 */
#include "agent/headwater_agent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/report.h"
#include "common/memory.h"
#include "common/version.h"
#include "nats/kv.h"

#define LINES_MAX                                                                                  \
    1000 /* of the log that wait for the program; later ones are counted, not kept                 \
          */
#define POLL_MS      300000
#define HEARTBEAT_MS 30000
#define KEEP         5

/* A document as the program sees it, with the texts that it points to. */
struct shown {
    struct headwater_agent_document document;
    char digest[HW_DIGEST_STR_MAX];
    char lsn[24];
    char media_type[AGENT_MEDIA_TYPE_MAX];
};

struct line {
    enum headwater_agent_level level;
    char *message, *detail; /* detail may be NULL */
    bool has_about;
    struct shown about;
    struct line *next;
};

struct decision {
    struct agent_decision of;
    struct decision *next;
};

/* A call of the agent's that waits for its answer. */
struct call {
    enum agent_phase phase;
    struct shown shown;
    char *file;
};

struct headwater_agent {
    struct headwater_agent_options options; /* strings are ours */
    struct agent_options core_options;
    struct agent *core; /* of the agent's thread, as is the loop */
    struct hw_loop *loop;
    pthread_t thread;
    bool thread_runs;

    pthread_t caller; /* runs the callbacks, if the program wants that */
    bool caller_runs;
    int fd;      /* an eventfd: there is something to dispatch */
    int quit_fd; /* an eventfd: the caller's thread is to end */

    pthread_mutex_t lock; /* guards what follows */
    struct line *lines, **lines_end;
    size_t line_count, lines_lost;
    struct decision *decisions, **decisions_end;
    struct decision *known; /* to the program: to be forgotten */
    bool changed;
    struct headwater_agent_status status;
    struct call *call; /* to be made */
    bool pending;      /* one was made and is not answered */
    bool calling;      /* its callback has not come back */
    char answer[HEADWATER_AGENT_ERROR_MAX];
    enum headwater_agent_result result;
    struct call *out; /* the call that is out: its texts must live */
};

_Static_assert((int)HEADWATER_AGENT_IDLE == (int)AGENT_IDLE &&
                   (int)HEADWATER_AGENT_VALIDATING == (int)AGENT_VALIDATING &&
                   (int)HEADWATER_AGENT_ROLLING_BACK == (int)AGENT_ROLLING_BACK,
               "phases are the same inside and outside");
_Static_assert(HEADWATER_AGENT_REF_MAX == AGENT_REF_MAX, "names are of one length");
_Static_assert((int)HEADWATER_AGENT_LOG_ERROR == (int)HW_LOG_ERROR &&
                   (int)HEADWATER_AGENT_LOG_DEBUG == (int)HW_LOG_DEBUG,
               "levels are the same inside and outside");

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

/* ---- from the agent's thread to the program's ---- */

static void wake(const struct headwater_agent *a)
{
    const uint64_t one = 1;

    /* EAGAIN means that the counter is full, so it is readable anyway. */
    if (write(a->fd, &one, sizeof(one)) < 0)
        return;
}

static void show(const struct agent_document *document, struct shown *out)
{
    hw_digest_format(&document->digest, out->digest);
    snprintf(out->lsn, sizeof(out->lsn), "%s", HW_LSN(document->fence.lsn));
    snprintf(out->media_type, sizeof(out->media_type), "%s", document->media_type);
    out->document = (struct headwater_agent_document){
        .revision = document->revision, .epoch = document->fence.epoch, .size = document->size};
}

/* The texts of a document that has found its place. */
static const struct headwater_agent_document *point(struct shown *shown)
{
    shown->document.digest = shown->digest;
    shown->document.lsn = shown->lsn;
    shown->document.media_type = shown->media_type;
    return &shown->document;
}

static void on_told(void *arg, enum hw_log_level level, const char *what,
                    const struct agent_document *document, const char *detail)
{
    struct headwater_agent *a = arg;
    struct line *line;

    if (a->options.log == NULL || (int)level > (int)a->options.log_level)
        return;
    line = hw_alloc(sizeof(*line));
    line->level = (enum headwater_agent_level)level;
    line->message = hw_strdup(what);
    line->detail = detail != NULL ? hw_strdup(detail) : NULL;
    line->has_about = document != NULL && document->set;
    if (line->has_about)
        show(document, &line->about);
    pthread_mutex_lock(&a->lock);
    if (a->line_count < LINES_MAX) {
        *a->lines_end = line;
        a->lines_end = &line->next;
        a->line_count++;
        line = NULL;
    } else {
        a->lines_lost++;
    }
    pthread_mutex_unlock(&a->lock);
    if (line != NULL) {
        free(line->message);
        free(line->detail);
        free(line);
    }
    wake(a);
}

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
           strcmp(x->nats_error, y->nats_error) == 0 &&
           strcmp(x->running_digest, y->running_digest) == 0;
}

static void on_changed(void *arg)
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
    pthread_mutex_lock(&a->lock);
    a->changed |= !same_status(&a->status, &s);
    a->status = s;
    pthread_mutex_unlock(&a->lock);
    wake(a);
}

static void on_decided(void *arg, const struct agent_decision *of)
{
    struct headwater_agent *a = arg;
    struct decision *decision = hw_alloc(sizeof(*decision));

    decision->of = *of;
    pthread_mutex_lock(&a->lock);
    *a->decisions_end = decision;
    a->decisions_end = &decision->next;
    pthread_mutex_unlock(&a->lock);
    wake(a);
}

static void on_call(void *arg, const struct agent_call *from)
{
    struct headwater_agent *a = arg;
    struct call *call = hw_alloc(sizeof(*call));

    call->phase = from->phase;
    show(from->document, &call->shown);
    call->file = hw_strdup(from->file);
    call->shown.document.data = from->data;
    call->shown.document.file = call->file;
    call->shown.document.going_back = from->phase == AGENT_ROLLING_BACK;
    pthread_mutex_lock(&a->lock);
    a->call = call;
    pthread_mutex_unlock(&a->lock);
    wake(a);
}

/* ---- and back ---- */

static void free_call(struct call *call)
{
    if (call == NULL)
        return;
    free(call->file);
    free(call);
}

static void take_answer(void *arg)
{
    struct headwater_agent *a = arg;
    enum headwater_agent_result result;
    char answer[HEADWATER_AGENT_ERROR_MAX];
    struct call *out;

    pthread_mutex_lock(&a->lock);
    result = a->result;
    memcpy(answer, a->answer, sizeof(answer));
    out = HW_TAKE(a->out);
    pthread_mutex_unlock(&a->lock);
    free_call(out);
    if (result != HEADWATER_AGENT_OK && answer[0] == '\0')
        snprintf(answer, sizeof(answer), "refused without a reason");
    agent_answer(a->core, result == HEADWATER_AGENT_OK ? NULL : answer,
                 result == HEADWATER_AGENT_UNAVAILABLE);
}

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
        /* The callback may still be reading its document; make_call goes on when it is back. */
        if (!a->calling)
            hw_loop_post(a->loop, take_answer, a);
    }
    pthread_mutex_unlock(&a->lock);
}

static void free_decisions(struct decision *decisions)
{
    while (decisions != NULL) {
        struct decision *const next = decisions->next;

        free(decisions);
        decisions = next;
    }
}

static void forget_known(void *arg)
{
    struct headwater_agent *a = arg;
    struct decision *known;

    pthread_mutex_lock(&a->lock);
    known = HW_TAKE(a->known);
    pthread_mutex_unlock(&a->lock);
    for (const struct decision *d = known; d != NULL; d = d->next)
        agent_forget(a->core, d->of.ref);
    free_decisions(known);
}

static void tell_decision(struct headwater_agent *a, struct decision *decision)
{
    const struct headwater_agent_decision shown = {.ref = decision->of.ref,
                                                   .config = decision->of.config,
                                                   .state = decision->of.state,
                                                   .reason = decision->of.reason,
                                                   .revision = decision->of.revision};

    a->options.decided(a->options.arg, &shown);
    pthread_mutex_lock(&a->lock);
    decision->next = a->known;
    a->known = decision;
    pthread_mutex_unlock(&a->lock);
    hw_loop_post(a->loop, forget_known, a);
}

static void make_call(struct headwater_agent *a, struct call *call)
{
    const struct headwater_agent_options *const o = &a->options;
    const struct headwater_agent_document *const document = point(&call->shown);
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
    if (!a->pending) /* or answered before the callback was back */
        hw_loop_post(a->loop, take_answer, a);
    pthread_mutex_unlock(&a->lock);
}

static void write_line(struct headwater_agent *a, struct line *line)
{
    a->options.log(a->options.arg, line->level, line->message,
                   line->has_about ? point(&line->about) : NULL, line->detail);
    free(line->message);
    free(line->detail);
    free(line);
}

int headwater_agent_dispatch(struct headwater_agent *a)
{
    struct headwater_agent_status status;
    struct decision *decisions;
    struct line *lines;
    struct call *call;
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

    while (lines != NULL) {
        struct line *const next = lines->next;

        write_line(a, lines);
        lines = next;
        count++;
    }
    if (lost > 0) {
        char text[64];

        snprintf(text, sizeof(text), "%zu lines were not kept", lost);
        a->options.log(a->options.arg, HEADWATER_AGENT_LOG_WARN, text, NULL, NULL);
        count++;
    }
    while (decisions != NULL) {
        struct decision *const next = decisions->next;

        tell_decision(a, decisions);
        decisions = next;
        count++;
    }
    if (changed && a->options.changed != NULL) {
        a->options.changed(a->options.arg, &status);
        count++;
    }
    if (call != NULL) {
        make_call(a, call);
        count++;
    }
    return count;
}

int headwater_agent_fd(const struct headwater_agent *a)
{
    return a->fd;
}

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

static enum hw_status check_options(const struct headwater_agent_options *o, struct hw_error *err)
{
    if (o->size < offsetof(struct headwater_agent_options, arg) + sizeof(o->arg))
        return hw_fail(err, HW_EINVAL,
                       "options.size is %zu: headwater_agent_options_init() sets it", o->size);
    if (o->node == NULL || !hw_kv_name_valid(o->node))
        return hw_fail(err, HW_EINVAL,
                       "node: \"%s\" is not a node name: at most %d letters, digits, - and _, in "
                       "parts joined by single dots",
                       o->node != NULL ? o->node : "", HW_NAME_MOST);
    if (o->bucket != NULL && (!hw_kv_key_valid(o->bucket) || strchr(o->bucket, '.') != NULL))
        return hw_fail(err, HW_EINVAL,
                       "bucket: \"%s\" is not a bucket name: letters, digits, - "
                       "and _",
                       o->bucket);
    if (o->size > offsetof(struct headwater_agent_options, nats_prefix) && o->nats_prefix != NULL &&
        !hw_kv_key_valid(o->nats_prefix))
        return hw_fail(err, HW_EINVAL, "nats_prefix: \"%s\" is not the beginning of a subject",
                       o->nats_prefix);
    if (o->state_dir == NULL || o->state_dir[0] == '\0')
        return hw_fail(err, HW_EINVAL, "state_dir is required");
    if (o->output != NULL && o->output_dir != NULL)
        return hw_fail(err, HW_EINVAL, "output and output_dir: only one of them can be had");
    if (o->output == NULL && o->output_dir == NULL && o->apply == NULL)
        return hw_fail(err, HW_EINVAL,
                       "an output, an output_dir or apply is needed: nothing would "
                       "get the configuration");
    if (o->poll_ms < 0 || o->splay_ms < 0 || o->confirm_within_ms < 0)
        return hw_fail(err, HW_EINVAL, "times must not be negative");
    if ((o->mode & ~(mode_t)0777) != 0)
        return hw_fail(err, HW_EINVAL, "mode %o: must be at most 0777", (unsigned)o->mode);
    return HW_OK;
}

static const char *copy(const char *text, const char *preset)
{
    return text == NULL && preset == NULL ? NULL : hw_strdup(text != NULL ? text : preset);
}

static void *run(void *arg)
{
    struct headwater_agent *a = arg;
    struct hw_error err;

    if (hw_loop_run(a->loop, &err) != HW_OK)
        on_told(a, HW_LOG_ERROR, "the agent has stopped", NULL, err.message);
    return NULL;
}

static void stop_loop(void *arg)
{
    hw_loop_stop(arg);
}

static int64_t heartbeat_of(const struct headwater_agent_options *o)
{
    if (o->heartbeat_ms < 0)
        return 0;
    return o->heartbeat_ms > 0 ? o->heartbeat_ms : HEARTBEAT_MS;
}

static enum hw_status start(struct headwater_agent *a, struct hw_error *err)
{
    const struct headwater_agent_options *const o = &a->options;
    const struct agent_hooks hooks = {.validates = o->validate != NULL,
                                      .applies = o->apply != NULL,
                                      .checks = o->health != NULL,
                                      .call = on_call,
                                      .told = on_told,
                                      .decided = o->decided != NULL ? on_decided : NULL,
                                      .changed = on_changed,
                                      .arg = a};
    enum hw_status status;

    a->core_options = (struct agent_options){.url = o->nats_url,
                                             .nats_files = {.ca = o->nats_ca,
                                                            .cert = o->nats_cert,
                                                            .key = o->nats_key,
                                                            .creds = o->nats_creds,
                                                            .nkey = o->nats_nkey},
                                             .node = o->node,
                                             .bucket = o->bucket,
                                             .state_dir = o->state_dir,
                                             .trust = o->trust,
                                             .nats_prefix = o->nats_prefix,
                                             .output = {.file = o->output,
                                                        .dir = o->output_dir,
                                                        .keep = o->keep > 0 ? o->keep : KEEP,
                                                        .mode = o->mode != 0 ? o->mode : 0644,
                                                        .owner = o->owner,
                                                        .group = o->group},
                                             .poll_ms = o->poll_ms > 0 ? o->poll_ms : POLL_MS,
                                             .splay_ms = o->splay_ms,
                                             .confirm_ms = o->confirm_within_ms,
                                             .heartbeat_ms = heartbeat_of(o),
                                             .heal = !o->report_drift_only};
    a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->fd < 0 || a->quit_fd < 0)
        return hw_fail_errno(err, "making an event descriptor");
    status = hw_loop_new(&a->loop, err);
    if (status == HW_OK)
        status = agent_open(a->loop, &a->core_options, &hooks, &a->core, err);
    if (status != HW_OK)
        return status;
    on_changed(a);
    errno = start_thread(&a->thread, run, a);
    a->thread_runs = errno == 0;
    return errno == 0 ? HW_OK : hw_fail_errno(err, "starting a thread");
}

int headwater_agent_new(const struct headwater_agent_options *options, struct headwater_agent **out,
                        char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct headwater_agent *a;
    struct hw_error err;

    if (check_options(options, &err) != HW_OK)
        return fail_with(error, &err);
    a = hw_alloc(sizeof(*a));
    memcpy(&a->options, options,
           options->size < sizeof(a->options) ? options->size : sizeof(a->options));
    a->options.nats_url = copy(options->nats_url, "nats://127.0.0.1:4222");
    a->options.node = copy(options->node, NULL);
    a->options.bucket = copy(options->bucket, "headwater");
    a->options.state_dir = copy(options->state_dir, NULL);
    a->options.output = copy(options->output, NULL);
    a->options.output_dir = copy(options->output_dir, NULL);
    a->options.nats_ca = copy(a->options.nats_ca, NULL);
    a->options.nats_cert = copy(a->options.nats_cert, NULL);
    a->options.nats_key = copy(a->options.nats_key, NULL);
    a->options.nats_creds = copy(a->options.nats_creds, NULL);
    a->options.nats_nkey = copy(a->options.nats_nkey, NULL);
    a->options.trust = copy(a->options.trust, NULL);
    a->options.nats_prefix = copy(a->options.nats_prefix, NULL);
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

static void free_text(const char *text)
{
    free((void *)(uintptr_t)text);
}

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
    while (a->lines != NULL) {
        struct line *const next = a->lines->next;

        if (a->options.log != NULL)
            write_line(a, a->lines);
        a->lines = next;
    }
    free_decisions(a->decisions); /* these come again */
    free_decisions(a->known);
    free_call(a->call);
    free_call(a->out);
    if (a->fd >= 0)
        close(a->fd);
    if (a->quit_fd >= 0)
        close(a->quit_fd);
    pthread_mutex_destroy(&a->lock);
    free_text(a->options.nats_url);
    free_text(a->options.nats_ca);
    free_text(a->options.nats_cert);
    free_text(a->options.nats_key);
    free_text(a->options.nats_creds);
    free_text(a->options.nats_nkey);
    free_text(a->options.trust);
    free_text(a->options.nats_prefix);
    free_text(a->options.node);
    free_text(a->options.bucket);
    free_text(a->options.state_dir);
    free_text(a->options.output);
    free_text(a->options.output_dir);
    free(a);
}
