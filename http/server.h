/*
 * The HTTP server: libmicrohttpd on the program's event loop. It has no thread of its own and makes
 * no blocking call. A request that waits, for the database or for nodes, is a suspended connection,
 * which costs nothing but memory. Bounded are the number of connections, the bytes of a head and of
 * a body, the memory that all bodies and answers take together, and the time that a client may take
 * to send a request or to fetch its answer.
 *
 * The server knows no resource: a program gives it a table of routes and the hooks below.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "common/loop.h"
#include "http/address.h"
#include "http/request.h"
#include "http/router.h"
#include "http/tls.h"

/* Called by the server so that the program can decide and count. Any of them may be NULL. They must
 * not block. */
struct http_hooks {
    /* Once the route is known, before a byte of the body is kept. authorization: the field's value,
     * or NULL. False: the request was answered instead of being let in. */
    bool (*authorise)(struct http_request *request, const char *authorization);
    /* Once the request is here whole, right before its handler. False as above. */
    bool (*admit)(struct http_request *request);
    /* An answer is ready to be sent, so many nanoseconds after the request was here whole. route:
     * NULL where none matched. */
    void (*answered)(void *context, const struct http_route *route, int status, int64_t took_ns);
    /* A request ended without an answer: its client is gone, or was too slow. */
    void (*aborted)(void *context);
};

struct http_server_config {
    struct hw_loop *loop;
    void *context; /* the program's own: request->context for handlers and hooks */
    struct http_hooks hooks;
    const struct http_route *routes;
    struct hw_address address;
    const char *hosts;          /* names that Host may hold, separated by commas, or NULL */
    struct http_tls *tls;       /* or NULL */
    int64_t request_timeout_ms; /* to send a request, to fetch an answer, to be idle */
    int64_t memory;             /* bytes of bodies and answers at a time */
    int64_t large_body_max;     /* bytes of a body of HTTP_BODY_ANY */
};

struct http_server;
enum hw_status http_server_start(const struct http_server_config *config,
                                 struct http_server **server, struct hw_error *err) HW_CHECKED;

/* "127.0.0.1:45123": what it listens on. */
const char *http_server_name(const struct http_server *server);

struct http_server_load {
    size_t requests; /* that have begun and not ended */
    size_t connections, connections_limit;
    size_t bytes, bytes_limit; /* of bodies and large answers */
};
struct http_server_load http_server_load(const struct http_server *server);

/* Stops accepting; done is called once, when no request is left. */
void http_server_drain(struct http_server *server, void (*done)(void *arg), void *arg);

/* Ends what is left. No handler may still be waiting to answer. NULL is fine. */
void http_server_free(struct http_server *server);

#endif
