/* JSON values as text. */
#ifndef API_JSON_TEXT_H
#define API_JSON_TEXT_H

#include <jansson.h>

/*
 * Compact text, malloc'ed. Numbers with a fraction get the fewest digits that read back as the same
 * number (jansson would write 0.1 as 0.10000000000000001, and the database compares decimals).
 */
char *api_json_text(json_t *value);

#endif
