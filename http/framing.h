/*
 * How requests are framed (RFC 9112): the request line, the header fields that say where a body
 * begins and ends, and its chunks. All faults of framing become problems here. Some are found by
 * this file, in a head that libmicrohttpd has read; the others by the library, which refuses bytes
 * that it cannot read without asking anybody. Which bytes it refuses, and when it closes the
 * connection without an answer, depends on its version: docs/http.md, "Problems".
 */
#ifndef HTTP_FRAMING_H
#define HTTP_FRAMING_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/problem.h"

/* The header fields that the server itself needs; NULL where a field was not sent. */
struct http_head {
    const char *content_length, *transfer_encoding, *content_type, *host, *authorization;
    const char *content_range, *content_coding; /* a coding other than identity */
    const char *twice; /* the name of a field that may be given once, and was given again */
};
void http_head_read(struct MHD_Connection *connection, struct http_head *head);
bool http_head_has_body(const struct http_head *head);
size_t http_head_length(const struct http_head *head); /* as Content-Length says; 0 without */

struct http_fault {
    const struct http_problem *problem;
    char detail[200];
};

/* What the library passes to the handler of requests, as it lies in its memory. */
struct http_line {
    const char *method, *url, *version;
    const char *target; /* as it was received, with its query; a copy */
};
/* Is the head what it seems to be? False: fault says why not, and nothing of the connection may be
 * read any more, since another reader may see other requests in these bytes. */
bool http_framing_is_strict(struct MHD_Connection *connection, const struct http_line *line,
                            struct http_fault *fault);

/* Is the head framed well? version: "HTTP/1.1". False: fault says why not. */
bool http_framing_judge(const struct http_head *head, const char *version,
                        struct http_fault *fault);

/* ---- what the library refuses ---- */

/* How far receiving a request has come. */
enum http_stage { HTTP_IN_REQUEST_LINE, HTTP_IN_HEAD, HTTP_IN_BODY };

struct http_refusals {
    const struct MHD_Daemon *daemon;
    enum http_stage (*stage)(void *arg, struct MHD_Connection *connection);
    /* The library answers the request of a connection with this status, and then closes it. */
    void (*refused)(void *arg, struct MHD_Connection *connection, int status);
    void *arg;
};

/* From now on a request that the daemon refuses by itself is answered with a problem. The refusals
 * are borrowed until the function is called with NULL. There can be one daemon in a process; the
 * functions are called on its thread. */
void http_framing_take_refusals(const struct http_refusals *refusals);

/* Queues a response of this program. It must not call MHD_queue_response, which framing.c defines
 * to catch the library's own responses. */
enum MHD_Result http_framing_queue(struct MHD_Connection *connection, int status,
                                   struct MHD_Response *response);

#endif
