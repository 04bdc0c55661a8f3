/* /v1/unknown-nodes: who is alive and was never registered. */

#include "api/handlers.h"
#include "api/request/parameter.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/json.h"
#include "http/answer.h"

static const struct api_column columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "first_seen", .type = API_COLUMN_TIME},
    {.name = "last_seen", .type = API_COLUMN_TIME},
    {.name = "agent", .type = API_COLUMN_STRING},
    {.name = "reported_state", .type = API_COLUMN_STRING},
    {.name = "reported_revision", .type = API_COLUMN_INTEGER},
    {.name = "reported_digest", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static void on_unknown(struct http_request *request, const void *arg, PGresult *const *results)
{
    const PGresult *const count = results[0];
    const char *ignored;
    json_t *answer;
    int limit;

    (void)arg;
    if (!api_parameter_limit(request, &limit, &ignored))
        return;
    answer = json_pack("{s:o, s:o, s:b, s:o}", "count",
                       api_row_value(count, 0, "names", API_COLUMN_INTEGER), "most",
                       api_row_value(count, 0, "most", API_COLUMN_INTEGER), "full",
                       api_row_is_true(count, 0, "is_full"), "left_out",
                       api_row_value(count, 0, "left_out", API_COLUMN_INTEGER));
    HW_AUTO_JSON json_t *page =
        api_resource_select(request, api_resource_page(results[1], limit, columns));
    json_object_update(answer, page);
    http_answer_json(request, HTTP_OK, answer);
}

/* The counts are of the whole list, whichever page is asked for. */
void api_unknown_list(struct http_request *request)
{
    struct api_transaction *tx;
    const char *most;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) || !api_resource_fields(request, columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx, "SELECT names, most, is_full, left_out FROM headwater.unknown_count()",
                        0);
    api_transaction_add(tx,
                        "SELECT name, first_seen, last_seen, agent, reported_state, "
                        "reported_revision, reported_digest FROM headwater.unknown_node "
                        "WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2::int",
                        2, http_request_parameter(request, "after"), most);
    api_transaction_run(tx, on_unknown, NULL);
}
