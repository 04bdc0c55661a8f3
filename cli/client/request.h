/* A request to the Management API, where it goes, and the answer to it. */
#ifndef HW_CLI_CLIENT_REQUEST_H
#define HW_CLI_CLIENT_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define CLI_ANSWER_MOST ((size_t)64 << 20) /* bytes of an answer's body */

struct cli_http_options {
    const char *server; /* http://… or https://…, perhaps with a path in front of /v1 */
    const char *token;  /* or NULL */
    const char *ca_file, *cert, *key; /* PEM files, or NULL */
    int64_t timeout_ms;               /* of a request, with its repetitions */
};

/* Adds a slash and one segment of a path; the segment is encoded (RFC 3986). */
void cli_path_add(struct hw_buf *path, const char *segment);
/* Adds a parameter of the query, encoded; nothing where value is NULL. */
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
    int status; /* 0: no answer came */
    char *body; /* a NUL behind */
    size_t len;
    char *media_type, *etag; /* NULL where there is none; etag without its quotes */
    char *lsn;               /* a position at or behind the write; NULL: it was none */
    char *change;            /* the change that the write made; NULL: it changed nothing */
    char problem[64];        /* the name of the problem, "" where it has none */
    json_t *details;         /* the problem as a whole, or NULL */
    int64_t retry_after_ms;
    bool uncertain; /* nobody knows whether the request was carried out */
};
void cli_answer_free(struct cli_answer *answer);

/* Is the text the number of a change, as Headwater-Change gives it? */
bool cli_is_change(const char *text);

#endif
