/* Text for a terminal: JSON, and words of others from which it can take no harm. */
#ifndef HW_CLI_TEXT_H
#define HW_CLI_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/*
 * A value as JSON. Members stand in their order, and numbers have as many digits as they need.
 * Control characters, also those of ISO 6429's second set, are written as \u escapes. pretty:
 * indented by two blanks, without a line feed at the end. malloc'ed.
 */
char *cli_json_text(const json_t *value, bool pretty);

/*
 * Adds text so that a terminal cannot take it for a command: control characters, and characters
 * that change the direction of writing, become \u escapes; bytes that are no UTF-8 become U+FFFD.
 * lines: line feeds and tabs stay. Returns the number of columns on a terminal (wcwidth; of all
 * lines together).
 */
size_t cli_text_add(struct hw_buf *out, const char *text, size_t len, bool lines);

#endif
