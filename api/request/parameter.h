/*
 * Query parameters that many routes share. Each function returns false when it answered the request
 * with the problem.
 */
#ifndef API_REQUEST_PARAMETER_H
#define API_REQUEST_PARAMETER_H

#include <stdbool.h>
#include <stdint.h>

#include "http/request.h"

/* ?limit=, from 1 to 1000, and 100 where it is not given. *text is one more, as the query wants it:
 * a row beyond the limit tells that there is a next page. */
bool api_parameter_limit(struct http_request *request, int *limit, const char **text);
/* ?<name>=true or false; false where it is not given. */
bool api_parameter_flag(struct http_request *request, const char *name, bool *flag);
/* ?<name>= as a positive integer; *text is NULL where it is not given. */
bool api_parameter_number(struct http_request *request, const char *name, const char **text);

/* ?after= of a list that goes down from the newest number: only those below it; 0 leaves none.
 * *text is NULL where it is not given. */
bool api_parameter_after(struct http_request *request, const char **text);

/* The rev of a change: digits of a positive number. False: it is none. */
bool api_parameter_rev(const char *text, int64_t *rev);

#endif
