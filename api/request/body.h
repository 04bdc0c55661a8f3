/*
 * JSON bodies, read strictly. A body must be one object with members of a given list and no others,
 * each of its type. Errors name the member by its path from the root, such as "$.priority".
 */
#ifndef API_REQUEST_BODY_H
#define API_REQUEST_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "http/request.h"

enum api_field_type { API_FIELD_STRING, API_FIELD_INTEGER, API_FIELD_OBJECT };

struct api_field {
    const char *name;
    enum api_field_type type;
    bool required;
    /* The value as text for SQL, kept by the request: a string, digits, or compact JSON. Stays as
     * it is when the member is absent or null. */
    const char **value;
};

/* False when the request was answered with the problem. */
bool api_body_read(struct http_request *request, const struct api_field *fields, size_t count);

/* The body is any JSON, which goes to the database as it came. False as above. */
bool api_body_check(struct http_request *request);

#endif
