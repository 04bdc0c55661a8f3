/*
 * JSON values from text and as text, in which numbers stay what they were.
 *
 * jansson has numbers of C: what is beyond 64 bits it refuses, and other decimals than a double's
 * it changes. hw_json_load keeps such a number as it was written. To jansson that is a string which
 * begins with NUL, as no other string here does; hw_json_digits tells it from one.
 */
#ifndef HW_JSON_TEXT_H
#define HW_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>

/*
 * As json_loadb. Numbers that would be written otherwise than they stand in the text (1e400, 0.10,
 * 9007199254740993.0) are kept as they are. problem may be NULL; positions in it are those of text.
 */
json_t *hw_json_load(const char *text, size_t len, size_t flags, json_error_t *problem);

/* The number as it was written, when it is one that hw_json_load kept; otherwise NULL. */
const char *hw_json_digits(const json_t *value);
/* Is it a number, kept or not? */
bool hw_json_is_number(const json_t *value);
/* Is it a string, and no kept number? */
bool hw_json_is_string(const json_t *value);
/* Are two numbers the same, as decimals: 100, 1e2 and 100.0? */
bool hw_json_same_number(const json_t *a, const json_t *b);
/* The number's digits without fraction and exponent (1e2: "100"), malloc'ed; NULL when it is no
 * integer, or one beyond 64 bits. */
char *hw_json_integer(const json_t *number);

/* Has it 131072 digits before the point and 16383 behind it at most, written without an exponent?
 * That is what PostgreSQL's numeric holds, and no label or document has a number beyond it. */
bool hw_json_number_fits(const json_t *number);

/*
 * Members stand in their order; the text is malloc'ed. A number with a fraction gets the fewest
 * digits that read back as the same number: jansson would write 0.1 as 0.10000000000000001, and the
 * database compares decimals. A kept number stands as it was written. pretty: indented by two
 * blanks, without a line feed at the end; otherwise compact.
 */
char *hw_json_text(const json_t *value, bool pretty);

#endif
