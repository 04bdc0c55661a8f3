/*
 * Routes: one table says which method and path goes where, which query parameters it takes, what
 * its body may be and who may call it. Whatever is not in the table is refused before a handler is
 * called.
 */
#ifndef HTTP_ROUTER_H
#define HTTP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "http/target.h"

struct http_request;
typedef void http_handler_fn(struct http_request *request);

/* What the body of a request may be. The limits of large ones are the server's to configure. */
enum http_body {
    HTTP_BODY_NONE,
    HTTP_BODY_JSON,        /* application/json, up to HTTP_JSON_BODY_MAX bytes */
    HTTP_BODY_JSON_SCHEMA, /* the same, or application/schema+json */
    HTTP_BODY_LARGE_JSON,  /* application/json, up to some times the server's large_body_max */
    HTTP_BODY_ANY,         /* any media type, up to large_body_max */
};

enum { HTTP_JSON_BODY_MAX = 1 << 20 };

/* A table of them ends with one that has no method. */
struct http_route {
    const char *method;  /* GET answers HEAD as well */
    const char *pattern; /* "/v1/nodes/{name}": a variable takes one whole segment, not empty */
    http_handler_fn *handler;
    const char *query; /* the query parameters that it takes, separated by blanks; "" for none */
    enum http_body body;
    int role; /* that the caller must have, for the hook authorise; the server does not look */
};

/*
 * HW_ENOENT: no such path. HW_EDENIED: the path is there, the method is not; allow then holds
 * those that are, as the Allow header wants them (RFC 9110 section 10.2.1).
 */
enum hw_status http_router_find(const struct http_route *routes, const char *method,
                                const struct http_target *target, const struct http_route **route,
                                struct hw_buf *allow) HW_CHECKED;

/* The segment of the path in the place of {name}; NULL when the pattern has no such variable. */
const char *http_router_variable(const struct http_route *route, const struct http_target *target,
                                 const char *name);

/* Does the route take this query parameter? */
bool http_router_takes(const struct http_route *route, const char *parameter);

/* The first query parameter that the route does not take, or NULL. */
const char *http_router_unknown(const struct http_route *route, const struct http_target *target);

#endif
