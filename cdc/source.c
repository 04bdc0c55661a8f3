#include "cdc/source.h"

#include <string.h>

const char *cdc_action_name(enum cdc_action action)
{
    static const char *const names[] = {
        [CDC_INSERT] = "insert",     [CDC_UPDATE] = "update",   [CDC_DELETE] = "delete",
        [CDC_TRUNCATE] = "truncate", [CDC_MESSAGE] = "message",
    };
    return names[action];
}

const struct cdc_column *cdc_row_find(const struct cdc_row *row, const char *name)
{
    for (size_t i = 0; i < row->count; i++)
        if (strcmp(row->columns[i].name, name) == 0)
            return &row->columns[i];
    return NULL;
}

static enum hw_status find(const struct cdc_row *row, const char *name, enum cdc_type type,
                           const struct cdc_column **column, struct hw_error *err)
{
    *column = cdc_row_find(row, name);
    if (*column == NULL)
        return hw_fail(err, HW_EPROTO, "column \"%s\" is missing", name);
    if ((*column)->type != type)
        return hw_fail(err, HW_EPROTO, "column \"%s\" is no %s", name,
                       type == CDC_STRING ? "string" : "integer");
    return HW_OK;
}

enum hw_status cdc_row_string(const struct cdc_row *row, const char *name, const char **text,
                              struct hw_error *err)
{
    const struct cdc_column *column;

    if (find(row, name, CDC_STRING, &column, err) != HW_OK)
        return HW_EPROTO;
    *text = column->text;
    return HW_OK;
}

enum hw_status cdc_row_integer(const struct cdc_row *row, const char *name, int64_t *integer,
                               struct hw_error *err)
{
    const struct cdc_column *column;

    if (find(row, name, CDC_INTEGER, &column, err) != HW_OK)
        return HW_EPROTO;
    *integer = column->integer;
    return HW_OK;
}

static json_t *value_json(const struct cdc_column *column)
{
    switch (column->type) {
    case CDC_FALSE:
        return json_false();
    case CDC_TRUE:
        return json_true();
    case CDC_INTEGER:
        return json_integer(column->integer);
    case CDC_STRING:
        return json_stringn_nocheck(column->text, column->len);
    case CDC_NULL:
        break;
    }
    return json_null();
}

json_t *cdc_row_json(const struct cdc_row *row)
{
    json_t *object = json_object();

    for (size_t i = 0; i < row->count; i++)
        json_object_set_new_nocheck(object, row->columns[i].name, value_json(&row->columns[i]));
    return object;
}
