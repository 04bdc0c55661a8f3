/* /v1/nodes/{name}/desired, /reported: what a node should run, and what it said that it runs. */
#include <microhttpd.h>

#include "api/content.h"
#include "api/handlers.h"
#include "api/resource.h"
#include "api/transaction.h"

/* results: the node's name if it is there, and the row. False when answered. */
static bool found(struct api_request *request, PGresult *const *results, const char *what)
{
    const char *name = api_request_variable(request, "name");

    if (PQntuples(results[1]) > 0)
        return true;
    if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "node", name);
    else
        api_answer_problem(request, API_NO_SUCH_RESOURCE, "Node \"%s\" has %s", name, what);
    return false;
}

static void run(struct api_request *request, const char *sql, api_transaction_done_fn *done)
{
    const char *name = api_request_variable(request, "name");
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, "SELECT name FROM headwater.node WHERE name = $1", 1, name);
    api_transaction_add(tx, sql, 1, name);
    api_transaction_run(tx, done, NULL);
}

static const char nothing_desired[] = "no assignment, so there is nothing that it should run";

static void on_desired(struct api_request *request, const void *arg, PGresult *const *results)
{
    const PGresult *row = results[1];

    (void)arg;
    if (!found(request, results, nothing_desired))
        return;
    api_answer_json(request, MHD_HTTP_OK,
                    json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}",             //
                              "node", api_row_string(row, 0, "node"),            //
                              "revision", api_row_integer(row, 0, "revision"),   //
                              "digest", api_row_string(row, 0, "digest"),        //
                              "size", api_row_integer(row, 0, "size"),           //
                              "media_type", api_row_string(row, 0, "media_type"), //
                              "sources", api_row_json(row, 0, "sources"),        //
                              "changed_at", api_row_time(row, 0, "changed_at")));
}

void api_desired_get(struct api_request *request)
{
    run(request,
        "SELECT node, revision, digest, size, media_type, sources, changed_at "
        "FROM headwater.desired WHERE node = $1",
        on_desired);
}

static void on_content(struct api_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    if (found(request, results, nothing_desired))
        api_content_answer(request, results[1], api_request_variable(request, "name"));
}

void api_desired_content(struct api_request *request)
{
    run(request,
        "SELECT b.content, b.encoding, d.media_type, d.revision AS tag "
        "FROM headwater.desired AS d JOIN headwater.blob AS b ON b.digest = d.digest "
        "WHERE d.node = $1",
        on_content);
}

/* The same shape as the node's own report. */
static json_t *running_json(const PGresult *row)
{
    if (api_row_text(row, 0, "running_revision") == NULL)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o}",                                //
                     "revision", api_row_integer(row, 0, "running_revision"),    //
                     "digest", api_row_string(row, 0, "running_digest"),         //
                     "epoch", api_row_integer(row, 0, "running_epoch"),          //
                     "lsn", api_row_string(row, 0, "running_lsn"),               //
                     "applied_at", api_row_time(row, 0, "running_applied_at"));
}

static json_t *failed_json(const PGresult *row)
{
    if (api_row_text(row, 0, "failed_revision") == NULL)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}",                      //
                     "revision", api_row_integer(row, 0, "failed_revision"),     //
                     "digest", api_row_string(row, 0, "failed_digest"),          //
                     "epoch", api_row_integer(row, 0, "failed_epoch"),           //
                     "lsn", api_row_string(row, 0, "failed_lsn"),                //
                     "stage", api_row_string(row, 0, "failed_stage"),            //
                     "error", api_row_string(row, 0, "failed_error"),            //
                     "at", api_row_time(row, 0, "failed_at"));
}

static void on_reported(struct api_request *request, const void *arg, PGresult *const *results)
{
    const PGresult *row = results[1];

    (void)arg;
    if (!found(request, results, "not reported yet"))
        return;
    api_answer_json(request, MHD_HTTP_OK,
                    json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",             //
                              "node", api_row_string(row, 0, "node"),                      //
                              "state", api_row_string(row, 0, "state"),                    //
                              "running", running_json(row),                                //
                              "failed", failed_json(row),                                  //
                              "desired_revision", api_row_integer(row, 0, "desired_revision"), //
                              "agent", api_row_string(row, 0, "agent"),                    //
                              "boot_id", api_row_string(row, 0, "boot_id"),                //
                              "reported_at", api_row_time(row, 0, "reported_at"),          //
                              "received_at", api_row_time(row, 0, "received_at")));
}

void api_reported_get(struct api_request *request)
{
    run(request,
        "SELECT node, state, running_revision, running_digest, running_epoch, running_lsn, "
        "running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn, "
        "failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at, "
        "received_at FROM headwater.reported WHERE node = $1",
        on_reported);
}
