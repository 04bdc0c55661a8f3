/*
 * The HTTP server: libmicrohttpd on the program's event loop. One thread, no blocking call; a
 * request that waits for the database or for nodes is a suspended connection, which costs memory
 * only. Bounded: connections, header bytes, body bytes, the memory that bodies and answers take
 * together, and the time that a client may take to send a request or to fetch its answer.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/status.h"
#include "http/address.h"
#include "http/request.h"
#include "http/router.h"
#include "http/tls.h"

struct api_server_config {
    struct hw_loop *loop;
    struct api *api; /* for the handlers */
    const struct api_route *routes;
    struct hw_address address;
    const char *hosts;          /* names that Host may hold, separated by commas, or NULL */
    struct api_tls *tls;        /* or NULL */
    int64_t request_timeout_ms; /* to send a request, to fetch an answer, to be idle */
    int64_t memory;             /* bytes of bodies and answers at a time */
    int64_t config_body_max;    /* at most API_CONFIG_BODY_MAX */
};

struct api_server;
enum hw_status api_server_start(const struct api_server_config *config, struct api_server **server,
                                struct hw_error *err) HW_CHECKED;

/* "127.0.0.1:45123": what it listens on. */
const char *api_server_name(const struct api_server *server);

struct api_server_load {
    size_t requests; /* that have begun and not ended */
    size_t connections, connections_limit;
    size_t bytes, bytes_limit; /* of bodies and large answers */
};
struct api_server_load api_server_load(const struct api_server *server);
struct api_metrics *api_server_metrics(const struct api_server *server);

/* Stops accepting; done is called once, when no request is left. */
void api_server_drain(struct api_server *server, void (*done)(void *arg), void *arg);

/* Ends what is left. No handler may still be waiting to answer. NULL is fine. */
void api_server_free(struct api_server *server);

/* ---- for request.c ---- */

/* The request has its answer, or a stream more to send: wakes its connection. */
void api_server_answered(struct api_request *request);
/* A stream has given bytes, which its client is to fetch in time, or none: then it sleeps. */
void api_server_streaming(struct api_request *request, bool has_bytes);
/* Counts bytes against the memory bound, until the request ends; false when there is no room. */
bool api_server_charge(struct api_request *request, size_t bytes);
/* The socket of a sleeping request, to find out whether its client is still there. */
int api_server_socket(const struct api_request *request);

#endif
