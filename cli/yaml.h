/*
 * YAML 1.2 as JSON values. Plain scalars resolve by the core schema (yaml.org/spec/1.2.2, 10.3):
 * null, true and false, integers, floats; whatever else is a string, also yes, no, on and off.
 * Quoted ones are strings. What JSON cannot say, or what two readers would understand in two ways,
 * is refused: .inf and .nan, integers beyond 64 bits, keys that are no scalars, keys twice in one
 * mapping, merge keys, tags outside the core schema, NUL. Anchors and aliases are fine within the
 * bounds.
 */
#ifndef HW_CLI_YAML_H
#define HW_CLI_YAML_H

#include <jansson.h>
#include <stddef.h>

#include "common/status.h"

#define CLI_YAML_DEPTH 100                /* collections in each other, aliases followed */
#define CLI_YAML_NODES 1000000            /* values of all documents, aliases followed */
#define CLI_YAML_BYTES ((size_t)64 << 20) /* of their text, aliases followed */

/* Called for each document of a stream, in order; the value is the callee's. line: where it begins,
 * from 1. Any status but HW_OK ends the reading. */
typedef enum hw_status cli_yaml_fn(void *arg, json_t *document, size_t line, struct hw_error *err);

/* Errors begin with "<name>:<line>:<column>: "; those of the callback are passed on as they are. */
enum hw_status cli_yaml_read(const char *name, const char *text, size_t len, cli_yaml_fn *document,
                             void *arg, struct hw_error *err) HW_CHECKED;

/* A document in block style that reads back as the same value, also by readers of YAML 1.1;
 * malloc'ed. */
char *cli_yaml_text(const json_t *value);

#endif
