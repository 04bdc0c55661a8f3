/*
 * One stream of server-sent events (WHATWG HTML, section 9.2): which events it wants, up to where
 * it has come, and what of it is being sent. It takes its events from the ring. A stream that
 * begins behind the ring, or falls behind it, wants a page: events of the histories that are read
 * for it alone, and that bring it on its way to the ring.
 */
#ifndef API_RESOURCES_EVENT_STREAM_H
#define API_RESOURCES_EVENT_STREAM_H

#include <sys/queue.h>

#include "api/resources/event_ring.h"
#include "http/request.h"

struct api_event_stream;

/* Who reads the histories for the streams. */
struct api_event_reader {
    void (*want_page)(void *arg, struct api_event_stream *stream);
    void (*page_used)(void *arg, struct api_event_stream *stream); /* to its end */
    void (*ended)(void *arg, struct api_event_stream *stream);     /* its request ends */
    void *arg;
};

struct api_event_stream {
    struct http_request *request;
    struct api_event_filter filter;
    const struct api_event_ring *ring;
    const struct api_event_reader *reader;
    bool begun; /* answered, and so the connection's; before that the request can be refused */
    bool ending;

    struct api_cursor at; /* what is behind it is still to be sent */
    uint64_t next;        /* number of the ring's event to look at next, unless it has a page */
    struct api_event **page;
    int page_count, page_at;
    struct api_cursor page_end;

    /* being sent: the text, then the event */
    char text[96];
    size_t text_len, text_at;
    struct api_event *event;
    size_t event_at;
    int64_t sent_at; /* hw_loop_now() */
    bool beat;       /* a heartbeat is due */

    /* the reader's own */
    TAILQ_ENTRY(api_event_stream) link, page_link;
    bool page_wanted; /* waits for one, or it is being read */
};

/* The filter's alternatives are taken over. The request must outlive the stream. */
struct api_event_stream *api_event_stream_new(struct http_request *request,
                                              const struct api_event_filter *filter,
                                              const struct api_event_ring *ring,
                                              struct api_cursor at,
                                              const struct api_event_reader *reader);
void api_event_stream_free(struct api_event_stream *stream);

/* Answers the request. From now on the stream ends with it, by reader->ended. */
void api_event_stream_begin(struct api_event_stream *stream);
/* Ends one that has begun, as soon as it can. */
void api_event_stream_end(struct api_event_stream *stream);

/* Gives it a page of so many events (taken over) and where it leads to. */
void api_event_stream_give_page(struct api_event_stream *stream, struct api_event **events,
                                int count, struct api_cursor end);

/* The ring has news: wakes the stream when it wants any of them. */
void api_event_stream_look(struct api_event_stream *stream);
/* Sends a heartbeat when nothing was sent for 15 s. */
void api_event_stream_tick(struct api_event_stream *stream, int64_t now);

#endif
