/* Rows of the database as JSON objects. */
#ifndef API_ROW_H
#define API_ROW_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stdbool.h>

enum api_column_type {
    API_COLUMN_STRING,
    API_COLUMN_INTEGER,
    API_COLUMN_NUMBER,
    API_COLUMN_BOOLEAN,
    API_COLUMN_JSON,
    API_COLUMN_TIME, /* timestamptz of a session in UTC; RFC 3339 in JSON */
};

struct api_column {
    const char *name; /* in SQL; NULL ends a list */
    enum api_column_type type;
    const char *member; /* in JSON; NULL: as in SQL */
    bool optional;      /* the member is left out where the column is null */
};

json_t *api_row_object(const PGresult *rows, int row, const struct api_column *columns);
json_t *api_row_value(const PGresult *rows, int row, const char *name, enum api_column_type type);

/* The text of a column; NULL for SQL NULL. */
const char *api_row_text(const PGresult *rows, int row, const char *name);
bool api_row_is_true(const PGresult *rows, int row, const char *name);

#endif
