/*
 * Base64 (RFC 4648 section 4) and its URL-safe alphabet (section 5), both with padding. Texts have
 * no line breaks, and decoding accepts no white space. Results are malloc'ed with a NUL behind, and
 * the caller frees them.
 */
#ifndef HW_BASE64_H
#define HW_BASE64_H

#include <stddef.h>

#include "base/status.h"

char *hw_base64_encode(const void *data, size_t len);
char *hw_base64url_encode(const void *data, size_t len);

/* HW_EINVAL: text is no base64. HW_ELIMIT: no memory for so much. */
enum hw_status hw_base64_decode(const char *text, size_t len, unsigned char **data, size_t *size,
                                struct hw_error *err) HW_CHECKED;
enum hw_status hw_base64url_decode(const char *text, size_t len, unsigned char **data, size_t *size,
                                   struct hw_error *err) HW_CHECKED;

#endif
