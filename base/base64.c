#include "base/base64.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/memory.h"

char *hw_base64_encode(const void *data, size_t len)
{
    char *text = hw_alloc(4 * ((len + 2) / 3) + 1);

    /* EVP_EncodeBlock counts in int, so long data is encoded in pieces. A piece whose length is a
     * multiple of 3 has no padding, so the texts of the pieces join. */
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

/* The two alphabets differ in two digits, so the text is made with one and translated. */
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

/* plus and slash are the two digits in which the two alphabets differ. The table holds the value of
 * each digit plus one; 0 stands for a character that is no digit. */
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
