/*
 * Content digests: SHA-256 (FIPS 180-4), written "sha256:<64 lower-case hex digits>" in SQL, KV and
 * HTTP, and "SHA-256=<base64url>" in object-store metadata (NATS ADR-20).
 */
#ifndef HW_DIGEST_H
#define HW_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define HW_DIGEST_HEX_MAX 65 /* 64 digits and a NUL */
#define HW_DIGEST_STR_MAX 72 /* "sha256:", 64 digits and a NUL */

struct hw_digest {
    unsigned char bytes[32];
};

void hw_digest_of(const void *data, size_t len, struct hw_digest *digest);

/* A digest of bytes that come in pieces. Free it with hw_digester_free, finished or not. */
struct hw_digester;
struct hw_digester *hw_digester_new(void);
void hw_digester_add(struct hw_digester *d, const void *data, size_t len);
void hw_digester_finish(struct hw_digester *d, struct hw_digest *digest);
void hw_digester_free(struct hw_digester *d);

bool hw_digest_equal(const struct hw_digest *a, const struct hw_digest *b);
char *hw_digest_format(const struct hw_digest *d, char out[static HW_DIGEST_STR_MAX]);
char *hw_digest_hex(const struct hw_digest *d, char out[static HW_DIGEST_HEX_MAX]);
enum hw_status hw_digest_parse(const char *text, struct hw_digest *digest,
                               struct hw_error *err) HW_CHECKED;

#endif
