/*
 * A request target (RFC 9112 section 3.2) taken apart: path segments and query parameters, each
 * percent-decoded (RFC 3986 section 2.1). Strict: a bad escape, a NUL, bytes that are no UTF-8, a
 * slash smuggled into a segment as %2F, and a parameter given twice are errors. Nothing is
 * normalised: "." and ".." are names like any other, and no name of ours looks like that.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include "base/status.h"

enum { HTTP_TARGET_SEGMENTS = 8, HTTP_TARGET_PARAMETERS = 16 };

struct http_parameter {
    const char *name, *value;
};

struct http_target {
    char *text;        /* the other members point into it */
    int segment_count; /* HTTP_TARGET_SEGMENTS + 1 where there are more than fit */
    const char *segments[HTTP_TARGET_SEGMENTS];
    int parameter_count;
    struct http_parameter parameters[HTTP_TARGET_PARAMETERS];
};

/* Takes "/path?query", or the same behind "http://authority" or "https://authority". Free with
 * http_target_free. */
enum hw_status http_target_parse(const char *raw, struct http_target *target,
                                 struct hw_error *err) HW_CHECKED;
/* The authority of the absolute form, malloc'ed; NULL: the target has another form. */
char *http_target_authority(const char *raw);
void http_target_free(struct http_target *target);

/* The value of a query parameter, or NULL. */
const char *http_target_parameter(const struct http_target *target, const char *name);

#endif
