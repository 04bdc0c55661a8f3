#include "api/resources/events.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "api/access/auth.h"
#include "api/api.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/selector.h"
#include "api/resources/event_stream.h"
#include "api/row.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/log.h"
#include "http/answer.h"

enum {
    RING_AT_START = 1024, /* events of each history: for clients that come back after a restart */
    PAGE = 256,           /* events that one query reads */
    PAGES_MOST = 64,      /* streams that hold a page of their own */
    TICK_MS = 1000,       /* stands in for a notification that was lost */
    JUDGE_TICKS = 5,      /* between two looks at whether clients may still listen */
};

TAILQ_HEAD(streams, api_event_stream);

struct api_events {
    struct hw_loop *loop;
    struct api_listener *listener;
    struct api_subscriber subscriber;
    struct api_event_reader reader;
    bool asking, dirty, stopped;
    bool placed;  /* the end of the histories is known */
    bool current; /* the ring has come to the end of the histories */
    bool complained;
    bool page_turn; /* the last query was for a page: the next one is for the ring */
    struct api_event_ring ring;
    struct streams streams;
    struct streams line; /* those that wait for a page */
    int pages;           /* streams that have one */
    struct api_event_stream
        *asked_for;   /* the stream whose page is being read; NULL: it has ended, or … */
    bool asking_page; /* … the query is for the ring */
    struct hw_timer tick;
    unsigned ticks;
};

static void pump(struct api_events *events);

/* ---- streams ---- */

static void leave_line(struct api_events *events, struct api_event_stream *stream)
{
    if (stream->page_wanted && stream != events->asked_for)
        TAILQ_REMOVE(&events->line, stream, page_link);
}

static void on_want_page(void *arg, struct api_event_stream *stream)
{
    struct api_events *events = arg;

    if (!stream->page_wanted)
        TAILQ_INSERT_TAIL(&events->line, stream, page_link);
    stream->page_wanted = true;
    pump(events);
}

static void on_page_used(void *arg, struct api_event_stream *stream)
{
    struct api_events *events = arg;

    (void)stream;
    events->pages--;
    pump(events);
}

static void on_ended(void *arg, struct api_event_stream *stream)
{
    struct api_events *events = arg;

    TAILQ_REMOVE(&events->streams, stream, link);
    leave_line(events, stream);
    if (stream == events->asked_for)
        events->asked_for = NULL;
    if (stream->page != NULL)
        events->pages--;
    api_event_stream_free(stream);
    pump(events); /* another stream may have its page */
}

/* For a stream that has not begun: returns its request, which must be answered with a problem. */
static struct http_request *give_up(struct api_events *events, struct api_event_stream *stream)
{
    struct http_request *request = stream->request;

    on_ended(events, stream);
    return request;
}

static void on_gone(void *arg)
{
    struct api_event_stream *stream = arg;

    http_answer_problem(give_up(stream->reader->arg, stream), &api_wait_timeout,
                        "Nobody listens any more");
}

static void on_tick(void *arg)
{
    struct api_events *events = arg;
    const bool judge = ++events->ticks % JUDGE_TICKS == 0;
    struct api_event_stream *stream;

    hw_timer_start(events->loop, &events->tick, TICK_MS, on_tick, events);
    TAILQ_FOREACH(stream, &events->streams, link) {
        if (judge && stream->begun &&
            !api_auth_still(api_of(stream->request)->auth, stream->request))
            api_event_stream_end(stream);
        else
            api_event_stream_tick(stream, hw_loop_now());
    }
    events->dirty = true;
    pump(events);
}

/* ---- reading the histories ---- */

static struct api_cursor last_of(const PGresult *rows)
{
    return (struct api_cursor){
        .desired = strtoll(api_row_text(rows, 0, "last_desired"), NULL, 10),
        .reported = strtoll(api_row_text(rows, 0, "last_reported"), NULL, 10),
    };
}

static int count_events(const PGresult *rows)
{
    return api_row_text(rows, 0, "kind") != NULL ? PQntuples(rows) : 0;
}

static void take_page(struct api_events *events, struct api_event_stream *stream,
                      const PGresult *rows)
{
    const struct api_cursor last = last_of(rows);
    const int count = count_events(rows);
    struct api_event **page;

    if (api_cursor_is_behind(last, stream->at)) {
        if (stream->begun)
            api_event_stream_end(stream);
        else
            http_answer_problem(give_up(events, stream), &api_conflict,
                                "Last-Event-ID: is ahead of the history, which ends at "
                                "%" PRId64 "-%" PRId64 ": the database was restored from a backup, "
                                "or is another one. Read the state anew, and come without it",
                                last.desired, last.reported);
        return;
    }
    page = hw_alloc((size_t)(count + 1) * sizeof(struct api_event *));
    for (int i = 0; i < count; i++)
        page[i] = api_event_new(rows, i);
    events->pages++;
    api_event_stream_give_page(stream, page, count, count < PAGE ? last : stream->at);
}

/* The histories end before the place up to which they were read, so they are other histories now,
 * of a database that was put back. */
static void start_anew(struct api_events *events, struct api_cursor last)
{
    struct api_event_stream *stream, *next;

    if (events->placed)
        hw_log_warn("the history is shorter than it was: the database was restored; every event "
                    "stream ends");
    for (stream = TAILQ_FIRST(&events->streams); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, link);
        if (stream->begun)
            api_event_stream_end(stream);
    }
    api_event_ring_restart(
        &events->ring,
        (struct api_cursor){
            .desired = last.desired > RING_AT_START ? last.desired - RING_AT_START : 0,
            .reported = last.reported > RING_AT_START ? last.reported - RING_AT_START : 0,
        });
    events->placed = true;
    events->current = false;
    events->dirty = true;
}

static void take_news(struct api_events *events, const PGresult *rows)
{
    const struct api_cursor last = last_of(rows);
    const int count = count_events(rows);
    struct api_event_stream *stream;

    if (!events->placed || api_cursor_is_behind(last, events->ring.at)) {
        start_anew(events, last);
        return;
    }
    for (int i = 0; i < count; i++)
        api_event_ring_add(&events->ring, api_event_new(rows, i));
    if (count == PAGE) {
        events->dirty = true;
    } else {
        api_cursor_pass_all(&events->ring.at, last);
        events->current = true;
    }
    TAILQ_FOREACH(stream, &events->streams, link)
        api_event_stream_look(stream);
}

/* A stream whose page could not be read waits for one again, or is refused. */
static void on_failure(struct api_events *events, struct api_event_stream *stream,
                       const struct hw_db_outcome *outcome)
{
    if (outcome->status != HW_EUNAVAIL && !events->complained)
        hw_log_warn("cannot read events", HW_E(&outcome->err));
    events->complained = outcome->status != HW_EUNAVAIL;
    if (stream != NULL && stream->begun)
        on_want_page(events, stream);
    else if (stream != NULL)
        http_answer_problem(give_up(events, stream), &api_database_unavailable, "%s",
                            outcome->err.message);
}

static void on_rows(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_events *events = arg;
    struct api_event_stream *stream = HW_TAKE(events->asked_for);

    events->asking = false;
    if (stream != NULL)
        stream->page_wanted = false;
    if (events->stopped)
        return;
    if (outcome->status != HW_OK) {
        on_failure(events, stream, outcome);
        return; /* the tick tries again */
    }
    events->complained = false;
    if (stream != NULL)
        take_page(events, stream, outcome->results[0]);
    else if (!events->asking_page)
        take_news(events, outcome->results[0]);
    pump(events);
}

/* The stream for which a page is read next. NULL: the ring is read next; the two take turns. */
static struct api_event_stream *next_in_line(const struct api_events *events)
{
    if (events->pages >= PAGES_MOST || (events->dirty && events->page_turn))
        return NULL;
    return TAILQ_FIRST(&events->line);
}

static void pump(struct api_events *events)
{
    if (!events->stopped && !events->asking && (events->dirty || next_in_line(events) != NULL))
        api_listener_line_up(events->listener, &events->subscriber);
}

static void on_turn(void *arg)
{
    struct api_events *events = arg;
    struct api_event_stream *stream = next_in_line(events);
    struct api_cursor from = events->ring.at;
    char desired[24], reported[24], most[12];
    const char *const values[] = {desired, reported, most};
    const struct hw_db_query query = {
        .sql = "SELECT * FROM headwater.events_after($1::bigint, $2::bigint, $3::int)",
        .count = 3,
        .values = values,
    };

    if (events->stopped || events->asking || (!events->dirty && stream == NULL))
        return;
    if (stream != NULL)
        from = stream->at;
    else if (!events->placed)
        from = (struct api_cursor){INT64_MAX, INT64_MAX};
    snprintf(desired, sizeof(desired), "%" PRId64, from.desired);
    snprintf(reported, sizeof(reported), "%" PRId64, from.reported);
    snprintf(most, sizeof(most), "%d", PAGE);
    if (!api_listener_ask(events->listener, HW_DB_ATOMIC, &query, 1, on_rows, events))
        return;
    events->asking = true;
    events->asking_page = stream != NULL;
    events->page_turn = stream != NULL;
    if (stream != NULL)
        TAILQ_REMOVE(&events->line, stream, page_link);
    else
        events->dirty = false;
    events->asked_for = stream;
}

/* ---- the listener ---- */

static void on_news(void *arg)
{
    struct api_events *events = arg;

    events->dirty = true;
    pump(events);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct api_events *events = arg;
    struct api_event_stream *stream, *next;

    for (stream = TAILQ_FIRST(&events->line); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, page_link);
        if (!stream->begun)
            http_answer_problem(give_up(events, stream), &api_database_unavailable, "%s",
                                why->message);
    }
}

struct api_events *api_events_new(struct hw_loop *loop, struct api_listener *listener)
{
    static const char *const channels[] = {"headwater_desired", "headwater_reported", NULL};
    struct api_events *events = hw_alloc(sizeof(*events));

    events->loop = loop;
    events->listener = listener;
    TAILQ_INIT(&events->streams);
    TAILQ_INIT(&events->line);
    events->reader = (struct api_event_reader){on_want_page, on_page_used, on_ended, events};
    events->subscriber = (struct api_subscriber){.channels = channels,
                                                 .up = on_news,
                                                 .down = on_down,
                                                 .notify = on_news,
                                                 .turn = on_turn,
                                                 .arg = events};
    api_listener_subscribe(listener, &events->subscriber);
    hw_timer_start(loop, &events->tick, TICK_MS, on_tick, events);
    return events;
}

bool api_events_ready(const struct api_events *events)
{
    return api_listener_up(events->listener) && events->current;
}

const char *api_events_trouble(const struct api_events *events)
{
    return api_listener_up(events->listener) ? "they were not read yet"
                                             : api_listener_trouble(events->listener);
}

void api_events_stop(struct api_events *events)
{
    struct api_event_stream *stream, *next;

    events->stopped = true;
    hw_timer_stop(&events->tick);
    for (stream = TAILQ_FIRST(&events->streams); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, link);
        if (stream->begun)
            api_event_stream_end(stream);
        else
            http_answer_problem(give_up(events, stream), &api_shutting_down,
                                "Come again when it is back");
    }
}

void api_events_free(struct api_events *events)
{
    if (events == NULL)
        return;
    if (!events->stopped)
        api_events_stop(events);
    api_event_ring_restart(&events->ring, events->ring.at);
    free(events);
}

/* ---- GET /v1/events ---- */

static bool read_start(struct http_request *request, struct api_cursor *at, bool *resumes)
{
    const char *id = http_request_header(request, "Last-Event-ID");

    if (id == NULL)
        id = http_request_parameter(request, "last_event_id");
    *resumes = id != NULL;
    if (id == NULL || api_cursor_parse(id, at))
        return true;
    http_answer_problem(request, &http_invalid_parameter,
                        "Last-Event-ID: must be an id that an event had, such as 120-45");
    return false;
}

void api_events_get(struct http_request *request)
{
    struct api_events *events = api_of(request)->events;
    const struct api_event_ring *const ring = &events->ring;
    const char *types = http_request_parameter(request, "types");
    struct api_event_filter filter = {
        .kinds =
            types != NULL ? api_event_kinds_parse(types) : API_EVENT_DESIRED | API_EVENT_REPORTED,
        .node = http_request_parameter(request, "node"),
    };
    HW_AUTO_JSON json_t *alternatives = NULL;
    struct api_cursor at = ring->at;
    struct api_event_stream *stream;
    bool resumes;

    if (filter.kinds == 0) {
        http_answer_problem(request, &http_invalid_parameter,
                            "types: must be desired, reported, or desired,reported");
        return;
    }
    if (!api_selector_alternatives(request, &alternatives) || !read_start(request, &at, &resumes))
        return;
    if (events->stopped || !api_events_ready(events)) {
        if (events->stopped)
            http_answer_problem(request, &api_shutting_down, "Come again when it is back");
        else
            http_answer_problem(request, &api_database_unavailable,
                                "The events cannot be read from the database: %s",
                                api_events_trouble(events));
        return;
    }
    if (strcmp(request->method, "HEAD") == 0) {
        http_answer_stream_head(request, "text/event-stream");
        return;
    }
    filter.alternatives = HW_TAKE(alternatives);
    stream = api_event_stream_new(request, &filter, ring, at, &events->reader);
    TAILQ_INSERT_TAIL(&events->streams, stream, link);
    /* An id that this instance has not come to may be another instance's, which is faster, or of
     * another history: the database knows. */
    if (resumes && (api_cursor_is_behind(at, ring->from) || api_cursor_is_behind(ring->at, at))) {
        http_request_on_gone(request, on_gone, stream);
        on_want_page(events, stream);
    } else {
        api_event_stream_begin(stream);
    }
}
