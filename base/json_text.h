/* A JSON value as text. */
#ifndef HW_JSON_TEXT_H
#define HW_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>

/*
 * Members stand in their order; the text is malloc'ed. A number with a fraction gets the fewest
 * digits that read back as the same number: jansson would write 0.1 as 0.10000000000000001, and the
 * database compares decimals. pretty: indented by two blanks, without a line feed at the end;
 * otherwise compact.
 */
char *hw_json_text(const json_t *value, bool pretty);

#endif
