/* A stream of server-sent events, as bytes; cli/client/events.h makes events of them. */
#ifndef HW_CLI_CLIENT_STREAM_H
#define HW_CLI_CLIENT_STREAM_H

#include "cli/client/exchange.h"

/* Bytes of a stream as they come; false ends it. */
typedef bool cli_stream_fn(void *arg, const char *bytes, size_t len);

struct cli_stream {
    cli_stream_fn *take;
    /* Whatever had come is taken, or a second went by; NULL: nothing to do then. May send requests
     * of its own. false ends it. */
    bool (*rest)(void *arg);
    void *arg;
    int stop_fd;         /* ends it when there is something to read; -1: none */
    int64_t deadline_ms; /* by CLOCK_MONOTONIC; 0: none */
};

/* GET of server-sent events, on a connection of its own, until the stream ends (HW_EUNAVAIL), take
 * or rest say so (HW_OK), stop_fd does (HW_ESTOPPED) or the time is over (HW_ETIMEOUT). *status is
 * that of the answer, 0 where none came. Anything but 200 is an error as above. */
enum hw_status cli_stream_follow(struct cli_http *http, const char *path, const char *last_event_id,
                                 const struct cli_stream *stream, int *status,
                                 struct hw_error *err) HW_CHECKED;

#endif
