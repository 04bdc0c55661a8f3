/* A row as a source of changes gives it, of a JSON object. */
#ifndef TEST_ROW_H
#define TEST_ROW_H

#include <jansson.h>

#include "base/memory.h"
#include "cdc/source.h"

enum { TEST_ROW_MOST = 16 };

/* Members that no row could hold, and those beyond TEST_ROW_MOST, are left out. Borrows from
 * object, and is in columns. */
static inline struct cdc_row test_row(json_t *object, struct cdc_column columns[TEST_ROW_MOST])
{
    static const enum cdc_type types[] = {
        [JSON_INTEGER] = CDC_INTEGER, [JSON_STRING] = CDC_STRING, [JSON_TRUE] = CDC_TRUE,
        [JSON_FALSE] = CDC_FALSE,     [JSON_NULL] = CDC_NULL,     [JSON_REAL] = CDC_NULL};
    struct cdc_row row = {.columns = columns};
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value) {
        if (json_is_object(value) || json_is_array(value) || row.count == TEST_ROW_MOST)
            continue;
        columns[row.count++] = (struct cdc_column){.name = name,
                                                   .type = types[json_typeof(value)],
                                                   .integer = json_integer_value(value),
                                                   .text = json_string_value(value),
                                                   .len = json_string_length(value)};
    }
    return row;
}

#endif
