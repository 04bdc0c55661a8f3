#include "protocol/keys.h"

#include <stddef.h>
#include <string.h>

#include "base/memory.h"

const char *hw_key_node(const char *key, const char *prefix)
{
    const size_t len = strlen(prefix);

    return strncmp(key, prefix, len) == 0 ? key + len : NULL;
}

char *hw_reports_bucket(const char *bucket)
{
    return hw_sprintf("%s" HW_BUCKET_REPORTS, bucket);
}
