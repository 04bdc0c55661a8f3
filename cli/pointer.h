/* Places in a JSON document, named by a path: /a/b/0 (JSON Pointer, RFC 6901) or a.b.0. */
#ifndef HW_CLI_POINTER_H
#define HW_CLI_POINTER_H

#include <jansson.h>

#include "base/status.h"

/* The path as a JSON Pointer, malloc'ed. */
char *cli_pointer_of(const char *path);

/*
 * Puts value at a path below document. Objects on the way are made where nothing is. In an array a
 * step is an index, or "-" for a new last element. value NULL removes what is there (HW_ENOENT:
 * nothing is). The value stays the caller's.
 */
enum hw_status cli_pointer_set(json_t *document, const char *path, json_t *value,
                               struct hw_error *err) HW_CHECKED;

/*
 * Reads an assignment of the command line: path=value. The value is JSON, or else a string; path-
 * removes. *path is malloc'ed; *value is the caller's, or NULL to remove.
 */
enum hw_status cli_pointer_split(const char *assignment, char **path, json_t **value,
                                 struct hw_error *err) HW_CHECKED;

#endif
