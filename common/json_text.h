/* JSON values as text. */
#ifndef HW_JSON_TEXT_H
#define HW_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>

/*
 * Members in their order, malloc'ed. Numbers with a fraction get the fewest digits that read back
 * as the same number (jansson would write 0.1 as 0.10000000000000001, and the database compares
 * decimals). pretty: indented by two blanks, without a line feed at the end; otherwise compact.
 */
char *hw_json_text(const json_t *value, bool pretty);

#endif
