#include "api/resources/events.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "api/api.h"
#include "api/auth.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/row.h"
#include "api/selector.h"
#include "common/json.h"
#include "common/log.h"
#include "common/memory.h"
#include "http/answer.h"
#include "pg/database.h"

enum {
    RING_EVENTS = 4096,
    RING_BYTES = 8 << 20,
    RING_AT_START = 1024, /* of each history: for those who come back after a restart */
    PAGE = 256,           /* events that one query reads */
    PAGES_MOST = 64,      /* streams that hold a page of their own */
    TICK_MS = 1000,       /* stands in for a notification that was lost */
    HEARTBEAT_MS = 15000,
    JUDGE_TICKS = 5, /* between two looks at whether clients may still listen */
};

/* Up to where the two histories were read. */
struct cursor {
    int64_t desired, reported;
};

enum { DESIRED = 1, REPORTED = 2 };

struct event {
    int refs;
    int kind;
    int64_t id;
    char *node;
    char *labels_text;
    json_t *labels; /* made of the text when first asked for */
    size_t len;
    char text[]; /* as it is sent, without the id */
};

struct stream {
    TAILQ_ENTRY(stream) link;
    TAILQ_ENTRY(stream) page_link;
    struct api_events *events;
    struct http_request *request;
    bool begun; /* answered, and so the connection's; before that the request is ours to answer */
    bool ending;

    int kinds;
    const char *node;     /* or NULL: any */
    json_t *alternatives; /* that a selector leaves; see selector.h */

    struct cursor at; /* what is behind it is still to be sent */
    uint64_t next;    /* the ring's event to look at next, unless it has a page or waits for one */
    bool page_wanted; /* is in the line for one */
    struct event **page;
    int page_count, page_at;
    struct cursor page_end;

    /* being sent: the text, then the event */
    char text[96];
    size_t text_len, text_at;
    struct event *event;
    size_t event_at;
    int64_t sent_at;
    bool beat;
};

struct api_events {
    struct hw_loop *loop;
    struct hw_db *pg;
    bool ready, asking, dirty, stopped;
    bool placed;  /* it is known where the histories end */
    bool current; /* and the ring has come there */
    bool complained;
    bool page_turn;
    struct cursor at;   /* the ring's end */
    struct cursor from; /* its beginning */
    struct event *ring[RING_EVENTS];
    uint64_t first, next; /* numbers of the ring's events: first to before next */
    size_t ring_bytes;
    TAILQ_HEAD(, stream) streams;
    int count;
    TAILQ_HEAD(, stream) line; /* for pages */
    int pages;
    struct stream *asked_for; /* the query that runs is its page; NULL: it is for the ring */
    bool asking_page;
    struct hw_timer tick;
    unsigned ticks;
    char trouble[HW_ERROR_MAX]; /* why it is not ready */
};

static void pump(struct api_events *events);

/* ---- events ---- */

static struct event *new_event(const PGresult *rows, int row)
{
    const char *kind = api_row_text(rows, row, "kind");
    const char *data = api_row_text(rows, row, "data");
    const char *labels = api_row_text(rows, row, "labels");
    const size_t len = strlen("event: \ndata: \n\n") + strlen(kind) + strlen(data);
    struct event *event = hw_alloc(sizeof(*event) + len + 1);

    event->refs = 1;
    event->kind = strcmp(kind, "desired") == 0 ? DESIRED : REPORTED;
    event->id = strtoll(api_row_text(rows, row, "id"), NULL, 10);
    event->node = hw_strdup(api_row_text(rows, row, "node"));
    event->labels_text = labels != NULL ? hw_strdup(labels) : NULL;
    event->len = len;
    snprintf(event->text, len + 1, "event: %s\ndata: %s\n\n", kind, data);
    return event;
}

static void release(struct event *event)
{
    if (event == NULL || --event->refs > 0)
        return;
    free(event->node);
    free(event->labels_text);
    json_decref(event->labels);
    free(event);
}

static void advance(struct cursor *cursor, const struct event *event)
{
    int64_t *place = event->kind == DESIRED ? &cursor->desired : &cursor->reported;

    if (event->id > *place)
        *place = event->id;
}

static void advance_to(struct cursor *cursor, struct cursor end)
{
    if (end.desired > cursor->desired)
        cursor->desired = end.desired;
    if (end.reported > cursor->reported)
        cursor->reported = end.reported;
}

static bool is_behind(struct cursor cursor, struct cursor other)
{
    return cursor.desired < other.desired || cursor.reported < other.reported;
}

/* jsonb's @>: objects hold the members, arrays the elements, in any order. */
static bool contains(const json_t *have, const json_t *want)
{
    const char *name;
    const json_t *value, *other;
    size_t i, k;

    if (json_is_object(want) && json_is_object(have)) {
        /* jansson's loops take no const, and change nothing. */
        json_object_foreach((json_t *)(uintptr_t)want, name, value)
        {
            other = json_object_get(have, name);
            if (other == NULL || !contains(other, value))
                return false;
        }
        return true;
    }
    if (json_is_array(want) && json_is_array(have)) {
        json_array_foreach(want, i, value)
        {
            bool found = false;

            json_array_foreach(have, k, other) found = found || contains(other, value);
            if (!found)
                return false;
        }
        return true;
    }
    if (json_is_number(want) && json_is_number(have))
        return json_number_value(want) == json_number_value(have);
    return json_equal(have, want);
}

static bool is_wanted(const struct stream *stream, struct event *event)
{
    const json_t *alternative;
    size_t i;

    if ((stream->kinds & event->kind) == 0 ||
        (stream->node != NULL && strcmp(stream->node, event->node) != 0))
        return false;
    if (json_object_size(json_array_get(stream->alternatives, 0)) == 0)
        return true; /* everyone, also a node that is gone */
    if (event->labels == NULL && event->labels_text != NULL) {
        event->labels = json_loads(event->labels_text, JSON_DECODE_ANY, NULL);
        free(HW_TAKE(event->labels_text));
    }
    json_array_foreach(stream->alternatives, i, alternative)
    {
        if (event->labels != NULL && contains(event->labels, alternative))
            return true;
    }
    return false;
}

/* ---- the ring ---- */

static void drop_first(struct api_events *events)
{
    struct event **place = &events->ring[events->first++ % RING_EVENTS];

    advance(&events->from, *place);
    events->ring_bytes -= (*place)->len;
    release(HW_TAKE(*place));
}

static void add_to_ring(struct api_events *events, struct event *event)
{
    while (events->next - events->first == RING_EVENTS ||
           (events->next > events->first && events->ring_bytes + event->len > RING_BYTES))
        drop_first(events);
    events->ring[events->next++ % RING_EVENTS] = event;
    events->ring_bytes += event->len;
    advance(&events->at, event);
}

/* The next event of the ring that the stream wants, left for it to take; or NULL. */
static struct event *look(struct stream *stream)
{
    struct api_events *events = stream->events;

    for (; stream->next < events->next; stream->next++) {
        struct event *event = events->ring[stream->next % RING_EVENTS];
        const int64_t seen = event->kind == DESIRED ? stream->at.desired : stream->at.reported;

        if (event->id <= seen)
            continue;
        if (is_wanted(stream, event))
            return event;
        advance(&stream->at, event);
    }
    return NULL;
}

/* ---- streams ---- */

static void want_page(struct stream *stream)
{
    if (!stream->page_wanted)
        TAILQ_INSERT_TAIL(&stream->events->line, stream, page_link);
    stream->page_wanted = true;
    pump(stream->events);
}

static void leave_line(struct stream *stream)
{
    if (stream->page_wanted)
        TAILQ_REMOVE(&stream->events->line, stream, page_link);
    stream->page_wanted = false;
}

static void drop_page(struct stream *stream)
{
    if (stream->page == NULL)
        return;
    while (stream->page_at < stream->page_count)
        release(stream->page[stream->page_at++]);
    free(HW_TAKE(stream->page));
    stream->events->pages--;
}

static void free_stream(struct stream *stream)
{
    struct api_events *events = stream->events;

    TAILQ_REMOVE(&events->streams, stream, link);
    events->count--;
    leave_line(stream);
    drop_page(stream);
    release(stream->event);
    json_decref(stream->alternatives);
    if (events->asked_for == stream)
        events->asked_for = NULL;
    free(stream);
    if (!events->stopped)
        pump(events); /* another may have its page */
}

static void on_ended(void *arg)
{
    free_stream(arg);
}

/* For one that has not begun: its request is to be answered with a problem. */
static struct http_request *give_up(struct stream *stream)
{
    struct http_request *request = stream->request;

    free_stream(stream);
    return request;
}

static void end_stream(struct stream *stream)
{
    stream->ending = true;
    http_answer_more(stream->request);
}

static struct event *take_event(struct stream *stream)
{
    struct api_events *events = stream->events;
    struct event *event;

    if (stream->page != NULL) {
        while (stream->page_at < stream->page_count) {
            event = stream->page[stream->page_at++];
            advance(&stream->at, event);
            if (is_wanted(stream, event))
                return event; /* with the page's reference */
            release(event);
        }
        advance_to(&stream->at, stream->page_end);
        drop_page(stream);
        stream->next = events->first;
        pump(events);
    }
    if (stream->page_wanted || events->asked_for == stream)
        return NULL;
    /* Fallen out of the ring, or not yet in it? */
    if (stream->next < events->first || is_behind(stream->at, events->from)) {
        if (is_behind(stream->at, events->from)) {
            want_page(stream);
            return NULL;
        }
        stream->next = events->first;
    }
    event = look(stream);
    if (event != NULL) {
        stream->next++;
        event->refs++;
        advance(&stream->at, event);
    }
    return event;
}

/* The comment, or what comes before an event: where a client is to go on. */
static void put_text(struct stream *stream, const char *before, const char *after)
{
    stream->text_len =
        (size_t)snprintf(stream->text, sizeof(stream->text), "%sid: %" PRId64 "-%" PRId64 "\n%s",
                         before, stream->at.desired, stream->at.reported, after);
    stream->text_at = 0;
}

static bool take_next(struct stream *stream)
{
    if (stream->ending)
        return false;
    stream->event = take_event(stream);
    if (stream->event != NULL) {
        stream->event_at = 0;
        put_text(stream, "", "");
        return true;
    }
    if (!stream->beat)
        return false;
    stream->beat = false;
    put_text(stream, ": heartbeat\n", "\n");
    return true;
}

static size_t copy(char *out, size_t room, const char *text, size_t len, size_t *at)
{
    const size_t n = len - *at < room ? len - *at : room;

    memcpy(out, text + *at, n);
    *at += n;
    return n;
}

static ssize_t on_read(void *arg, char *out, size_t room)
{
    struct stream *stream = arg;
    size_t len = 0;

    while (len < room) {
        len += copy(out + len, room - len, stream->text, stream->text_len, &stream->text_at);
        if (stream->event != NULL && len < room) {
            len += copy(out + len, room - len, stream->event->text, stream->event->len,
                        &stream->event_at);
            if (stream->event_at == stream->event->len)
                release(HW_TAKE(stream->event));
        }
        if (len < room && !take_next(stream))
            break;
    }
    if (len > 0) {
        stream->sent_at = hw_loop_now();
        stream->beat = false;
    }
    return len > 0 ? (ssize_t)len : stream->ending ? -1 : 0;
}

/* A stream that has begun ends by itself then. */
static void on_gone(void *arg)
{
    http_answer_problem(give_up(arg), &api_wait_timeout, "Nobody listens any more");
}

static void begin(struct stream *stream)
{
    stream->begun = true;
    stream->sent_at = hw_loop_now();
    put_text(stream, ": connected\nretry: 2000\n", "\n");
    http_answer_stream(stream->request, "text/event-stream", on_read, on_ended, stream);
}

/* ---- the tick ---- */

static void on_tick(void *arg)
{
    struct api_events *events = arg;
    const int64_t now = hw_loop_now();
    const bool judge = ++events->ticks % JUDGE_TICKS == 0;
    struct stream *stream;

    hw_timer_start(events->loop, &events->tick, TICK_MS, on_tick, events);
    TAILQ_FOREACH(stream, &events->streams, link)
    {
        if (!stream->begun)
            continue;
        if (judge && !api_auth_still(api_of(stream->request)->auth, stream->request)) {
            end_stream(stream);
        } else if (now - stream->sent_at >= HEARTBEAT_MS) {
            stream->beat = true;
            http_answer_more(stream->request);
        }
    }
    events->dirty = true;
    pump(events);
}

/* ---- reading the histories ---- */

static struct cursor last_of(const PGresult *rows)
{
    return (struct cursor){
        .desired = strtoll(api_row_text(rows, 0, "last_desired"), NULL, 10),
        .reported = strtoll(api_row_text(rows, 0, "last_reported"), NULL, 10),
    };
}

static int count_events(const PGresult *rows)
{
    return api_row_text(rows, 0, "kind") != NULL ? PQntuples(rows) : 0;
}

static void take_page(struct stream *stream, const PGresult *rows)
{
    const struct cursor last = last_of(rows);

    if (is_behind(last, stream->at)) {
        if (stream->begun)
            end_stream(stream);
        else
            http_answer_problem(give_up(stream), &api_conflict,
                                "Last-Event-ID: is ahead of the history, which ends at "
                                "%" PRId64 "-%" PRId64 ": the database was restored from a backup, "
                                "or is another one. Read the state anew, and come without it",
                                last.desired, last.reported);
        return;
    }
    stream->page_count = count_events(rows);
    stream->page_at = 0;
    stream->page_end = stream->page_count < PAGE ? last : stream->at;
    stream->page = hw_alloc((size_t)(stream->page_count + 1) * sizeof(struct event *));
    stream->events->pages++;
    for (int i = 0; i < stream->page_count; i++)
        stream->page[i] = new_event(rows, i);
    if (stream->begun)
        http_answer_more(stream->request);
    else
        begin(stream);
}

/* The histories end before what was read of them: they are others now. */
static void start_anew(struct api_events *events, struct cursor last)
{
    struct stream *stream, *next;

    if (events->placed)
        hw_log_warn("the history is shorter than it was: the database was restored; every event "
                    "stream ends");
    for (stream = TAILQ_FIRST(&events->streams); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, link);
        if (stream->begun)
            end_stream(stream);
    }
    while (events->first < events->next)
        drop_first(events);
    events->at.desired = last.desired > RING_AT_START ? last.desired - RING_AT_START : 0;
    events->at.reported = last.reported > RING_AT_START ? last.reported - RING_AT_START : 0;
    events->from = events->at;
    events->placed = true;
    events->current = false;
    events->dirty = true;
}

static void take_news(struct api_events *events, const PGresult *rows)
{
    const struct cursor last = last_of(rows);
    const int count = count_events(rows);
    struct stream *stream;

    if (!events->placed || is_behind(last, events->at)) {
        start_anew(events, last);
        return;
    }
    for (int i = 0; i < count; i++)
        add_to_ring(events, new_event(rows, i));
    if (count == PAGE) {
        events->dirty = true;
    } else {
        advance_to(&events->at, last);
        events->current = true;
    }
    TAILQ_FOREACH(stream, &events->streams, link)
    if (stream->begun && !stream->page_wanted && stream->page == NULL &&
        (stream->next < events->first || look(stream) != NULL))
        http_answer_more(stream->request);
}

static void on_rows(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_events *events = arg;
    struct stream *stream = HW_TAKE(events->asked_for);

    events->asking = false;
    if (outcome->status != HW_OK) {
        if (outcome->status != HW_EUNAVAIL && !events->complained)
            hw_log_warn("cannot read events", HW_E(&outcome->err));
        events->complained = outcome->status != HW_EUNAVAIL;
        if (stream != NULL && stream->begun)
            want_page(stream);
        else if (stream != NULL)
            http_answer_problem(give_up(stream), &api_database_unavailable, "%s",
                                outcome->err.message);
        return; /* the tick tries again */
    }
    events->complained = false;
    if (stream != NULL)
        take_page(stream, outcome->results[0]);
    else if (!events->asking_page)
        take_news(events, outcome->results[0]);
    pump(events);
}

/* One query at a time: for the ring and for a page in turn. */
static void pump(struct api_events *events)
{
    struct stream *stream = events->pages < PAGES_MOST ? TAILQ_FIRST(&events->line) : NULL;
    struct cursor from = events->at;
    char desired[24], reported[24], most[12];
    const char *const values[] = {desired, reported, most};
    const struct hw_db_query query = {
        .sql = "SELECT * FROM headwater.events_after($1::bigint, $2::bigint, $3::int)",
        .count = 3,
        .values = values,
    };
    struct hw_error err;

    if (!events->ready || events->asking || (!events->dirty && stream == NULL))
        return;
    if (events->dirty && events->page_turn)
        stream = NULL;
    if (stream != NULL)
        from = stream->at;
    else if (!events->placed)
        from = (struct cursor){INT64_MAX, INT64_MAX};
    snprintf(desired, sizeof(desired), "%" PRId64, from.desired);
    snprintf(reported, sizeof(reported), "%" PRId64, from.reported);
    snprintf(most, sizeof(most), "%d", PAGE);
    if (hw_db_run(events->pg, HW_DB_ATOMIC, &query, 1, NULL, on_rows, events, &err) != HW_OK)
        return;
    events->asking = true;
    events->asking_page = stream != NULL;
    events->page_turn = stream != NULL;
    events->asked_for = stream;
    if (stream != NULL)
        leave_line(stream);
    else
        events->dirty = false;
}

/* ---- the connection ---- */

static void on_listening(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_events *events = arg;

    events->ready = outcome->status == HW_OK;
    events->dirty = true;
    if (!events->ready && outcome->status != HW_EUNAVAIL)
        hw_log_error("cannot listen for events", HW_E(&outcome->err));
    if (!events->ready)
        snprintf(events->trouble, sizeof(events->trouble), "%s", outcome->err.message);
    pump(events);
}

static void on_up(void *arg)
{
    static const struct hw_db_query queries[] = {
        {.sql = "SELECT set_config('statement_timeout', '30s', false)"},
        {.sql = "LISTEN headwater_desired"},
        {.sql = "LISTEN headwater_reported"},
    };
    struct api_events *events = arg;
    struct hw_error err;

    if (hw_db_run(events->pg, HW_DB_SEPARATE, queries, HW_COUNT(queries), NULL, on_listening,
                  events, &err) != HW_OK)
        hw_log_error("cannot listen for events", HW_E(&err));
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct api_events *events = arg;
    struct stream *stream, *next;

    events->ready = false;
    snprintf(events->trouble, sizeof(events->trouble), "%s", why->message);
    for (stream = TAILQ_FIRST(&events->line); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, page_link);
        if (!stream->begun)
            http_answer_problem(give_up(stream), &api_database_unavailable, "%s", why->message);
    }
}

static void on_notify(void *arg, const char *channel)
{
    struct api_events *events = arg;

    (void)channel;
    events->dirty = true;
    pump(events);
}

enum hw_status api_events_open(struct hw_loop *loop, const char *conninfo, struct api_events **out,
                               struct hw_error *err)
{
    struct api_events *events = hw_alloc(sizeof(*events));
    const struct hw_db_events callbacks = {
        .up = on_up, .down = on_down, .notify = on_notify, .arg = events};
    const enum hw_status status =
        hw_db_open(loop, conninfo, "headwater-api events", &callbacks, &events->pg, err);

    if (status != HW_OK) {
        free(events);
        return status;
    }
    events->loop = loop;
    snprintf(events->trouble, sizeof(events->trouble), "they were not read yet");
    TAILQ_INIT(&events->streams);
    TAILQ_INIT(&events->line);
    hw_timer_start(loop, &events->tick, TICK_MS, on_tick, events);
    *out = events;
    return HW_OK;
}

bool api_events_ready(const struct api_events *events)
{
    return events->ready && events->current;
}

const char *api_events_trouble(const struct api_events *events)
{
    return events->trouble;
}

void api_events_stop(struct api_events *events)
{
    struct stream *stream, *next;

    events->stopped = true;
    events->ready = false;
    hw_timer_stop(&events->tick);
    hw_db_close(HW_TAKE(events->pg));
    events->asked_for = NULL;
    for (stream = TAILQ_FIRST(&events->streams); stream != NULL; stream = next) {
        next = TAILQ_NEXT(stream, link);
        if (stream->begun)
            end_stream(stream);
        else
            http_answer_problem(give_up(stream), &api_shutting_down, "Come again when it is back");
    }
}

void api_events_free(struct api_events *events)
{
    if (events == NULL)
        return;
    if (!events->stopped)
        api_events_stop(events);
    while (events->first < events->next)
        drop_first(events);
    free(events);
}

/* ---- GET /v1/events ---- */

static bool parse_id(const char *text, struct cursor *cursor)
{
    const size_t desired = strspn(text, "0123456789");
    const size_t reported = text[desired] == '-' ? strspn(text + desired + 1, "0123456789") : 0;

    if (desired == 0 || desired > 18 || reported == 0 || reported > 18 ||
        text[desired + 1 + reported] != '\0')
        return false;
    cursor->desired = strtoll(text, NULL, 10);
    cursor->reported = strtoll(text + desired + 1, NULL, 10);
    return true;
}

/* "desired", "reported", or both with a comma; 0 for anything else. */
static int parse_types(const char *text)
{
    int kinds = 0;

    for (const char *p = text;; p++) {
        const size_t len = strcspn(p, ",");

        if (len == strlen("desired") && strncmp(p, "desired", len) == 0)
            kinds |= DESIRED;
        else if (len == strlen("reported") && strncmp(p, "reported", len) == 0)
            kinds |= REPORTED;
        else
            return 0;
        p += len;
        if (*p == '\0')
            return kinds;
    }
}

static bool read_start(struct http_request *request, struct cursor *at, bool *resumes)
{
    const char *id = http_request_header(request, "Last-Event-ID");

    if (id == NULL)
        id = http_request_parameter(request, "last_event_id");
    *resumes = id != NULL;
    if (id == NULL || parse_id(id, at))
        return true;
    http_answer_problem(request, &http_invalid_parameter,
                        "Last-Event-ID: must be an id that an event had, such as 120-45");
    return false;
}

void api_events_get(struct http_request *request)
{
    struct api_events *events = api_of(request)->events;
    const char *types = http_request_parameter(request, "types");
    const int kinds = types != NULL ? parse_types(types) : DESIRED | REPORTED;
    HW_AUTO_JSON json_t *alternatives = NULL;
    struct cursor at = events->at;
    struct stream *stream;
    bool resumes;

    if (kinds == 0) {
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
                                "The events cannot be read from the database: %s", events->trouble);
        return;
    }
    if (strcmp(request->method, "HEAD") == 0) {
        http_answer_bytes(request, HTTP_OK, NULL, 0, "text/event-stream");
        return;
    }
    stream = hw_alloc(sizeof(*stream));
    stream->events = events;
    stream->request = request;
    stream->kinds = kinds;
    stream->node = http_request_parameter(request, "node");
    stream->alternatives = HW_TAKE(alternatives);
    stream->at = at;
    stream->next = events->first;
    TAILQ_INSERT_TAIL(&events->streams, stream, link);
    events->count++;
    /* An id that this instance has not come to may be another's, which is faster, or of another
     * history: the database knows. */
    if (resumes && (is_behind(at, events->from) || is_behind(events->at, at))) {
        http_request_on_gone(request, on_gone, stream);
        want_page(stream);
    } else {
        begin(stream);
    }
}
