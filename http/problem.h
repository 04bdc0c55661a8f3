/*
 * Problems: every error that a client sees is an application/problem+json document (RFC 9457). Its
 * type is HTTP_PROBLEM_URN followed by the problem's name. docs/http.md explains each problem.
 *
 * The problems declared here are those that a server of any program may answer. A program adds its
 * own in the same form (api/problem.h).
 */
#ifndef HTTP_PROBLEM_H
#define HTTP_PROBLEM_H

#include <jansson.h>

#define HTTP_PROBLEM_URN "urn:headwater:problem:"

struct http_problem {
    const char *name;
    int status;
    const char *title;
    int retry_after_s; /* 0: the answer has no Retry-After field */
};

extern const struct http_problem http_malformed_request, http_invalid_parameter, http_no_such_route,
    http_method_not_allowed, http_too_large, http_target_too_long, http_unsupported_media_type,
    http_misdirected, http_headers_too_large, http_internal, http_not_implemented, http_overloaded,
    http_version_not_supported;

/* All of them; NULL ends the list. */
extern const struct http_problem *const http_problems[];

/*
 * The document: type, title, status and detail, followed by the members of an object (borrowed; may
 * be NULL). The caller frees the result with json_decref.
 */
json_t *http_problem_document(const struct http_problem *problem, const char *detail,
                              json_t *members);

#endif
