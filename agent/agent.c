#include "agent/agent.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/backoff.h"
#include "agent/desired.h"
#include "agent/output.h"
#include "agent/report.h"
#include "agent/reporter.h"
#include "agent/state.h"
#include "agent/watch.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/objstore.h"

#define TRY_LIMIT_MS 300000 /* between tries of one document */
#define SAVE_RETRY_MS                                                                              \
    20000                /* mean time until a state that the disk did not take is tried again      \
                          */
#define QUIET_FAILURES 3 /* timeouts in a row that are taken for an outage, not reported */
#define ATTEMPTS_MAX   3 /* interrupted ones, before a document is given up */

enum phase { IDLE, FETCHING, VERIFYING, APPLYING, ROLLING_BACK };
enum event { BEGIN, DONE, FAILED, AWAY, RECOVER };

struct agent {
    struct hw_loop *loop;
    struct agent_options options;
    struct agent_hooks hooks;
    struct hw_nats *nats;
    struct agent_store *store;
    struct agent_watch *watch;
    struct agent_reporter *reporter;
    char boot_id[40];

    enum phase phase;
    struct hw_timer step; /* the next event, in a turn of the loop of its own */
    enum event next;

    struct agent_document target; /* the newest accepted document that is not settled yet */
    struct hw_timer due;          /* when to try it */
    int failures;                 /* of tries in a row */
    unsigned char *data;          /* its bytes, between fetching and applying, */
    struct agent_document got;    /* with the size and digest that they have */

    /* Of the present try. */
    struct agent_failure failure;
    bool again;   /* the failure may pass by itself: the target is kept */
    bool stuck;   /* going back failed, and that may pass by itself */
    bool touched; /* the hook was called, or the file changed: it must run for what is good */

    bool recover; /* before anything else, the node must be brought back to what is good */
    bool retry;   /* what failed before counts as new, once */
    struct agent_failure unsaved; /* a failure that the disk did not take: reported all the same */

    bool check_report;       /* after the next look: does NATS still hold the report? */
    uint64_t complained_seq; /* entry that was complained of already */
};

/* ---- telling ---- */

static void tell(struct agent *a, enum hw_log_level level, const char *what,
                 const struct agent_document *document, const char *detail)
{
    if (a->hooks.told != NULL)
        a->hooks.told(a->hooks.arg, level, what, document, detail);
}

static const struct agent_state *state_of(const struct agent *a)
{
    return agent_store_state(a->store);
}

static void report(struct agent *a)
{
    struct agent_state view = *state_of(a);

    if (a->unsaved.set) {
        view.failed = a->unsaved;
        if (hw_fence_compare(view.fence, a->unsaved.document.fence) < 0) {
            view.fence = a->unsaved.document.fence;
            view.desired_revision = a->unsaved.document.revision;
        }
    }
    agent_reporter_set(a->reporter, agent_report_build(&view, a->options.node, a->boot_id));
}

static void on_report_trouble(void *arg, const struct hw_error *why)
{
    tell(arg, HW_LOG_WARN, "cannot report; trying again until it works", NULL, why->message);
}

static void on_reported(void *arg, uint64_t seq)
{
    (void)seq;
    tell(arg, HW_LOG_DEBUG, "reported", NULL, NULL);
}

/* ---- the machine ---- */

static void fetch(struct agent *a);
static void verify(struct agent *a);
static void apply(struct agent *a);
static void go_back(struct agent *a);
static void settle(struct agent *a);
static void conclude(struct agent *a);
static void rest(struct agent *a);

static const struct transition {
    enum phase from;
    enum event event;
    enum phase to;
    void (*action)(struct agent *a);
    const char *comment;
} transitions[] = {
    {IDLE, BEGIN, FETCHING, fetch, "its time has come: getting the bytes"},
    {IDLE, RECOVER, ROLLING_BACK, go_back, "the node is not as it was left: back to what is good"},
    {FETCHING, DONE, VERIFYING, verify, "the bytes are here"},
    {FETCHING, AWAY, IDLE, rest, "NATS is away: nothing to report"},
    {FETCHING, FAILED, IDLE, conclude, "nothing was touched"},
    {VERIFYING, DONE, APPLYING, apply, "the bytes are those that are desired"},
    {VERIFYING, FAILED, IDLE, conclude, "the bytes are not those that are desired"},
    {APPLYING, DONE, IDLE, settle, "it runs, and the disk says so"},
    {APPLYING, FAILED, ROLLING_BACK, go_back, "the node goes on with the last known good"},
    {ROLLING_BACK, DONE, IDLE, conclude, "the last known good runs again"},
    {ROLLING_BACK, FAILED, IDLE, conclude, "not even the last known good could be brought back"},
};

static void happen(struct agent *a, enum event event)
{
    for (size_t i = 0; i < HW_COUNT(transitions); i++) {
        const struct transition *t = &transitions[i];

        if (t->from == a->phase && t->event == event) {
            tell(a, HW_LOG_DEBUG, t->comment, a->target.set ? &a->target : NULL, NULL);
            a->phase = t->to;
            t->action(a);
            agent_watch_hold(a->watch, a->phase != IDLE || a->recover);
            return;
        }
    }
    abort(); /* an event that the table does not know is a mistake in this file */
}

static void on_step(void *arg)
{
    struct agent *a = arg;

    happen(a, a->next);
}

/* Every event gets a turn of the loop of its own, so that a signal never waits for more than one
 * call to the server. */
static void then(struct agent *a, enum event event)
{
    a->next = event;
    hw_timer_start(a->loop, &a->step, 0, on_step, a);
}

/* ---- failures ---- */

/* Notes what went wrong in this try. The stage of the first failure counts; later ones (of going
 * back) are added to its text. */
static void note(struct agent *a, enum agent_stage stage, const char *fmt, ...) HW_PRINTF(3, 4);

static void note(struct agent *a, enum agent_stage stage, const char *fmt, ...)
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
        f->document = a->recover ? state_of(a)->running : a->target;
        agent_time_now(f->at);
    } else {
        used = strnlen(f->error, sizeof(f->error) - 3);
        memcpy(f->error + used, "; ", 3);
        used += 2;
    }
    agent_text_clean(f->error + used, sizeof(f->error) - used, text, strlen(text));
}

static void fail(struct agent *a, enum agent_stage stage, bool again, const char *text)
{
    note(a, stage, "%s", text);
    a->again = again;
    then(a, FAILED);
}

static bool same_failure(const struct agent_failure *a, const struct agent_failure *b)
{
    return a->set && b->set && a->stage == b->stage &&
           hw_digest_equal(&a->document.digest, &b->document.digest) &&
           hw_fence_compare(a->document.fence, b->document.fence) == 0 &&
           strcmp(a->error, b->error) == 0;
}

static bool save(struct agent *a, const struct agent_state *next, struct hw_error *err)
{
    if (agent_store_save(a->store, next, err) != HW_OK)
        return false;
    a->unsaved.set = false;
    return true;
}

/* ---- the target ---- */

static void on_due(void *arg)
{
    struct agent *a = arg;

    if (a->phase != IDLE)
        return;
    if (a->recover)
        happen(a, RECOVER);
    else if (a->target.set)
        happen(a, BEGIN);
}

static void due_in(struct agent *a, int64_t ms)
{
    hw_timer_start(a->loop, &a->due, ms, on_due, a);
}

static void due_later(struct agent *a)
{
    due_in(a, agent_backoff_ms(++a->failures, TRY_LIMIT_MS));
}

static void rest(struct agent *a)
{
    free(a->data);
    a->data = NULL;
    a->failure.set = false;
    /* The connection may have come back between the try and now. */
    if (a->target.set && !hw_timer_running(&a->due) && hw_nats_up(a->nats))
        due_in(a, 0);
}

/* ---- fetching and verifying ---- */

static void fetch(struct agent *a)
{
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_error err;
    enum hw_status status;
    char *copy;

    if (agent_store_get(a->store, &a->target, &copy, NULL) == HW_OK) {
        a->data = (unsigned char *)copy;
        a->got = a->target;
        then(a, DONE);
        return;
    }
    if (!hw_nats_up(a->nats)) {
        then(a, AWAY);
        return;
    }
    status = hw_obj_get(a->nats, a->options.bucket, hw_digest_hex(&a->target.digest, hex),
                        AGENT_DOCUMENT_MAX, &a->data, &a->got.size, &a->got.digest, &err);
    switch (status) {
    case HW_OK:
        then(a, DONE);
        break;
    case HW_EUNAVAIL:
    case HW_ETIMEOUT:
        /* While the connection stands this may still be a server on its way up or down. */
        if (!hw_nats_up(a->nats) || a->failures < QUIET_FAILURES) {
            tell(a, HW_LOG_WARN, "cannot fetch; trying again", &a->target, err.message);
            due_later(a);
            then(a, AWAY);
            break;
        }
        fail(a, AGENT_STAGE_FETCH, true, err.message);
        break;
    case HW_ECORRUPT:
    case HW_ELIMIT:
        fail(a, AGENT_STAGE_VERIFY, true, err.message);
        break;
    default:
        fail(a, AGENT_STAGE_FETCH, true, err.message);
        break;
    }
}

static void verify(struct agent *a)
{
    char desired[HW_DIGEST_STR_MAX];
    char got[HW_DIGEST_STR_MAX];

    if (a->got.size == a->target.size && hw_digest_equal(&a->got.digest, &a->target.digest)) {
        then(a, DONE);
        return;
    }
    note(a, AGENT_STAGE_VERIFY, "the object has %zu bytes and digest %s, not %zu bytes and %s",
         a->got.size, hw_digest_format(&a->got.digest, got), a->target.size,
         hw_digest_format(&a->target.digest, desired));
    a->again = true; /* the object may be healed */
    then(a, FAILED);
}

/* ---- applying ---- */

/* Before anything of ours was ever in place: a file that is there already is what to go back to. */
static enum hw_status keep_found(struct agent *a, struct agent_state *next, struct hw_error *err)
{
    struct agent_document found;
    HW_AUTO_FREE char *bytes = NULL;
    enum hw_status status;

    if (next->running.set || next->previous.set)
        return HW_OK;
    status = agent_output_read(a->options.output, &found, &bytes, err);
    if (status == HW_ENOENT)
        return HW_OK;
    if (status == HW_OK)
        status = agent_store_put(a->store, &found, bytes, err);
    if (status == HW_OK)
        next->previous = found;
    return status;
}

/* Writes down that the hook is about to be called: from now on a start cannot take the file alone
 * for the truth. */
static enum hw_status open_trial(struct agent *a, struct agent_state *next, struct hw_error *err)
{
    if (hw_fence_compare(next->trial.fence, a->target.fence) != 0)
        next->trial.attempts = 0;
    next->trial.fence = a->target.fence;
    next->trial.attempts += next->trial.open ? 0 : 1;
    next->trial.open = true;
    return agent_store_save(a->store, next, err);
}

static void apply(struct agent *a)
{
    struct agent_state next = *state_of(a);
    struct hw_error err;
    enum hw_status status;

    if (next.trial.attempts >= ATTEMPTS_MAX &&
        hw_fence_compare(next.trial.fence, a->target.fence) == 0) {
        fail(a, AGENT_STAGE_APPLY, false,
             "the agent was stopped in the midst of applying this, again and again");
        return;
    }
    status = agent_store_put(a->store, &a->target, a->data, &err);
    if (status == HW_OK)
        status = keep_found(a, &next, &err);
    /* Without a hook the file is the whole truth, once there is something to compare it with. */
    if (status == HW_OK && (a->hooks.apply != NULL || !next.running.set))
        status = open_trial(a, &next, &err);
    if (status == HW_OK)
        status = hw_file_replace(a->options.output, a->data, a->target.size, a->options.mode, &err);
    free(a->data);
    a->data = NULL;
    if (status != HW_OK) {
        fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else if (a->hooks.apply == NULL) {
        agent_applied(a, NULL, false);
    } else {
        a->touched = true;
        a->hooks.apply(a->hooks.arg, &a->target);
    }
}

/* The one moment at which a document becomes the running one. */
static bool record_running(struct agent *a, struct hw_error *err)
{
    struct agent_state next = *state_of(a);

    next.previous = next.running;
    next.running = a->target;
    agent_time_now(next.running.applied_at);
    next.fence = a->target.fence;
    next.desired_revision = a->target.revision;
    next.failed.set = false;
    next.refused.set = false;
    next.trial.open = false;
    next.trial.attempts = 0;
    return save(a, &next, err);
}

void agent_applied(struct agent *a, const char *error, bool again)
{
    const bool ok = error == NULL || error[0] == '\0';
    struct hw_error err;

    if (a->phase == ROLLING_BACK) {
        if (!ok)
            note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s",
                 (long long)state_of(a)->running.revision, error);
        a->stuck = !ok && again;
        then(a, ok ? DONE : FAILED);
    } else if (!ok) {
        fail(a, AGENT_STAGE_APPLY, again, error);
    } else if (!record_running(a, &err)) {
        fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else {
        then(a, DONE);
    }
}

static void settle(struct agent *a)
{
    tell(a, HW_LOG_INFO, "applied", &state_of(a)->running, NULL);
    a->target.set = false;
    a->failures = 0;
    a->touched = false;
    agent_store_sweep(a->store);
    report(a);
    rest(a);
}

/* ---- going back ---- */

/* What ran is lost: it is in the output file no more, and the copy of it is damaged. */
static void lose_running(struct agent *a)
{
    struct agent_state next = *state_of(a);
    struct hw_error err;

    if (next.running.set)
        next.running.set = false;
    else
        next.previous.set = false;
    if (!save(a, &next, &err))
        note(a, AGENT_STAGE_APPLY, "%s", err.message);
    a->retry = true;
    agent_watch_look(a->watch, 0);
}

static void go_back(struct agent *a)
{
    const struct agent_state *const state = state_of(a);
    const struct agent_document good = state->running.set ? state->running : state->previous;
    HW_AUTO_FREE char *bytes = NULL;
    struct hw_error err;
    enum hw_status status = HW_OK;

    a->stuck = false;
    if (!good.set && state->trial.open) {
        status = hw_file_remove(a->options.output, &err);
    } else if (good.set && !agent_output_is(a->options.output, &good)) {
        status = agent_store_get(a->store, &good, &bytes, &err);
        if (status == HW_ENOENT || status == HW_ECORRUPT) {
            note(a, AGENT_STAGE_APPLY, "the last known good is lost: %s", err.message);
            lose_running(a);
            then(a, FAILED);
            return;
        }
        if (status == HW_OK)
            status = hw_file_replace(a->options.output, bytes, good.size, a->options.mode, &err);
        a->touched = true;
    }
    if (status != HW_OK) {
        note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s", (long long)good.revision,
             err.message);
        a->stuck = true;
        then(a, FAILED);
    } else if (good.set && a->touched && a->hooks.apply != NULL) {
        a->hooks.apply(a->hooks.arg, &good);
    } else {
        then(a, DONE);
    }
}

/* Was the last failure about what runs, so that trying again means applying that again? */
static bool running_failed(const struct agent_state *state)
{
    return state->failed.set && state->running.set &&
           hw_fence_compare(state->failed.document.fence, state->running.fence) == 0;
}

/* The end of a try that did not succeed, and of a recovery: records, reports, decides what is next.
 */
static void conclude(struct agent *a)
{
    static const char *const words[] = {
        [AGENT_STAGE_FETCH] = "cannot fetch",
        [AGENT_STAGE_VERIFY] = "refused",
        [AGENT_STAGE_VALIDATE] = "refused by the node's own check",
        [AGENT_STAGE_APPLY] = "cannot apply",
        [AGENT_STAGE_HEALTH] = "not well after applying",
    };
    const bool failed = a->failure.set, recovered = a->recover;
    struct agent_state next = *state_of(a);
    struct hw_error err;

    if (a->unsaved.set)
        next.failed = a->unsaved;
    /* A recovery ends an interrupted attempt, which counts; a failure of our own wipes the count.
     */
    if (next.trial.open && !recovered)
        next.trial.attempts = 0;
    next.trial.open = next.trial.open && a->stuck;
    if (failed && !recovered) {
        next.fence = a->target.fence;
        next.desired_revision = a->target.revision;
        next.refused.set = false;
    }
    if (failed && !same_failure(&next.failed, &a->failure)) {
        tell(a, HW_LOG_WARN, words[a->failure.stage], &a->failure.document, a->failure.error);
        /* What failed is what is desired; that the way back fails, too, stands in its text. */
        if (!recovered || !next.failed.set || running_failed(&next))
            next.failed = a->failure;
    } else if (!failed && running_failed(&next)) {
        next.failed.set = false;
    }
    if (!failed)
        tell(a, HW_LOG_INFO, "brought back", &next.running, NULL);
    if (!save(a, &next, &err)) {
        if (!a->unsaved.set)
            tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
        a->unsaved = next.failed;
    }
    if (failed && !recovered && !a->again)
        a->target.set = false;

    a->recover = a->stuck;
    a->stuck = false;
    if (!a->recover)
        a->touched = false;
    if (a->recover || (failed && a->target.set && !recovered))
        due_later(a);
    else if (a->target.set)
        due_in(a, 0);
    else
        a->failures = 0;
    agent_store_sweep(a->store);
    report(a);
    rest(a);
}

/* ---- the desired entry ---- */

static void complain(struct agent *a, uint64_t seq, const char *what,
                     const struct agent_document *document, const char *detail)
{
    if (a->complained_seq == seq)
        return;
    a->complained_seq = seq;
    tell(a, HW_LOG_WARN, what, document, detail);
}

static void record(struct agent *a, const struct agent_state *next)
{
    struct hw_error err;

    if (save(a, next, &err)) {
        report(a);
        return;
    }
    tell(a, HW_LOG_ERROR, "cannot record the state; trying again", NULL, err.message);
    agent_watch_look(a->watch, agent_jitter_ms(SAVE_RETRY_MS));
}

static void refuse(struct agent *a, uint64_t seq, const struct hw_error *why)
{
    struct agent_state next = *state_of(a);
    char text[AGENT_ERROR_MAX];
    char clean[AGENT_ERROR_MAX];

    complain(a, seq, "refused the desired entry", NULL, why->message);
    snprintf(text, sizeof(text), "the entry %s, revision %llu of the bucket: %s",
             agent_watch_key(a->watch), (unsigned long long)seq, why->message);
    agent_text_clean(clean, sizeof(clean), text, strlen(text));
    if (next.refused.set && strcmp(next.refused.error, clean) == 0)
        return;
    next.refused.set = true;
    memcpy(next.refused.error, clean, sizeof(clean));
    agent_time_now(next.refused.at);
    record(a, &next);
}

static void on_entry(void *arg, const struct hw_kv_entry *entry)
{
    struct agent *a = arg;
    struct agent_state next = *state_of(a);
    struct agent_document desired;
    struct hw_error err;
    enum agent_verdict verdict;
    int64_t wait;

    if (agent_desired_decode(entry, a->options.node, &desired, &err) != HW_OK) {
        refuse(a, entry->seq, &err);
        return;
    }
    /* A target that waits was accepted, though the disk does not know it yet. */
    if (a->target.set && hw_fence_compare(desired.fence, a->target.fence) == 0)
        return;
    verdict = a->target.set && hw_fence_compare(desired.fence, a->target.fence) < 0
                  ? AGENT_DESIRED_STALE
                  : agent_desired_judge(&next, &desired, a->retry);
    next.refused.set = false;
    switch (verdict) {
    case AGENT_DESIRED_STALE:
        complain(a, entry->seq, "refused a desired entry older than one accepted before", &desired,
                 NULL);
        break;
    case AGENT_DESIRED_KNOWN:
        break;
    case AGENT_DESIRED_NONE:
        tell(a, HW_LOG_INFO, "nothing is desired any more; what runs stays", NULL, NULL);
        next.desired_revision = 0;
        break;
    case AGENT_DESIRED_ADOPT:
        tell(a, HW_LOG_INFO, "desired anew with the same content", &desired, NULL);
        if (next.running.revision != desired.revision)
            agent_time_now(next.running.applied_at);
        next.running.revision = desired.revision;
        next.running.fence = desired.fence;
        next.desired_revision = desired.revision;
        break;
    case AGENT_DESIRED_APPLY:
        wait = a->retry ? 0 : agent_random_ms(a->options.splay_ms);
        tell(a, HW_LOG_INFO, "desired", &desired, NULL);
        a->target = desired;
        a->failures = 0;
        due_in(a, wait);
        break;
    }
    a->retry = false;
    if (verdict == AGENT_DESIRED_APPLY)
        return;
    if (verdict == AGENT_DESIRED_NONE || verdict == AGENT_DESIRED_ADOPT) {
        next.fence = desired.fence;
        next.failed.set = false;
        a->target.set = false;
    }
    record(a, &next);
}

static void on_watch_trouble(void *arg, const struct hw_error *why)
{
    tell(arg, HW_LOG_WARN, "cannot read the desired entry; trying again until it works", NULL,
         why->message);
}

/* Both looks at NATS block: the second one gets a turn of the loop of its own. */
static void on_looked(void *arg)
{
    struct agent *a = arg;

    if (a->check_report)
        agent_reporter_check(a->reporter);
    a->check_report = false;
}

static void on_up(void *arg)
{
    struct agent *a = arg;

    tell(a, HW_LOG_INFO, "connected to NATS", NULL, NULL);
    a->check_report = true;
    agent_watch_look(a->watch, 0);
    /* A target that waited for NATS is due; one that waits for its splay goes on waiting. */
    if (a->target.set && (a->failures > 0 || !hw_timer_running(&a->due)))
        due_in(a, 0);
}

static void on_down(void *arg, const char *why)
{
    tell(arg, HW_LOG_WARN, "lost NATS; going on with what is on disk", NULL, why);
}

/* ---- opening and closing ---- */

/* The last known good must be there when it is needed. */
static void keep_copy(struct agent *a)
{
    const struct agent_document *running = &state_of(a)->running;
    HW_AUTO_FREE char *copy = NULL;
    HW_AUTO_FREE char *bytes = NULL;
    struct agent_document found;
    struct hw_error err;
    enum hw_status status;

    if (agent_store_get(a->store, running, &copy, NULL) == HW_OK)
        return;
    status = agent_output_read(a->options.output, &found, &bytes, &err);
    if (status == HW_OK && hw_digest_equal(&found.digest, &running->digest))
        status = agent_store_put(a->store, running, bytes, &err);
    if (status != HW_OK)
        tell(a, HW_LOG_WARN, "cannot keep a copy of what runs", running, err.message);
}

/* What runs is what the disk says; where the disk does not say it clearly, it is made clear. */
static void start_from_disk(struct agent *a)
{
    const struct agent_state *const state = state_of(a);

    if (state->trial.open) {
        tell(a, HW_LOG_WARN, "was stopped in the midst of applying; going back", NULL, NULL);
        a->recover = a->touched = true;
    } else if (state->running.set && !agent_output_is(a->options.output, &state->running)) {
        tell(a, HW_LOG_WARN, "the output file is missing or changed; restoring it", &state->running,
             NULL);
        a->recover = true;
    } else if (state->running.set) {
        tell(a, HW_LOG_INFO, "runs already", &state->running, NULL);
        keep_copy(a);
        a->recover = a->touched = running_failed(state);
    }
    a->retry = state->failed.set && state->trial.attempts < ATTEMPTS_MAX;
    agent_watch_hold(a->watch, a->recover);
    if (a->recover)
        due_in(a, 0);
}

static void read_boot_id(struct agent *a)
{
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, a->boot_id, 36) : 0;

    if (n != 36)
        strcpy(a->boot_id, "unknown");
    if (fd >= 0)
        close(fd);
}

static enum hw_status connect_nats(struct agent *a, struct hw_error *err)
{
    HW_AUTO_FREE char *name = hw_sprintf("headwater-agent %s", a->options.node);
    HW_AUTO_FREE char *reports = hw_sprintf("%s_reports", a->options.bucket);
    const struct hw_nats_options options = {.url = a->options.url, .name = name, .max_pending = 16};
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .arg = a};
    const struct agent_reporter_events reporter_events = {
        .trouble = on_report_trouble, .published = on_reported, .arg = a};
    const struct agent_watch_events watch_events = {
        .entry = on_entry, .looked = on_looked, .trouble = on_watch_trouble, .arg = a};
    enum hw_status status;

    status = hw_nats_open(a->loop, &options, &events, &a->nats, err);
    if (status != HW_OK)
        return status;
    a->reporter =
        agent_reporter_new(a->nats, reports, a->options.node, a->options.poll_ms, &reporter_events);
    return agent_watch_start(a->nats, a->options.bucket, a->options.node, a->options.poll_ms,
                             &watch_events, &a->watch, err);
}

enum hw_status agent_open(struct hw_loop *loop, const struct agent_options *options,
                          const struct agent_hooks *hooks, struct agent **out, struct hw_error *err)
{
    struct agent *a = hw_alloc(sizeof(*a));
    struct hw_error why;
    enum hw_status status;

    a->loop = loop;
    a->options = *options;
    a->hooks = *hooks;
    read_boot_id(a);
    status = agent_store_open(options->state_dir, &a->store, err);
    if (status == HW_OK) {
        status = agent_store_load(a->store, options->node, &why);
        if (status == HW_ECORRUPT) {
            tell(a, HW_LOG_WARN, "the state is damaged; starting without it", NULL, why.message);
            status = HW_OK;
        } else if (status != HW_OK) {
            status = hw_fail(err, status, "%s", why.message);
        }
    }
    if (status == HW_OK)
        status = connect_nats(a, err);
    if (status != HW_OK) {
        agent_close(a);
        return status;
    }
    start_from_disk(a);
    report(a);
    *out = a;
    return HW_OK;
}

void agent_retry(struct agent *a)
{
    struct agent_state next = *state_of(a);
    struct hw_error err;

    next.trial.attempts = 0;
    if (!save(a, &next, &err))
        tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
    a->retry = true;
    a->failures = 0;
    if (a->phase == IDLE && running_failed(&next))
        a->recover = a->touched = true;
    if (a->recover || a->target.set)
        due_in(a, 0);
    agent_watch_look(a->watch, 0);
}

void agent_close(struct agent *a)
{
    if (a == NULL)
        return;
    hw_timer_stop(&a->step);
    hw_timer_stop(&a->due);
    hw_nats_close(a->nats);
    agent_watch_free(a->watch);
    agent_reporter_free(a->reporter);
    agent_store_close(a->store);
    free(a->data);
    free(a);
}
