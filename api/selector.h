/*
 * Label selectors in a query: either a JSON object, or the short form k=v,k2=v2 whose values are
 * strings. A node matches when its labels contain the selector.
 */
#ifndef API_SELECTOR_H
#define API_SELECTOR_H

#include "common/status.h"

/* *json: the selector as compact JSON, malloc'ed. An empty text selects everyone: "{}". */
enum hw_status api_selector_parse(const char *text, char **json, struct hw_error *err) HW_CHECKED;

#endif
