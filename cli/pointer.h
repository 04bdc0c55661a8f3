/* Places in a JSON document, named by a path: /a/b/0 (JSON Pointer, RFC 6901) or a.b.0. */
#ifndef HW_CLI_POINTER_H
#define HW_CLI_POINTER_H

#include <jansson.h>

#include "common/status.h"

/* The path as a JSON Pointer, malloc'ed. */
char *cli_pointer_of(const char *path);

/*
 * Puts value at a path below document; objects on the way are made where nothing is. In an array a
 * step is an index, or "-" for a new last element. NULL as value removes what is there (HW_ENOENT
 * where nothing is). The value stays the caller's.
 */
enum hw_status cli_pointer_set(json_t *document, const char *path, json_t *value,
                               struct hw_error *err) HW_CHECKED;

/*
 * An assignment as on the command line: path=value, where the value is JSON or, where it is none, a
 * string; path- removes. *path is malloc'ed, *value the caller's, NULL to remove.
 */
enum hw_status cli_pointer_split(const char *assignment, char **path, json_t **value,
                                 struct hw_error *err) HW_CHECKED;

#endif
