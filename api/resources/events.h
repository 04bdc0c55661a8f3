/*
 * GET /v1/events: changes of what nodes should run, and of what they report, as server-sent events
 * (WHATWG HTML, section 9.2). One database connection reads the two histories for all streams: when
 * it is notified, and at a slow tick. What it reads stands, encoded once, in a ring in memory, from
 * which all streams are served; a stream that begins behind the ring, or falls behind it, is read
 * pages of its own, a few streams at a time, by the same connection. An idle stream costs no query.
 *
 * An event's id is "<desired>-<reported>": up to where in each history its stream has come. So it
 * does not matter in which order another instance, or this one after a restart, mixes the two.
 */
#ifndef API_RESOURCES_EVENTS_H
#define API_RESOURCES_EVENTS_H

#include <stdbool.h>

#include "common/loop.h"
#include "common/status.h"

struct api_events;
enum hw_status api_events_open(struct hw_loop *loop, const char *conninfo,
                               struct api_events **events, struct hw_error *err) HW_CHECKED;
bool api_events_ready(const struct api_events *events); /* the histories are being read */
/* Why they are not, with what to do; no secret. */
const char *api_events_trouble(const struct api_events *events);
void api_events_stop(struct api_events *events); /* ends every stream */
void api_events_free(struct api_events *events); /* once no request is left. NULL is fine */

#endif
