/* A stream of server-sent events, as bytes; cli/client/events.h makes events of them. */
#ifndef HW_CLI_CLIENT_STREAM_H
#define HW_CLI_CLIENT_STREAM_H

#include "cli/client/exchange.h"

/* Takes bytes of a stream as they come; false ends it. */
typedef bool cli_stream_fn(void *arg, const char *bytes, size_t len);

struct cli_stream {
    cli_stream_fn *take;
    /* Called when all that had come was taken, or after a second. It may send requests of its own.
     * false ends the stream. NULL: nothing is to be done then. */
    bool (*rest)(void *arg);
    void *arg;
    int stop_fd;         /* ends it when there is something to read; -1: none */
    int64_t deadline_ms; /* by CLOCK_MONOTONIC; 0: none */
};

/* GET of server-sent events, on a connection of its own. It ends with the stream (HW_EUNAVAIL),
 * when take or rest say so (HW_OK), by stop_fd (HW_ESTOPPED), or when the time is over
 * (HW_ETIMEOUT). *status is that of the answer, 0 if none came. An answer other than 200 is an
 * error as in cli_http_send. */
enum hw_status cli_stream_follow(struct cli_http *http, const char *path, const char *last_event_id,
                                 const struct cli_stream *stream, int *status,
                                 struct hw_error *err) HW_CHECKED;

#endif
