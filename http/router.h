/*
 * Routes: one table says which method and path goes where, which query parameters it takes, what
 * its body may be and who may call it. Whatever is not in the table is refused before a handler is
 * called.
 */
#ifndef HTTP_ROUTER_H
#define HTTP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/status.h"
#include "http/target.h"

struct api_request;
typedef void api_handler_fn(struct api_request *request);

enum api_body {
    API_BODY_NONE,
    API_BODY_JSON,       /* application/json, API_JSON_BODY_MAX */
    API_BODY_SCHEMA,     /* the same, or application/schema+json */
    API_BODY_LARGE_JSON, /* application/json, some times API_CONFIG_BODY_MAX */
    API_BODY_CONFIG,     /* any media type, API_CONFIG_BODY_MAX */
};

/* Each includes those before it. */
enum api_role {
    API_ROLE_NONE, /* everyone, without a token */
    API_ROLE_VIEWER,
    API_ROLE_OPERATOR,
    API_ROLE_APPROVER,
    API_ROLE_ADMIN,
};

enum {
    API_JSON_BODY_MAX = 1 << 20,
    API_CONFIG_BODY_MAX = 16 << 20, /* what the database takes */
};

struct api_route {
    const char *method;  /* GET answers HEAD as well */
    const char *pattern; /* "/v1/nodes/{name}": a variable takes one whole segment, not empty */
    api_handler_fn *handler;
    const char *query; /* the parameters that it takes, separated by spaces; "" for none */
    enum api_body body;
    enum api_role role; /* that the caller must have */
};

/* The API's own table; the last one has no method. */
extern const struct api_route api_routes[];

/*
 * HW_ENOENT: no such path. HW_EDENIED: the path is there, the method is not; allow then holds
 * those that are, as the Allow header wants them (RFC 9110 section 10.2.1).
 */
enum hw_status api_router_find(const struct api_route *routes, const char *method,
                               const struct api_target *target, const struct api_route **route,
                               struct hw_buf *allow) HW_CHECKED;

/* What the path holds in the place of {name}; NULL when the pattern has no such variable. */
const char *api_router_variable(const struct api_route *route, const struct api_target *target,
                                const char *name);

/* Does the route take this query parameter? */
bool api_router_takes(const struct api_route *route, const char *parameter);

/* The first query parameter that the route does not take, or NULL. */
const char *api_router_unknown(const struct api_route *route, const struct api_target *target);

#endif
