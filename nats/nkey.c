#include "nats/nkey.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    PREFIX_SEED = 18 << 3,
    PREFIX_USER = 20 << 3,
    SEED_BYTES = 2 + HW_NKEY_BYTES + 2,
    PUBLIC_BYTES = 1 + HW_NKEY_BYTES + 2,
    FILE_MOST = 16384,
};

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static uint16_t crc16(const unsigned char *data, size_t size)
{
    uint16_t crc = 0;

    for (size_t i = 0; i < size; i++) {
        crc = (uint16_t)(crc ^ (data[i] << 8));
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

char *hw_nkey_encode(unsigned char *raw, size_t size, char *out)
{
    const uint16_t crc = crc16(raw, size - 2);
    uint32_t bits = 0;
    int count = 0;
    char *at = out;

    raw[size - 2] = (unsigned char)(crc & 0xff);
    raw[size - 1] = (unsigned char)(crc >> 8);
    for (size_t i = 0; i < size; i++) {
        bits = bits << 8 | raw[i];
        for (count += 8; count >= 5; count -= 5)
            *at++ = alphabet[bits >> (count - 5) & 31];
    }
    if (count > 0)
        *at++ = alphabet[bits << (5 - count) & 31];
    *at = '\0';
    return out;
}

char *hw_nkey_seed(const unsigned char secret[static HW_NKEY_BYTES],
                   char out[static HW_NKEY_SEED_MAX])
{
    unsigned char raw[SEED_BYTES] = {PREFIX_SEED | PREFIX_USER >> 5, (PREFIX_USER & 31) << 3};

    memcpy(raw + 2, secret, HW_NKEY_BYTES);
    hw_nkey_encode(raw, sizeof(raw), out);
    OPENSSL_cleanse(raw, sizeof(raw));
    return out;
}

/* False: the text does not begin with the seed of a user. */
static bool decode_seed(const char *text, unsigned char secret[static HW_NKEY_BYTES])
{
    unsigned char raw[SEED_BYTES];
    size_t size = 0;
    uint32_t bits = 0;
    int count = 0;

    for (int i = 0; i < HW_NKEY_SEED_MAX - 1; i++) {
        const char *digit = text[i] != '\0' ? strchr(alphabet, text[i]) : NULL;

        if (digit == NULL)
            return false;
        bits = bits << 5 | (uint32_t)(digit - alphabet);
        count += 5;
        if (count >= 8) {
            count -= 8;
            raw[size++] = (unsigned char)(bits >> count);
        }
    }
    const bool right =
        raw[0] == (PREFIX_SEED | PREFIX_USER >> 5) && raw[1] >> 3 == (PREFIX_USER & 31) &&
        crc16(raw, SEED_BYTES - 2) == (raw[SEED_BYTES - 2] | raw[SEED_BYTES - 1] << 8);

    memcpy(secret, raw + 2, HW_NKEY_BYTES);
    OPENSSL_cleanse(raw, sizeof(raw));
    return right;
}

static bool find_seed(const char *text, unsigned char secret[static HW_NKEY_BYTES])
{
    for (const char *at = strstr(text, "SU"); at != NULL; at = strstr(at + 1, "SU"))
        if (decode_seed(at, secret))
            return true;
    return false;
}

enum hw_status hw_nkey_public_of_file(const char *path, char out[static HW_NKEY_PUBLIC_MAX],
                                      struct hw_error *err)
{
    unsigned char secret[HW_NKEY_BYTES], raw[PUBLIC_BYTES] = {PREFIX_USER};
    size_t size = HW_NKEY_BYTES;
    char text[FILE_MOST];
    EVP_PKEY *key = NULL;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return hw_fail_errno(err, "reading the nkey seed in %s", path);
    const size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    const bool found = find_seed(text, secret);
    OPENSSL_cleanse(text, sizeof(text));
    if (found)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
    OPENSSL_cleanse(secret, sizeof(secret));
    const bool made = key != NULL && EVP_PKEY_get_raw_public_key(key, raw + 1, &size) == 1;
    EVP_PKEY_free(key);
    if (!found)
        return hw_fail(err, HW_EINVAL,
                       "%s: no nkey seed of a user in it (58 characters that begin with SU)", path);
    if (!made)
        return hw_fail(err, HW_EIO, "%s: the public key of the seed cannot be computed", path);
    hw_nkey_encode(raw, sizeof(raw), out);
    return HW_OK;
}
