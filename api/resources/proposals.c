/* /v1/proposals: what nodes propose, newest first, approved and rejected by approvers. */
#include <string.h>

#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/body.h"
#include "api/request/content.h"
#include "api/request/parameter.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/memory.h"
#include "http/answer.h"

#define SELECT                                                                                     \
    "SELECT id, node, ref, config, base_revision, media_type, digest, size, message, state, "      \
    "proposed_at, decided_at, decided_by, reason, revision, version FROM headwater.proposal "

static const struct api_column columns[] = {
    {.name = "id", .type = API_COLUMN_INTEGER},
    {.name = "node", .type = API_COLUMN_STRING},
    {.name = "ref", .type = API_COLUMN_STRING},
    {.name = "config", .type = API_COLUMN_STRING},
    {.name = "base_revision", .type = API_COLUMN_INTEGER},
    {.name = "media_type", .type = API_COLUMN_STRING},
    {.name = "digest", .type = API_COLUMN_STRING},
    {.name = "size", .type = API_COLUMN_INTEGER},
    {.name = "message", .type = API_COLUMN_STRING},
    {.name = "state", .type = API_COLUMN_STRING},
    {.name = "proposed_at", .type = API_COLUMN_TIME},
    {.name = "decided_at", .type = API_COLUMN_TIME},
    {.name = "decided_by", .type = API_COLUMN_STRING},
    {.name = "reason", .type = API_COLUMN_STRING},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "version", .type = API_COLUMN_INTEGER},
    {.name = NULL},
};

static bool is_id(const char *text)
{
    const size_t digits = strspn(text, "0123456789");

    return digits >= 1 && digits <= 18 && text[digits] == '\0';
}

/* NULL when the request was answered: there can be no such proposal. */
static const char *id_of(struct http_request *request)
{
    const char *id = http_request_variable(request, "id");

    if (is_id(id))
        return id;
    api_resource_missing(request, "proposal", id);
    return NULL;
}

/* ---- reading ---- */

static bool check_state(struct http_request *request, const char *state)
{
    static const char *const states[] = {"pending", "approved", "rejected", "conflict", "refused"};
    bool known = state == NULL;

    for (size_t i = 0; i < HW_COUNT(states) && !known; i++)
        known = strcmp(state, states[i]) == 0;
    if (!known)
        http_answer_problem(request, &http_invalid_parameter,
                            "state: must be pending, approved, rejected, conflict or refused");
    return known;
}

void api_proposals_list(struct http_request *request)
{
    const char *state = http_request_parameter(request, "state");
    struct api_transaction *tx;
    const char *most, *after;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) || !check_state(request, state) ||
        !api_parameter_after(request, &after) || !api_resource_fields(request, columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx,
                        SELECT
                        "WHERE ($1::text IS NULL OR node = $1) AND ($2::text IS NULL OR state = $2)"
                        " AND ($3::bigint IS NULL OR id < $3::bigint)"
                        " ORDER BY id DESC LIMIT $4::int",
                        4, http_request_parameter(request, "node"), state, after, most);
    api_transaction_run(tx, api_resource_on_list, columns);
}

static void answer(struct http_request *request, const PGresult *row)
{
    http_answer_etag(request, "%s", api_row_text(row, 0, "version"));
    http_answer_json(request, HTTP_OK, api_row_object(row, 0, columns));
}

static void on_get(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "proposal", http_request_variable(request, "id"));
    else
        answer(request, results[0]);
}

void api_proposals_get(struct http_request *request)
{
    const char *id = id_of(request);
    struct api_transaction *tx;

    if (id == NULL)
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx, SELECT "WHERE id = $1::bigint", 1, id);
    api_transaction_run(tx, on_get, NULL);
}

static void on_content(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *id = http_request_variable(request, "id");

    (void)arg;
    if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "proposal", id);
    else if (api_row_text(results[0], 0, "content") == NULL)
        http_answer_problem(request, &api_no_such_resource,
                            "The content of proposal \"%s\" is not kept", id);
    else
        api_content_answer(request, results[0], api_row_text(results[0], 0, "config"));
}

void api_proposals_content(struct http_request *request)
{
    const char *id = id_of(request);
    struct api_transaction *tx;

    if (id == NULL)
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx,
                        "SELECT config, content, encoding, media_type, digest AS tag "
                        "FROM headwater.proposal WHERE id = $1::bigint",
                        1, id);
    api_transaction_run(tx, on_content, NULL);
}

/* ---- deciding ---- */

static void on_decided(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    answer(request, results[2]);
}

static void decide(struct http_request *request, const char *sql)
{
    const char *reason = "";
    const struct api_field fields[] = {{"reason", API_FIELD_STRING, false, &reason}};
    const char *id = id_of(request);
    struct api_transaction *tx;

    if (id == NULL || !api_body_read(request, fields, HW_COUNT(fields)) ||
        (tx = api_resource_write(request, "proposal", id, true)) == NULL)
        return;
    api_transaction_add(tx, sql, 2, id, reason);
    api_transaction_add(tx, SELECT "WHERE id = $1::bigint", 1, id);
    api_transaction_run(tx, on_decided, NULL);
}

void api_proposals_approve(struct http_request *request)
{
    decide(request, "SELECT headwater.approve($1::bigint, $2)");
}

void api_proposals_reject(struct http_request *request)
{
    decide(request, "SELECT headwater.reject($1::bigint, $2)");
}
