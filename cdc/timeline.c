#include "cdc/timeline.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "pg/database.h"

hw_lsn cdc_timeline_find(const char *history, uint32_t then)
{
    const char *line = history;

    for (; line != NULL; line = strchr(line, '\n')) {
        char *end;
        hw_lsn left;

        line += *line == '\n';
        const bool is_it = strtoul(line, &end, 10) == then;
        end += strspn(end, " \t");
        HW_AUTO_FREE char *position = hw_strndup(end, strcspn(end, " \t\n"));
        if (is_it && hw_lsn_parse(position, &left, NULL) == HW_OK)
            return left;
    }
    return HW_LSN_NONE;
}

enum hw_status cdc_timeline_fork(const char *conninfo, uint32_t now, uint32_t then, hw_lsn *fork,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *command = hw_sprintf("TIMELINE_HISTORY %u", (unsigned)now);
    PGconn *conn;
    enum hw_status status = hw_db_connect_replication(conninfo, "headwater-reconciler", &conn, err);

    if (status != HW_OK)
        return hw_fail_in(err, "asking for the timeline's history");
    PGresult *result = PQexec(conn, command);
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
        status = hw_db_fail(err, conn, result, command);
    else
        *fork = cdc_timeline_find(PQgetvalue(result, 0, 1), then);
    PQclear(result);
    PQfinish(conn);
    return status;
}
