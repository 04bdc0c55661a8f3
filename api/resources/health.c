/* /healthz, /readyz: does the process live, and can it do its work? */

#include "api/access/token_table.h"
#include "api/api.h"
#include "api/handlers.h"
#include "api/listener.h"
#include "api/migrate.h"
#include "api/problem.h"
#include "api/resources/events.h"
#include "api/row.h"
#include "api/transaction.h"
#include "http/answer.h"
#include "pg/pool.h"

void api_health_live(struct http_request *request)
{
    http_answer_json(request, HTTP_OK, json_pack("{s:s}", "status", "ok"));
}

static void on_migrations(struct http_request *request, const void *arg, PGresult *const *results)
{
    const struct api *const api = api_of(request);
    const char *const refusal = hw_pool_refuses_writes(api->pool);
    struct hw_error why;

    (void)arg;
    if (api_migrate_check(results[0], &why) != HW_OK)
        http_answer_problem(request, &api_not_ready, "%s", why.message);
    else if (refusal != NULL)
        http_answer_problem(request, &api_not_ready,
                            "The database takes no writes (%s); a server that does is looked for",
                            refusal);
    else if (!hw_pool_lane_up(api->pool, HW_POOL_WRITES))
        http_answer_problem(request, &api_database_unavailable,
                            "There is no connection to the database for writes: %s",
                            hw_pool_trouble(api->pool));
    else if (!api_token_table_known(api->tokens))
        http_answer_problem(request, &api_database_unavailable,
                            "The tokens cannot be read from the database: %s",
                            api_token_table_trouble(api->tokens));
    else if (!api_listener_up(api->listener))
        http_answer_problem(request, &api_database_unavailable,
                            "The reports cannot be read from the database: %s",
                            api_listener_trouble(api->listener));
    else if (!api_events_ready(api->events))
        http_answer_problem(request, &api_database_unavailable,
                            "The events cannot be read from the database: %s",
                            api_events_trouble(api->events));
    else
        http_answer_json(
            request, HTTP_OK,
            json_pack("{s:s, s:i}", "status", "ready", "schema", api_migrate_version()));
}

void api_health_ready(struct http_request *request)
{
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, api_migrate_applied_sql, 0);
    api_transaction_run(tx, on_migrations, NULL);
}
