/* Digests have one spelling; base64 is what its encoder makes of the bytes, up to stray bits. */
#include <string.h>

#include "base/base64.h"
#include "base/digest.h"
#include "tests/fuzz/fuzz.h"

typedef enum hw_status decode_fn(const char *, size_t, unsigned char **, size_t *,
                                 struct hw_error *);

static void check_base64(decode_fn *decode, char *(*encode)(const void *, size_t), const char *text,
                         size_t size)
{
    HW_AUTO_FREE char *encoded = encode(text, size);
    unsigned char *bytes = NULL;
    size_t len;

    FUZZ_HOLDS(decode(encoded, strlen(encoded), &bytes, &len, NULL) == HW_OK);
    FUZZ_HOLDS(len == size && memcmp(bytes, text, len) == 0 && bytes[len] == '\0');
    free(bytes);
    if (decode(text, size, &bytes, &len, NULL) != HW_OK)
        return;
    FUZZ_HOLDS(len <= size / 4 * 3 && len + 2 >= size / 4 * 3);
    HW_AUTO_FREE char *again = encode(bytes, len);

    FUZZ_HOLDS(strlen(again) == size && (size < 4 || memcmp(again, text, size - 4) == 0));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    char formatted[HW_DIGEST_STR_MAX];
    struct hw_digest digest;

    if (hw_digest_parse(text, &digest, NULL) == HW_OK)
        FUZZ_HOLDS(strcmp(hw_digest_format(&digest, formatted), text) == 0);
    check_base64(hw_base64_decode, hw_base64_encode, (const char *)data, size);
    check_base64(hw_base64url_decode, hw_base64url_encode, (const char *)data, size);
    return 0;
}
