/*
 * The Management API over HTTP, one request after another on one connection. Blocks.
 *
 * What the server answers is not believed: its size is bounded, its problems are turned into our
 * errors (see cli_http_send), and what it says of itself goes through cli/text.h before it is
 * shown.
 */
#ifndef HW_CLI_HTTP_H
#define HW_CLI_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/status.h"

#define CLI_ANSWER_MOST ((size_t)64 << 20) /* bytes of an answer's body */

struct cli_http;

struct cli_http_options {
    const char *server; /* http://… or https://…, a path in front of /v1 is fine */
    const char *token;  /* or NULL */
    const char *ca_file, *cert, *key; /* PEM files, or NULL */
    int64_t timeout_ms;               /* of a request, with its repetitions */
};

/* The strings must outlive it. */
enum hw_status cli_http_open(const struct cli_http_options *options, struct cli_http **http,
                             struct hw_error *err) HW_CHECKED;
void cli_http_close(struct cli_http *http); /* NULL is fine */

/* The part of a path behind the slash that it adds, and a parameter (nothing where value is NULL);
 * both encoded. */
void cli_path_add(struct hw_buf *path, const char *segment);
void cli_query_add(struct hw_buf *path, const char *name, const char *value);

struct cli_request {
    const char *method;     /* NULL: GET */
    const char *path;       /* "/v1/…", encoded, with its query */
    const char *media_type; /* of the body */
    const void *body;       /* NULL: none */
    size_t len;
    const char *if_match; /* an entity tag without its quotes, or "*"; or NULL */
    bool create;          /* If-None-Match: *, only what is not there yet */
    const char *key;      /* Idempotency-Key, which makes it safe to send again; or NULL */
    int64_t timeout_ms;   /* 0: as in the options */
};

struct cli_answer {
    int status; /* 0: none came */
    char *body; /* a NUL behind */
    size_t len;
    char *media_type, *etag, *lsn; /* NULL where there is none; etag without its quotes */
    char problem[64];              /* the name of the problem, "" where it has none */
    json_t *details;               /* the problem as a whole, or NULL */
    int64_t retry_after_ms;
    bool uncertain; /* nobody knows whether what was asked for was done */
};
void cli_answer_free(struct cli_answer *answer);

/*
 * HW_OK for 2xx only. *answer is filled in as far as one came, in any case: the caller frees it.
 * HW_ENOENT 404 of a resource; HW_ECONFLICT 409, 412; HW_EINVAL other 4xx; HW_EDENIED 401, 403;
 * HW_ETIMEOUT 504 or no answer in time; HW_EUNAVAIL 429, 502, 503, nobody there, or a connection
 * that broke; HW_EPROTO, HW_ELIMIT whatever else.
 *
 * A request with a key is sent again after HW_EUNAVAIL and a lost connection, until its time is
 * over, but not when the server cannot be reached in the first place.
 */
enum hw_status cli_http_send(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, struct hw_error *err) HW_CHECKED;

/* The same for an answer that must be a JSON object; the caller frees *object. */
enum hw_status cli_http_json(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, json_t **object,
                             struct hw_error *err) HW_CHECKED;

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
enum hw_status cli_http_stream(struct cli_http *http, const char *path, const char *last_event_id,
                               const struct cli_stream *stream, int *status,
                               struct hw_error *err) HW_CHECKED;

/* By CLOCK_MONOTONIC. */
int64_t cli_now_ms(void);

#endif
