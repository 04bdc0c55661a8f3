/*
 * Problems: every error that a client sees is an application/problem+json document (RFC 9457). Its
 * type is API_PROBLEM_URN and the problem's name; docs/http.md explains each.
 */
#ifndef HTTP_PROBLEM_H
#define HTTP_PROBLEM_H

#include <jansson.h>

#define API_PROBLEM_URN "urn:headwater:problem:"

enum api_problem {
    API_MALFORMED_REQUEST,
    API_MALFORMED_JSON,
    API_INVALID_PARAMETER,
    API_UNAUTHENTICATED,
    API_FORBIDDEN,
    API_NO_SUCH_ROUTE,
    API_NO_SUCH_RESOURCE,
    API_METHOD_NOT_ALLOWED,
    API_CONFLICT,
    API_APPLY_FAILED,
    API_IDEMPOTENCY_KEY_IN_USE,
    API_PRECONDITION_FAILED,
    API_TOO_LARGE,
    API_TARGET_TOO_LONG,
    API_UNSUPPORTED_MEDIA_TYPE,
    API_MISDIRECTED,
    API_INVALID_BODY,
    API_INVALID_CONTENT,
    API_REFUSED,
    API_POSITION_AHEAD,
    API_IDEMPOTENCY_KEY_REUSED,
    API_RATE_LIMITED,
    API_HEADERS_TOO_LARGE,
    API_INTERNAL,
    API_NOT_IMPLEMENTED,
    API_DATABASE_UNAVAILABLE,
    API_NOT_READY,
    API_OVERLOADED,
    API_CONTENTION,
    API_COMMIT_OUTCOME_UNKNOWN,
    API_SHUTTING_DOWN,
    API_WAIT_TIMEOUT,
    API_VERSION_NOT_SUPPORTED,
    API_PROBLEM_COUNT
};

struct api_problem_kind {
    const char *name;
    int status;
    const char *title;
    int retry_after_s; /* 0: no Retry-After */
};
const struct api_problem_kind *api_problem_kind(enum api_problem problem);

/*
 * The document: type, title, status and detail, then members (an object, borrowed, or NULL).
 * Caller: json_decref.
 */
json_t *api_problem_document(enum api_problem problem, const char *detail, json_t *members);

#endif
