/* /v1/fleet: how many nodes are in which state, and each node's. */
#include "api/resources/fleet.h"

#include <string.h>

#include "api/handlers.h"
#include "api/request/parameter.h"
#include "api/request/selector.h"
#include "api/resource.h"
#include "api/transaction.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "http/answer.h"

static const char *const states[] = {"in_sync",    "pending",  "failed",
                                     "unassigned", "conflict", "unknown"};

static const struct api_column columns[] = {
    {.name = "node", .type = API_COLUMN_STRING},
    {.name = "labels", .type = API_COLUMN_JSON},
    {.name = "state", .type = API_COLUMN_STRING},
    {.name = "desired_revision", .type = API_COLUMN_INTEGER},
    {.name = "desired_digest", .type = API_COLUMN_STRING},
    {.name = "reported_revision", .type = API_COLUMN_INTEGER},
    {.name = "reported_digest", .type = API_COLUMN_STRING},
    {.name = "lag_seconds", .type = API_COLUMN_NUMBER},
    {.name = "error", .type = API_COLUMN_STRING},
    {.name = "desired_changed_at", .type = API_COLUMN_TIME},
    {.name = "applied_at", .type = API_COLUMN_TIME},
    {.name = "held", .type = API_COLUMN_JSON},
    {.name = "drift", .type = API_COLUMN_JSON},
    {.name = "reported_state", .type = API_COLUMN_STRING},
    {.name = "last_seen", .type = API_COLUMN_TIME},
    {.name = "instance", .type = API_COLUMN_STRING},
    {.name = "conflict", .type = API_COLUMN_JSON},
    {.name = NULL},
};

json_t *api_fleet_counts(const PGresult *rows)
{
    json_t *counts = json_object();

    for (size_t i = 0; i < HW_COUNT(states); i++)
        json_object_set_new(counts, states[i], json_integer(0));
    for (int i = 0; i < PQntuples(rows); i++)
        json_object_set_new(counts, api_row_text(rows, i, "state"),
                            api_row_value(rows, i, "count", API_COLUMN_INTEGER));
    return counts;
}

/* How long a node lags grows by itself. That is no news, so it does not count for the tag; without
 * this no reader would ever be told 304 while a node lags. */
static void set_etag(struct http_request *request, const json_t *answer)
{
    HW_AUTO_JSON json_t *copy = json_deep_copy(answer);
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(copy, "items"), i, item)
        json_object_del(item, "lag_seconds");
    HW_AUTO_FREE char *text = hw_json_text(copy, false);
    http_answer_etag_weak_of(request, text, strlen(text));
}

static void on_fleet(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *ignored;
    json_t *answer;
    int limit;

    (void)arg;
    if (!api_parameter_limit(request, &limit, &ignored))
        return;
    answer = json_pack("{s:o}", "counts", api_fleet_counts(results[0]));
    HW_AUTO_JSON json_t *page =
        api_resource_select(request, api_resource_page(results[1], limit, columns));
    json_object_update(answer, page);
    set_etag(request, answer);
    http_answer_json(request, HTTP_OK, answer);
}

static bool read_state(struct http_request *request, const char **state)
{
    *state = http_request_parameter(request, "state");
    if (*state == NULL)
        return true;
    for (size_t i = 0; i < HW_COUNT(states); i++)
        if (strcmp(*state, states[i]) == 0)
            return true;
    http_answer_problem(request, &http_invalid_parameter,
                        "state: must be in_sync, pending, failed, unassigned, conflict or unknown");
    return false;
}

/* The counts are of all nodes that the selector matches, or of the one node that is named, whatever
 * state is asked for. */
void api_fleet_get(struct http_request *request)
{
    const char *node = http_request_parameter(request, "node");
    const char *state, *selector, *most;
    struct api_transaction *tx;
    int limit;

    if (!read_state(request, &state) || !api_selector_read(request, &selector) ||
        !api_parameter_limit(request, &limit, &most) || !api_resource_fields(request, columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx,
                        "SELECT state, count(*) AS count FROM headwater.fleet "
                        "WHERE labels @> ANY ($1::jsonb[]) AND ($2::text IS NULL OR node = $2) "
                        "GROUP BY state",
                        2, selector, node);
    api_transaction_add(
        tx,
        "SELECT node, labels, state, desired_revision, desired_digest, "
        "reported_revision, reported_digest, round(extract(epoch FROM lag), 3) AS lag_seconds, "
        "error, desired_changed_at, applied_at, held, drift, reported_state, last_seen, instance, "
        "conflict "
        "FROM headwater.fleet "
        "WHERE ($1::text IS NULL OR node > $1) AND labels @> ANY ($2::jsonb[]) "
        "AND ($3::text IS NULL OR state = $3) AND ($5::text IS NULL OR node = $5) "
        "ORDER BY node LIMIT $4::int",
        5, http_request_parameter(request, "after"), selector, state, most, node);
    api_transaction_run(tx, on_fleet, NULL);
}
