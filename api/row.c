#include "api/row.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"

const char *api_row_text(const PGresult *rows, int row, const char *name)
{
    const int i = PQfnumber(rows, name);

    return i < 0 || PQgetisnull(rows, row, i) ? NULL : PQgetvalue(rows, row, i);
}

bool api_row_is_true(const PGresult *rows, int row, const char *name)
{
    const char *text = api_row_text(rows, row, name);

    return text != NULL && *text == 't';
}

/* "2026-01-31 12:00:00.5+00" becomes "2026-01-31T12:00:00.5Z"; "infinity" stays. */
static json_t *time_value(const char *text)
{
    const char *time = strchr(text, ' ');

    if (time == NULL || strlen(time) < 4)
        return json_string(text);
    return json_sprintf("%.*sT%.*sZ", (int)(time - text), text, (int)strlen(time) - 4, time + 1);
}

json_t *api_row_value(const PGresult *rows, int row, const char *name, enum api_column_type type)
{
    const char *text = api_row_text(rows, row, name);
    json_t *value = NULL;

    if (text == NULL)
        return json_null();
    switch (type) {
    case API_COLUMN_STRING:
        value = json_string(text);
        break;
    case API_COLUMN_INTEGER:
        value = json_integer(strtoll(text, NULL, 10));
        break;
    case API_COLUMN_NUMBER:
        value = json_real(strtod(text, NULL));
        break;
    case API_COLUMN_BOOLEAN:
        value = json_boolean(*text == 't');
        break;
    case API_COLUMN_JSON:
        value = hw_json_load(text, strlen(text), JSON_DECODE_ANY, NULL);
        break;
    case API_COLUMN_TIME:
        value = time_value(text);
        break;
    }
    return value != NULL ? value : json_null();
}

json_t *api_row_object(const PGresult *rows, int row, const struct api_column *columns)
{
    json_t *object = json_object();

    for (const struct api_column *c = columns; c->name != NULL; c++)
        if (!c->optional || api_row_text(rows, row, c->name) != NULL)
            json_object_set_new(object, c->member != NULL ? c->member : c->name,
                                api_row_value(rows, row, c->name, c->type));
    return object;
}
