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
    const int expected = api_migrate_version();

    (void)arg;
    if (version == expected && !api_auth_ready(request->api->auth))
        api_answer_problem(request, API_DATABASE_UNAVAILABLE, "The tokens were not read yet");
    else if (version == expected && !api_events_ready(request->api->events))
        api_answer_problem(request, API_DATABASE_UNAVAILABLE, "The events were not read yet");
    else if (version == expected)
        api_answer_json(request, MHD_HTTP_OK,
                        json_pack("{s:s, s:i}", "status", "ready", "schema", expected));
    else
        api_answer_problem(
            request, API_NOT_READY,
            "The database's schema is at version %ld, this program works with %d: %s", version,
            expected,
            version < expected ? "run headwater-api migrate" : "use a newer headwater-api");
}

void api_health_ready(struct api_request *request)
{
    struct api_transaction *tx;

    if (!api_waits_ready(request->api->waits)) {
        api_answer_problem(request, API_DATABASE_UNAVAILABLE,
                           "The connection that listens for reports is not up");
        return;
    }
    tx = api_transaction_read(request);
    api_transaction_add(tx, "SELECT max(version) AS version FROM headwater.migration", 0);
    api_transaction_run(tx, on_version, NULL);
}
