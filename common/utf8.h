/* UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef HW_UTF8_H
#define HW_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length in bytes, 1 to 4, of the character at p, which has left > 0 bytes; 0 where there is none.
 */
size_t hw_utf8_length(const char *p, size_t left);

/* On false, *bad (which may be NULL) is the offset of the first byte that does not belong. */
bool hw_utf8_valid(const char *text, size_t len, size_t *bad);

#endif
