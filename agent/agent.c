#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/backoff.h"
#include "agent/desired.h"
#include "agent/notice.h"
#include "agent/proposer.h"
#include "agent/report.h"
#include "agent/reporter.h"
#include "agent/store.h"
#include "agent/watch.h"
#include "common/memory.h"
#include "common/points.h"
#include "nats/objstore.h"

#define TRY_LIMIT_MS   300000 /* between tries of one document */
#define SAVE_RETRY_MS  20000  /* mean, between tries of a state that the disk did not take */
#define HEAL_PAUSE_MS  5000   /* between two healings: whoever changes it may not give up either */
#define STALE_AGAIN_MS 2000   /* mean, before an older entry is taken for what the key holds */
#define REJOIN_MS      1000   /* a fleet that has NATS again does not ask in one moment */
#define RECONNECT_MS   10000  /* nor tries to connect, */
#define FIRST_MS       5000   /* nor connects at once … */
#define BOOTING_S      120    /* … where machines were switched on so short ago, all together */
#define QUIET_FAILURES 3      /* timeouts in a row that are taken for an outage, not reported */
#define ATTEMPTS_MAX   3      /* interrupted ones, before a document is given up */

#define NOTHING_AGAIN_MS 3600000 /* between two words of it that nothing is desired */

enum event { BEGIN, DONE, FAILED, AWAY, RECOVER, TAKE_BACK };

struct agent {
    struct hw_loop *loop;
    struct agent_options options;
    struct agent_hooks hooks;
    struct hw_nats *nats;
    struct hw_nats_listener shared; /* of a connection that is not its own */
    struct agent_store *store;
    struct hw_trust *trust; /* NULL: whoever may write is believed */
    struct agent_watch *watch;
    struct agent_reporter *reporter;
    struct agent_proposer *proposer;
    struct agent_notice *notice;
    char *output; /* the name that others read it by, or NULL */
    char boot_id[40];

    enum agent_phase phase;
    struct hw_timer step; /* the next event, in a turn of the loop of its own */
    enum event next;

    struct agent_document target; /* the newest accepted document that is not settled yet */
    struct hw_timer due;          /* when to try it */
    int failures;                 /* of tries in a row */
    unsigned char *data;          /* the bytes of this try, */
    struct agent_document got;    /* with the size and digest that they have */
    struct agent_document good;   /* what is being gone back to */
    char *sources;                /* of the newest entry, until they are kept, or NULL … */
    struct hw_digest sources_of;  /* … and of which document */
    char *file;                   /* that holds the bytes, while a call is out */

    /* Of the present try. */
    struct agent_failure failure;
    bool again;     /* the failure may pass by itself: the target is kept */
    bool stuck;     /* going back failed, and that may pass by itself */
    bool went_back; /* to what is good */
    bool touched;   /* the owner was called, or the output changed: it must apply what is good */

    bool recover; /* before anything else, the node must be brought back to what is good */
    bool retry;   /* what failed before counts as new, once */
    struct agent_failure unsaved; /* a failure that the disk did not take: reported all the same */

    struct agent_hold hold;
    struct agent_drift drift;
    bool overlooked;         /* a look at the disk came at a bad moment */
    int64_t healed_at;       /* hw_loop_now(); 0: never */
    struct hw_timer confirm; /* runs while what was applied waits for an answer of NATS */
    struct agent_counts counts;

    bool check_report;       /* after the next look: does NATS still hold the report? */
    uint64_t complained_seq; /* entry that was complained of already */
    int64_t told_nothing;    /* hw_loop_now(): that nothing is desired; 0: not yet */

    char *alive; /* subject of signs of life */
    struct hw_timer heartbeat;
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

static void changed(struct agent *a)
{
    if (a->hooks.changed != NULL)
        a->hooks.changed(a->hooks.arg);
}

void agent_look(const struct agent *a, struct agent_view *view)
{
    struct agent_state *const state = &view->state;

    view->phase = a->phase;
    view->counts = a->counts;
    view->connected = a->nats != NULL && hw_nats_up(a->nats);
    view->why_away = a->nats != NULL ? hw_nats_why_away(a->nats) : "";
    *state = *state_of(a);
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

static void report(struct agent *a)
{
    struct agent_view view;

    agent_look(a, &view);
    agent_reporter_set(a->reporter, agent_report_build(&view.state, a->options.node, a->boot_id,
                                                       a->options.heartbeat_ms));
    changed(a);
}

static void on_report_trouble(void *arg, const struct hw_error *why)
{
    tell(arg, HW_LOG_WARN, "cannot report; trying again until it works", NULL, why->message);
}

static bool save(struct agent *a, const struct agent_state *next, struct hw_error *err)
{
    if (agent_store_save(a->store, next, err) != HW_OK)
        return false;
    a->unsaved.set = false;
    return true;
}

/* NATS has the report of what runs: the node can be reached with it. */
static void on_agreed(void *arg)
{
    struct agent *a = arg;
    struct agent_state next = *state_of(a);
    struct hw_error err;

    tell(a, HW_LOG_DEBUG, "reported", NULL, NULL);
    if (!hw_timer_running(&a->confirm))
        return;
    hw_timer_stop(&a->confirm);
    next.unconfirmed = false;
    if (!save(a, &next, &err))
        tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
    tell(a, HW_LOG_INFO, "confirmed: NATS was reached", &next.running, NULL);
    changed(a);
}

/* ---- the machine ---- */

static void fetch(struct agent *a);
static void verify(struct agent *a);
static void validate(struct agent *a);
static void apply(struct agent *a);
static void check(struct agent *a);
static void go_back(struct agent *a);
static void settle(struct agent *a);
static void conclude(struct agent *a);
static void rest(struct agent *a);

static const struct transition {
    enum agent_phase from;
    enum event event;
    enum agent_phase to;
    void (*action)(struct agent *a);
    const char *comment;
} transitions[] = {
    {AGENT_IDLE, BEGIN, AGENT_FETCHING, fetch, "its time has come: getting the bytes"},
    {AGENT_IDLE, RECOVER, AGENT_ROLLING_BACK, go_back,
     "the node is not as it was left: back to what is good"},
    {AGENT_IDLE, TAKE_BACK, AGENT_ROLLING_BACK, go_back,
     "NATS was not reached since it was applied: back to what ran before"},
    {AGENT_FETCHING, DONE, AGENT_VERIFYING, verify, "the bytes are here"},
    {AGENT_FETCHING, AWAY, AGENT_IDLE, rest, "NATS is away: nothing to report"},
    {AGENT_FETCHING, FAILED, AGENT_IDLE, conclude, "nothing was touched"},
    {AGENT_VERIFYING, DONE, AGENT_VALIDATING, validate, "the bytes are those that are desired"},
    {AGENT_VERIFYING, FAILED, AGENT_IDLE, conclude, "the bytes are not those that are desired"},
    {AGENT_VALIDATING, DONE, AGENT_APPLYING, apply, "the node may use it"},
    {AGENT_VALIDATING, FAILED, AGENT_IDLE, conclude, "it was refused before anything was touched"},
    {AGENT_APPLYING, AWAY, AGENT_IDLE, rest, "held meanwhile: nothing was touched"},
    {AGENT_APPLYING, DONE, AGENT_CHECKING, check, "it is in use: is the node well?"},
    {AGENT_APPLYING, FAILED, AGENT_ROLLING_BACK, go_back,
     "the node goes on with the last known good"},
    {AGENT_CHECKING, DONE, AGENT_IDLE, settle, "it runs, and the disk says so"},
    {AGENT_CHECKING, FAILED, AGENT_ROLLING_BACK, go_back,
     "the node is not well: back to the last known good"},
    {AGENT_ROLLING_BACK, DONE, AGENT_IDLE, conclude, "the last known good runs again"},
    {AGENT_ROLLING_BACK, FAILED, AGENT_IDLE, conclude,
     "not even the last known good could be brought back"},
};

static void happen(struct agent *a, enum event event)
{
    for (size_t i = 0; i < HW_COUNT(transitions); i++) {
        const struct transition *t = &transitions[i];

        if (t->from == a->phase && t->event == event) {
            tell(a, HW_LOG_DEBUG, t->comment, a->target.set ? &a->target : NULL, NULL);
            a->phase = t->to;
            if (a->phase != AGENT_IDLE)
                changed(a);
            t->action(a);
            if (a->phase == AGENT_IDLE)
                changed(a);
            agent_watch_hold(a->watch, a->phase != AGENT_IDLE || a->recover);
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

/* ---- the hold ---- */

static void due_in(struct agent *a, int64_t ms);

static void look_at_hold(struct agent *a)
{
    const struct agent_hold before = a->hold;

    agent_hold_read(a->options.state_dir, &a->hold);
    if (before.set == a->hold.set && strcmp(before.since, a->hold.since) == 0 &&
        strcmp(before.reason, a->hold.reason) == 0)
        return;
    tell(a, HW_LOG_INFO, a->hold.set ? "held: new configuration waits" : "released", NULL,
         a->hold.set ? a->hold.reason : NULL);
    if (!a->hold.set && a->target.set)
        due_in(a, 0);
    report(a);
}

/* Where it counts, the disk is asked: whoever made the hold relies on it from then on. */
static bool held(struct agent *a)
{
    look_at_hold(a);
    return a->hold.set;
}

/* ---- the target ---- */

static void on_due(void *arg)
{
    struct agent *a = arg;

    if (a->phase != AGENT_IDLE)
        return;
    if (a->recover)
        happen(a, RECOVER);
    else if (a->target.set && !held(a))
        happen(a, BEGIN);
}

static void due_in(struct agent *a, int64_t ms)
{
    hw_timer_start(a->loop, &a->due, ms, on_due, a);
}

/* Once it runs: what a proposal is based on. */
static void keep_sources(struct agent *a)
{
    const struct agent_document *const running = &state_of(a)->running;
    struct hw_error err;

    if (a->sources == NULL || !running->set || !hw_digest_equal(&running->digest, &a->sources_of))
        return;
    if (agent_store_put_sources(a->store, running, a->sources, &err) != HW_OK)
        tell(a, HW_LOG_WARN, "cannot keep what the document is made of", running, err.message);
    free(HW_TAKE(a->sources));
}

static void due_later(struct agent *a)
{
    due_in(a, agent_backoff_ms(++a->failures, TRY_LIMIT_MS));
}

static void rest(struct agent *a)
{
    free(a->data);
    free(a->file);
    a->data = NULL;
    a->file = NULL;
    a->failure.set = false;
    keep_sources(a);
    if (a->overlooked)
        agent_notice_soon(a->notice);
    a->overlooked = false;
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
        HW_POINT("fetched");
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

/* ---- validating ---- */

/* Asks the owner. file: taken. */
static void call(struct agent *a, const struct agent_document *document, char *file)
{
    free(a->file);
    a->file = file;
    a->hooks.call(a->hooks.arg,
                  &(struct agent_call){
                      .phase = a->phase, .document = document, .data = a->data, .file = a->file});
}

static char *path_of(const struct agent *a, const struct agent_document *document)
{
    return a->output != NULL ? hw_strdup(a->output) : agent_store_path(a->store, document);
}

static void validate(struct agent *a)
{
    struct hw_error err;

    if (agent_store_put(a->store, &a->target, a->data, &err) != HW_OK) {
        fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else if (!a->hooks.validates) {
        then(a, DONE);
    } else {
        HW_POINT("validating");
        call(a, &a->target, agent_store_path(a->store, &a->target));
    }
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
    status = agent_output_read(&a->options.output, &found, &bytes, err);
    if (status == HW_ENOENT)
        return HW_OK;
    if (status == HW_OK)
        status = agent_store_put(a->store, &found, bytes, err);
    if (status == HW_OK)
        next->previous = found;
    return status;
}

/* Writes down that the node is about to be touched: from now on a start cannot take the output
 * alone for the truth, nor what it finds there for someone else's work. */
static enum hw_status open_trial(struct agent *a, struct agent_state *next, struct hw_error *err)
{
    if (hw_fence_compare(next->trial.fence, a->target.fence) != 0)
        next->trial.attempts = 0;
    next->trial.fence = a->target.fence;
    next->trial.attempts += next->trial.open ? 0 : 1;
    next->trial.open = true;
    return agent_store_save(a->store, next, err);
}

static void keep_copy(struct agent *a);

static void apply(struct agent *a)
{
    struct agent_state next = *state_of(a);
    struct hw_error err;
    enum hw_status status;

    if (held(a)) {
        then(a, AWAY);
        return;
    }
    if (next.trial.attempts >= ATTEMPTS_MAX &&
        hw_fence_compare(next.trial.fence, a->target.fence) == 0) {
        fail(a, AGENT_STAGE_APPLY, false,
             "the agent was stopped in the midst of applying this, again and again");
        return;
    }
    if (next.running.set && !agent_store_has(a->store, &next.running))
        keep_copy(a);
    status = keep_found(a, &next, &err);
    if (status == HW_OK)
        status = open_trial(a, &next, &err);
    if (status == HW_OK)
        status = agent_output_put(&a->options.output, &a->target, a->data, &err);
    HW_POINT("applying");
    if (status != HW_OK) {
        fail(a, AGENT_STAGE_APPLY, true, err.message);
    } else if (!a->hooks.applies) {
        a->touched = a->hooks.checks;
        then(a, DONE);
    } else {
        a->touched = true;
        call(a, &a->target, path_of(a, &a->target));
    }
}

/* The one moment at which a document becomes the running one. */
static bool record_running(struct agent *a, struct hw_error *err)
{
    struct agent_state next = *state_of(a);

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
    return save(a, &next, err);
}

static void check(struct agent *a)
{
    HW_POINT("checking");
    if (a->hooks.checks)
        call(a, &a->target, path_of(a, &a->target));
    else
        agent_answer(a, NULL, false);
}

void agent_answer(struct agent *a, const char *error, bool again)
{
    const bool ok = error == NULL || error[0] == '\0';
    struct hw_error err;

    switch (a->phase) {
    case AGENT_VALIDATING:
        if (ok)
            then(a, DONE);
        else
            fail(a, AGENT_STAGE_VALIDATE, again, error);
        break;
    case AGENT_APPLYING:
        if (ok)
            then(a, DONE);
        else
            fail(a, AGENT_STAGE_APPLY, again, error);
        break;
    case AGENT_CHECKING:
        if (!ok) {
            fail(a, AGENT_STAGE_HEALTH, again, error);
        } else if (!record_running(a, &err)) {
            fail(a, AGENT_STAGE_APPLY, true, err.message);
        } else {
            HW_POINT("recorded");
            then(a, DONE);
        }
        break;
    case AGENT_ROLLING_BACK:
        if (!ok)
            note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s",
                 (long long)a->good.revision, error);
        a->stuck = !ok && again;
        then(a, ok ? DONE : FAILED);
        break;
    default:
        break;
    }
}

static void on_unconfirmed(void *arg);

static void await_confirmation(struct agent *a)
{
    if (state_of(a)->unconfirmed && a->options.confirm_ms > 0)
        hw_timer_start(a->loop, &a->confirm, a->options.confirm_ms, on_unconfirmed, a);
    else
        hw_timer_stop(&a->confirm);
}

static void settle(struct agent *a)
{
    tell(a, HW_LOG_INFO, "applied", &state_of(a)->running, NULL);
    a->counts.applied++;
    a->target.set = false;
    a->failures = 0;
    a->touched = false;
    a->drift.set = false;
    agent_store_sweep(a->store);
    agent_output_sweep(&a->options.output);
    report(a);
    await_confirmation(a);
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

/* Its bytes, of the copy or of the output. */
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

static void go_back(struct agent *a)
{
    const struct agent_state *const state = state_of(a);
    const struct agent_document *const good = &a->good;
    struct hw_error err;
    enum hw_status status = HW_OK;
    bool right;

    a->stuck = false;
    a->went_back = true;
    a->good = state->running.set ? state->running : state->previous;
    right = good->set && agent_output_is(&a->options.output, good);
    if (!good->set && state->trial.open) {
        status = agent_output_remove(&a->options.output, &err);
    } else if (good->set && (!right || (a->touched && a->hooks.applies))) {
        status = load(a, good, &err);
        if (status == HW_ENOENT || status == HW_ECORRUPT) {
            note(a, AGENT_STAGE_APPLY, "the last known good is lost: %s", err.message);
            lose_running(a);
            then(a, FAILED);
            return;
        }
        if (status == HW_OK && !right) {
            status = agent_output_put(&a->options.output, good, a->data, &err);
            a->touched = true;
        }
    }
    if (status == HW_OK && state->trial.open)
        status = agent_output_sync(&a->options.output, &err);
    HW_POINT("rolling-back");
    if (status != HW_OK) {
        note(a, AGENT_STAGE_APPLY, "going back to revision %lld: %s", (long long)good->revision,
             err.message);
        a->stuck = true;
        then(a, FAILED);
    } else if (good->set && a->touched && a->hooks.applies) {
        call(a, good, path_of(a, good));
    } else {
        then(a, DONE);
    }
}

/* Nobody answered in time: the document is to blame until NATS was reached with it. */
static void on_unconfirmed(void *arg)
{
    struct agent *a = arg;
    struct agent_state next = *state_of(a);
    struct hw_error err;

    if (a->phase != AGENT_IDLE || a->recover) {
        await_confirmation(a);
        return;
    }
    a->target = next.running; /* something newer that waits comes again with the connection */
    a->again = false;
    a->touched = true;
    note(a, AGENT_STAGE_HEALTH, "NATS was not reached within %g s of applying it",
         (double)a->options.confirm_ms / 1000);
    /* A file that was there before us is not reported as what runs. */
    if (next.previous.revision > 0) {
        next.running = next.previous;
        next.previous.set = false;
    } else {
        next.running.set = false;
    }
    next.unconfirmed = false;
    next.failed = a->failure;
    next.trial.fence = a->target.fence;
    next.trial.attempts = 0;
    next.trial.open = true;
    if (!save(a, &next, &err)) {
        tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
        a->target.set = a->failure.set = a->touched = false;
        await_confirmation(a);
        return;
    }
    tell(a, HW_LOG_WARN, "not confirmed", &a->target, a->failure.error);
    happen(a, TAKE_BACK);
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

    a->counts.failed += failed ? 1 : 0;
    a->counts.gone_back += a->went_back ? 1 : 0;
    a->went_back = false;
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
        if (!recovered || !next.failed.set || agent_state_running_failed(&next))
            next.failed = a->failure;
    } else if (!failed && agent_state_running_failed(&next)) {
        next.failed.set = false;
    }
    if (!failed)
        tell(a, HW_LOG_INFO, "brought back", &next.running, NULL);
    if (recovered && !failed && a->drift.set && !a->drift.healed) {
        a->drift.healed = true;
        a->counts.healed++;
        a->healed_at = hw_loop_now();
    }
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

/* What is desired is not kept before it runs; that something is, is. */
static void keep_something(struct agent *a)
{
    struct agent_state next = *state_of(a);
    struct hw_error err;

    if (!next.nothing)
        return;
    next.nothing = false;
    if (!save(a, &next, &err))
        tell(a, HW_LOG_ERROR, "cannot record the state", NULL, err.message);
}

/* Once, and then seldom: it may be so for good. */
static void tell_nothing(struct agent *a)
{
    const int64_t now = hw_loop_now();

    if (a->told_nothing != 0 && now - a->told_nothing < NOTHING_AGAIN_MS)
        return;
    a->told_nothing = now;
    tell(a, HW_LOG_WARN, AGENT_NOTHING_DESIRED, NULL, NULL);
}

/* There is no key. One that had an entry is not forgotten for it: NATS may have lost its copies. */
static void on_none(void *arg)
{
    struct agent *a = arg;
    struct agent_state next = *state_of(a);

    if (next.desired_revision != 0 || a->target.set)
        return;
    tell_nothing(a);
    if (next.nothing)
        return;
    next.nothing = true;
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

    if (agent_desired_decode(entry, a->options.node, a->trust, &desired, &err) != HW_OK) {
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
        /* A replica that lags may have answered: it counts when it is there the second time. */
        if (a->complained_seq == entry->seq) {
            hw_fail(&err, HW_EINVAL, "epoch %llu, LSN %s: older than one accepted before",
                    (unsigned long long)desired.fence.epoch, HW_LSN(desired.fence.lsn));
            refuse(a, entry->seq, &err);
            return;
        }
        complain(a, entry->seq, "refused a desired entry older than one accepted before", &desired,
                 NULL);
        agent_watch_look(a->watch, agent_jitter_ms(STALE_AGAIN_MS));
        return;
    case AGENT_DESIRED_KNOWN:
        break;
    case AGENT_DESIRED_NONE:
        tell(a, HW_LOG_INFO, "nothing is desired any more; what runs stays", NULL, NULL);
        a->told_nothing = hw_loop_now();
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
        if (a->hold.set)
            tell(a, HW_LOG_INFO, "held: it waits for the release", &desired, a->hold.reason);
        break;
    }
    a->retry = false;
    next.nothing = !desired.set;
    if (desired.set) {
        a->told_nothing = 0;
        free(a->sources);
        a->sources = agent_desired_sources(entry);
        a->sources_of = desired.digest;
    }
    if (verdict == AGENT_DESIRED_APPLY) {
        keep_something(a);
        report(a); /* of what waits */
        return;
    }
    if (next.nothing)
        tell_nothing(a);
    if (verdict == AGENT_DESIRED_NONE || verdict == AGENT_DESIRED_ADOPT) {
        next.fence = desired.fence;
        next.failed.set = false;
        a->target.set = false;
    }
    record(a, &next);
    keep_sources(a);
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

/* From the loop: an agent that is stuck gives none. */
static void beat(void *arg)
{
    struct agent *a = arg;

    hw_nats_signal(a->nats, a->alive);
    hw_timer_start(a->loop, &a->heartbeat, agent_jitter_ms(a->options.heartbeat_ms), beat, a);
}

static void on_up(void *arg)
{
    struct agent *a = arg;
    const int64_t beat_ms = a->options.heartbeat_ms;

    tell(a, HW_LOG_INFO, "connected to NATS", NULL, hw_nats_url(a->nats));
    a->check_report = true;
    agent_watch_look(a->watch, a->counts.connected++ > 0 ? agent_random_ms(REJOIN_MS) : 0);
    agent_proposer_look(a->proposer, agent_random_ms(REJOIN_MS), true);
    if (beat_ms > 0)
        hw_timer_start(a->loop, &a->heartbeat,
                       agent_random_ms(beat_ms < REJOIN_MS ? beat_ms : REJOIN_MS), beat, a);
    changed(a);
    /* A target that waited for NATS is due; one that waits for its splay goes on waiting. */
    if (a->target.set && (a->failures > 0 || !hw_timer_running(&a->due)))
        due_in(a, 0);
}

static void on_down(void *arg, const char *why)
{
    (void)why; /* which is found out */
    changed(arg);
}

static void on_away(void *arg, const struct hw_nats_away *away)
{
    struct agent *a = arg;
    HW_AUTO_FREE char *detail = away->for_ms > 0
                                    ? hw_sprintf("%s: %s (for %lld s)", away->url, away->why,
                                                 (long long)(away->for_ms / 1000))
                                    : hw_sprintf("%s: %s", away->url, away->why);

    tell(a, HW_LOG_WARN,
         a->counts.connected > 0 ? "lost NATS; going on with what is on disk"
                                 : "NATS cannot be reached; going on with what is on disk",
         NULL, detail);
    changed(a);
}

/* ---- the disk, looked at ---- */

/* Drift: the output is not what runs. */
static void look_at_output(struct agent *a)
{
    const struct agent_document *const running = &state_of(a)->running;
    const char *const what = a->output != NULL && access(a->output, F_OK) != 0 && errno == ENOENT
                                 ? "the output is missing"
                                 : "the output has other content than what runs";
    int64_t pause;

    if (!running->set || agent_output_is(&a->options.output, running)) {
        if (a->drift.set && !a->drift.healed) {
            a->drift.set = false;
            tell(a, HW_LOG_INFO, "the output is again what runs", NULL, NULL);
            report(a);
        }
        return;
    }
    if (!a->drift.set || a->drift.healed || strcmp(a->drift.error, what) != 0) {
        a->drift.set = true;
        a->drift.healed = false;
        agent_time_now(a->drift.at);
        snprintf(a->drift.error, sizeof(a->drift.error), "%s", what);
        tell(a, HW_LOG_WARN, "drift", running, what);
        report(a);
    }
    if (!a->options.heal || a->hold.set)
        return;
    pause = a->healed_at > 0 ? a->healed_at + HEAL_PAUSE_MS - hw_loop_now() : 0;
    a->recover = true;
    agent_watch_hold(a->watch, true);
    due_in(a, pause > 0 ? pause : 0);
}

static void look_around(void *arg)
{
    struct agent *a = arg;

    look_at_hold(a);
    agent_proposer_look(a->proposer, 0, false);
    if (a->phase == AGENT_IDLE && !a->recover)
        look_at_output(a);
    else
        a->overlooked = true;
}

void agent_look_around(struct agent *a)
{
    agent_notice_soon(a->notice);
}

static void watch_disk(struct agent *a)
{
    const struct agent_output *const output = &a->options.output;
    HW_AUTO_FREE char *proposals = hw_sprintf("%s/proposals", a->options.state_dir);

    /* The system has too few inotify instances for a crowd. */
    a->notice =
        agent_notice_new(a->loop, a->options.poll_ms, a->options.nats == NULL, look_around, a);
    agent_notice_add(a->notice, a->options.state_dir, "hold");
    agent_notice_add(a->notice, proposals, NULL);
    if (output->file != NULL) {
        const char *const slash = strrchr(output->file, '/');
        HW_AUTO_FREE char *dir = slash == NULL ? hw_strdup(".")
                                 : slash == output->file
                                     ? hw_strdup("/")
                                     : hw_strndup(output->file, (size_t)(slash - output->file));

        agent_notice_add(a->notice, dir, slash != NULL ? slash + 1 : output->file);
    } else if (output->dir != NULL) {
        agent_notice_add(a->notice, output->dir, NULL);
    }
}

/* ---- proposals ---- */

static void on_decided(void *arg, const struct agent_decision *decision)
{
    struct agent *a = arg;
    HW_AUTO_FREE char *detail =
        hw_sprintf("%s, config %s: %s%s%s", decision->ref, decision->config, decision->state,
                   decision->reason[0] != '\0' ? ": " : "", decision->reason);

    tell(a, HW_LOG_INFO, "a proposal was decided on", NULL, detail);
    if (a->hooks.decided != NULL)
        a->hooks.decided(a->hooks.arg, decision);
    else
        agent_proposer_forget(a->proposer, decision->ref);
}

static void on_proposer_trouble(void *arg, const char *what, const char *why)
{
    tell(arg, HW_LOG_WARN, what, NULL, why);
}

void agent_forget(struct agent *a, const char *ref)
{
    agent_proposer_forget(a->proposer, ref);
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
    status = agent_output_read(&a->options.output, &found, &bytes, &err);
    if (status == HW_OK && hw_digest_equal(&found.digest, &running->digest))
        status = agent_store_put(a->store, running, bytes, &err);
    if (status != HW_OK)
        tell(a, HW_LOG_WARN, "cannot keep a copy of what runs", running, err.message);
}

/* What runs is what the disk says; where the disk does not say it clearly, it is made clear. */
static void start_from_disk(struct agent *a)
{
    const struct agent_state *const state = state_of(a);

    agent_hold_read(a->options.state_dir, &a->hold);
    if (state->trial.open) {
        tell(a, HW_LOG_WARN, "was stopped in the midst of applying; going back", NULL, NULL);
        a->recover = a->touched = true;
    } else if (state->running.set) {
        look_at_output(a);
        if (!a->drift.set) {
            tell(a, HW_LOG_INFO, "runs already", &state->running, NULL);
            keep_copy(a);
        }
        /* Without an output the owner knows of nothing yet. */
        if (agent_state_running_failed(state) || (a->hooks.applies && a->output == NULL))
            a->recover = a->touched = true;
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

static int64_t first_ms(void)
{
    struct timespec up;

    return clock_gettime(CLOCK_BOOTTIME, &up) == 0 && up.tv_sec < BOOTING_S ? FIRST_MS : 0;
}

static enum hw_status open_nats(struct agent *a, struct hw_error *err)
{
    HW_AUTO_FREE char *name = hw_sprintf("headwater-agent %s", a->options.node);
    const struct hw_nats_options options = {.url = a->options.url,
                                            .name = name,
                                            .max_pending = 16,
                                            .reconnect_ms = RECONNECT_MS,
                                            .first_ms = first_ms(),
                                            .files = a->options.nats_files,
                                            .prefix = a->options.nats_prefix};
    const char *const exposed = hw_nats_exposed(&options.files);
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .away = on_away, .arg = a};

    if (a->options.nats != NULL) {
        a->nats = a->options.nats;
        return HW_OK;
    }
    if (exposed != NULL)
        tell(a, HW_LOG_WARN,
             "every user of this machine can read a secret; take their permission "
             "away",
             NULL, exposed);
    return hw_nats_open(a->loop, &options, &events, &a->nats, err);
}

static enum hw_status connect_nats(struct agent *a, struct hw_error *err)
{
    HW_AUTO_FREE char *reports = hw_sprintf("%s_reports", a->options.bucket);
    const struct agent_reporter_events reporter_events = {
        .trouble = on_report_trouble, .agreed = on_agreed, .arg = a};
    const struct agent_watch_events watch_events = {.entry = on_entry,
                                                    .none = on_none,
                                                    .looked = on_looked,
                                                    .trouble = on_watch_trouble,
                                                    .arg = a};
    const struct agent_proposer_events proposer_events = {
        .decided = on_decided, .trouble = on_proposer_trouble, .arg = a};
    enum hw_status status = open_nats(a, err);

    if (status != HW_OK)
        return status;
    a->reporter =
        agent_reporter_new(a->nats, reports, a->options.node, a->options.poll_ms, &reporter_events);
    status = agent_watch_start(a->nats, a->options.bucket, a->options.node, a->options.poll_ms,
                               &watch_events, &a->watch, err);
    if (status != HW_OK)
        return status;
    return agent_proposer_start(&(struct agent_proposer_config){.nats = a->nats,
                                                                .bucket = a->options.bucket,
                                                                .node = a->options.node,
                                                                .state_dir = a->options.state_dir,
                                                                .poll_ms = a->options.poll_ms},
                                &proposer_events, &a->proposer, err);
}

/* The shared connection, whose loss its owner is told of. */
static void join(struct agent *a)
{
    a->shared = (struct hw_nats_listener){.up = on_up, .arg = a};
    hw_nats_listen(a->nats, &a->shared);
    if (hw_nats_up(a->nats))
        on_up(a);
}

static enum hw_status open_trust(struct agent *a, struct hw_error *err)
{
    if (a->options.trust == NULL)
        return HW_OK;
    if (hw_trust_open(a->options.trust, &a->trust, err) != HW_OK)
        return hw_fail_in(err, "--trust");
    tell(a, HW_LOG_INFO, "only signed entries are believed", NULL, hw_trust_ids(a->trust));
    return HW_OK;
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
    a->output = agent_output_path(&options->output);
    a->alive = hw_sprintf("%s.alive.%s", options->bucket, options->node);
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
        status = open_trust(a, err);
    if (status == HW_OK)
        status = agent_proposals_open(options->state_dir, err);
    if (status == HW_OK)
        status = connect_nats(a, err);
    if (status != HW_OK) {
        agent_close(a);
        return status;
    }
    watch_disk(a);
    start_from_disk(a);
    report(a);
    await_confirmation(a);
    if (a->options.nats != NULL)
        join(a);
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
    if (a->phase == AGENT_IDLE && agent_state_running_failed(&next))
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
    hw_timer_stop(&a->confirm);
    hw_timer_stop(&a->heartbeat);
    agent_notice_free(a->notice);
    if (a->options.nats == NULL)
        hw_nats_close(a->nats);
    agent_watch_free(a->watch);
    agent_reporter_free(a->reporter);
    agent_proposer_free(a->proposer);
    agent_store_close(a->store);
    hw_trust_free(a->trust);
    free(a->output);
    free(a->sources);
    free(a->alive);
    free(a->file);
    free(a->data);
    free(a);
}
