/* /healthz, /readyz: does the process live, and can it do its work? */
#include <microhttpd.h>
#include <stdlib.h>

#include "api/api.h"
#include "api/handlers.h"
#include "api/migrate.h"
#include "api/row.h"
#include "api/transaction.h"

void api_health_live(struct api_request *request)
{
    api_answer_json(request, MHD_HTTP_OK, json_pack("{s:s}", "status", "ok"));
}

static void on_version(struct api_request *request, const void *arg, PGresult *const *results)
{
    const char *text = api_row_text(results[0], 0, "version");
    const long version = text != NULL ? strtol(text, NULL, 10) : 0;
    const struct api *const api = request->api;
    struct hw_error why;

    (void)arg;
    if (api_migrate_check(version, &why) != HW_OK)
        api_answer_problem(request, API_NOT_READY, "%s", why.message);
    else if (!api_auth_ready(api->auth))
        api_answer_problem(request, API_DATABASE_UNAVAILABLE,
                           "The tokens cannot be read from the database: %s",
                           api_auth_trouble(api->auth));
    else if (!api_waits_ready(api->waits))
        api_answer_problem(request, API_DATABASE_UNAVAILABLE,
                           "The reports cannot be read from the database: %s",
                           api_waits_trouble(api->waits));
    else if (!api_events_ready(api->events))
        api_answer_problem(request, API_DATABASE_UNAVAILABLE,
                           "The events cannot be read from the database: %s",
                           api_events_trouble(api->events));
    else
        api_answer_json(
            request, MHD_HTTP_OK,
            json_pack("{s:s, s:i}", "status", "ready", "schema", api_migrate_version()));
}

void api_health_ready(struct api_request *request)
{
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, "SELECT max(version) AS version FROM headwater.migration", 0);
    api_transaction_run(tx, on_version, NULL);
}
