/* /v1/configs: documents and fragments of documents, their bytes and their history. */
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "api/problem.h"
#include "api/request/body.h"
#include "api/request/content.h"
#include "api/request/parameter.h"
#include "api/resource.h"
#include "api/row.h"
#include "api/transaction.h"
#include "base/base64.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "http/answer.h"
#include "http/media_type.h"

#define SELECT_CONFIG                                                                              \
    "SELECT c.name, c.revision, r.digest, r.size, c.media_type, nullif(c.message, '') AS "         \
    "message, c.version, "                                                                         \
    "c.created_at, c.updated_at, c.updated_by FROM headwater.config AS c "                         \
    "JOIN headwater.config_revision AS r ON r.config = c.name AND r.revision = c.revision "

static const struct api_column columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "digest", .type = API_COLUMN_STRING},
    {.name = "size", .type = API_COLUMN_INTEGER},
    {.name = "media_type", .type = API_COLUMN_STRING},
    {.name = "message", .type = API_COLUMN_STRING},
    {.name = "version", .type = API_COLUMN_INTEGER},
    {.name = "created_at", .type = API_COLUMN_TIME},
    {.name = "updated_at", .type = API_COLUMN_TIME},
    {.name = "updated_by", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static const struct api_resource configs = {
    .kind = "config",
    .path = "/v1/configs/",
    .upsert = "INSERT INTO headwater.config AS c (name, content, encoding, media_type) "
              "VALUES ($1, $2, $3, $4) "
              "ON CONFLICT (name) DO UPDATE SET content = excluded.content, "
              "encoding = excluded.encoding, media_type = excluded.media_type "
              "WHERE (c.content, c.encoding, c.media_type) "
              "IS DISTINCT FROM (excluded.content, excluded.encoding, excluded.media_type)",
    .delete = "DELETE FROM headwater.config WHERE name = $1",
    .select = SELECT_CONFIG "WHERE c.name = $1",
    .list = SELECT_CONFIG "WHERE ($1::text IS NULL OR c.name > $1) ORDER BY c.name LIMIT $2::int",
    .columns = columns,
};

void api_configs_list(struct http_request *request)
{
    api_resource_list(request, &configs);
}

void api_configs_get(struct http_request *request)
{
    api_resource_get(request, &configs);
}

void api_configs_delete(struct http_request *request)
{
    api_resource_delete(request, &configs);
}

/* ---- put ---- */

/* False when the request was answered: text must be what the database takes as text. */
static bool check_text(struct http_request *request)
{
    size_t bad;

    if (memchr(request->body, '\0', request->body_len) != NULL) {
        http_answer_problem(request, &api_invalid_content,
                            "The content holds a NUL byte, which %s may not", request->media_type);
        return false;
    }
    if (!hw_utf8_valid(request->body, request->body_len, &bad)) {
        http_answer_problem(request, &api_invalid_content,
                            "The content is not UTF-8 at byte %zu, as %s must be; another media "
                            "type, such as application/octet-stream, takes any bytes",
                            bad, request->media_type);
        return false;
    }
    return true;
}

/* The database keeps text: what is text goes as it is, everything else as base64. */
void api_configs_put(struct http_request *request)
{
    const bool is_text = http_media_type_is_text(request->media_type);

    if (is_text && !check_text(request))
        return;
    if (!is_text) {
        char *encoded = hw_base64_encode(request->body, request->body_len);

        free(request->body);
        request->body = encoded;
    }
    api_resource_put(
        request, &configs, 3,
        (const char *[]){request->body, is_text ? "utf-8" : "base64", request->media_type});
}

/* ---- content ---- */

static void on_content(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *revision = http_request_parameter(request, "revision");
    const char *name = http_request_variable(request, "name");

    (void)arg;
    if (PQntuples(results[0]) == 0 && revision != NULL)
        http_answer_problem(
            request, &api_no_such_resource,
            "There is no revision %s of config \"%s\"; GET /v1/configs/%s/revisions lists them",
            revision, name, name);
    else if (PQntuples(results[0]) == 0)
        api_resource_missing(request, "config", name);
    else
        api_content_answer(request, results[0], name);
}

/* The latest has the version of the config as its tag, so that what was read can be put back with
 * If-Match; a revision never changes. */
void api_configs_content(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    struct api_transaction *tx;
    const char *revision;

    if (!api_parameter_number(request, "revision", &revision))
        return;
    tx = api_transaction_read(request);
    if (revision != NULL)
        api_transaction_add(tx,
                            "SELECT content, encoding, media_type, digest AS tag "
                            "FROM headwater.config_revision "
                            "WHERE config = $1 AND revision = $2::int",
                            2, name, revision);
    else
        api_transaction_add(tx,
                            "SELECT content, encoding, media_type, version AS tag "
                            "FROM headwater.config WHERE name = $1",
                            1, name);
    api_transaction_run(tx, on_content, NULL);
}

/* ---- history ---- */

static const struct api_column revision_columns[] = {
    {.name = "revision", .type = API_COLUMN_INTEGER},
    {.name = "digest", .type = API_COLUMN_STRING},
    {.name = "size", .type = API_COLUMN_INTEGER},
    {.name = "media_type", .type = API_COLUMN_STRING},
    {.name = "message", .type = API_COLUMN_STRING},
    {.name = "author", .type = API_COLUMN_STRING},
    {.name = "created_at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

static void on_revisions(struct http_request *request, const void *arg, PGresult *const *results)
{
    if (PQntuples(results[0]) == 0 && http_request_parameter(request, "after") == NULL)
        api_resource_missing(request, "config", http_request_variable(request, "name"));
    else
        api_resource_on_list(request, arg, results);
}

/* Newest first, also of a config that was deleted. */
void api_configs_revisions(struct http_request *request)
{
    const char *most, *after;
    struct api_transaction *tx;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) || !api_parameter_after(request, &after) ||
        !api_resource_fields(request, revision_columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(
        tx,
        "SELECT revision, digest, size, media_type, nullif(message, '') AS message, "
        "author, created_at "
        "FROM headwater.config_revision "
        "WHERE config = $1 AND ($2::bigint IS NULL OR revision < $2::bigint) "
        "ORDER BY revision DESC LIMIT $3::int",
        3, http_request_variable(request, "name"), after, most);
    api_transaction_run(tx, on_revisions, revision_columns);
}

static void on_rollback(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *name = http_request_variable(request, "name");

    if (PQntuples(results[3]) == 0)
        http_answer_problem(request, &api_no_such_resource,
                            "There is no such revision of config \"%s\", whose newest is %s; GET "
                            "/v1/configs/%s/revisions lists them",
                            name, api_row_text(results[2], 0, "revision"), name);
    else
        api_resource_on_put(request, arg, results);
}

/* A rollback is a new revision with an old one's bytes. */
void api_configs_rollback(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    const char *revision = NULL;
    const struct api_field fields[] = {{"revision", API_FIELD_INTEGER, true, &revision}};
    struct api_transaction *tx;

    if (!api_body_read(request, fields, HW_COUNT(fields)) ||
        (tx = api_resource_write(request, configs.kind, name, true)) == NULL)
        return;
    api_transaction_add(tx,
                        "UPDATE headwater.config AS c SET content = r.content, "
                        "encoding = r.encoding, media_type = r.media_type "
                        "FROM headwater.config_revision AS r "
                        "WHERE c.name = $1 AND r.config = c.name AND r.revision = $2::int "
                        "AND (c.content, c.encoding, c.media_type) "
                        "IS DISTINCT FROM (r.content, r.encoding, r.media_type)",
                        2, name, revision);
    api_transaction_add(tx, configs.select, 1, name);
    api_transaction_add(tx,
                        "SELECT 1 FROM headwater.config_revision "
                        "WHERE config = $1 AND revision = $2::int",
                        2, name, revision);
    api_transaction_run(tx, on_rollback, &configs);
}

/* ---- schema ---- */

static const char schema_type[] = "application/schema+json";

static void on_schema(struct http_request *request, const void *arg, PGresult *const *results)
{
    const char *name = http_request_variable(request, "name");
    const char *schema;

    (void)arg;
    if (PQntuples(results[0]) == 0) {
        api_resource_missing(request, "config", name);
        return;
    }
    schema = api_row_text(results[0], 0, "schema");
    if (schema == NULL) {
        http_answer_problem(request, &api_no_such_resource, "Config \"%s\" has no schema", name);
        return;
    }
    http_answer_etag(request, "%s", api_row_text(results[0], 0, "version"));
    http_answer_bytes(request, HTTP_OK, hw_strdup(schema), strlen(schema), schema_type);
}

void api_configs_schema_get(struct http_request *request)
{
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, "SELECT schema, version FROM headwater.config WHERE name = $1", 1,
                        http_request_variable(request, "name"));
    api_transaction_run(tx, on_schema, NULL);
}

/* The version is the config's, so a schema has the tags of its config. */
void api_configs_schema_put(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    struct api_transaction *tx;

    if (!api_body_check(request) ||
        (tx = api_resource_write(request, "schema", name, false)) == NULL)
        return;
    api_transaction_add(tx,
                        "UPDATE headwater.config SET schema = $2::jsonb "
                        "WHERE name = $1 AND schema IS DISTINCT FROM $2::jsonb",
                        2, name, request->body);
    api_transaction_add(tx, configs.select, 1, name);
    api_transaction_run(tx, api_resource_on_put, &configs);
}

static void on_schema_delete(struct http_request *request, const void *arg,
                             PGresult *const *results)
{
    (void)arg;
    (void)results;
    http_answer_empty(request, HTTP_NO_CONTENT);
}

void api_configs_schema_delete(struct http_request *request)
{
    const char *name = http_request_variable(request, "name");
    struct api_transaction *tx = api_resource_write(request, "schema", name, true);

    if (tx == NULL)
        return;
    api_transaction_add(tx, "UPDATE headwater.config SET schema = NULL WHERE name = $1", 1, name);
    api_transaction_run(tx, on_schema_delete, NULL);
}
