/* Rows of headwater.desired from the stream: what becomes a value is known again as the same. */
#include <string.h>

#include "agent/desired.h"
#include "base/json.h"
#include "protocol/keys.h"
#include "reconciler/publish/content.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hw_fence fence = {.epoch = 1, .lsn = 0x16B3748};
    struct cdc_column columns[TEST_ROW_MOST];
    HW_AUTO_JSON json_t *object = NULL;
    HW_AUTO_JSON json_t *sources = NULL;
    struct hw_digest content, found;
    struct hw_fence said;
    struct hw_desired row;
    struct hw_error err;
    size_t len;

    if (hw_json_parse_object((const char *)data, size, &object, &err) != HW_OK)
        return 0;
    const struct cdc_row values = test_row(object, columns);
    if (rec_desired_from_columns(&values, "2026-01-31T12:00:00.000000Z", &row, &err) != HW_OK)
        return 0;
    HW_AUTO_FREE char *value = hw_desired_write(&row, fence, &len);

    FUZZ_HOLDS(strlen(value) == len);
    /* PostgreSQL writes what is in sources, as jsonb, and lets no other revision or size be. */
    sources = json_loads(row.sources, JSON_REJECT_DUPLICATES, NULL);
    if (sources != NULL && row.revision >= 1 && row.size >= 0) {
        const struct hw_entry entry = {.key = HW_KEY_DESIRED "n", .value = value, .size = len};

        rec_content_of_desired(&row, &content);
        FUZZ_HOLDS(rec_content_of_entry(&entry, &found, &said));
        FUZZ_HOLDS(hw_digest_equal(&content, &found) && hw_fence_compare(said, fence) == 0);
    }
    return 0;
}
