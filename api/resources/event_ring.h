/*
 * The newest events, in memory, from which all streams are served. It is bounded by number and by
 * bytes: the oldest events fall out. Events are numbered from 0 on as they come in.
 */
#ifndef API_RESOURCES_EVENT_RING_H
#define API_RESOURCES_EVENT_RING_H

#include "api/resources/event.h"

enum { API_EVENT_RING_EVENTS = 4096, API_EVENT_RING_BYTES = 8 << 20 };

/* Zero-initialised it is empty. */
struct api_event_ring {
    struct api_cursor from, at; /* what is behind its beginning, and behind its end */
    uint64_t first, next;       /* numbers of its events: first to before next */
    size_t bytes;
    struct api_event *events[API_EVENT_RING_EVENTS];
};

/* Takes the event over. */
void api_event_ring_add(struct api_event_ring *ring, struct api_event *event);
/* Empties it; it begins and ends at the cursor from now on. */
void api_event_ring_restart(struct api_event_ring *ring, struct api_cursor at);
/* The event of that number, from first to before next. Borrowed. */
struct api_event *api_event_ring_get(const struct api_event_ring *ring, uint64_t number);

#endif
