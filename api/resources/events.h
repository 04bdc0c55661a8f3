/*
 * GET /v1/events: changes of what nodes should run, and of what they report, as server-sent events.
 * The two histories are read once for all streams, on the listener's connection: when it is
 * notified, and at a slow tick. What is read stands in a ring in memory (event_ring.h), from which
 * all streams are served; pages for streams that are behind the ring are read in turn with that. An
 * idle stream costs no query.
 *
 * An event's id is "<desired>-<reported>": up to where in each history its stream has come. So it
 * does not matter in which order another instance, or this one after a restart, mixes the two.
 */
#ifndef API_RESOURCES_EVENTS_H
#define API_RESOURCES_EVENTS_H

#include <stdbool.h>

#include "api/listener.h"
#include "common/loop.h"

struct api_events;
struct api_events *api_events_new(struct hw_loop *loop, struct api_listener *listener);
bool api_events_ready(const struct api_events *events); /* the histories are being read */
/* Why they are not, with what to do; no secret. */
const char *api_events_trouble(const struct api_events *events);
void api_events_stop(struct api_events *events); /* ends every stream */
void api_events_free(struct api_events *events); /* once no request is left. NULL is fine */

#endif
