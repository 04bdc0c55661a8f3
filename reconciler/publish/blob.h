/* The bytes of a row of headwater.blob: columns encoding and content. */
#ifndef RECONCILER_PUBLISH_BLOB_H
#define RECONCILER_PUBLISH_BLOB_H

#include <stddef.h>

#include "base/status.h"

struct rec_blob {
    const void *data;
    size_t size;
    unsigned char *owned; /* what data points into, where it had to be decoded */
};

/* The blob borrows content where it needs no decoding. After HW_OK, clear it in either case. */
enum hw_status rec_blob_decode(const char *encoding, const char *content, size_t len,
                               struct rec_blob *blob, struct hw_error *err) HW_CHECKED;
void rec_blob_clear(struct rec_blob *blob);

#endif
