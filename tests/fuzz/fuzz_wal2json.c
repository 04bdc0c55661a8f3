/* Records of wal2json: whatever is taken has all that its kind must have. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cdc/wal2json.h"
#include "tests/fuzz/fuzz.h"

/* Strings end where they say, and what is read is JSON that a library reads. */
static void check_row(const struct cdc_row *row)
{
    HW_AUTO_JSON json_t *object = cdc_row_json(row);

    FUZZ_HOLDS(json_object_size(object) == row->count);
    for (size_t i = 0; i < row->count; i++) {
        const struct cdc_column *c = &row->columns[i];

        if (c->type == CDC_STRING)
            FUZZ_HOLDS(strlen(c->text) == c->len &&
                       json_string_length(json_object_get(object, c->name)) == c->len);
    }
}

/* A JSON library takes it, too, and reads the same strings. Numbers may be too large for it. */
static void check_against_library(const uint8_t *data, size_t size, const struct cdc_record *record)
{
    HW_AUTO_JSON json_t *root = json_loadb((const char *)data, size, 0, NULL);
    const struct cdc_row *const row = record->change.columns;
    const char *table;

    if (root == NULL)
        return;
    table = json_string_value(json_object_get(root, "table"));
    if (record->change.table != NULL)
        FUZZ_HOLDS(table != NULL && strcmp(table, record->change.table) == 0);
    for (size_t i = 0; row != NULL && i < row->count; i++) {
        const json_t *const column = json_array_get(json_object_get(root, "columns"), i);
        const json_t *const value = json_object_get(column, "value");

        if (json_is_string(value))
            FUZZ_HOLDS(row->columns[i].type == CDC_STRING &&
                       strcmp(json_string_value(value), row->columns[i].text) == 0);
        if (json_is_integer(value))
            FUZZ_HOLDS(row->columns[i].integer == json_integer_value(value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = hw_alloc(size); /* of that size, so that a byte too many shows */
    struct cdc_record record = {0};
    struct hw_error err = {0};

    if (size > 0)
        memcpy(text, data, size);
    if (cdc_record_decode(text, size, 0x16B3748, &record, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EPROTO && record.columns.columns == NULL);
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
        if (record.change.columns != NULL)
            check_row(&record.columns);
        check_row(&record.identity);
    }
    check_against_library(data, size, &record);
    cdc_record_free(&record);
    return 0;
}
