/* Is it UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF)? */
#ifndef API_UTF8_H
#define API_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* On false, *bad (which may be NULL) is the offset of the first byte that does not belong. */
bool api_utf8_valid(const char *text, size_t len, size_t *bad);

#endif
