/* /v1/tokens: who may call, made and ended by admins. */
#include <stdlib.h>

#include "api/access/token_table.h"
#include "api/api.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/body.h"
#include "api/request/precondition.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/memory.h"
#include "common/options.h"
#include "http/answer.h"

#define SELECT                                                                                     \
    "SELECT name, id, role, state, created_at, created_by, expires_at, revoked_at, last_used_at "  \
    "FROM headwater.token_info "

static const struct api_column columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "id", .type = API_COLUMN_STRING},
    {.name = "role", .type = API_COLUMN_STRING},
    {.name = "state", .type = API_COLUMN_STRING},
    {.name = "created_at", .type = API_COLUMN_TIME},
    {.name = "created_by", .type = API_COLUMN_STRING},
    {.name = "expires_at", .type = API_COLUMN_TIME},
    {.name = "revoked_at", .type = API_COLUMN_TIME},
    {.name = "last_used_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

void api_tokens_list(struct http_request *request)
{
    static const struct api_resource tokens = {
        .list = SELECT "WHERE ($1::text IS NULL OR name > $1) ORDER BY name LIMIT $2::int",
        .columns = columns,
    };

    api_resource_list(request, &tokens);
}

static void on_get(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "token", http_request_variable(request, "name"));
    else
        http_answer_json(request, HTTP_OK, api_row_object(results[0], 0, columns));
}

void api_tokens_get(struct http_request *request)
{
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, SELECT "WHERE name = $1", 1, http_request_variable(request, "name"));
    api_transaction_run(tx, on_get, NULL);
}

/* ---- changes: answered when this service knows them as well ---- */

struct change {
    struct http_request *request;
    json_t *token; /* what was made; NULL: one was revoked */
};

static void on_known(void *arg)
{
    struct change *change = arg;

    if (change->token != NULL)
        http_answer_json(change->request, HTTP_CREATED, change->token);
    else
        http_answer_empty(change->request, HTTP_NO_CONTENT);
    free(change);
}

static void answer_when_known(struct http_request *request, json_t *token)
{
    struct change *change = hw_alloc(sizeof(*change));

    change->request = request;
    change->token = token;
    api_token_table_reread(api_of(request)->tokens, on_known, change);
}

static void on_created(struct http_request *request, const void *arg, PGresult *const *results)
{
    json_t *token = api_row_object(results[2], 0, columns);
    HW_AUTO_FREE char *location =
        hw_sprintf("/v1/tokens/%s", json_string_value(json_object_get(token, "name")));

    (void)arg;
    json_object_set_new(token, "token", api_row_value(results[1], 0, "token", API_COLUMN_STRING));
    json_object_set_new(token, "first", json_boolean(api_row_is_true(results[0], 0, "is_first")));
    http_answer_header(request, HTTP_LOCATION, location);
    http_answer_header(request, HTTP_CACHE_CONTROL, "no-store");
    answer_when_known(request, token);
}

void api_tokens_post(struct http_request *request)
{
    const char *name = NULL, *role = NULL, *expires_in = NULL, *seconds = NULL;
    const struct api_field fields[] = {
        {"name", API_FIELD_STRING, true, &name},
        {"role", API_FIELD_STRING, true, &role},
        {"expires_in", API_FIELD_STRING, false, &expires_in},
    };
    struct api_transaction *tx;
    int64_t ms;

    if (!api_body_read(request, fields, HW_COUNT(fields)) || !api_precondition_none(request))
        return;
    if (expires_in != NULL) {
        if (!hw_options_duration(expires_in, &ms)) {
            http_answer_problem_with(request, &api_invalid_body,
                                     json_pack("{s:s}", "path", "$.expires_in"),
                                     "$.expires_in: must be a time such as \"12h\" or \"30d\", or "
                                     "null: never");
            return;
        }
        seconds = http_request_keep(request, hw_sprintf("%.3f", (double)ms / 1000));
    }
    tx = api_transaction_write(request);
    api_transaction_without_lock(tx);
    /* Once there is a first token, nobody gets in without one: whoever makes it is told so. */
    api_transaction_add(tx, "SELECT NOT EXISTS (SELECT FROM headwater.token_info) AS is_first", 0);
    api_transaction_add(tx,
                        "SELECT headwater.create_token($1, $2, make_interval(secs => $3::float8)) "
                        "AS token",
                        3, name, role, seconds);
    api_transaction_add(tx, SELECT "WHERE name = $1", 1, name);
    api_transaction_run(tx, on_created, NULL);
}

static void on_revoked(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    (void)results;
    answer_when_known(request, NULL);
}

void api_tokens_delete(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    struct api_transaction *tx = api_resource_write(request, "token", name, true);

    if (tx == NULL)
        return;
    api_transaction_without_lock(tx);
    api_transaction_add(tx, "SELECT headwater.revoke_token($1)", 1, name);
    api_transaction_run(tx, on_revoked, NULL);
}
