/* Text on its way out: JSON, and words of others made fit for a terminal. */
#ifndef HW_CLI_TEXT_H
#define HW_CLI_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

/*
 * JSON, members in their order, numbers with as many digits as they need; control characters, those
 * of ISO 6429's second set included, only as \u escapes. pretty: indented by two blanks, without a
 * line feed at the end. malloc'ed.
 */
char *cli_json_text(const json_t *value, bool pretty);

/*
 * Adds text that a terminal cannot take for a command: control characters, and those that change
 * the direction of writing, become \u escapes, bytes that are no UTF-8 U+FFFD. lines: line feeds
 * and tabs stay. Returns how many columns it takes on a terminal (wcwidth; of all lines together).
 */
size_t cli_text_add(struct hw_buf *out, const char *text, size_t len, bool lines);

#endif
