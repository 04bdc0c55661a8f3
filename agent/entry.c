#include "agent/entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/desired.h"
#include "agent/target.h"
#include "base/memory.h"
#include "common/backoff.h"

#define SAVE_RETRY_MS    20000   /* mean, between tries of a state that the disk did not take */
#define STALE_AGAIN_MS   2000    /* mean, until an older entry is read a second time */
#define NOTHING_AGAIN_MS 3600000 /* until the log is told again that nothing is desired */

/* Tells it once for an entry. */
static void complain(struct agent *a, uint64_t seq, const char *what,
                     const struct agent_document *document, const char *detail)
{
    if (a->complained_seq == seq)
        return;
    a->complained_seq = seq;
    agent_core_tell(a, HW_LOG_WARN, what, document, detail);
}

static void record(struct agent *a, const struct agent_state *next)
{
    struct hw_error err;

    if (agent_core_save(a, next, &err)) {
        agent_core_report(a);
        return;
    }
    agent_core_tell(a, HW_LOG_ERROR, "cannot record the state; trying again", NULL, err.message);
    agent_watch_look(a->watch, hw_jitter_ms(SAVE_RETRY_MS));
}

static void refuse(struct agent *a, uint64_t seq, const struct hw_error *why)
{
    struct agent_state next = *agent_core_state(a);
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

/* A replica that lags behind the others may have answered, so an older entry is refused only when
 * a second look still finds it. */
static void refuse_stale(struct agent *a, uint64_t seq, const struct agent_document *desired)
{
    struct hw_error err;

    if (a->complained_seq == seq) {
        hw_fail(&err, HW_EINVAL, "epoch %llu, LSN %s: older than one accepted before",
                (unsigned long long)desired->fence.epoch, HW_LSN(desired->fence.lsn));
        refuse(a, seq, &err);
        return;
    }
    complain(a, seq, "refused a desired entry older than one accepted before", desired, NULL);
    agent_watch_look(a->watch, hw_jitter_ms(STALE_AGAIN_MS));
}

/* The state keeps a desired document only from the moment when it runs, but at once that something
 * is desired. */
static void keep_something(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);

    if (!next.nothing)
        return;
    next.nothing = false;
    agent_core_save_or_tell(a, &next);
}

/* Tells it at first and then once an hour: it may be meant so. */
static void tell_nothing(struct agent *a)
{
    const int64_t now = hw_loop_now();

    if (a->told_nothing != 0 && now - a->told_nothing < NOTHING_AGAIN_MS)
        return;
    a->told_nothing = now;
    agent_core_tell(a, HW_LOG_WARN, AGENT_NOTHING_DESIRED, NULL, NULL);
}

void agent_entry_none(struct agent *a)
{
    struct agent_state next = *agent_core_state(a);

    if (next.desired_revision != 0 || a->target.set)
        return;
    tell_nothing(a);
    if (next.nothing)
        return;
    next.nothing = true;
    record(a, &next);
}

static void make_target(struct agent *a, const struct agent_document *desired)
{
    const int64_t wait = a->retry ? 0 : hw_random_ms(a->options.splay_ms);

    agent_core_tell(a, HW_LOG_INFO, "desired", desired, NULL);
    a->target = *desired;
    a->untried = a->its_turn = true;
    a->failures = 0;
    agent_target_due_in(a, wait);
    if (a->hold.set)
        agent_core_tell(a, HW_LOG_INFO, "held: it waits for the release", desired, a->hold.reason);
}

/* The bytes run already, under another revision: only the record changes. */
static void adopt(struct agent *a, struct agent_state *next, const struct agent_document *desired)
{
    agent_core_tell(a, HW_LOG_INFO, "desired anew with the same content", desired, NULL);
    if (next->running.revision != desired->revision)
        agent_time_now(next->running.applied_at);
    next->running.revision = desired->revision;
    next->running.fence = desired->fence;
    next->desired_revision = desired->revision;
}

/* The node keeps what it runs: an assignment that was removed by mistake must not stop a
 * detector. */
static void give_up(struct agent *a, struct agent_state *next)
{
    agent_core_tell(a, HW_LOG_INFO, "nothing is desired any more; what runs stays", NULL, NULL);
    a->told_nothing = hw_loop_now();
    next->desired_revision = 0;
}

void agent_entry_take(struct agent *a, const struct hw_entry *entry)
{
    struct agent_state next = *agent_core_state(a);
    struct agent_document desired;
    struct hw_error err;
    enum agent_verdict verdict;

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
        refuse_stale(a, entry->seq, &desired);
        return;
    case AGENT_DESIRED_KNOWN:
        break;
    case AGENT_DESIRED_NONE:
        give_up(a, &next);
        break;
    case AGENT_DESIRED_ADOPT:
        adopt(a, &next, &desired);
        break;
    case AGENT_DESIRED_APPLY:
        make_target(a, &desired);
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
        agent_core_report(a); /* during a hold it names the target that waits */
        return;
    }
    if (next.nothing)
        tell_nothing(a);
    if (verdict == AGENT_DESIRED_NONE || verdict == AGENT_DESIRED_ADOPT) {
        next.fence = desired.fence;
        a->target.set = false;
        /* While going back is stuck, that is what is wrong, and it is wrong with what runs. */
        if (a->stuck)
            next.failed.document = next.running;
        else
            next.failed.set = false;
    }
    record(a, &next);
    agent_target_keep_sources(a);
}
