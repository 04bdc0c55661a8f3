#include "api/resources/event_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/loop.h"
#include "http/answer.h"

enum { HEARTBEAT_MS = 15000 };

struct api_event_stream *api_event_stream_new(struct http_request *request,
                                              const struct api_event_filter *filter,
                                              const struct api_event_ring *ring,
                                              struct api_cursor at,
                                              const struct api_event_reader *reader)
{
    struct api_event_stream *stream = hw_alloc(sizeof(*stream));

    stream->request = request;
    stream->filter = *filter;
    stream->ring = ring;
    stream->reader = reader;
    stream->at = at;
    stream->next = ring->first;
    return stream;
}

static void free_page(struct api_event_stream *stream)
{
    if (stream->page == NULL)
        return;
    while (stream->page_at < stream->page_count)
        api_event_release(stream->page[stream->page_at++]);
    free(HW_TAKE(stream->page));
}

void api_event_stream_free(struct api_event_stream *stream)
{
    free_page(stream);
    api_event_release(stream->event);
    json_decref(stream->filter.alternatives);
    free(stream);
}

/* ---- the next event ---- */

/* The next event of the ring that the stream wants, which it has still to take; or NULL. */
static struct api_event *find_in_ring(struct api_event_stream *stream)
{
    for (; stream->next < stream->ring->next; stream->next++) {
        struct api_event *event = api_event_ring_get(stream->ring, stream->next);

        if (api_cursor_has_passed(&stream->at, event))
            continue;
        if (api_event_is_wanted(event, &stream->filter))
            return event;
        api_cursor_pass(&stream->at, event);
    }
    return NULL;
}

/* The next wanted event of the page, with the page's reference. NULL at its end. */
static struct api_event *take_from_page(struct api_event_stream *stream)
{
    while (stream->page_at < stream->page_count) {
        struct api_event *event = stream->page[stream->page_at++];

        api_cursor_pass(&stream->at, event);
        if (api_event_is_wanted(event, &stream->filter))
            return event;
        api_event_release(event);
    }
    return NULL;
}

static struct api_event *take_event(struct api_event_stream *stream)
{
    const struct api_event_reader *reader = stream->reader;
    const struct api_event_ring *ring = stream->ring;
    struct api_event *event;

    if (stream->page != NULL) {
        event = take_from_page(stream);
        if (event != NULL)
            return event;
        api_cursor_pass_all(&stream->at, stream->page_end);
        free_page(stream);
        stream->next = ring->first;
        reader->page_used(reader->arg, stream);
    }
    if (stream->page_wanted)
        return NULL;
    if (api_cursor_is_behind(stream->at, ring->from)) {
        reader->want_page(reader->arg, stream);
        return NULL;
    }
    if (stream->next < ring->first) /* the stream has passed the events that fell out */
        stream->next = ring->first;
    event = find_in_ring(stream);
    if (event != NULL) {
        stream->next++;
        event->refs++;
        api_cursor_pass(&stream->at, event);
    }
    return event;
}

/* ---- sending ---- */

/* The comment, or the line before an event: from where a client would go on. */
static void put_text(struct api_event_stream *stream, const char *before, const char *after)
{
    stream->text_len =
        (size_t)snprintf(stream->text, sizeof(stream->text), "%sid: %" PRId64 "-%" PRId64 "\n%s",
                         before, stream->at.desired, stream->at.reported, after);
    stream->text_at = 0;
}

static bool take_next(struct api_event_stream *stream)
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
    struct api_event_stream *stream = arg;
    size_t len = 0;

    while (len < room) {
        len += copy(out + len, room - len, stream->text, stream->text_len, &stream->text_at);
        if (stream->event != NULL && len < room) {
            len += copy(out + len, room - len, stream->event->text, stream->event->len,
                        &stream->event_at);
            if (stream->event_at == stream->event->len)
                api_event_release(HW_TAKE(stream->event));
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

static void on_ended(void *arg)
{
    struct api_event_stream *stream = arg;

    stream->reader->ended(stream->reader->arg, stream);
}

void api_event_stream_begin(struct api_event_stream *stream)
{
    stream->begun = true;
    stream->sent_at = hw_loop_now();
    put_text(stream, ": connected\nretry: 2000\n", "\n");
    http_answer_stream(stream->request, "text/event-stream", on_read, on_ended, stream);
}

void api_event_stream_end(struct api_event_stream *stream)
{
    stream->ending = true;
    http_answer_more(stream->request);
}

void api_event_stream_give_page(struct api_event_stream *stream, struct api_event **events,
                                int count, struct api_cursor end)
{
    stream->page = events;
    stream->page_count = count;
    stream->page_at = 0;
    stream->page_end = end;
    if (stream->begun)
        http_answer_more(stream->request);
    else
        api_event_stream_begin(stream);
}

void api_event_stream_look(struct api_event_stream *stream)
{
    if (stream->begun && !stream->page_wanted && stream->page == NULL &&
        (stream->next < stream->ring->first || find_in_ring(stream) != NULL))
        http_answer_more(stream->request);
}

void api_event_stream_tick(struct api_event_stream *stream, int64_t now)
{
    if (!stream->begun || stream->ending || now - stream->sent_at < HEARTBEAT_MS)
        return;
    stream->beat = true;
    http_answer_more(stream->request);
}
