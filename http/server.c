#include "http/server.h"

#include <gnutls/abstract.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/log.h"
#include "http/answer.h"
#include "http/framing.h"
#include "http/hangup.h"
#include "http/linger.h"
#include "http/media_type.h"

enum {
    HEADERS_MAX = 16 << 10, /* bytes of request line and header fields, and of the read buffer */
    CONNECTIONS_MAX = 16384,
    DESCRIPTORS_SPARED = 64, /* are left to the rest of the program: database, log, loop */
    DROPPED_MAX = 16 << 20,  /* bytes of a chunked body that are read and dropped past its limit */
    BODY_FIRST = 64 << 10,
    HALF_CLOSED_MS = 1000, /* for which a client that has closed its side may get an answer */
    /* A large body is held as it was received, as the handler encodes it, and in the send buffer of
     * the library that takes it on, which doubles as it grows. */
    CONFIG_COPIES = 4,
    RESOURCES_CONFIGS = 3,
};

/*
 * A connection. At any time either the client or the server is to act. The client has a deadline: a
 * slow one must not keep its place. The server has none, for a handler may wait for minutes.
 */
struct connection {
    TAILQ_ENTRY(connection) link;
    bool listed;  /* in the server's list, because it is the client's turn */
    bool refused; /* the client may still be sending when the connection is closed */
    int64_t deadline;
    int fd;
    struct http_tls_credentials *credentials; /* or NULL: no TLS */
    struct http_server_request *request;      /* that is being received or answered, or NULL */
};

struct http_server_request {
    struct http_request request; /* must be the first member: see record_of */
    struct http_server *server;
    LIST_ENTRY(http_server_request) link;
    char *raw_target;
    const char *version; /* "HTTP/1.1" */
    bool judged, called, sleeping, queued;
    bool has_body;
    bool dropping; /* a chunked body that cannot be kept: the rest is read and dropped */
    const struct http_problem *dropped_for;
    size_t dropped;
    size_t body_cap, body_max;
    size_t charged;
    bool watched; /* for a hang-up of its client */
    struct hw_timer hung_up;
    int64_t begun; /* when its request line, and then the whole of it, was here; now_ns() */
};

struct http_server {
    struct http_server_config config;
    struct MHD_Daemon *daemon;
    struct http_refusals refusals;
    struct hw_io *io;
    struct hw_timer run_again;
    struct hw_timer sweep;
    TAILQ_HEAD(, connection) waiting_for_client; /* by deadline, which is the same for all */
    LIST_HEAD(, http_server_request) requests;
    struct http_lingers *lingers;
    struct http_hangups *hangups;
    unsigned connections_limit;
    size_t request_count;
    size_t charged;
    int listen_fd;
    char name[HW_ADDRESS_MAX];
    /* A connection ended in this run of the library, which looks at the queue of new connections in
     * its next run only. */
    bool place_freed;
    bool draining;
    void (*drained)(void *arg);
    void *drained_arg;
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- deadlines ---- */

static void sweep_deadlines(void *arg);

static void start_sweep(struct http_server *server)
{
    const struct connection *first = TAILQ_FIRST(&server->waiting_for_client);

    if (first != NULL && !hw_timer_running(&server->sweep))
        hw_timer_start(server->config.loop, &server->sweep, first->deadline - hw_loop_now(),
                       sweep_deadlines, server);
}

static void clients_turn_ends(struct http_server *server, struct connection *connection)
{
    if (connection->listed)
        TAILQ_REMOVE(&server->waiting_for_client, connection, link);
    connection->listed = false;
}

static void clients_turn(struct http_server *server, struct connection *connection)
{
    clients_turn_ends(server, connection);
    connection->deadline = hw_loop_now() + server->config.request_timeout_ms;
    TAILQ_INSERT_TAIL(&server->waiting_for_client, connection, link);
    connection->listed = true;
    start_sweep(server);
}

/* The time is for a whole request or a whole answer: a byte now and then does not extend it. */
static void sweep_deadlines(void *arg)
{
    struct http_server *server = arg;
    struct connection *connection;

    while ((connection = TAILQ_FIRST(&server->waiting_for_client)) != NULL &&
           connection->deadline <= hw_loop_now()) {
        clients_turn_ends(server, connection);
        shutdown(connection->fd, SHUT_RDWR); /* the HTTP library sees the end and cleans up */
    }
    start_sweep(server);
}

static struct connection *connection_of(struct MHD_Connection *c)
{
    return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void on_connection(void *arg, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = arg;
    struct connection *connection = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        connection = hw_alloc(sizeof(*connection));
        connection->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        if (server->config.tls != NULL)
            connection->credentials = http_tls_attach(server->config.tls, c);
        *context = connection;
        clients_turn(server, connection);
    } else if (connection != NULL) {
        clients_turn_ends(server, connection);
        if (connection->refused && !server->draining)
            http_linger(server->lingers, connection->fd);
        http_tls_detach(connection->credentials);
        free(connection);
        *context = NULL;
        server->place_freed = true;
    }
}

/* ---- the memory bound ---- */

/* A request is the first member of the server's own record of it. */
static struct http_server_request *record_of(struct http_request *request)
{
    return (struct http_server_request *)request;
}

static bool charge(struct http_request *request, size_t bytes, bool owed)
{
    struct http_server_request *r = record_of(request);
    struct http_server *server = r->server;

    /* The body is freed by now; the bytes that were counted for it count for the answer. */
    if (owed)
        bytes = bytes > r->charged ? bytes - r->charged : 0;
    else if (server->charged + bytes > (size_t)server->config.memory)
        return false;
    server->charged += bytes;
    r->charged += bytes;
    return true;
}

/* Counts a body of len bytes in full, less what is counted already. */
static bool charge_body(struct http_server_request *r, size_t len)
{
    const size_t copies = r->request.route->body >= HTTP_BODY_LARGE_JSON ? CONFIG_COPIES : 1;
    const size_t owed = copies * len;

    return owed <= r->charged || charge(&r->request, owed - r->charged, false);
}

static void answer_no_room(struct http_request *request)
{
    http_answer_problem(request, &http_overloaded,
                        "Other large bodies take all the memory that they may");
}

/* One document with many resources may be as large as several contents together, as long as there
 * is memory for it. */
static size_t body_most(const struct http_server_config *config, enum http_body policy)
{
    const int64_t large = RESOURCES_CONFIGS * config->large_body_max;
    const int64_t room = config->memory / CONFIG_COPIES;

    switch (policy) {
    case HTTP_BODY_ANY:
        return (size_t)config->large_body_max;
    case HTTP_BODY_LARGE_JSON:
        return (size_t)(large < room ? large : room);
    default:
        return HTTP_JSON_BODY_MAX;
    }
}

/* ---- judging a request by its head ---- */

static bool judge_body(struct http_server_request *r, const struct http_head *head)
{
    struct http_request *request = &r->request;
    const enum http_body policy = request->route->body;
    const bool config = policy == HTTP_BODY_ANY;
    const size_t length = http_head_length(head);
    struct hw_error err;

    if (policy == HTTP_BODY_NONE) {
        if (r->has_body)
            http_answer_problem(request, &http_malformed_request, "This request takes no body");
        return !r->has_body;
    }
    /* RFC 9110 section 14.5: a part that were taken for the whole would replace it. */
    if (head->content_range != NULL) {
        http_answer_problem(request, &http_malformed_request,
                            "Content-Range: a document is sent as a whole, not in parts");
        return false;
    }
    if (head->content_coding != NULL) {
        http_answer_header(request, MHD_HTTP_HEADER_ACCEPT_ENCODING, "identity");
        http_answer_problem(request, &http_unsupported_media_type,
                            "Content-Encoding: %.60s is not decoded here; send the body as it is",
                            head->content_coding);
        return false;
    }
    if (head->content_type == NULL) {
        http_answer_problem(request, &http_unsupported_media_type, "Content-Type: is missing; %s",
                            config ? "it says what the content is, for example application/json"
                                   : "must be application/json");
        return false;
    }
    if (http_media_type_parse(head->content_type, &request->media_type, &err) != HW_OK) {
        http_answer_problem(request, &http_unsupported_media_type, "%s", err.message);
        return false;
    }
    if (!config && strcmp(request->media_type, "application/json") != 0 &&
        (policy != HTTP_BODY_JSON_SCHEMA ||
         strcmp(request->media_type, "application/schema+json") != 0)) {
        http_answer_problem(request, &http_unsupported_media_type,
                            "Content-Type: must be application/json");
        return false;
    }
    r->body_max = body_most(&r->server->config, policy);
    if (length > r->body_max) {
        http_answer_problem(request, &http_too_large,
                            "The body has %zu bytes; the limit is %zu bytes", length, r->body_max);
        return false;
    }
    if (!charge_body(r, length)) {
        answer_no_room(request);
        return false;
    }
    return true;
}

static bool judge_route(struct http_server_request *r, const struct http_head *head)
{
    const struct http_hooks *hooks = &r->server->config.hooks;
    struct http_request *request = &r->request;
    struct hw_buf allow = {0};
    struct hw_error err;
    const char *unknown;

    if (http_target_parse(r->raw_target, &request->target, &err) != HW_OK) {
        http_answer_problem(request, &http_malformed_request, "%s", err.message);
        return false;
    }
    switch (http_router_find(r->server->config.routes, request->method, &request->target,
                             &request->route, &allow)) {
    case HW_OK:
        break;
    case HW_EDENIED:
        http_answer_header(request, MHD_HTTP_HEADER_ALLOW, allow.data);
        http_answer_problem(request, &http_method_not_allowed, "%s is not one of %s",
                            request->method, allow.data);
        hw_buf_free(&allow);
        return false;
    default:
        http_answer_problem(request, &http_no_such_route, "GET /v1 lists what there is");
        return false;
    }
    if (hooks->authorise != NULL && !hooks->authorise(request, head->authorization))
        return false;
    unknown = http_router_unknown(request->route, &request->target);
    if (unknown != NULL) {
        http_answer_problem(request, &http_invalid_parameter, "%s: no such parameter here%s%s",
                            unknown, *request->route->query != '\0' ? "; there are: " : "",
                            request->route->query);
        return false;
    }
    return judge_body(r, head);
}

/* Does Host name this service? It does with an address, with a name without a dot, and with one of
 * the names in the configuration, in any case (RFC 9110 section 4.2.3) and with any port. */
static bool is_our_host(const struct http_server *server, const char *host)
{
    const size_t len = strcspn(host, ":");
    const char *name = server->config.hosts;

    if (hw_address_is_local_host(host))
        return true;
    while (name != NULL && *name != '\0') {
        const size_t span = strcspn(name, ", ");

        if (span == len && strncasecmp(name, host, len) == 0)
            return true;
        name += span + strspn(name + span, ", ");
    }
    return false;
}

/* Reads the head alone. Whatever is wrong is answered before a byte of the body is stored. */
static void judge(struct http_server_request *r, const struct http_line *line)
{
    struct http_request *request = &r->request;
    struct http_head head;
    struct http_fault fault;

    if (!http_framing_is_strict(request->connection, line, &fault)) {
        r->has_body = true; /* who knows: nothing more is read */
        http_answer_problem(request, fault.problem, "%s", fault.detail);
        return;
    }
    http_head_read(request->connection, &head);
    r->has_body = http_head_has_body(&head);
    HW_AUTO_FREE char *named = http_target_authority(r->raw_target);
    if (!http_framing_judge(&head, r->version, &fault))
        http_answer_problem(request, fault.problem, "%s", fault.detail);
    else if (head.host != NULL && !is_our_host(r->server, head.host))
        http_answer_problem(
            request, &http_misdirected,
            "Host: %s is not a name of this service; --host tells it those that are", head.host);
    else if (named != NULL && !is_our_host(r->server, named))
        http_answer_problem(request, &http_misdirected,
                            "The target names another service; --host tells this one its names");
    else
        (void)judge_route(r, &head);
}

/* ---- the body ---- */

/* A chunked body shows its size only while it comes, and the library takes no answer before the
 * body ends. So the rest of one that cannot be kept is read and dropped. */
static void drop_body(struct http_server_request *r, const struct http_problem *why)
{
    r->dropping = true;
    r->dropped_for = why;
    free(HW_TAKE(r->request.body));
    r->server->charged -= r->charged;
    r->charged = 0;
}

static enum MHD_Result take_body(struct http_server_request *r, const char *data, size_t size)
{
    struct http_request *request = &r->request;
    const size_t wanted = request->body_len + size;

    if (!r->dropping && wanted > r->body_max)
        drop_body(r, &http_too_large);
    else if (!r->dropping && !charge_body(r, wanted))
        drop_body(r, &http_overloaded);
    if (r->dropping) {
        r->dropped += size;
        return r->dropped <= DROPPED_MAX ? MHD_YES : MHD_NO;
    }
    if (wanted >= r->body_cap) {
        size_t cap = r->body_cap > 0 ? 2 * r->body_cap : BODY_FIRST;
        char *grown;

        while (cap <= wanted)
            cap *= 2;
        if (cap > r->body_max)
            cap = r->body_max + 1;
        grown = realloc(request->body, cap);
        if (grown == NULL)
            return MHD_NO;
        request->body = grown;
        r->body_cap = cap;
    }
    memcpy(request->body + request->body_len, data, size);
    request->body_len = wanted;
    return MHD_YES;
}

/* False when the request was answered instead. */
static bool finish_body(struct http_server_request *r)
{
    struct http_request *request = &r->request;

    if (r->dropping && r->dropped_for == &http_too_large)
        http_answer_problem(request, &http_too_large,
                            "The body has more than the limit of %zu bytes", r->body_max);
    else if (r->dropping)
        answer_no_room(request);
    if (r->dropping)
        return false;
    if (request->route->body == HTTP_BODY_NONE)
        return true;
    if (request->body == NULL)
        request->body = hw_strdup("");
    request->body[request->body_len] = '\0';
    return true;
}

/* ---- what requests ask of their server ---- */

static void run_soon(struct http_server *server);

static void wake(struct http_request *request)
{
    struct http_server_request *r = record_of(request);

    if (!r->sleeping)
        return;
    r->sleeping = false;
    MHD_resume_connection(request->connection);
    run_soon(r->server); /* with an external loop the library does not wake itself */
}

static void streaming(struct http_request *request, bool has_bytes)
{
    struct http_server_request *r = record_of(request);
    struct connection *connection = connection_of(request->connection);

    if (has_bytes) {
        clients_turn(r->server, connection);
        return;
    }
    clients_turn_ends(r->server, connection);
    r->sleeping = true;
    MHD_suspend_connection(request->connection);
}

static void watch(struct http_request *request)
{
    struct http_server_request *r = record_of(request);

    if (!r->watched)
        http_hangups_watch(r->server->hangups, connection_of(request->connection)->fd, r);
    r->watched = true;
}

static void take_for_gone(void *arg)
{
    struct http_server_request *r = arg;
    struct http_request *request = &r->request;

    request->is_gone = true;
    if (request->response != NULL)
        wake(request);
    else if (request->gone != NULL)
        HW_TAKE(request->gone)(request->gone_arg);
}

/* A client may have closed its own side alone, and still wait for the answer: a quick one reaches
 * it.
 */
static void on_hang_up(void *arg)
{
    struct http_server_request *r = arg;

    hw_timer_start(r->server->config.loop, &r->hung_up, HALF_CLOSED_MS, take_for_gone, r);
}

static const struct http_transport transport = {wake, streaming, charge, watch};

/* ---- libmicrohttpd's callbacks ---- */

/*
 * The library would now make a record of each query parameter and of each cookie, in the memory
 * that a head may take. Where they are too many, version 0.9.75 answers nothing and never ends the
 * connection, or sends the head of its answer twice. So it is shown neither: the server reads the
 * query itself, and needs no cookie.
 */
static void spare_library(struct MHD_Connection *c, const char *raw_target)
{
    char *query = raw_target != NULL ? strchr(raw_target, '?') : NULL;

    if (query != NULL)
        query[1] = '\0'; /* this is the library's own read buffer, which it goes on to parse */
    (void)MHD_set_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_COOKIE, "");
}

static void *on_target(void *arg, const char *raw_target, struct MHD_Connection *c)
{
    struct http_server *server = arg;
    struct http_server_request *r = hw_alloc(sizeof(*r));
    const struct sockaddr *peer =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;

    r->server = server;
    r->raw_target = hw_strdup(raw_target != NULL ? raw_target : "");
    spare_library(c, raw_target);
    r->request.context = server->config.context;
    r->request.transport = &transport;
    r->request.connection = c;
    r->request.method = "";
    r->request.raw_target = r->raw_target;
    r->begun = now_ns();
    if (getnameinfo(peer,
                    peer->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                               : sizeof(struct sockaddr_in6),
                    r->request.client, sizeof(r->request.client), NULL, 0, NI_NUMERICHOST) != 0)
        r->request.client[0] = '\0';
    LIST_INSERT_HEAD(&server->requests, r, link);
    server->request_count++;
    connection_of(c)->request = r;
    return r;
}

static void note_answered(const struct http_server *server, const struct http_route *route,
                          int status, int64_t begun)
{
    if (server->config.hooks.answered != NULL)
        server->config.hooks.answered(server->config.context, route, status, now_ns() - begun);
}

static enum MHD_Result queue_answer(struct http_server_request *r)
{
    struct MHD_Response *response = r->request.response;

    if (r->server->draining)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    r->queued = true;
    note_answered(r->server, r->request.route, r->request.status, r->begun);
    clients_turn(r->server, connection_of(r->request.connection));
    return http_framing_queue(r->request.connection, r->request.status, response);
}

/* ---- what the library refuses by itself ---- */

static enum http_stage stage_of(void *arg, struct MHD_Connection *c)
{
    const struct http_server_request *r = connection_of(c)->request;

    (void)arg;
    if (r == NULL)
        return HTTP_IN_REQUEST_LINE;
    return r->judged ? HTTP_IN_BODY : HTTP_IN_HEAD;
}

static void on_refused(void *arg, struct MHD_Connection *c, int status)
{
    struct http_server *server = arg;
    struct connection *connection = connection_of(c);
    struct http_server_request *r = connection->request;

    connection->refused = true;
    if (r != NULL) {
        r->queued = true;
        r->request.status = status;
    }
    note_answered(server, r != NULL ? r->request.route : NULL, status,
                  r != NULL ? r->begun : now_ns());
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *c, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **context)
{
    const struct http_hooks *hooks = &((const struct http_server *)arg)->config.hooks;
    struct http_server_request *r = *context;
    struct http_request *request = &r->request;

    if (!r->judged) {
        r->judged = true;
        request->method = method;
        r->version = version;
        judge(r, &(struct http_line){
                     .method = method, .url = url, .version = version, .target = r->raw_target});
        /* The library closes the connection behind an answer to the head alone. Without a body the
         * answer can wait for the end of the request, and the connection stays. */
        if (request->response != NULL && r->has_body) {
            connection_of(c)->refused = true;
            return queue_answer(r);
        }
        return MHD_YES;
    }
    if (*size > 0) {
        const size_t taken = *size;

        *size = 0;
        return request->response != NULL ? MHD_YES : take_body(r, data, taken);
    }
    if (!r->called) {
        r->called = true;
        r->begun = now_ns();
        clients_turn_ends(r->server, connection_of(c));
        if (request->response == NULL && finish_body(r) &&
            (hooks->admit == NULL || hooks->admit(request)))
            request->route->handler(request);
    }
    if (request->response != NULL)
        return r->queued ? MHD_YES : queue_answer(r);
    r->sleeping = true;
    MHD_suspend_connection(c);
    return MHD_YES;
}

static void free_request(struct http_server_request *r)
{
    struct http_request *request = &r->request;

    r->server->charged -= r->charged;
    r->server->request_count--;
    LIST_REMOVE(r, link);
    hw_timer_stop(&r->hung_up);
    if (request->stream.ended != NULL)
        request->stream.ended(request->stream.arg);
    for (size_t i = 0; i < request->kept_count; i++)
        free(request->kept[i]);
    free(request->kept);
    free(request->held.data);
    free(request->body);
    free(request->media_type);
    free(r->raw_target);
    http_target_free(&request->target);
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    free(r);
}

static void note_drained(struct http_server *server)
{
    if (server->draining && server->drained != NULL && LIST_EMPTY(&server->requests))
        HW_TAKE(server->drained)(server->drained_arg);
}

static void on_completed(void *arg, struct MHD_Connection *c, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_server *server = arg;
    struct http_server_request *r = *context;
    struct connection *connection = connection_of(c);

    if (r == NULL)
        return;
    *context = NULL;
    hw_log_debug("answered", HW_S("method", r->request.method), HW_S("target", r->raw_target),
                 HW_I("http", r->request.status), HW_I("complete", code == 0));
    if (!r->queued && server->config.hooks.aborted != NULL)
        server->config.hooks.aborted(server->config.context);
    if (r->watched)
        http_hangups_forget(
            server->hangups,
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    free_request(r);
    if (connection != NULL) {
        connection->request = NULL;
        clients_turn(server, connection);
    }
    note_drained(server);
}

/* The library would decode escapes in place; http_target_parse does it, and refuses wrong ones. */
static size_t leave_escaped(void *arg, struct MHD_Connection *c, char *text)
{
    (void)arg;
    (void)c;
    return strlen(text);
}

/* Is the message about something that the system refused? That is news for an operator; what a
 * client did wrong is not. */
static bool is_about_system(const char *text)
{
    static const char *const signs[] = {"accept", "epoll",  "limit",
                                        "memory", "thread", "Failed to create"};

    for (size_t i = 0; i < HW_COUNT(signs); i++)
        if (strstr(text, signs[i]) != NULL)
            return true;
    return false;
}

static void on_library_message(void *arg, const char *fmt, va_list args) HW_PRINTF(2, 0);
static void on_library_message(void *arg, const char *fmt, va_list args)
{
    char text[256];
    int len;

    (void)arg;
    len = vsnprintf(text, sizeof(text), fmt, args);
    while (len > 0 && len < (int)sizeof(text) && text[len - 1] == '\n')
        text[--len] = '\0';
    hw_log(is_about_system(fmt) ? HW_LOG_WARN : HW_LOG_DEBUG, "the HTTP library says",
           HW_S("text", text));
}

/* ---- running ---- */

static void run(struct http_server *server);

static void on_ready(void *arg, short revents)
{
    (void)revents;
    run(arg);
}

static void on_run_again(void *arg)
{
    run(arg);
}

static void run_soon(struct http_server *server)
{
    hw_timer_start(server->config.loop, &server->run_again, 0, on_run_again, server);
}

static void run(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    server->place_freed = false;
    MHD_run(server->daemon);
    if (server->place_freed)
        run_soon(server);
    else if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
        hw_timer_start(server->config.loop, &server->run_again, (int64_t)wait_ms, on_run_again,
                       server);
    else
        hw_timer_stop(&server->run_again);
}

/* As many connections as the process may have descriptors, up to CONNECTIONS_MAX. */
static unsigned connections_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 512;
    if (limit.rlim_cur < limit.rlim_max) {
        const rlim_t wanted = CONNECTIONS_MAX + DESCRIPTORS_SPARED;

        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= CONNECTIONS_MAX + DESCRIPTORS_SPARED)
        return CONNECTIONS_MAX;
    return limit.rlim_cur > 2UL * DESCRIPTORS_SPARED ? (unsigned)limit.rlim_cur - DESCRIPTORS_SPARED
                                                     : DESCRIPTORS_SPARED;
}

/* The library wants a certificate for all connections, which could not be replaced while it runs.
 * It gets none: on_connection gives each connection the newest one. */
static int refuse_handshake(gnutls_session_t session, const gnutls_datum_t *authorities,
                            int authority_count, const gnutls_pk_algorithm_t *algorithms,
                            int algorithm_count, gnutls_pcert_st **chain, unsigned *chain_length,
                            gnutls_privkey_t *key)
{
    (void)session;
    (void)authorities;
    (void)authority_count;
    (void)algorithms;
    (void)algorithm_count;
    (void)chain;
    (void)chain_length;
    (void)key;
    return -1;
}

enum hw_status http_server_start(const struct http_server_config *config, struct http_server **out,
                                 struct hw_error *err)
{
    struct http_hangups *hangups;
    struct http_server *server;
    int listen_fd = -1;

    if (http_hangups_new(config->loop, on_hang_up, &hangups, err) != HW_OK)
        return err->status;
    if (hw_address_listen(&config->address, &listen_fd, err) != HW_OK) {
        http_hangups_free(hangups);
        return hw_fail_in(err, "--listen");
    }
    server = hw_alloc(sizeof(*server));
    server->config = *config;
    server->listen_fd = listen_fd;
    TAILQ_INIT(&server->waiting_for_client);
    LIST_INIT(&server->requests);
    hw_address_format_bound(listen_fd, server->name);
    server->lingers = http_lingers_new(config->loop);
    server->hangups = hangups;
    server->connections_limit = connections_max();
    const struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_library_message, NULL},
        {MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, server->connections_limit, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS_MAX, NULL},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, server},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, server},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, server},
#if MHD_VERSION >= 0x01000000 /* before, http_framing_is_strict does it alone */
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, NULL},
#endif
        {MHD_OPTION_END, 0, NULL},
    };
    const bool tls = config->tls != NULL;

    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0), 0,
        NULL, NULL, on_access, server, MHD_OPTION_ARRAY, options,
        tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END, refuse_handshake,
        MHD_OPTION_HTTPS_PRIORITIES, HTTP_TLS_PRIORITIES, MHD_OPTION_END);
    if (server->daemon == NULL) {
        http_lingers_free(server->lingers);
        http_hangups_free(server->hangups);
        close(listen_fd);
        free(server);
        return hw_fail(err, HW_EIO, "starting the HTTP server: the log above says why");
    }
    server->refusals = (struct http_refusals){
        .daemon = server->daemon, .stage = stage_of, .refused = on_refused, .arg = server};
    http_framing_take_refusals(&server->refusals);
    server->io = hw_io_add(config->loop,
                           MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                           POLLIN, on_ready, server);
    run(server);
    *out = server;
    return HW_OK;
}

const char *http_server_name(const struct http_server *server)
{
    return server->name;
}

struct http_server_load http_server_load(const struct http_server *server)
{
    return (struct http_server_load){
        .requests = server->request_count,
        .connections = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
                           ->num_connections,
        .connections_limit = server->connections_limit,
        .bytes = server->charged,
        .bytes_limit = (size_t)server->config.memory,
    };
}

void http_server_drain(struct http_server *server, void (*done)(void *arg), void *arg)
{
    const int fd = MHD_quiesce_daemon(server->daemon);

    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    server->listen_fd = -1;
    server->draining = true;
    server->drained = done;
    server->drained_arg = arg;
    note_drained(server);
}

void http_server_free(struct http_server *server)
{
    struct connection *connection;

    if (server == NULL)
        return;
    server->drained = NULL;
    for (int i = 0; i < 3; i++) /* the last answers are sent: one run each to wake, answer, send */
        MHD_run(server->daemon);
    hw_io_remove(server->io);
    hw_timer_stop(&server->run_again);
    MHD_stop_daemon(server->daemon);
    http_framing_take_refusals(NULL);
    hw_timer_stop(&server->sweep);
    while ((connection = TAILQ_FIRST(&server->waiting_for_client)) != NULL) {
        TAILQ_REMOVE(&server->waiting_for_client, connection, link);
        free(connection);
    }
    http_lingers_free(server->lingers);
    http_hangups_free(server->hangups);
    free(server);
}
