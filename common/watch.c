#include "common/watch.h"

#include <stdlib.h>

#include "common/memory.h"

enum {
    RETRY_MS = 1000,
    SILENT_MS = 8000, /* a server that was killed may count wrong how much is still to come; longer
                       * than a missing heartbeat takes to be noticed */
    REREAD_MS = 300000,
};

struct hw_watch {
    struct hw_nats *nats;
    struct hw_nats_listener listener;
    const struct hw_watch_events *events;
    void *arg;
    enum hw_deliver deliver;
    char *stream, *filter;
    struct hw_nats_sub *sub;
    uint64_t received; /* messages of this subscription; each carries its number */
    uint64_t heard;    /* of them, when the last look was taken for silence */
    bool caught_up;
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

static void on_message(void *arg, natsMsg *msg)
{
    struct hw_watch *watch = arg;
    jsMsgMetaData *meta = NULL;

    if (natsMsg_GetMetaData(&meta, msg) != NATS_OK)
        return; /* not from a stream */
    const uint64_t seq = meta->Sequence.Stream;
    const bool last = meta->NumPending == 0;
    const bool gap = meta->Sequence.Consumer != ++watch->received;
    jsMsgMetaData_Destroy(meta);
    if (gap) {
        hw_watch_restart(watch);
        return;
    }
    watch->events->message(watch->arg, msg, seq);
    if (last && !watch->caught_up)
        catch_up(watch);
}

static void start(void *arg)
{
    struct hw_watch *watch = arg;
    enum hw_status status = HW_OK;
    struct hw_error err;
    uint64_t pending = 0;

    hw_nats_unsubscribe(HW_TAKE(watch->sub));
    hw_timer_stop(&watch->silence);
    watch->received = 0;
    watch->caught_up = false;
    if (!hw_nats_up(watch->nats))
        return; /* the listener starts it again */
    if (watch->events->starting != NULL)
        status = watch->events->starting(watch->arg, &err);
    if (status == HW_OK)
        status = hw_nats_consume(watch->nats, watch->stream, watch->filter, watch->deliver,
                                 on_message, watch, &watch->sub, &pending, &err);
    if (status != HW_OK) {
        hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, RETRY_MS, start, watch);
        if (watch->events->restarting != NULL)
            watch->events->restarting(watch->arg, &err);
        return;
    }
    hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, REREAD_MS, start, watch);
    watch->heard = UINT64_MAX;
    if (pending == 0)
        catch_up(watch);
    else
        look_for_silence(watch);
}

void hw_watch_restart(struct hw_watch *watch)
{
    hw_timer_start(hw_nats_loop(watch->nats), &watch->timer, 0, start, watch);
}

static void restart(void *arg)
{
    hw_watch_restart(arg);
}

struct hw_watch *hw_watch_start(struct hw_nats *nats, const char *stream, const char *filter,
                                enum hw_deliver deliver, const struct hw_watch_events *events,
                                void *arg)
{
    struct hw_watch *watch = hw_alloc(sizeof(*watch));

    watch->nats = nats;
    watch->events = events;
    watch->arg = arg;
    watch->deliver = deliver;
    watch->stream = hw_strdup(stream);
    watch->filter = hw_strdup(filter);
    watch->listener = (struct hw_nats_listener){.up = restart, .trouble = restart, .arg = watch};
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
    hw_nats_unsubscribe(watch->sub);
    free(watch->stream);
    free(watch->filter);
    free(watch);
}
