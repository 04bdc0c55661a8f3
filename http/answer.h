/*
 * Answers to a request. A handler gives exactly one: JSON, bytes, nothing, a stream or a problem.
 * Header fields and the entity tag are set before that. Values that are "taken over" are freed by
 * the answer.
 */
#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include <jansson.h>

#include "http/problem.h"
#include "http/request.h"

/* A header field of the answer. name is a constant, value is copied. */
void http_answer_header(struct http_request *request, const char *name, const char *value);
/* The value of a field that was set; NULL where it was not. */
const char *http_answer_header_set(const struct http_request *request, const char *name);
/* The entity tag, without its quotes. */
void http_answer_etag(struct http_request *request, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* An entity tag made of the bytes themselves, for what has no version. */
void http_answer_etag_of(struct http_request *request, const char *bytes, size_t len);
/* A weak one, made of those bytes that count: the answer has others that change with each reading.
 */
void http_answer_etag_weak_of(struct http_request *request, const char *bytes, size_t len);

/*
 * 200 to a GET whose If-None-Match holds the entity tag becomes 304. An answer of more than 64 KiB
 * becomes 503 when the server's bound on memory leaves no room for it, unless it is owed.
 */
void http_answer_json(struct http_request *request, int status, json_t *value); /* taken over */
/* The same with a media type of JSON's own kind. */
void http_answer_json_as(struct http_request *request, int status, json_t *value,
                         const char *media_type);
void http_answer_bytes(struct http_request *request, int status, void *data, size_t len,
                       const char *media_type); /* data is malloc'ed, and taken over */
void http_answer_empty(struct http_request *request, int status);

/*
 * Whatever is answered from now on is sent, however little memory is left: the request has changed
 * something, and a client that was told 503 would believe that nothing happened. The body, which
 * nobody needs any more, is freed, and what was counted for it counts for the answer. The answer's
 * bytes beyond that are counted as well.
 */
void http_answer_owe(struct http_request *request);

/*
 * Hold: the next answer is not sent yet, but kept in request->held; its media type must be a
 * constant. Then it is either released, which sends it (or, where none was made yet, lets the next
 * one be sent), or dropped together with its header fields, after which another answer can be made.
 */
void http_answer_hold(struct http_request *request);
void http_answer_release(struct http_request *request);
void http_answer_drop(struct http_request *request);

/*
 * 200, and then whatever read gives, until it says that the stream has ended or the client hangs
 * up. ended is called once, when read will not be called any more.
 */
void http_answer_stream(struct http_request *request, const char *media_type,
                        http_stream_read_fn *read, void (*ended)(void *arg), void *arg);
/* The answer to HEAD of a stream: its fields, among which is no length. */
void http_answer_stream_head(struct http_request *request, const char *media_type);
/* A stream that had nothing to give has something again, or has ended. */
void http_answer_more(struct http_request *request);

void http_answer_problem(struct http_request *request, const struct http_problem *problem,
                         const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* With further members (taken over). */
void http_answer_problem_with(struct http_request *request, const struct http_problem *problem,
                              json_t *members, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Logs the error once under a correlation id, and answers 500 with the id and nothing else. */
void http_answer_internal(struct http_request *request, const char *doing, const char *error);

/* A problem as the response to bytes that are no request because they could not be read. The
 * caller ends it with MHD_destroy_response. */
struct MHD_Response *http_answer_response(const struct http_problem *problem, const char *detail);

#endif
