/*
 * One HTTP request, as a handler sees it. The server makes it when the request line was read and
 * frees it when the answer is sent or the connection is gone. A handler is called once, with the
 * whole body; it calls exactly one of the api_answer functions, at once or later from the loop
 * (the connection sleeps meanwhile, so the request stays valid until then). Only the loop's thread.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "http/problem.h"
#include "http/router.h"
#include "http/target.h"

struct api;
struct MHD_Connection;
struct MHD_Response;

enum { API_REQUEST_HEADERS = 8 };

/* Puts at most room bytes into out and says how many; 0: none now, the connection sleeps until
 * api_server_answered; -1: that was all. */
typedef ssize_t api_stream_read_fn(void *arg, char *out, size_t room);

struct api_request {
    struct api *api;
    const char *method;
    struct api_target target;
    const struct api_route *route;
    char *body; /* with a NUL behind; the handler may take it */
    size_t body_len;
    char *media_type; /* of a body of API_BODY_CONFIG */
    char client[48];  /* the peer's address */
    /* for the change log: "http:<address>", "token:<name>" or "cert:<name>"; NULL on routes that
     * are everyone's */
    const char *author;
    /* Idempotency-Key of a write of configuration, or NULL, and the digest of what makes requests
     * with the same key the same */
    const char *idempotency_key;
    const char *idempotency_request;

    /* the answer, once there is one */
    int status;
    struct MHD_Response *response;
    char etag[96]; /* with its quotes; set before answering */
    int header_count;
    struct {
        const char *name;
        char *value;
    } headers[API_REQUEST_HEADERS];
    bool holding; /* see api_answer_hold */
    struct {
        int status; /* 0: none yet */
        char *data;
        size_t len;
        const char *media_type;
    } held;

    /* of an answer that comes piece by piece */
    struct {
        api_stream_read_fn *read;
        void (*ended)(void *arg);
        void *arg;
    } stream;

    /* freed with the request */
    void **kept;
    size_t kept_count;

    /* the server's own */
    struct MHD_Connection *connection;
    struct api_server_request *server;
};

const char *api_request_variable(const struct api_request *request, const char *name);
const char *api_request_parameter(const struct api_request *request, const char *name);
const char *api_request_header(const struct api_request *request, const char *name);

/* Hands malloc'ed memory over to the request; returns it. */
void *api_request_keep(struct api_request *request, void *memory);

/* ---- parameters that many routes share: false when the request was answered with the problem ----
 */

/* ?limit=, 1 to 1000, 100 without; *text is one more, for the query: is there a next page? */
bool api_request_limit(struct api_request *request, int *limit, const char **text);
/* ?<name>=true or false, false without. */
bool api_request_flag(struct api_request *request, const char *name, bool *flag);
/* ?selector= as a jsonb[] of which labels must contain one; everyone without it. See selector.h. */
bool api_request_selector(struct api_request *request, const char **array);
/* The same as a list of objects. Caller: json_decref. */
bool api_request_alternatives(struct api_request *request, json_t **alternatives);
/* ?<name>= as a positive integer; *text is NULL when it was not given. */
bool api_request_number(struct api_request *request, const char *name, const char **text);

/* The preconditions of a write (RFC 9110 section 13.1); If-None-Match can be "*" alone. */
struct api_precondition {
    const char *if_match;       /* the field as it came, valid, or NULL */
    const char *versions;       /* those that it lists, as PostgreSQL's array; NULL: any */
    const char *must_not_exist; /* If-None-Match: * was given: "t" or "f" */
};
bool api_request_precondition(struct api_request *request, struct api_precondition *condition);

/* ---- answers ---- */

/* A header of the answer; value is copied. Call before the answer. */
void api_answer_header(struct api_request *request, const char *name, const char *value);
void api_answer_etag(struct api_request *request, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* GET with an ETag that If-None-Match holds becomes 304. value and data are taken over. */
void api_answer_json(struct api_request *request, int status, json_t *value);
void api_answer_bytes(struct api_request *request, int status, void *data, size_t len,
                      const char *media_type);
void api_answer_empty(struct api_request *request, int status);

/* The next answer is not sent yet, but kept in request->held; its media type is a constant. Then it
 * is sent, or forgotten together with its headers, and another one can be made. */
void api_answer_hold(struct api_request *request);
void api_answer_release(struct api_request *request);
void api_answer_drop(struct api_request *request);

/* 200, and what read gives, for as long as it gives something; ended is called once, when nobody
 * will read any more. */
void api_answer_stream(struct api_request *request, const char *media_type,
                       api_stream_read_fn *read, void (*ended)(void *arg), void *arg);

void api_answer_problem(struct api_request *request, enum api_problem problem, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* With further members (taken over). */
void api_answer_problem_with(struct api_request *request, enum api_problem problem, json_t *members,
                             const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A problem as the response to what is no request: it could not be read. MHD_destroy_response. */
struct MHD_Response *api_problem_response(enum api_problem problem, const char *detail);

/* Logs err once under a correlation id, and answers 500 with the id and nothing else. */
void api_answer_internal(struct api_request *request, const char *doing, const char *error);

#endif
