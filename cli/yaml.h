/*
 * YAML 1.2 as JSON values. Plain scalars follow the core schema (yaml.org/spec/1.2.2, 10.3): null,
 * true and false, integers, floats; everything else is a string, also yes, no, on and off. Quoted
 * scalars are strings. Anything that JSON cannot say, or that two readers would understand in two
 * ways, is refused: .inf and .nan, hexadecimal and octal integers beyond 64 bits, keys that are no
 * scalars, a key twice in one mapping, merge keys, tags outside the core schema, NUL. Anchors and
 * aliases are allowed within the bounds.
 */
#ifndef HW_CLI_YAML_H
#define HW_CLI_YAML_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

#define CLI_YAML_DEPTH 100                /* collections in each other, aliases followed */
#define CLI_YAML_NODES 1000000            /* values of all documents, aliases followed */
#define CLI_YAML_BYTES ((size_t)64 << 20) /* of their text, aliases followed */

/* Called for each document of a stream, in order; the value then belongs to the callee. line: where
 * it begins, from 1. Any status but HW_OK ends the reading. */
typedef enum hw_status cli_yaml_fn(void *arg, json_t *document, size_t line, struct hw_error *err);

/* Errors begin with "<name>:<line>:<column>: "; those of the callback are passed on as they are. */
enum hw_status cli_yaml_read(const char *name, const char *text, size_t len, cli_yaml_fn *document,
                             void *arg, struct hw_error *err) HW_CHECKED;

/* The value as a document in block style, which readers of YAML 1.1 also read as the same value;
 * malloc'ed. */
char *cli_yaml_text(const json_t *value);

#endif
