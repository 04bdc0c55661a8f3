#include "tests/recovery/wal.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/process.h"

#define SLOT "recovery_checker"

void wal_start(const struct test_postgres *pg)
{
    free(test_sql(pg, "SELECT pg_create_logical_replication_slot('" SLOT "', 'wal2json')"));
}

const json_t *wal_column(const struct wal_change *change, const char *name)
{
    const char *const list = change->action == 'D' ? "identity" : "columns";
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(change->json, list), i, item) {
        const char *found = json_string_value(json_object_get(item, "name"));
        if (found != NULL && strcmp(found, name) == 0)
            return json_object_get(item, "value");
    }
    return NULL;
}

const char *wal_text(const struct wal_change *change, const char *name)
{
    return json_string_value(wal_column(change, name));
}

int64_t wal_number(const struct wal_change *change, const char *name)
{
    return json_integer_value(wal_column(change, name));
}

static void read_line(const char *line, const struct wal_reader *reader)
{
    json_error_t error;
    HW_AUTO_JSON json_t *json = json_loads(line, 0, &error);
    const char *action = json_string_value(json_object_get(json, "action"));
    hw_lsn lsn = 0;

    if (action == NULL)
        test_fail("reading the log: %s: %s", error.text, line);
    if (strcmp(action, "B") == 0)
        return;
    if (strcmp(action, "C") == 0) {
        const char *text = json_string_value(json_object_get(json, "nextlsn"));

        if (text == NULL || hw_lsn_parse(text, &lsn, NULL) != HW_OK)
            test_fail("reading the log: a commit without a position: %s", line);
        reader->commit(reader->arg, lsn);
        return;
    }
    if (strlen(action) != 1 || strchr("IUD", action[0]) == NULL)
        test_fail("the log holds a change of kind %s", action);
    reader->change(reader->arg,
                   &(struct wal_change){.table = json_string_value(json_object_get(json, "table")),
                                        .action = action[0],
                                        .json = json});
}

void wal_read(const struct test_postgres *pg, const char *tables, const struct wal_reader *reader)
{
    PGconn *conn = PQconnectdb(pg->url);
    PGresult *result =
        PQexecParams(conn,
                     "SELECT data FROM pg_logical_slot_peek_changes('" SLOT "', NULL, NULL,"
                     " 'format-version', '2', 'include-transaction', 'on', 'include-lsn', 'on',"
                     " 'include-types', 'off', 'add-tables', $1,"
                     " 'add-msg-prefixes', 'recovery-none')",
                     1, NULL, &tables, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        test_fail("reading the log: %s", PQerrorMessage(conn));
    for (int i = 0; i < PQntuples(result); i++)
        read_line(PQgetvalue(result, i, 0), reader);
    PQclear(result);
    PQfinish(conn);
}
