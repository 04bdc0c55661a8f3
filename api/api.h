/* The running program: the parts that its handlers share. Each has its own header. */
#ifndef API_API_H
#define API_API_H

#include <stdint.h>

#include "http/request.h"

enum { API_CONFIG_BODY_MAX = 16 << 20 }; /* bytes of a config's content that the database takes */

struct api {
    struct hw_loop *loop;
    struct hw_pool *pool;
    struct api_listener *listener;
    struct api_contention *contention;
    struct api_token_table *tokens;
    struct api_auth *auth;
    struct api_waits *waits;
    struct api_events *events;
    struct api_metrics *metrics;
    struct http_server *server;
    struct api_nats *nats;
    const char *slot;   /* the replication slot that the reconciler streams from */
    int64_t started_at; /* Unix nanoseconds */
};

/* The program that serves a request. */
static inline struct api *api_of(const struct http_request *request)
{
    return request->context;
}

#endif
