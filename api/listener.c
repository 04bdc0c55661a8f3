#include "api/listener.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "common/log.h"
#include "common/outage.h"
#include "pg/pool.h"

enum { LISTEN_AGAIN_MS = 1000 };

struct api_listener {
    struct hw_loop *loop;
    struct hw_db *db;
    const struct hw_pool *pool;
    bool connected;
    bool up; /* the channels are listened to */
    bool stopped;
    TAILQ_HEAD(, api_subscriber) subscribers;
    TAILQ_HEAD(, api_subscriber) line;
    bool in_turn;
    /* the question that runs */
    hw_db_done_fn *done;
    void *arg;
    struct hw_timer again;
    struct hw_error trouble;
    struct hw_outage outage; /* of a database that is there, and refuses us or LISTEN */
};

/* ---- turns ---- */

static void serve_line(struct api_listener *listener)
{
    struct api_subscriber *next;

    while (!listener->stopped && listener->up && !listener->in_turn && hw_db_idle(listener->db) &&
           (next = TAILQ_FIRST(&listener->line)) != NULL) {
        TAILQ_REMOVE(&listener->line, next, line_link);
        next->in_line = false;
        listener->in_turn = true;
        next->turn(next->arg);
        listener->in_turn = false;
    }
}

static void on_answer(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_listener *listener = arg;

    HW_TAKE(listener->done)(listener->arg, outcome);
    serve_line(listener);
}

void api_listener_line_up(struct api_listener *listener, struct api_subscriber *subscriber)
{
    if (!listener->up || listener->stopped)
        return;
    if (!subscriber->in_line)
        TAILQ_INSERT_TAIL(&listener->line, subscriber, line_link);
    subscriber->in_line = true;
    serve_line(listener);
}

bool api_listener_ask(struct api_listener *listener, enum hw_db_mode mode,
                      const struct hw_db_query *queries, int count, hw_db_done_fn *done, void *arg)
{
    struct hw_error err;

    listener->done = done;
    listener->arg = arg;
    return hw_db_run(listener->db, mode, queries, count, NULL, on_answer, listener, &err) == HW_OK;
}

/* ---- the connection ---- */

static void go_down(struct api_listener *listener, const struct hw_error *why)
{
    struct api_subscriber *subscriber;

    listener->up = false;
    listener->trouble = *why;
    while ((subscriber = TAILQ_FIRST(&listener->line)) != NULL) {
        TAILQ_REMOVE(&listener->line, subscriber, line_link);
        subscriber->in_line = false;
    }
    TAILQ_FOREACH(subscriber, &listener->subscribers, link)
        if (subscriber->down != NULL)
            subscriber->down(subscriber->arg, why);
}

static void tell_trouble(struct api_listener *listener, const struct hw_error *why)
{
    if (hw_outage_goes_on(&listener->outage, why->message, hw_loop_now()))
        hw_log_error("cannot listen for what happens in the database", HW_E(why));
}

static void listen_to_all(void *arg);

static void on_listening(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_listener *listener = arg;
    struct api_subscriber *subscriber;
    int64_t lasted;

    if (outcome->status == HW_EUNAVAIL)
        return; /* on_down tells */
    if (outcome->status != HW_OK) {
        const char *refusal = hw_db_refuses_writes(listener->db);
        struct hw_error why = outcome->err;

        if (refusal != NULL)
            (void)hw_fail(&why, why.status,
                          "%.300s: %s, and notifications come from servers that take writes; one "
                          "is looked for",
                          outcome->err.message, refusal);
        tell_trouble(listener, &why);
        go_down(listener, &why);
        hw_timer_start(listener->loop, &listener->again, LISTEN_AGAIN_MS, listen_to_all, listener);
        return;
    }
    (void)hw_outage_ends(&listener->outage, hw_loop_now(), &lasted);
    listener->up = true;
    TAILQ_FOREACH(subscriber, &listener->subscribers, link)
        if (subscriber->up != NULL)
            subscriber->up(subscriber->arg);
    serve_line(listener);
}

/* A channel that two subscribers name is listened to twice, which PostgreSQL takes as once. */
static void listen_to_all(void *arg)
{
    enum { STATEMENTS_MAX = 16 };
    struct api_listener *listener = arg;
    struct hw_db_query queries[STATEMENTS_MAX] = {
        {.sql = "SELECT set_config('statement_timeout', '30s', false)"}};
    char *listens[STATEMENTS_MAX] = {0};
    const struct api_subscriber *subscriber;
    struct hw_error err;
    int count = 1;

    TAILQ_FOREACH(subscriber, &listener->subscribers, link)
        for (const char *const *channel = subscriber->channels; *channel != NULL; channel++) {
            if (count == STATEMENTS_MAX)
                abort(); /* there are no that many channels */
            listens[count] = hw_sprintf("LISTEN %s", *channel);
            queries[count].sql = listens[count];
            count++;
        }
    if (hw_db_run(listener->db, HW_DB_SEPARATE, queries, count, NULL, on_listening, listener,
                  &err) != HW_OK)
        hw_log_debug("cannot listen now", HW_E(&err)); /* it is down, and will be up */
    for (int i = 0; i < count; i++)
        free(listens[i]);
}

static void on_up(void *arg)
{
    struct api_listener *listener = arg;

    listener->connected = true;
    listen_to_all(listener);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct api_listener *listener = arg;

    hw_timer_stop(&listener->again);
    if (!listener->connected && hw_pool_up(listener->pool))
        tell_trouble(listener, why);
    listener->connected = false;
    go_down(listener, why);
}

static bool names(const struct api_subscriber *subscriber, const char *wanted)
{
    for (const char *const *channel = subscriber->channels; *channel != NULL; channel++)
        if (strcmp(*channel, wanted) == 0)
            return true;
    return false;
}

static void on_notify(void *arg, const char *channel)
{
    const struct api_listener *listener = arg;
    struct api_subscriber *subscriber;

    if (!listener->up)
        return; /* up makes all of them look anew */
    TAILQ_FOREACH(subscriber, &listener->subscribers, link)
        if (subscriber->notify != NULL && names(subscriber, channel))
            subscriber->notify(subscriber->arg);
}

/* ---- beginning and end ---- */

enum hw_status api_listener_open(struct hw_loop *loop, const char *conninfo,
                                 const struct hw_pool *pool, struct api_listener **out,
                                 struct hw_error *err)
{
    struct api_listener *listener = hw_alloc(sizeof(*listener));
    const struct hw_db_events events = {
        .up = on_up, .down = on_down, .notify = on_notify, .arg = listener};
    enum hw_status status;

    listener->loop = loop;
    listener->pool = pool;
    TAILQ_INIT(&listener->subscribers);
    TAILQ_INIT(&listener->line);
    hw_fail(&listener->trouble, HW_EUNAVAIL, "no connection to the database was made yet");
    status = hw_db_open(loop, conninfo, "headwater-api listener", &events, &listener->db, err);
    if (status != HW_OK) {
        free(listener);
        return status;
    }
    *out = listener;
    return HW_OK;
}

void api_listener_subscribe(struct api_listener *listener, struct api_subscriber *subscriber)
{
    TAILQ_INSERT_TAIL(&listener->subscribers, subscriber, link);
}

bool api_listener_up(const struct api_listener *listener)
{
    return listener->up && !listener->stopped;
}

const char *api_listener_trouble(const struct api_listener *listener)
{
    return listener->trouble.message;
}

void api_listener_stop(struct api_listener *listener)
{
    listener->stopped = true;
    hw_timer_stop(&listener->again);
    hw_db_close(HW_TAKE(listener->db));
}

void api_listener_free(struct api_listener *listener)
{
    if (listener == NULL)
        return;
    if (!listener->stopped)
        api_listener_stop(listener);
    free(listener);
}
