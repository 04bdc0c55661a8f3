/*
 * One HTTP request, as a handler sees it. The server makes it when the request line was read and
 * frees it when the answer is sent or the connection is gone. A handler is called once, with the
 * whole body. It calls exactly one of the functions of http/answer.h, at once or later from the
 * loop; the connection sleeps meanwhile, so the request stays valid until then. Only the loop's
 * thread may use a request.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "http/names.h"
#include "http/router.h"
#include "http/target.h"

struct MHD_Connection;
struct MHD_Response;
struct sockaddr;
struct http_request;

enum { HTTP_ANSWER_HEADERS = 8 };

/* Puts at most room bytes into out and returns how many. 0: there are none now, and the connection
 * sleeps until http_answer_more; -1: the stream has ended. */
typedef ssize_t http_stream_read_fn(void *arg, char *out, size_t room);

/* What the server does for a request and its answer. Handlers do not call these. */
struct http_transport {
    /* The request has its answer, or its stream has more to send: wakes the connection. */
    void (*wake)(struct http_request *request);
    /* The stream gave bytes, which the client must fetch in time, or none: the connection sleeps.
     */
    void (*streaming)(struct http_request *request, bool has_bytes);
    /* Counts the bytes of an answer against the server's bound on memory until the request ends.
     * False: there is no room for them, and nothing was counted; never where the answer is owed. */
    bool (*charge)(struct http_request *request, size_t bytes, bool owed);
    /* From now on looks whether the client hangs up. */
    void (*watch)(struct http_request *request);
};

struct http_request {
    void *context; /* the program's, from struct http_server_config */
    const char *method;
    const char *raw_target; /* as it was sent */
    struct http_target target;
    const struct http_route *route;
    char *body; /* with a NUL behind; the handler may take it */
    size_t body_len;
    char *media_type; /* of the body, in its stored form; see media_type.h */
    char client[48];  /* the peer's address as text */

    /* Filled in by the program's hooks, for its handlers; the server does not look at them. */
    const char *author;              /* who calls */
    const char *idempotency_key;     /* of a request that may be sent twice; or NULL */
    const char *idempotency_request; /* digest of what makes two such requests the same */

    /* the answer, once there is one */
    int status;
    struct MHD_Response *response;
    char etag[96]; /* with its quotes; set before answering */
    int header_count;
    struct {
        const char *name;
        char *value;
    } headers[HTTP_ANSWER_HEADERS];
    bool owed;    /* see http_answer_owe */
    bool holding; /* see http_answer_hold */
    struct {
        int status; /* 0: none yet */
        char *data;
        size_t len;
        const char *media_type;
    } held;

    /* of an answer that comes piece by piece */
    struct {
        http_stream_read_fn *read;
        void (*ended)(void *arg);
        void *arg;
    } stream;

    bool is_gone; /* the client has hung up, and was watched for that */
    void (*gone)(void *arg);
    void *gone_arg;

    /* freed with the request */
    void **kept;
    size_t kept_count;

    /* the server's own */
    const struct http_transport *transport;
    struct MHD_Connection *connection;
};

/* The path's segment in the place of {name} in the route's pattern; NULL where it has none. */
const char *http_request_variable(const struct http_request *request, const char *name);
/* The value of a query parameter; NULL where it was not given. */
const char *http_request_parameter(const struct http_request *request, const char *name);
/* The value of a header field; NULL where it was not sent. */
const char *http_request_header(const struct http_request *request, const char *name);
/* The address of the client. */
const struct sockaddr *http_request_peer(const struct http_request *request);
/* GET or HEAD? */
bool http_request_is_read(const struct http_request *request);

/*
 * For a handler that answers late: gone is called, at most once, when the client hangs up before
 * there is an answer. The handler must answer all the same, with anything, since nobody will read
 * it. A stream needs no such call: it ends by itself when its client hangs up.
 */
void http_request_on_gone(struct http_request *request, void (*gone)(void *arg), void *arg);

/* Hands malloc'ed memory over to the request, which frees it at its end; returns it. */
void *http_request_keep(struct http_request *request, void *memory);

#endif
