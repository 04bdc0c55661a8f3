/*
 * How requests are framed: the request line, the header fields that say where a body begins and
 * ends, its chunks (RFC 9112). Whatever is wrong with that is said here, whoever finds it: we, in a
 * head that libmicrohttpd has read, or the library, which refuses what it cannot read without
 * asking anybody. What it refuses in this way, and when it closes the connection without a word,
 * depends on its version: docs/http.md, "Problems".
 */
#ifndef HTTP_FRAMING_H
#define HTTP_FRAMING_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/problem.h"

/* The fields that the server itself goes by; NULL where there is none. */
struct http_head {
    const char *content_length, *transfer_encoding, *content_type, *host, *authorization;
    const char *twice; /* a field that may come once came again */
};
void http_head_read(struct MHD_Connection *connection, struct http_head *head);
bool http_head_has_body(const struct http_head *head);
size_t http_head_length(const struct http_head *head); /* as Content-Length says; 0 without */

struct http_fault {
    const struct http_problem *problem;
    char detail[200];
};

/* version: "HTTP/1.1". False: fault is filled. */
bool http_framing_judge(const struct http_head *head, const char *version,
                        struct http_fault *fault);

/* ---- what the library refuses ---- */

/* How far receiving a request has come. */
enum http_stage { HTTP_IN_REQUEST_LINE, HTTP_IN_HEAD, HTTP_IN_BODY };

struct http_refusals {
    const struct MHD_Daemon *daemon;
    enum http_stage (*stage)(void *arg, struct MHD_Connection *connection);
    /* A connection's request is being answered with this, and then the connection is closed. */
    void (*refused)(void *arg, struct MHD_Connection *connection, int status);
    void *arg;
};

/* From now on what the daemon refuses by itself is answered with a problem; refusals are borrowed
 * until NULL takes their place. For one daemon a process, on its thread. */
void http_framing_take_refusals(const struct http_refusals *refusals);

/* Queues a response of ours: MHD_queue_response, which itself means the library's from now on. */
enum MHD_Result http_framing_queue(struct MHD_Connection *connection, int status,
                                   struct MHD_Response *response);

#endif
