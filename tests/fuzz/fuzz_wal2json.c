/* Records of wal2json: whatever is taken has all that its kind must have. */
#include <string.h>

#include "cdc/wal2json.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cdc_record record = {0};
    struct hw_error err = {0};

    if (cdc_record_decode((const char *)data, size, 0x16B3748, &record, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EPROTO && record.json == NULL);
        return 0;
    }
    FUZZ_HOLDS(record.action != '\0' && strchr("BCIUDTM", record.action) != NULL);
    if (record.action == 'B' || record.action == 'C') {
        FUZZ_HOLDS(record.xid != 0 && strlen(record.committed_at) == 27);
    } else if (record.action == 'M') {
        FUZZ_HOLDS(record.change.prefix != NULL && record.change.content != NULL);
    } else {
        FUZZ_HOLDS(record.xid != 0 && record.change.schema != NULL && record.change.table != NULL);
        FUZZ_HOLDS((record.change.columns != NULL) ==
                   (record.action == 'I' || record.action == 'U'));
    }
    cdc_record_free(&record);
    return 0;
}
