#include "reconciler/publish/blob.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"

enum hw_status rec_blob_decode(const char *encoding, const char *content, size_t len,
                               struct rec_blob *blob, struct hw_error *err)
{
    unsigned char *bytes;
    size_t size;

    if (strcmp(encoding, "utf-8") == 0) {
        *blob = (struct rec_blob){.data = content, .size = len};
        return HW_OK;
    }
    if (strcmp(encoding, "base64") != 0)
        return hw_fail(err, HW_EPROTO, "a blob's encoding is \"%.20s\", not utf-8 or base64",
                       encoding);
    if (hw_base64_decode(content, len, &bytes, &size, err) != HW_OK)
        return hw_fail_in(err, "a blob's content");
    *blob = (struct rec_blob){.data = bytes, .size = size, .owned = bytes};
    return HW_OK;
}

void rec_blob_clear(struct rec_blob *blob)
{
    free(blob->owned);
    *blob = (struct rec_blob){0};
}
