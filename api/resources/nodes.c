/* /v1/nodes: the fleet, and the labels that selectors look at. */

#include "api/handlers.h"
#include "api/request/body.h"
#include "api/request/parameter.h"
#include "api/request/selector.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/memory.h"

#define COLUMNS "name, labels, description, version, created_at, updated_at"

static const struct api_column columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "labels", .type = API_COLUMN_JSON},
    {.name = "description", .type = API_COLUMN_STRING},
    {.name = "version", .type = API_COLUMN_INTEGER},
    {.name = "created_at", .type = API_COLUMN_TIME},
    {.name = "updated_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

static const struct api_resource nodes = {
    .kind = "node",
    .path = "/v1/nodes/",
    .upsert = "INSERT INTO headwater.node AS n (name, labels, description) "
              "VALUES ($1, $2::jsonb, $3) "
              "ON CONFLICT (name) DO UPDATE "
              "SET labels = excluded.labels, description = excluded.description "
              "WHERE (n.labels, n.description) "
              "IS DISTINCT FROM (excluded.labels, excluded.description)",
    .delete = "DELETE FROM headwater.node WHERE name = $1",
    .select = "SELECT " COLUMNS " FROM headwater.node WHERE name = $1",
    .columns = columns,
};

void api_nodes_get(struct http_request *request)
{
    api_resource_get(request, &nodes);
}

void api_nodes_delete(struct http_request *request)
{
    api_resource_delete(request, &nodes);
}

void api_nodes_put(struct http_request *request)
{
    const char *labels = "{}", *description = "";
    const struct api_field fields[] = {
        {"labels", API_FIELD_OBJECT, false, &labels},
        {"description", API_FIELD_STRING, false, &description},
    };

    if (api_body_read(request, fields, HW_COUNT(fields)))
        api_resource_put(request, &nodes, 2, (const char *[]){labels, description});
}

void api_nodes_list(struct http_request *request)
{
    struct api_transaction *tx;
    const char *most, *selector;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) || !api_selector_read(request, &selector) ||
        !api_resource_fields(request, columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx,
                        "SELECT " COLUMNS " FROM headwater.node "
                        "WHERE ($1::text IS NULL OR name > $1) AND labels @> ANY ($3::jsonb[]) "
                        "ORDER BY name LIMIT $2::int",
                        3, http_request_parameter(request, "after"), most, selector);
    api_transaction_run(tx, api_resource_on_list, columns);
}
