/* /v1/nodes/{name}/desired, /reported: what a node should run, and what it said that it runs. */

#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/content.h"
#include "api/request/moment.h"
#include "api/resource.h"
#include "api/row.h"
#include "api/transaction.h"
#include "http/answer.h"

/* results: the node's name if it is there, and the row. False when answered. */
static bool found(struct http_request *request, PGresult *const *results, const char *what)
{
    const char *name = http_request_variable(request, "name");

    if (PQntuples(results[1]) > 0)
        return true;
    if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "node", name);
    else
        http_answer_problem(request, &api_no_such_resource, "Node \"%s\" %s %s", name,
                            http_request_parameter(request, "at") != NULL ? "had then" : "has",
                            what);
    return false;
}

/* Runs the statement for the kind of ?at=. $1 is the node; $2 is the time or the position, where
 * one is given. */
static void run(struct http_request *request, const char *const sql[static 3],
                api_transaction_done_fn *done)
{
    const char *name = http_request_variable(request, "name");
    struct api_moment moment;
    struct api_transaction *tx;

    if (!api_moment_read(request, &moment))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx, "SELECT name FROM headwater.node WHERE name = $1", 1, name);
    api_transaction_add(tx, sql[moment.kind], moment.kind == API_MOMENT_NOW ? 1 : 2, name,
                        moment.text);
    api_transaction_run(tx, done, NULL);
}

static const char nothing_desired[] = "no assignment, so there is nothing that it should run";

static const struct api_column desired_columns[] = {
    {.name = "node", .type = API_COLUMN_STRING},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "digest", .type = API_COLUMN_STRING},
    {.name = "size", .type = API_COLUMN_INTEGER},
    {.name = "media_type", .type = API_COLUMN_STRING},
    {.name = "sources", .type = API_COLUMN_JSON},
    {.name = "changed_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

static void on_desired(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    if (found(request, results, nothing_desired))
        http_answer_json(request, HTTP_OK, api_row_object(results[1], 0, desired_columns));
}

void api_desired_get(struct http_request *request)
{
#define COLUMNS                                                                                    \
    "SELECT node, revision, digest, size, media_type, sources, changed_at FROM headwater."
    static const char *const sql[] = {
        [API_MOMENT_NOW] = COLUMNS "desired WHERE node = $1",
        [API_MOMENT_TIME] = COLUMNS "desired_at($1, $2::timestamptz)",
        [API_MOMENT_LSN] = COLUMNS "desired_at($1, $2::pg_lsn)",
    };
#undef COLUMNS

    run(request, sql, on_desired);
}

static void on_content(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    if (found(request, results, nothing_desired))
        api_content_answer(request, results[1], http_request_variable(request, "name"));
}

void api_desired_content(struct http_request *request)
{
#define CONTENT                                                                                    \
    "SELECT b.content, b.encoding, d.media_type, d.revision AS tag "                               \
    "FROM headwater.blob AS b JOIN headwater."
    static const char *const sql[] = {
        [API_MOMENT_NOW] = CONTENT "desired AS d ON b.digest = d.digest WHERE d.node = $1",
        [API_MOMENT_TIME] = CONTENT "desired_at($1, $2::timestamptz) AS d ON b.digest = d.digest",
        [API_MOMENT_LSN] = CONTENT "desired_at($1, $2::pg_lsn) AS d ON b.digest = d.digest",
    };
#undef CONTENT

    run(request, sql, on_content);
}

/* The same shape as the node's own report. */
static const struct api_column reported_columns[] = {
    {.name = "node", .type = API_COLUMN_STRING},
    {.name = "state", .type = API_COLUMN_STRING},
    {.name = "desired_revision", .type = API_COLUMN_INTEGER},
    {.name = "agent", .type = API_COLUMN_STRING},
    {.name = "boot_id", .type = API_COLUMN_STRING},
    {.name = "reported_at", .type = API_COLUMN_TIME},
    {.name = "received_at", .type = API_COLUMN_TIME},
    {.name = "held", .type = API_COLUMN_JSON},
    {.name = "drift", .type = API_COLUMN_JSON},
    {.name = NULL},
};

static const struct api_column running_columns[] = {
    {.name = "running_revision", .type = API_COLUMN_INTEGER, .member = "revision"},
    {.name = "running_digest", .type = API_COLUMN_STRING, .member = "digest"},
    {.name = "running_epoch", .type = API_COLUMN_INTEGER, .member = "epoch"},
    {.name = "running_lsn", .type = API_COLUMN_STRING, .member = "lsn"},
    {.name = "running_applied_at", .type = API_COLUMN_TIME, .member = "applied_at"},
    {.name = NULL},
};

static const struct api_column failed_columns[] = {
    {.name = "failed_revision", .type = API_COLUMN_INTEGER, .member = "revision"},
    {.name = "failed_digest", .type = API_COLUMN_STRING, .member = "digest"},
    {.name = "failed_epoch", .type = API_COLUMN_INTEGER, .member = "epoch"},
    {.name = "failed_lsn", .type = API_COLUMN_STRING, .member = "lsn"},
    {.name = "failed_stage", .type = API_COLUMN_STRING, .member = "stage"},
    {.name = "failed_error", .type = API_COLUMN_STRING, .member = "error"},
    {.name = "failed_at", .type = API_COLUMN_TIME, .member = "at"},
    {.name = NULL},
};

/* An object of its own, or null where the first of its columns, the revision, is. */
static json_t *part(const PGresult *row, const struct api_column *columns)
{
    return api_row_text(row, 0, columns[0].name) != NULL ? api_row_object(row, 0, columns)
                                                         : json_null();
}

static void on_reported(struct http_request *request, const void *arg, PGresult *const *results)
{
    json_t *report;

    (void)arg;
    if (!found(request, results, "not reported yet"))
        return;
    report = api_row_object(results[1], 0, reported_columns);
    json_object_set_new(report, "running", part(results[1], running_columns));
    json_object_set_new(report, "failed", part(results[1], failed_columns));
    http_answer_json(request, HTTP_OK, report);
}

void api_reported_get(struct http_request *request)
{
#define COLUMNS                                                                                    \
    "SELECT node, state, running_revision, running_digest, running_epoch, running_lsn, "           \
    "running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn, "               \
    "failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at, "       \
    "received_at, held, drift FROM headwater."
    static const char *const sql[] = {
        [API_MOMENT_NOW] = COLUMNS "reported WHERE node = $1",
        [API_MOMENT_TIME] = COLUMNS "reported_at($1, $2::timestamptz)",
        [API_MOMENT_LSN] = COLUMNS "reported_at($1, $2::pg_lsn)",
    };
#undef COLUMNS

    run(request, sql, on_reported);
}
