/*
 * Values that are drawn at random from schemas of the API's description (tests/support/openapi.h),
 * and hostile ones: what clients send by mistake or to do harm.
 */
#ifndef TEST_DRAW_H
#define TEST_DRAW_H

#include <jansson.h>

#include "tests/recovery/chance.h"

/* A value that fits. */
json_t *draw_value(struct chance *chance, json_t *schema);
/* The value with one thing wrong somewhere; value is taken over. */
json_t *draw_spoilt(struct chance *chance, json_t *value);
/* A value as JSON. Numbers that no type of C holds, which spoilt values have, are written here. */
char *draw_dump(const json_t *value);

/* A value that fits, as a parameter has it, and a hostile one. */
char *draw_text(struct chance *chance, json_t *schema);
const char *draw_hostile_text(struct chance *chance);

#endif
