#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/digest.h"
#include "base/memory.h"
#include "tests/support/suite.h"

/* NIST, "Examples with intermediate values" for SHA-256 (FIPS 180-4), and its long messages. */
START_TEST(test_sha256_vectors)
{
    static const struct {
        const char *text;
        int times;
        const char *hex;
    } cases[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char hex[HW_DIGEST_HEX_MAX], text[HW_DIGEST_STR_MAX];
        struct hw_digest whole, pieces;
        const size_t len = strlen(cases[i].text);
        HW_AUTO_FREE char *all = hw_alloc(len * (size_t)cases[i].times + 1);
        struct hw_digester *d = hw_digester_new();
        for (int n = 0; n < cases[i].times; n++) {
            memcpy(all + (size_t)n * len, cases[i].text, len + 1);
            hw_digester_add(d, cases[i].text, len);
        }
        hw_digest_of(all, strlen(all), &whole);
        hw_digester_finish(d, &pieces);
        hw_digester_free(d);
        ck_assert_str_eq(hw_digest_hex(&whole, hex), cases[i].hex);
        ck_assert(hw_digest_equal(&whole, &pieces));
        hw_digest_format(&whole, text);
        ck_assert_mem_eq(text, "sha256:", 7);
        ck_assert_str_eq(text + 7, cases[i].hex);
    }
    hw_digester_free(hw_digester_new());
    hw_digester_free(NULL);
}
END_TEST

START_TEST(test_digest_text)
{
    static const char good[] =
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct hw_digest abc, parsed;
    hw_digest_of("abc", 3, &abc);
    ck_assert_int_eq(hw_digest_parse(good, &parsed, NULL), HW_OK);
    ck_assert(hw_digest_equal(&abc, &parsed));

    for (size_t at = 0; at <= sizeof(good); at++) { /* each character spoiled, cut off, one added */
        char bad[sizeof(good) + 1] = {0};
        struct hw_error err = {0};
        memcpy(bad, good, sizeof(good));
        if (at == sizeof(good))
            bad[at - 1] = '0';
        else
            bad[at] = at % 2 == 0 ? 'G' : '\0';
        if (strcmp(bad, good) == 0)
            continue;
        ck_assert_msg(hw_digest_parse(bad, &parsed, &err) == HW_EINVAL, "took \"%s\"", bad);
        ck_assert(hw_digest_equal(&abc, &parsed));
    }
    ck_assert_int_eq(hw_digest_parse("sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410F"
                                     "F61F20015AD",
                                     &parsed, NULL),
                     HW_EINVAL);
}
END_TEST

static enum hw_status decoded(enum hw_status decode(const char *, size_t, unsigned char **,
                                                    size_t *, struct hw_error *),
                              const char *text, const void *expected, size_t size)
{
    unsigned char *data = NULL;
    size_t got = 0;
    const enum hw_status status = decode(text, strlen(text), &data, &got, NULL);
    if (status == HW_OK) {
        ck_assert_uint_eq(got, size);
        ck_assert_mem_eq(data, expected, size);
        ck_assert_int_eq(data[size], '\0');
    } else {
        ck_assert_ptr_null(data);
    }
    free(data);
    return status;
}

/* RFC 4648, section 10. */
START_TEST(test_base64_vectors)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < HW_COUNT(vectors); i++) {
        const size_t len = strlen(vectors[i][0]);
        HW_AUTO_FREE char *plain = hw_base64_encode(vectors[i][0], len);
        HW_AUTO_FREE char *url = hw_base64url_encode(vectors[i][0], len);
        ck_assert_str_eq(plain, vectors[i][1]);
        ck_assert_str_eq(url, vectors[i][1]);
        ck_assert_int_eq(decoded(hw_base64_decode, vectors[i][1], vectors[i][0], len), HW_OK);
        ck_assert_int_eq(decoded(hw_base64url_decode, vectors[i][1], vectors[i][0], len), HW_OK);
    }
    HW_AUTO_FREE char *plain = hw_base64_encode("\xfb\xff\xbf", 3);
    HW_AUTO_FREE char *url = hw_base64url_encode("\xfb\xff\xbf", 3);
    ck_assert_str_eq(plain, "+/+/");
    ck_assert_str_eq(url, "-_-_");
}
END_TEST

START_TEST(test_base64_refuses)
{
    static const char *const bad[] = {"Z",        "Zg",     "Zg=",   "====", "=g==", "Z===",
                                      "Zg==Zg==", "Zm9v\n", "Zm 9v", "Zm9*", "Zg=v", "Zm9vZ"};
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        ck_assert_msg(decoded(hw_base64_decode, bad[i], "", 0) == HW_EINVAL, "took %s", bad[i]);
        ck_assert_msg(decoded(hw_base64url_decode, bad[i], "", 0) == HW_EINVAL, "took %s", bad[i]);
    }
    ck_assert_int_eq(decoded(hw_base64_decode, "-_-_", "", 0), HW_EINVAL);
    ck_assert_int_eq(decoded(hw_base64url_decode, "+/+/", "", 0), HW_EINVAL);
}
END_TEST

/* Across the sizes where encoding goes on in another piece. */
START_TEST(test_base64_of_many_sizes)
{
    static const size_t sizes[] = {0,       1, 2, 3, 255, (3 << 20) - 1, 3 << 20, (3 << 20) + 1,
                                   16 << 20};
    HW_AUTO_FREE unsigned char *data = hw_alloc(16 << 20);
    for (size_t i = 0; i < 16 << 20; i++)
        data[i] = (unsigned char)(i * 2654435761U >> 13);
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        HW_AUTO_FREE char *text = hw_base64_encode(data, sizes[i]);
        ck_assert_uint_eq(strlen(text), (sizes[i] + 2) / 3 * 4);
        ck_assert_int_eq(decoded(hw_base64_decode, text, data, sizes[i]), HW_OK);
    }
}
END_TEST

TEST_MAIN("digest", 60, test_sha256_vectors, test_digest_text, test_base64_vectors,
          test_base64_refuses, test_base64_of_many_sizes)
