/* /v1/nodes/{name}/explain: which source each part of a node's document is from. */
#include <string.h>

#include "api/handlers.h"
#include "api/resource.h"
#include "api/row.h"
#include "api/transaction.h"
#include "base/memory.h"
#include "http/answer.h"

static const struct api_column desired_columns[] = {
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "digest", .type = API_COLUMN_STRING},
    {.name = "size", .type = API_COLUMN_INTEGER},
    {.name = "media_type", .type = API_COLUMN_STRING},
    {.name = "changed_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

static const struct api_column source_columns[] = {
    {.name = "assignment", .type = API_COLUMN_STRING},
    {.name = "config", .type = API_COLUMN_STRING},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "priority", .type = API_COLUMN_INTEGER},
    {.name = "tie", .type = API_COLUMN_JSON},
    {.name = NULL},
};

static const struct api_column key_columns[] = {
    {.name = "path", .type = API_COLUMN_STRING},
    {.name = "assignment", .type = API_COLUMN_STRING},
    {.name = "config", .type = API_COLUMN_STRING},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "deleted", .type = API_COLUMN_JSON},
    {.name = NULL},
};

static json_t *objects(const PGresult *rows, const struct api_column *columns)
{
    json_t *array = json_array();

    for (int i = 0; i < PQntuples(rows); i++)
        json_array_append_new(array, api_row_object(rows, i, columns));
    return array;
}

static void on_explain(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *name = http_request_variable(request, "name");

    (void)arg;
    if (PQntuples(results[1]) == 0) {
        api_resource_missing(request, "node", name);
        return;
    }
    http_answer_json(request, HTTP_OK,
                     json_pack("{s:s, s:o, s:o, s:o}", "node", name, "desired",
                               PQntuples(results[2]) > 0
                                   ? api_row_object(results[2], 0, desired_columns)
                                   : json_null(),
                               "sources", objects(results[3], source_columns), "keys",
                               objects(results[4], key_columns)));
}

void api_explain_get(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    const char *path = http_request_parameter(request, "path");
    struct api_transaction *tx;

    if (path != NULL && *path != '\0' && *path != '/') {
        HW_AUTO_FREE char *pointer = hw_sprintf("/%s", path);

        for (char *p = pointer; *p != '\0'; p++)
            if (*p == '.')
                *p = '/';
        http_answer_problem(request, &http_invalid_parameter,
                            "path: must be a JSON Pointer (RFC 6901), such as %s", pointer);
        return;
    }
    tx = api_transaction_read(request);
    /* One snapshot for all of it. */
    api_transaction_add(tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", 0);
    api_transaction_add(tx, "SELECT name FROM headwater.node WHERE name = $1", 1, name);
    api_transaction_add(tx,
                        "SELECT revision, digest, size, media_type, changed_at "
                        "FROM headwater.desired WHERE node = $1",
                        1, name);
    api_transaction_add(tx,
                        "SELECT assignment, config, revision, priority, to_jsonb(tie) AS tie "
                        "FROM headwater.explain_sources($1) ORDER BY rank",
                        1, name);
    api_transaction_add(tx,
                        "SELECT path, assignment, config, revision, to_jsonb(deleted) AS deleted "
                        "FROM headwater.explain($1) "
                        "WHERE $2::text IS NULL OR path = $2 OR starts_with(path, $2 || '/')",
                        2, name, path);
    api_transaction_run(tx, on_explain, NULL);
}
