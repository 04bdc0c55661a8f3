/* The running program: what the handlers share. */
#ifndef API_API_H
#define API_API_H

#include "api/auth.h"
#include "api/nats.h"
#include "api/resources/events.h"
#include "api/resources/wait.h"
#include "common/loop.h"
#include "http/server.h"
#include "pg/pool.h"

struct api {
    struct hw_loop *loop;
    struct hw_pool *pool;
    struct api_auth *auth;
    struct api_waits *waits;
    struct api_events *events;
    struct api_server *server;
    struct api_nats *nats;
    const char *slot;   /* that the reconciler streams from */
    int64_t started_at; /* Unix nanoseconds */
};

#endif
