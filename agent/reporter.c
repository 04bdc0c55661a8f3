#include "agent/reporter.h"

#include <stdlib.h>
#include <string.h>

#include "agent/report.h"
#include "base/memory.h"
#include "base/names.h"
#include "common/backoff.h"
#include "nats/kv.h"
#include "protocol/keys.h"
#include "protocol/report.h"

#define RETRY_LIMIT_MS 60000
#define DAMP_MS        15000 /* before a twin's report is overwritten for the first time */

enum {
    REFUSALS_MOST = 3, /* a server that refuses what it says itself is not believed for ever */
    ALONE_POLLS = 3,   /* a report that stood for so many polls has no twin */
};

struct agent_reporter {
    struct hw_nats *nats;
    char *bucket, *key;
    struct agent_reporter_events events;
    json_t *wanted;    /* NULL: nothing to say */
    json_t *published; /* what the key holds, as far as is known; NULL: something else */
    bool compared;     /* published is known, from a look or an acknowledgement */
    json_t *in_flight; /* sent, and not acknowledged yet */
    int failures;      /* in a row */
    int refusals;      /* in a row: the key had another entry than the one seen last */
    int64_t poll_ms;
    struct hw_timer timer; /* of the next comparison with what the bucket holds */

    /* Sequence numbers of the key. */
    uint64_t seen;   /* the newest entry that was seen; 0: there is none */
    uint64_t own;    /* the newest that we wrote, or found fit; 0: none yet */
    bool unsure;     /* a newer one may be ours: whether it was stored is not known */
    bool is_adopted; /* own says what we want to say, and another instance wrote it */
    int64_t own_at;  /* hw_loop_now() when own was written */

    bool has_twin;
    int overtaken;      /* how often the twin's report was found on top of ours */
    int64_t damp_until; /* hw_loop_now() before which the twin's report stays; 0: it may go */
};

static void compare(void *arg);

static void compare_in(struct agent_reporter *r, int64_t ms)
{
    hw_timer_start(hw_nats_loop(r->nats), &r->timer, ms, compare, r);
}

/* The key may or may not hold what was sent, so it is compared anew before anything is published
 * again. */
static void failed(struct agent_reporter *r, const struct hw_error *why)
{
    r->compared = false;
    if (r->failures++ == 0)
        r->events.trouble(r->events.arg, why);
    compare_in(r, hw_backoff_ms(r->failures, RETRY_LIMIT_MS));
}

static void turn(struct agent_reporter *r);

static void on_ack(void *arg, const struct hw_ack *ack)
{
    struct agent_reporter *r = arg;
    json_t *sent = HW_TAKE(r->in_flight);

    if (ack->status == HW_ECONFLICT && r->refusals++ < REFUSALS_MOST) {
        json_decref(sent);
        r->compared = false;
        compare_in(r, 0);
        return;
    }
    if (ack->status != HW_OK) {
        json_decref(sent);
        r->unsure |= ack->status == HW_ETIMEOUT || ack->status == HW_EUNAVAIL;
        failed(r, &ack->err);
        return;
    }
    r->failures = r->refusals = 0;
    r->seen = r->own = ack->seq;
    r->own_at = hw_loop_now();
    r->unsure = r->is_adopted = false;
    json_decref(r->published);
    r->published = sent;
    if (json_equal(r->published, r->wanted) == 1)
        r->events.agreed(r->events.arg);
    turn(r);
}

/* Publishes without waiting. A newer report that comes meanwhile is published after the
 * acknowledgement. */
static void publish(struct agent_reporter *r)
{
    HW_AUTO_FREE char *text = agent_report_text(r->wanted);
    const uint64_t expected = r->refusals < REFUSALS_MOST ? r->seen : HW_SEQ_ANY;
    struct hw_error err;
    natsMsg *msg;
    enum hw_status status;

    status = hw_kv_message(r->bucket, r->key, text, strlen(text), &msg, &err);
    if (status == HW_OK)
        status = hw_nats_publish(r->nats, msg, expected, on_ack, r, &err);
    if (status == HW_OK)
        r->in_flight = json_incref(r->wanted);
    else
        failed(r, &err);
}

/* Publishes the wanted report, unless the key holds it or another one is on its way. On top of a
 * twin's report it waits; NATS is asked all the same, since whoever applied something wants to know
 * that NATS can still be reached. */
static void turn(struct agent_reporter *r)
{
    if (r->wanted == NULL || r->in_flight != NULL || !hw_nats_up(r->nats))
        return;
    if (r->damp_until != 0)
        compare_in(r, 0);
    else if (r->compared && (r->published == NULL || json_equal(r->published, r->wanted) != 1))
        publish(r);
}

/* ---- what the key holds ---- */

/* Another instance wrote after us. */
static void meet_twin(struct agent_reporter *r, const char *instance)
{
    const int64_t now = hw_loop_now();
    const int64_t first = DAMP_MS < r->poll_ms ? DAMP_MS : r->poll_ms;
    int64_t damp = r->overtaken < 16 ? first << r->overtaken : r->poll_ms;

    r->has_twin = true;
    if (r->damp_until == 0) {
        if (damp > r->poll_ms)
            damp = r->poll_ms;
        r->damp_until = now + hw_jitter_ms(damp) + 1;
        r->overtaken++;
    } else if (now >= r->damp_until) {
        r->damp_until = 0; /* its time is over: our report goes on top of it */
    }
    if (r->damp_until != 0) {
        r->compared = false;
        compare_in(r, r->damp_until - now);
    }
    r->events.twin(r->events.arg, instance);
}

/* No twin's report is there. */
static void miss_twin(struct agent_reporter *r)
{
    r->damp_until = 0;
    if (!r->has_twin || r->own == 0 || r->seen != r->own ||
        hw_loop_now() - r->own_at < ALONE_POLLS * r->poll_ms)
        return;
    r->has_twin = false;
    r->overtaken = 0;
    r->events.twin(r->events.arg, NULL);
}

/* Judges the newest entry. Sets published where it says what we want to say. */
static void judge(struct agent_reporter *r, const struct hw_kv_entry *entry)
{
    const char *const ours = json_string_value(json_object_get(r->wanted, "instance"));
    const bool same = hw_report_matches(r->wanted, entry->value, entry->size);
    char instance[HW_NAME_MOST + 1];

    hw_report_instance(entry->value, entry->size, instance);
    const bool is_ours = ours != NULL && strcmp(instance, ours) == 0;

    if (entry->seq == r->own || (is_ours && r->unsure)) {
        r->own = entry->seq;
        r->unsure = false;
        miss_twin(r);
        if (same && !r->is_adopted)
            r->published = json_incref(r->wanted);
    } else if (r->own == 0 || entry->seq < r->own || *instance == '\0') {
        /* It is what this node said before its start, or what NATS had before it lost something, or
         * nobody says whose it is. What fits may stay until the next look: a whole fleet that is
         * started again writes nothing at once. */
        r->damp_until = 0;
        if (same) {
            r->published = json_incref(r->wanted);
            r->is_adopted = *instance != '\0' && !is_ours;
            r->own = entry->seq;
        }
    } else if (is_ours) {
        r->compared = false;
        compare_in(r, 0);
        r->events.copied(r->events.arg);
    } else {
        meet_twin(r, instance);
    }
}

/* Reads the key to learn what is published. */
static void compare(void *arg)
{
    struct agent_reporter *r = arg;
    struct hw_kv_entry entry;
    struct hw_error err;
    enum hw_status status;

    compare_in(r, hw_jitter_ms(r->poll_ms));
    if (r->in_flight != NULL || !hw_nats_up(r->nats))
        return;
    json_decref(r->published);
    r->published = NULL;
    r->compared = true;
    if (r->wanted == NULL)
        return;
    status = hw_kv_get(r->nats, r->bucket, r->key, &entry, &err);
    if (status != HW_OK && status != HW_ENOENT) {
        failed(r, &err);
        return;
    }
    r->failures = 0;
    r->seen = status == HW_OK ? entry.seq : HW_SEQ_NONE;
    if (status == HW_OK && !entry.deleted)
        judge(r, &entry);
    else
        r->damp_until = 0;
    if (status == HW_OK)
        hw_kv_entry_clear(&entry);
    if (r->published != NULL)
        r->events.agreed(r->events.arg);
    if (r->damp_until == 0)
        turn(r);
}

struct agent_reporter *agent_reporter_new(struct hw_nats *nats, const char *bucket,
                                          const char *node, int64_t poll_ms,
                                          const struct agent_reporter_events *events)
{
    struct agent_reporter *r = hw_alloc(sizeof(*r));

    r->nats = nats;
    r->bucket = hw_strdup(bucket);
    r->key = hw_sprintf(HW_KEY_REPORTED "%s", node);
    r->events = *events;
    r->poll_ms = poll_ms;
    return r;
}

void agent_reporter_free(struct agent_reporter *r)
{
    if (r == NULL)
        return;
    hw_timer_stop(&r->timer);
    json_decref(r->wanted);
    json_decref(r->published);
    json_decref(r->in_flight);
    free(r->key);
    free(r->bucket);
    free(r);
}

void agent_reporter_set(struct agent_reporter *r, json_t *report)
{
    json_decref(r->wanted);
    r->wanted = report;
    turn(r);
}

void agent_reporter_check(struct agent_reporter *r)
{
    compare_in(r, 0);
}
