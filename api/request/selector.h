/*
 * Label selectors in a query. A node matches when its labels contain (jsonb's @>) one of the
 * alternatives that the text may mean (base/labels.h).
 */
#ifndef API_REQUEST_SELECTOR_H
#define API_REQUEST_SELECTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"
#include "http/request.h"

#define API_SELECTOR_ALTERNATIVES 64 /* at most */

/* *alternatives is a list of objects; an empty text makes [{}], which every node matches. The
 * caller frees it with json_decref. */
enum hw_status api_selector_parse(const char *text, json_t **alternatives,
                                  struct hw_error *err) HW_CHECKED;

/* The same as PostgreSQL writes a jsonb[], malloc'ed: "labels @> ANY ($1::jsonb[])" uses the index.
 */
char *api_selector_array(const json_t *alternatives);

/* ?selector= as a list of objects. False when the request was answered with the problem. The caller
 * frees *alternatives with json_decref. */
bool api_selector_alternatives(struct http_request *request, json_t **alternatives);
/* The same as a jsonb[], kept by the request. */
bool api_selector_read(struct http_request *request, const char **array);

#endif
