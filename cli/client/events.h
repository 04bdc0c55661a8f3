/* Server-sent events (WHATWG HTML, 9.2): bytes in, events out. */
#ifndef HW_CLI_EVENTS_H
#define HW_CLI_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define CLI_EVENT_MOST ((size_t)4 << 20) /* bytes of one event */

struct cli_event {
    const char *id;   /* of the last event that had an id, or "" */
    const char *type; /* "message" if the event names no type */
    const char *data; /* its lines, with line feeds between */
};

/* Takes an event; false: it wants no more. */
typedef bool cli_event_fn(void *arg, const struct cli_event *event);

struct cli_events {
    cli_event_fn *take;
    void *arg;
    int64_t retry_ms; /* the pause before a reconnect that the server wishes; -1: none */
    struct hw_buf line, type, data, id, last_id;
    bool after_cr, begun, too_large;
};

void cli_events_init(struct cli_events *events, cli_event_fn *take, void *arg);
void cli_events_free(struct cli_events *events);

/* Begins a new connection: an event that is not complete is dropped, and the last id stays. */
void cli_events_reconnect(struct cli_events *events);

/* The id of the last complete event that had one; NULL before that. */
const char *cli_events_last_id(const struct cli_events *events);

/* Feeds bytes. False: take said so, or an event is too large (then too_large). */
bool cli_events_feed(struct cli_events *events, const char *bytes, size_t len);

#endif
