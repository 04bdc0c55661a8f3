/* /v1/assignments: which config goes to which nodes, and in which order they merge. */
#include "api/handlers.h"
#include "api/request/body.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/memory.h"

#define COLUMNS "name, config, node, selector, priority, revision, version, created_at, updated_at"

/* Either the node or the selector is there, as it was put. */
static const struct api_column columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "config", .type = API_COLUMN_STRING},
    {.name = "node", .type = API_COLUMN_STRING, .optional = true},
    {.name = "selector", .type = API_COLUMN_JSON, .optional = true},
    {.name = "priority", .type = API_COLUMN_INTEGER},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "version", .type = API_COLUMN_INTEGER},
    {.name = "created_at", .type = API_COLUMN_TIME},
    {.name = "updated_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

static const struct api_resource assignments = {
    .kind = "assignment",
    .path = "/v1/assignments/",
    .upsert =
        "INSERT INTO headwater.assignment AS a (name, config, node, selector, priority, revision) "
        "VALUES ($1, $2, $3, $4::jsonb, $5::int, $6::int) "
        "ON CONFLICT (name) DO UPDATE SET config = excluded.config, node = excluded.node, "
        "selector = excluded.selector, priority = excluded.priority, revision = excluded.revision "
        "WHERE (a.config, a.node, a.selector, a.priority, a.revision) "
        "IS DISTINCT FROM (excluded.config, excluded.node, excluded.selector, excluded.priority, "
        "excluded.revision)",
    .delete = "DELETE FROM headwater.assignment WHERE name = $1",
    .select = "SELECT " COLUMNS " FROM headwater.assignment WHERE name = $1",
    .list = "SELECT " COLUMNS " FROM headwater.assignment "
            "WHERE ($1::text IS NULL OR name > $1) ORDER BY name LIMIT $2::int",
    .columns = columns,
    .warns = true,
};

void api_assignments_list(struct http_request *request)
{
    api_resource_list(request, &assignments);
}

void api_assignments_get(struct http_request *request)
{
    api_resource_get(request, &assignments);
}

void api_assignments_delete(struct http_request *request)
{
    api_resource_delete(request, &assignments);
}

void api_assignments_put(struct http_request *request)
{
    const char *config = NULL, *node = NULL, *selector = NULL, *priority = "0", *revision = NULL;
    const struct api_field fields[] = {
        {"config", API_FIELD_STRING, true, &config},
        {"node", API_FIELD_STRING, false, &node},
        {"selector", API_FIELD_OBJECT, false, &selector},
        {"priority", API_FIELD_INTEGER, false, &priority},
        {"revision", API_FIELD_INTEGER, false, &revision},
    };

    if (api_body_read(request, fields, HW_COUNT(fields)))
        api_resource_put(request, &assignments, 5,
                         (const char *[]){config, node, selector, priority, revision});
}
