#include "agent/reporter.h"

#include <stdlib.h>
#include <string.h>

#include "agent/report.h"
#include "common/backoff.h"
#include "common/memory.h"
#include "nats/kv.h"
#include "protocol/keys.h"
#include "protocol/report.h"

#define RETRY_LIMIT_MS 60000

struct agent_reporter {
    struct hw_nats *nats;
    char *bucket, *key;
    struct agent_reporter_events events;
    json_t *wanted;    /* NULL: nothing to say */
    json_t *published; /* what the key holds, as far as is known; NULL: something else */
    bool compared;     /* published is known, from a look or an acknowledgement */
    json_t *in_flight; /* sent, and not acknowledged yet */
    int failures;      /* in a row */
    int64_t poll_ms;
    struct hw_timer timer; /* of the next comparison with what the bucket holds */
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

    if (ack->status != HW_OK) {
        json_decref(sent);
        failed(r, &ack->err);
        return;
    }
    r->failures = 0;
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
    struct hw_error err;
    natsMsg *msg;
    enum hw_status status;

    status = hw_kv_message(r->bucket, r->key, text, strlen(text), &msg, &err);
    if (status == HW_OK)
        status = hw_nats_publish(r->nats, msg, HW_SEQ_ANY, on_ack, r, &err);
    if (status == HW_OK)
        r->in_flight = json_incref(r->wanted);
    else
        failed(r, &err);
}

/* Publishes the wanted report, unless the key holds it or another one is on its way. */
static void turn(struct agent_reporter *r)
{
    if (!r->compared || r->wanted == NULL || r->in_flight != NULL || !hw_nats_up(r->nats))
        return;
    if (r->published == NULL || json_equal(r->published, r->wanted) != 1)
        publish(r);
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
    if (status == HW_OK) {
        if (!entry.deleted && hw_report_matches(r->wanted, entry.value, entry.size))
            r->published = json_incref(r->wanted);
        hw_kv_entry_clear(&entry);
    }
    r->failures = 0;
    if (r->published != NULL)
        r->events.agreed(r->events.arg);
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
