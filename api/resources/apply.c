/* /v1/apply: many resources in one transaction. The work is headwater.apply()'s. */
#include <string.h>

#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/parameter.h"
#include "api/request/precondition.h"
#include "api/row.h"
#include "api/transaction.h"
#include "api/warnings.h"
#include "base/utf8.h"
#include "http/answer.h"

static const struct api_column columns[] = {
    {.name = "kind", .type = API_COLUMN_STRING},
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "result", .type = API_COLUMN_STRING},
    {.name = "etag", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static void on_apply(struct http_request *request, const void *arg, PGresult *const *results)
{
    json_t *list = json_array();

    (void)arg;
    for (int i = 0; i < PQntuples(results[0]); i++)
        json_array_append_new(list, api_row_object(results[0], i, columns));
    http_answer_json(
        request, HTTP_OK,
        json_pack("{s:o, s:o}", "results", list, "warnings", api_warnings_json(results[1])));
}

/* A body may hold many configs and be large, so it is not parsed here: the database reads it. */
void api_apply_post(struct http_request *request)
{
    const char *set = http_request_parameter(request, "set");
    struct api_transaction *tx;
    bool prune;
    size_t bad;

    if (!api_parameter_flag(request, "prune", &prune) || !api_precondition_none(request))
        return;
    if (prune && set == NULL) {
        http_answer_problem(request, &http_invalid_parameter,
                            "prune: it removes what a set applied before; name the set with set=");
        return;
    }
    if (memchr(request->body, '\0', request->body_len) != NULL) {
        http_answer_problem(request, &api_malformed_json, "The body holds a NUL byte");
        return;
    }
    if (!hw_utf8_valid(request->body, request->body_len, &bad)) {
        http_answer_problem(request, &api_malformed_json, "The body is not UTF-8 at byte %zu", bad);
        return;
    }
    tx = api_transaction_write(request);
    if (set != NULL)
        api_transaction_add(tx, "SELECT * FROM headwater.apply($1, $2, $3::boolean)", 3,
                            request->body, set, prune ? "t" : "f");
    else
        api_transaction_add(tx, "SELECT * FROM headwater.apply($1)", 1, request->body);
    api_transaction_add(tx, api_warnings_sql, 0);
    api_transaction_run(tx, on_apply, NULL);
}
