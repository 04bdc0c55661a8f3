#include "api/warnings.h"

#include "api/row.h"

static const struct api_column columns[] = {
    {.name = "code", .type = API_COLUMN_STRING},
    {.name = "kind", .type = API_COLUMN_STRING},
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "message", .type = API_COLUMN_STRING},
    {.name = NULL},
};

const char api_warnings_sql[] = "SELECT code, kind, name, message FROM headwater.warnings()";

json_t *api_warnings_json(const PGresult *rows)
{
    json_t *list = json_array();

    for (int i = 0; i < PQntuples(rows); i++)
        json_array_append_new(list, api_row_object(rows, i, columns));
    return list;
}
