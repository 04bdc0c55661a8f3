/* /v1/nodes/{name}/instance: which of the agents that share a node's name is meant. */
#include "api/handlers.h"
#include "api/request/body.h"
#include "api/request/precondition.h"
#include "api/row.h"
#include "api/transaction.h"
#include "base/memory.h"
#include "http/answer.h"

static const struct api_column columns[] = {
    {.name = "node", .type = API_COLUMN_STRING},
    {.name = "instance", .type = API_COLUMN_STRING},
    {.name = "set_aside", .type = API_COLUMN_JSON},
    {.name = NULL},
};

static void on_chosen(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    http_answer_json(request, HTTP_OK, api_row_object(results[0], 0, columns));
}

void api_instance_put(struct http_request *request)
{
    const char *instance = NULL;
    const struct api_field fields[] = {{"instance", API_FIELD_STRING, true, &instance}};
    struct api_transaction *tx;

    if (!api_body_read(request, fields, HW_COUNT(fields)) || !api_precondition_none(request))
        return;
    tx = api_transaction_write(request);
    api_transaction_add(tx,
                        "SELECT $1::text AS node, $2::text AS instance, "
                        "to_jsonb(headwater.choose_instance($1, $2)) AS set_aside",
                        2, http_request_variable(request, "name"), instance);
    api_transaction_run(tx, on_chosen, NULL);
}
