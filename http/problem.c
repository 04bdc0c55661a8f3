#include "http/problem.h"

#include "common/memory.h"

static const struct api_problem_kind kinds[API_PROBLEM_COUNT] = {
    [API_MALFORMED_REQUEST] = {"malformed-request", 400, "The request cannot be understood", 0},
    [API_MALFORMED_JSON] = {"malformed-json", 400, "The body is not valid JSON", 0},
    [API_INVALID_PARAMETER] = {"invalid-parameter", 400, "A parameter is wrong", 0},
    [API_UNAUTHENTICATED] = {"unauthenticated", 401, "A valid token is needed", 0},
    [API_FORBIDDEN] = {"forbidden", 403, "The caller's role may not do this", 0},
    [API_NO_SUCH_ROUTE] = {"no-such-route", 404, "There is nothing at this path", 0},
    [API_NO_SUCH_RESOURCE] = {"no-such-resource", 404, "There is no such resource", 0},
    [API_METHOD_NOT_ALLOWED] = {"method-not-allowed", 405, "The path does not take this method", 0},
    [API_CONFLICT] = {"conflict", 409, "Other resources stand in the way", 0},
    [API_APPLY_FAILED] = {"apply-failed", 409, "Some nodes could not apply their configuration", 0},
    [API_IDEMPOTENCY_KEY_IN_USE] = {"idempotency-key-in-use", 409,
                                    "The first request with this key still runs", 1},
    [API_PRECONDITION_FAILED] = {"precondition-failed", 412, "The resource is not as expected", 0},
    [API_TOO_LARGE] = {"too-large", 413, "The body is too large", 0},
    [API_TARGET_TOO_LONG] = {"target-too-long", 414, "The request line is too long", 0},
    [API_UNSUPPORTED_MEDIA_TYPE] = {"unsupported-media-type", 415, "The media type is not taken",
                                    0},
    [API_MISDIRECTED] = {"misdirected", 421, "The request is meant for another host", 0},
    [API_INVALID_BODY] = {"invalid-body", 422, "A member of the body is wrong", 0},
    [API_INVALID_CONTENT] = {"invalid-content", 422, "The content does not fit its media type", 0},
    [API_REFUSED] = {"refused", 422, "The database refuses the values", 0},
    [API_POSITION_AHEAD] = {"position-ahead", 422, "The position does not exist yet", 0},
    [API_IDEMPOTENCY_KEY_REUSED] = {"idempotency-key-reused", 422, "Another request had this key",
                                    0},
    [API_RATE_LIMITED] = {"rate-limited", 429, "Too many wrong tokens from this address", 0},
    [API_HEADERS_TOO_LARGE] = {"headers-too-large", 431, "The header fields are too large", 0},
    [API_INTERNAL] = {"internal", 500, "Something is wrong with the service", 0},
    [API_NOT_IMPLEMENTED] = {"not-implemented", 501, "The transfer coding is not known", 0},
    [API_DATABASE_UNAVAILABLE] = {"database-unavailable", 503, "The database cannot be reached", 2},
    [API_NOT_READY] = {"not-ready", 503, "The service is not ready", 5},
    [API_OVERLOADED] = {"overloaded", 503, "Too much is going on", 2},
    [API_CONTENTION] = {"contention", 503, "Other writers were faster, several times", 1},
    [API_COMMIT_OUTCOME_UNKNOWN] = {"commit-outcome-unknown", 503,
                                    "Whether the change was committed is not known", 2},
    [API_SHUTTING_DOWN] = {"shutting-down", 503, "The service is stopping", 2},
    [API_WAIT_TIMEOUT] = {"wait-timeout", 504, "Not every node was done in time", 0},
    [API_VERSION_NOT_SUPPORTED] = {"version-not-supported", 505, "The version of HTTP is not known",
                                   0},
};

const struct api_problem_kind *api_problem_kind(enum api_problem problem)
{
    return &kinds[problem];
}

/* A detail may quote what the client sent, which need not be UTF-8. */
static json_t *lenient_string(const char *text)
{
    json_t *string = json_string(text);

    if (string == NULL) {
        HW_AUTO_FREE char *ascii = hw_strdup(text);

        for (char *p = ascii; *p != '\0'; p++)
            if ((*p & 0x80) != 0)
                *p = '?';
        string = json_string(ascii);
    }
    return string;
}

json_t *api_problem_document(enum api_problem problem, const char *detail, json_t *members)
{
    const struct api_problem_kind *kind = &kinds[problem];
    json_t *document = json_object();

    json_object_set_new(document, "type", json_sprintf("%s%s", API_PROBLEM_URN, kind->name));
    json_object_set_new(document, "title", json_string(kind->title));
    json_object_set_new(document, "status", json_integer(kind->status));
    json_object_set_new(document, "detail", lenient_string(detail));
    if (members != NULL)
        json_object_update(document, members);
    return document;
}
