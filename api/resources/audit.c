/* /v1/audit: who changed what, newest first. */
#include <string.h>

#include "api/handlers.h"
#include "api/request/parameter.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/memory.h"
#include "http/answer.h"

static const struct api_column columns[] = {
    {.name = "id", .type = API_COLUMN_INTEGER},
    {.name = "at", .type = API_COLUMN_TIME},
    {.name = "rev", .type = API_COLUMN_INTEGER},
    {.name = "author", .type = API_COLUMN_STRING},
    {.name = "application_name", .type = API_COLUMN_STRING, .member = "application"},
    {.name = "message", .type = API_COLUMN_STRING},
    {.name = "kind", .type = API_COLUMN_STRING},
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "action", .type = API_COLUMN_STRING},
    {.name = "old_digest", .type = API_COLUMN_STRING},
    {.name = "new_digest", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static const char *const kinds[] = {"node",  "config",   "assignment",
                                    "token", "proposal", "instance"};

/* False when the request was answered with the problem. */
static bool check_kind(struct http_request *request, const char *kind)
{
    for (size_t i = 0; i < HW_COUNT(kinds); i++)
        if (kind == NULL || strcmp(kind, kinds[i]) == 0)
            return true;
    http_answer_problem(request, &http_invalid_parameter,
                        "kind: must be node, config, assignment, token, proposal or instance");
    return false;
}

void api_audit_list(struct http_request *request)
{
    const char *kind = http_request_parameter(request, "kind");
    struct api_transaction *tx;
    const char *most, *after;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) || !check_kind(request, kind) ||
        !api_parameter_after(request, &after) || !api_resource_fields(request, columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(
        tx,
        "SELECT id, at, rev, author, application_name, message, kind, name, "
        "action, old_digest, new_digest FROM headwater.audit "
        "WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR name = $2) "
        "AND ($3::bigint IS NULL OR id < $3::bigint) ORDER BY id DESC LIMIT $4::int",
        4, kind, http_request_parameter(request, "name"), after, most);
    api_transaction_run(tx, api_resource_on_list, columns);
}
