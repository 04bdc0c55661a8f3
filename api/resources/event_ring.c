#include "api/resources/event_ring.h"

#include "base/memory.h"

static void drop_first(struct api_event_ring *ring)
{
    struct api_event **place = &ring->events[ring->first++ % API_EVENT_RING_EVENTS];

    api_cursor_pass(&ring->from, *place);
    ring->bytes -= (*place)->len;
    api_event_release(HW_TAKE(*place));
}

void api_event_ring_add(struct api_event_ring *ring, struct api_event *event)
{
    while (ring->next - ring->first == API_EVENT_RING_EVENTS ||
           (ring->next > ring->first && ring->bytes + event->len > API_EVENT_RING_BYTES))
        drop_first(ring);
    ring->events[ring->next++ % API_EVENT_RING_EVENTS] = event;
    ring->bytes += event->len;
    api_cursor_pass(&ring->at, event);
}

void api_event_ring_restart(struct api_event_ring *ring, struct api_cursor at)
{
    while (ring->first < ring->next)
        drop_first(ring);
    ring->from = at;
    ring->at = at;
}

struct api_event *api_event_ring_get(const struct api_event_ring *ring, uint64_t number)
{
    return ring->events[number % API_EVENT_RING_EVENTS];
}
