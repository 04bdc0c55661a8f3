#include "base/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct hw_digester {
    EVP_MD_CTX *ctx;
};

/* libcrypto fails here only when there is no memory. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

struct hw_digester *hw_digester_new(void)
{
    struct hw_digester *d = hw_alloc(sizeof(*d));

    d->ctx = EVP_MD_CTX_new();
    must(d->ctx != NULL);
    must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
    return d;
}

void hw_digester_add(struct hw_digester *d, const void *data, size_t len)
{
    must(EVP_DigestUpdate(d->ctx, data, len));
}

void hw_digester_finish(struct hw_digester *d, struct hw_digest *digest)
{
    must(EVP_DigestFinal_ex(d->ctx, digest->bytes, NULL));
}

void hw_digester_free(struct hw_digester *d)
{
    if (d == NULL)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}

void hw_digest_of(const void *data, size_t len, struct hw_digest *digest)
{
    must(EVP_Digest(data, len, digest->bytes, NULL, EVP_sha256(), NULL));
}

bool hw_digest_equal(const struct hw_digest *a, const struct hw_digest *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

char *hw_digest_hex(const struct hw_digest *d, char out[static HW_DIGEST_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(d->bytes); i++) {
        out[2 * i] = digits[d->bytes[i] >> 4];
        out[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    out[2 * sizeof(d->bytes)] = '\0';
    return out;
}

char *hw_digest_format(const struct hw_digest *d, char out[static HW_DIGEST_STR_MAX])
{
    memcpy(out, "sha256:", 7);
    hw_digest_hex(d, out + 7);
    return out;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

enum hw_status hw_digest_parse(const char *text, struct hw_digest *digest, struct hw_error *err)
{
    struct hw_digest result;

    if (strncmp(text, "sha256:", 7) != 0 || strlen(text) != HW_DIGEST_STR_MAX - 1)
        goto wrong;
    for (size_t i = 0; i < sizeof(result.bytes); i++) {
        const int high = hex_value(text[7 + 2 * i]);
        const int low = hex_value(text[8 + 2 * i]);

        if (high < 0 || low < 0)
            goto wrong;
        result.bytes[i] = (unsigned char)(high << 4 | low);
    }
    *digest = result;
    return HW_OK;
wrong:
    return hw_fail(err, HW_EINVAL,
                   "\"%.80s\" is not a digest: sha256: and 64 lower-case hexadecimal digits", text);
}
