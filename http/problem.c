#include "http/problem.h"

#include "base/memory.h"

#define PROBLEM(variable, name, status, title, retry_after_s)                                      \
    const struct http_problem variable = {name, status, title, retry_after_s}

PROBLEM(http_malformed_request, "malformed-request", 400, "The request cannot be understood", 0);
PROBLEM(http_invalid_parameter, "invalid-parameter", 400, "A parameter is wrong", 0);
PROBLEM(http_no_such_route, "no-such-route", 404, "There is nothing at this path", 0);
PROBLEM(http_method_not_allowed, "method-not-allowed", 405, "The path does not take this method",
        0);
PROBLEM(http_too_large, "too-large", 413, "The body is too large", 0);
PROBLEM(http_target_too_long, "target-too-long", 414, "The request line is too long", 0);
PROBLEM(http_unsupported_media_type, "unsupported-media-type", 415, "The media type is not taken",
        0);
PROBLEM(http_misdirected, "misdirected", 421, "The request is meant for another host", 0);
PROBLEM(http_headers_too_large, "headers-too-large", 431, "The header fields are too large", 0);
PROBLEM(http_internal, "internal", 500, "Something is wrong with the service", 0);
PROBLEM(http_not_implemented, "not-implemented", 501, "The transfer coding is not known", 0);
PROBLEM(http_overloaded, "overloaded", 503, "Too much is going on", 2);
PROBLEM(http_version_not_supported, "version-not-supported", 505,
        "The version of HTTP is not known", 0);

const struct http_problem *const http_problems[] = {
    &http_malformed_request,
    &http_invalid_parameter,
    &http_no_such_route,
    &http_method_not_allowed,
    &http_too_large,
    &http_target_too_long,
    &http_unsupported_media_type,
    &http_misdirected,
    &http_headers_too_large,
    &http_internal,
    &http_not_implemented,
    &http_overloaded,
    &http_version_not_supported,
    NULL,
};

/* A detail may quote bytes that the client sent, and these need not be UTF-8. */
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

json_t *http_problem_document(const struct http_problem *problem, const char *detail,
                              json_t *members)
{
    json_t *document = json_object();

    json_object_set_new(document, "type", json_sprintf("%s%s", HTTP_PROBLEM_URN, problem->name));
    json_object_set_new(document, "title", json_string(problem->title));
    json_object_set_new(document, "status", json_integer(problem->status));
    json_object_set_new(document, "detail", lenient_string(detail));
    if (members != NULL)
        json_object_update(document, members);
    return document;
}
