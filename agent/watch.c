#include "agent/watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/number.h"
#include "common/backoff.h"
#include "common/outage.h"
#include "protocol/keys.h"
#include "protocol/subjects.h"

#define RETRY_LIMIT_MS 30000
#define LATE_LOOKS     5

struct agent_watch {
    struct hw_nats *nats;
    char *bucket, *key;
    struct agent_watch_events events;
    int64_t poll_ms;
    struct hw_timer timer; /* of the next look; it runs from the first look on */
    bool paused, wanted;   /* wanted: a look waits for the end of the pause */
    int failures;          /* in a row */
    uint64_t failed;       /* reads in all */
    struct hw_outage outage;
    char why[HW_ERROR_MAX]; /* the last read failed */
    uint64_t hinted;        /* the newest sequence that a hint named */
    int late;               /* looks in a row that found an older one than that */
};

/* In a cluster the replica that answers may be behind the one that sent the hint. Then the key is
 * read again after 50 ms, 100 ms and so on up to 800 ms; after that the hint is forgotten. */
static void compare_with_hint(struct agent_watch *w, uint64_t seq)
{
    if (seq < w->hinted && w->late < LATE_LOOKS) {
        agent_watch_look(w, 50 << w->late++);
    } else {
        w->hinted = 0;
        w->late = 0;
    }
}

static void read_entry(struct agent_watch *w)
{
    struct hw_kv_entry found = {.seq = 0};
    struct hw_error err;
    const enum hw_status status = hw_kv_get(w->nats, w->bucket, w->key, &found, &err);

    if (status != HW_OK && status != HW_ENOENT) {
        w->failed++;
        snprintf(w->why, sizeof(w->why), "%s", err.message);
        agent_watch_look(w, hw_backoff_ms(++w->failures, RETRY_LIMIT_MS));
        if (hw_outage_goes_on(&w->outage, err.message, hw_loop_now()))
            w->events.trouble(w->events.arg, &err);
        return;
    }
    w->failures = 0;
    (void)hw_outage_ends(&w->outage, hw_loop_now(), &(int64_t){0});
    compare_with_hint(w, found.seq);
    if (status == HW_ENOENT) {
        w->events.none(w->events.arg);
    } else {
        const struct hw_entry entry = hw_entry_of(&found);

        w->events.entry(w->events.arg, &entry);
        hw_kv_entry_clear(&found);
    }
}

/* The timer runs on, so that the next look comes even if nothing else asks for one. */
static void look(void *arg)
{
    struct agent_watch *w = arg;

    hw_timer_start(hw_nats_loop(w->nats), &w->timer, hw_jitter_ms(w->poll_ms), look, w);
    w->wanted = w->paused;
    if (!w->paused && hw_nats_up(w->nats))
        read_entry(w);
    w->events.looked(w->events.arg);
}

void agent_watch_look(struct agent_watch *w, int64_t within_ms)
{
    if (!hw_timer_running(&w->timer) || w->timer.due > hw_loop_now() + within_ms)
        hw_timer_start(hw_nats_loop(w->nats), &w->timer, within_ms, look, w);
}

void agent_watch_rejoin(struct agent_watch *w, int64_t within_ms)
{
    w->failures = 0;
    (void)hw_outage_ends(&w->outage, hw_loop_now(), &(int64_t){0});
    agent_watch_look(w, within_ms);
}

void agent_watch_pause(struct agent_watch *w, bool pause)
{
    w->paused = pause;
    if (!pause && w->wanted)
        agent_watch_look(w, 0);
}

/* A hint is a copy of the entry that NATS has sent to all who listen. Only its sequence number
 * is used, to notice that a look has found an older entry; the entry itself is read by direct
 * get. */
static void on_hint(void *arg, natsMsg *msg)
{
    struct agent_watch *w = arg;
    const char *text = NULL;
    uint64_t seq;

    if (natsMsgHeader_Get(msg, "Nats-Sequence", &text) == NATS_OK && hw_number_parse(text, &seq) &&
        seq > w->hinted)
        w->hinted = seq;
    w->late = 0;
    agent_watch_look(w, 0);
}

enum hw_status agent_watch_start(struct hw_nats *nats, const char *bucket, const char *node,
                                 int64_t poll_ms, const struct agent_watch_events *events,
                                 struct agent_watch **out, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_hint(bucket, HW_HINT_DESIRED, node);
    struct agent_watch *w = hw_alloc(sizeof(*w));
    struct hw_nats_sub *sub; /* closed with the connection */
    enum hw_status status;

    w->nats = nats;
    w->bucket = hw_strdup(bucket);
    w->key = hw_sprintf(HW_KEY_DESIRED "%s", node);
    w->events = *events;
    w->poll_ms = poll_ms;
    status = hw_nats_subscribe(nats, subject, on_hint, w, &sub, err);
    if (status != HW_OK) {
        agent_watch_free(w);
        return status;
    }
    *out = w;
    return HW_OK;
}

void agent_watch_free(struct agent_watch *w)
{
    if (w == NULL)
        return;
    hw_timer_stop(&w->timer);
    free(w->key);
    free(w->bucket);
    free(w);
}

uint64_t agent_watch_failed(const struct agent_watch *w)
{
    return w->failed;
}

const char *agent_watch_stuck(const struct agent_watch *w)
{
    const bool stuck = hw_nats_up(w->nats) &&
                       hw_outage_age(&w->outage, hw_loop_now()) >= hw_nats_unread_ms(w->nats);

    return stuck ? w->why : "";
}

const char *agent_watch_key(const struct agent_watch *w)
{
    return w->key;
}
