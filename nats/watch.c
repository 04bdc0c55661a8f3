#include "nats/watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/backoff.h"

enum {
    PAUSE_FIRST_MS = 200,  /* before beginning anew after a failure; it doubles with each one … */
    PAUSE_MOST_MS = 30000, /* … up to this, and is short again after as long without a failure */
    REREAD_MS = 300000,    /* between two readings of what is stored */
    /* A server that was killed may count wrong how many stored messages are still to come. After so
     * long without a message they have all come. It is longer than a consumer takes to notice that
     * heartbeats are missing. */
    SILENT_MS = 8000,
};

struct hw_watch {
    struct hw_nats *nats;
    struct hw_nats_listener listener;
    const struct hw_watch_events *events;
    void *arg;
    enum hw_deliver deliver;
    char *of, *stream, *filter;
    struct hw_consumer *consumer;
    uint64_t received; /* messages of this consumer so far … */
    uint64_t heard;    /* … and when silence was looked for the last time */
    int64_t begun_ms;  /* when the last attempt to begin was made, hw_loop_now() */
    int failures;      /* in a row */
    bool pausing;      /* after a failure: the next consumer is to come */
    bool made;         /* the server has made the consumer */
    bool caught_up;
    uint64_t reached; /* the newest message that was read since the watch had caught up last */
    int64_t progress; /* hw_loop_now() when a newer one was read, or there was nothing to read */
    char why[256];    /* of the last failure */
    char *says;       /* what stuck has answered */
    struct hw_timer timer; /* the next start */
    struct hw_timer silence;
};

static void start(void *arg);

static void catch_up(struct hw_watch *watch)
{
    watch->caught_up = true;
    hw_timer_stop(&watch->silence);
    watch->events->caught_up(watch->arg);
}

static void look_for_silence(void *arg)
{
    struct hw_watch *watch = arg;

    if (watch->caught_up)
        return;
    if (watch->received == watch->heard) {
        catch_up(watch);
        return;
    }
    watch->heard = watch->received;
    hw_timer_start(hw_nats_loop(watch->nats), &watch->silence, SILENT_MS, look_for_silence, watch);
}

static void on_message(void *arg, natsMsg *msg, const struct hw_delivered *delivered)
{
    struct hw_watch *watch = arg;

    watch->received++;
    if (delivered->seq > watch->reached) {
        watch->reached = delivered->seq;
        watch->progress = hw_loop_now();
    }
    watch->events->message(watch->arg, msg, delivered->seq);
    if (delivered->pending == 0 && !watch->caught_up)
        catch_up(watch);
}

/* The pauses grow, because something that goes wrong each time would otherwise keep the server busy
 * with making consumers. */
static void begin_anew(struct hw_watch *watch, const char *why)
{
    hw_timer_stop(&watch->silence);
    if (!hw_nats_up(watch->nats) || watch->pausing)
        return; /* the listener, or the timer, starts it again */
    if (hw_loop_now() - watch->begun_ms > PAUSE_MOST_MS)
        watch->failures = 0;
    const int64_t pause = hw_backoff_from_ms(PAUSE_FIRST_MS, ++watch->failures, PAUSE_MOST_MS);
    watch->pausing = true;
    snprintf(watch->why, sizeof(watch->why), "%s", why);
    hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, pause, start, watch);
    hw_nats_tell_reader(watch->nats, watch->of, why, pause);
}

static void on_lost(void *arg, const char *why)
{
    begin_anew(arg, why);
}

static void on_made(void *arg, uint64_t waiting)
{
    struct hw_watch *watch = arg;

    watch->made = true;
    if (watch->caught_up)
        return; /* the messages were there before the answer */
    if (waiting == 0)
        catch_up(watch);
    else
        look_for_silence(watch);
}

static void on_failed(void *arg, const struct hw_error *why)
{
    struct hw_watch *watch = arg;

    hw_consumer_stop(HW_TAKE(watch->consumer));
    begin_anew(watch, why->message);
    if (watch->events->restarting != NULL)
        watch->events->restarting(watch->arg, why);
}

static const struct hw_consumer_events consumer_events = {
    .made = on_made, .failed = on_failed, .message = on_message, .lost = on_lost};

static void start(void *arg)
{
    struct hw_watch *watch = arg;
    enum hw_status status = HW_OK;
    struct hw_error err;

    hw_consumer_stop(HW_TAKE(watch->consumer));
    hw_timer_stop(&watch->silence);
    watch->received = 0;
    watch->pausing = watch->made = false;
    watch->begun_ms = hw_loop_now();
    if (watch->caught_up) { /* what it has read so far is read again */
        watch->progress = watch->begun_ms;
        watch->reached = 0;
    }
    watch->caught_up = false;
    if (!hw_nats_up(watch->nats))
        return; /* the listener starts it again */
    if (watch->events->starting != NULL)
        status = watch->events->starting(watch->arg, &err);
    if (status == HW_OK)
        status = hw_consumer_start(watch->nats, watch->stream, watch->filter, watch->deliver,
                                   &consumer_events, watch, &watch->consumer, &err);
    if (status != HW_OK) {
        on_failed(watch, &err);
        return;
    }
    hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, REREAD_MS, start, watch);
    watch->heard = UINT64_MAX;
}

void hw_watch_restart(struct hw_watch *watch)
{
    hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, 0, start, watch);
}

/* The consumer would find the gap itself, with its next message. */
static void on_trouble(void *arg)
{
    struct hw_watch *watch = arg;

    hw_consumer_stop(HW_TAKE(watch->consumer));
    begin_anew(watch, "messages were dropped: too many waited to be read");
}

static const char *on_stuck(void *arg)
{
    struct hw_watch *watch = arg;
    const int64_t for_ms = hw_loop_now() - watch->progress;

    if (watch->caught_up || for_ms < hw_nats_unread_ms(watch->nats))
        return NULL;
    free(watch->says);
    watch->says =
        hw_sprintf("%s: %s for %lld s%s%s", watch->of,
                   watch->made ? "messages wait, and none was read" : "reading cannot begin",
                   (long long)(for_ms / 1000), watch->why[0] != '\0' ? ": " : "", watch->why);
    return watch->says;
}

static void on_up(void *arg)
{
    struct hw_watch *watch = arg;

    watch->failures = 0;
    watch->progress = hw_loop_now();
    hw_watch_restart(watch);
}

struct hw_watch *hw_watch_start(struct hw_nats *nats, const char *of, const char *stream,
                                const char *filter, enum hw_deliver deliver,
                                const struct hw_watch_events *events, void *arg)
{
    struct hw_watch *watch = hw_alloc(sizeof(*watch));

    watch->nats = nats;
    watch->events = events;
    watch->arg = arg;
    watch->deliver = deliver;
    watch->progress = hw_loop_now();
    watch->of = hw_strdup(of);
    watch->stream = hw_strdup(stream);
    watch->filter = hw_strdup(filter);
    watch->listener = (struct hw_nats_listener){
        .up = on_up, .trouble = on_trouble, .stuck = on_stuck, .arg = watch};
    hw_nats_listen(nats, &watch->listener);
    hw_watch_restart(watch);
    return watch;
}

void hw_watch_stop(struct hw_watch *watch)
{
    if (watch == NULL)
        return;
    hw_nats_unlisten(watch->nats, &watch->listener);
    hw_timer_stop(&watch->timer);
    hw_timer_stop(&watch->silence);
    hw_consumer_stop(watch->consumer);
    free(watch->says);
    free(watch->of);
    free(watch->stream);
    free(watch->filter);
    free(watch);
}
