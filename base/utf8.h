/* UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef HW_UTF8_H
#define HW_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length, 1 to 4 bytes, of the character at p, where left > 0 bytes are left; 0: it is none. */
size_t hw_utf8_length(const char *p, size_t left);

/* If false, *bad (which may be NULL) is the offset of the first byte that does not belong there. */
bool hw_utf8_valid(const char *text, size_t len, size_t *bad);

/* Copies as many whole characters as fit, with a NUL behind them, up to the first byte that is no
 * UTF-8. size > 0. */
void hw_utf8_copy(char *out, size_t size, const char *text);

#endif
