#include "common/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct hw_digester {
    EVP_MD_CTX *ctx;
};

/* libcrypto fails here only without memory. */
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

char *hw_base64_encode(const void *data, size_t len)
{
    char *text = hw_alloc(4 * ((len + 2) / 3) + 1);

    /* EVP_EncodeBlock counts in int; pieces of a multiple of 3 bytes join without padding. */
    const size_t piece = (size_t)3 << 20;
    size_t done = 0;
    char *out = text;
    while (done < len) {
        const size_t n = len - done < piece ? len - done : piece;

        out += EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)data + done, (int)n);
        done += n;
    }
    return text;
}

char *hw_base64url_encode(const void *data, size_t len)
{
    char *text = hw_base64_encode(data, len);

    for (char *p = text; *p != '\0'; p++) {
        if (*p == '+')
            *p = '-';
        else if (*p == '/')
            *p = '_';
    }
    return text;
}

/* Values of the digits plus one; 0 is no digit. plus and slash are the two that differ. */
static enum hw_status decode(const char *text, size_t len, char plus, char slash,
                             unsigned char **data, size_t *size, struct hw_error *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char table[256] = {0};
    unsigned char *bytes, *out;
    size_t padding = 0;

    for (size_t i = 0; i < sizeof(digits) - 1; i++)
        table[(unsigned char)digits[i]] = (unsigned char)(i + 1);
    table[(unsigned char)plus] = 63;
    table[(unsigned char)slash] = 64;
    if (len % 4 != 0)
        return hw_fail(err, HW_EINVAL, "base64 of %zu characters: not a multiple of 4", len);
    if (len > 0 && text[len - 1] == '=')
        padding = text[len - 2] == '=' ? 2 : 1;
    bytes = malloc(len / 4 * 3 + 1);
    if (bytes == NULL)
        return hw_fail(err, HW_ELIMIT, "no memory to decode %zu characters of base64", len);
    out = bytes;
    for (size_t i = 0; i < len; i += 4) {
        unsigned value = 0;

        for (size_t j = i; j < i + 4; j++) {
            unsigned digit = table[(unsigned char)text[j]];

            if (digit == 0 && j >= len - padding)
                digit = 1;
            if (digit == 0) {
                free(bytes);
                return hw_fail(err, HW_EINVAL, "base64: character %zu is not a digit", j + 1);
            }
            value = value << 6 | (digit - 1);
        }
        *out++ = (unsigned char)(value >> 16);
        *out++ = (unsigned char)(value >> 8);
        *out++ = (unsigned char)value;
    }
    out -= padding;
    *out = '\0';
    *data = bytes;
    *size = (size_t)(out - bytes);
    return HW_OK;
}

enum hw_status hw_base64_decode(const char *text, size_t len, unsigned char **data, size_t *size,
                                struct hw_error *err)
{
    return decode(text, len, '+', '/', data, size, err);
}

enum hw_status hw_base64url_decode(const char *text, size_t len, unsigned char **data, size_t *size,
                                   struct hw_error *err)
{
    return decode(text, len, '-', '_', data, size, err);
}
