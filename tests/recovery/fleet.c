#include "tests/recovery/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "common/loop.h"
#include "nats/connection.h"
#include "nats/objstore.h"
#include "tests/support/patience.h"
#include "tests/support/process.h"

enum { PATIENCE_MS = 30000 };

PGresult *fleet_query(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        test_fail("%s%s", PQerrorMessage(conn), sql);
    return result;
}

static void on_up(void *arg)
{
    *(bool *)arg = true;
}

char *fleet_objects_differ(PGconn *conn, const char *nats_url)
{
    PGresult *rows = fleet_query(conn, "SELECT DISTINCT digest, size FROM headwater.desired");
    const struct hw_nats_options options = {.url = nats_url,
                                            .timeout_ms = test_patient_ms(PATIENCE_MS)};
    struct hw_nats *nats = NULL;
    struct hw_loop *loop = NULL;
    struct hw_error err;
    bool up = false;
    const struct hw_nats_events events = {.up = on_up, .arg = &up};
    char *why = NULL;

    if (hw_loop_new(&loop, &err) != HW_OK ||
        hw_nats_open(loop, &options, &events, &nats, &err) != HW_OK)
        test_fail("connecting to NATS: %s", err.message);
    if (!hw_loop_run_until(loop, &up, test_patient_ms(PATIENCE_MS)))
        test_fail("connecting to NATS: no answer");
    for (int i = 0; i < PQntuples(rows) && why == NULL; i++) {
        const char *expected = PQgetvalue(rows, i, 0);
        char text[HW_DIGEST_STR_MAX];
        unsigned char *data = NULL;
        struct hw_digest digest;
        size_t size = 0;

        if (hw_obj_get(nats, "headwater", expected + strlen("sha256:"), 16 << 20, &data, &size,
                       NULL, &err) != HW_OK) {
            why = hw_sprintf("object %s: %s", expected, err.message);
            break;
        }
        hw_digest_of(data, size, &digest);
        if (strcmp(hw_digest_format(&digest, text), expected) != 0 ||
            size != strtoull(PQgetvalue(rows, i, 1), NULL, 10))
            why = hw_sprintf("object %s: its %zu bytes are %s", expected, size, text);
        free(data);
    }
    hw_nats_close(nats);
    hw_loop_free(loop);
    PQclear(rows);
    return why;
}

char *fleet_nodes_differ(PGconn *conn, const char *const outputs[], bool with_reports)
{
    char *why = NULL;

    for (int i = 0; outputs[i] != NULL && why == NULL; i++) {
        HW_AUTO_FREE char *sql = hw_sprintf(
            "SELECT d.digest, coalesce(r.state, ''),"
            " coalesce(r.running_digest, ''), coalesce(r.running_revision = d.revision, false)"
            " FROM headwater.desired d LEFT JOIN headwater.reported r USING (node) WHERE node = "
            "'n%d'",
            i);
        PGresult *row = fleet_query(conn, sql);
        char text[HW_DIGEST_STR_MAX], *data = NULL;
        struct hw_digest digest;
        size_t size = 0;
        FILE *copy = open_memstream(&data, &size), *file = fopen(outputs[i], "re");

        for (int byte; file != NULL && (byte = getc(file)) != EOF;)
            putc(byte, copy);
        if (file != NULL)
            fclose(file);
        fclose(copy);
        hw_digest_of(data, size, &digest);
        free(data);
        hw_digest_format(&digest, text);
        if (PQntuples(row) != 1)
            why = hw_sprintf("nothing is desired of n%d", i);
        else if (strcmp(text, PQgetvalue(row, 0, 0)) != 0)
            why = hw_sprintf("the file of n%d is %s where %s is desired", i, text,
                             PQgetvalue(row, 0, 0));
        else if (with_reports && (strcmp(PQgetvalue(row, 0, 1), "applied") != 0 ||
                                  strcmp(PQgetvalue(row, 0, 2), text) != 0 ||
                                  strcmp(PQgetvalue(row, 0, 3), "t") != 0))
            why = hw_sprintf("n%d runs %s, and is reported as %s with %s", i, text,
                             PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2));
        PQclear(row);
    }
    return why;
}
