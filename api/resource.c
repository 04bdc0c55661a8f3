#include "api/resource.h"

#include <string.h>

#include "api/problem.h"
#include "api/request/parameter.h"
#include "api/request/precondition.h"
#include "api/transaction.h"
#include "api/warnings.h"
#include "base/buf.h"
#include "base/memory.h"
#include "http/answer.h"

static const char *name_of(const struct http_request *request)
{
    return http_request_variable(request, "name");
}

static void set_version_etag(struct http_request *request, const PGresult *rows)
{
    http_answer_etag(request, "%s", api_row_text(rows, 0, "version"));
}

void api_resource_missing(struct http_request *request, const char *kind, const char *name)
{
    http_answer_problem(request, &api_no_such_resource,
                        "There is no %s \"%s\"; GET /v1/%ss lists those that there are", kind, name,
                        kind);
}

/* ---- writes ---- */

struct api_transaction *api_resource_write(struct http_request *request, const char *kind,
                                           const char *name, bool is_of_something)
{
    struct api_precondition condition;
    struct api_transaction *tx;

    if (!api_precondition_read(request, &condition))
        return NULL;
    tx = api_transaction_write(request);
    api_transaction_add(tx,
                        "SELECT headwater.check_precondition($1, $2, $3::boolean, $4::bigint[], "
                        "$5::boolean, $6::boolean) AS version",
                        6, kind, name, is_of_something ? "t" : "f", condition.versions,
                        condition.must_exist, condition.must_not_exist);
    return tx;
}

void api_resource_on_put(struct http_request *request, const void *arg, PGresult *const *results)
{
    const struct api_resource *resource = arg;
    int status = HTTP_OK;
    json_t *answer;

    if (PQntuples(results[2]) == 0) {
        http_answer_internal(request, "writing", "the database made nothing of this write");
        return;
    }
    if (api_row_text(results[0], 0, "version") == NULL) {
        HW_AUTO_FREE char *location = hw_sprintf("%s%s", resource->path, name_of(request));

        status = HTTP_CREATED;
        http_answer_header(request, HTTP_LOCATION, location);
    }
    set_version_etag(request, results[2]);
    answer = api_row_object(results[2], 0, resource->columns);
    if (resource->warns)
        json_object_set_new(answer, "warnings", api_warnings_json(results[3]));
    http_answer_json(request, status, answer);
}

void api_resource_put(struct http_request *request, const struct api_resource *resource, int count,
                      const char *const *values)
{
    const char *name = name_of(request);
    const char *v[API_RESOURCE_VALUES_MAX] = {0};
    struct api_transaction *tx = api_resource_write(request, resource->kind, name, false);

    if (tx == NULL)
        return;
    memcpy(v, values, (size_t)count * sizeof(*v));
    api_transaction_add(tx, resource->upsert, 1 + count, name, v[0], v[1], v[2], v[3], v[4]);
    api_transaction_add(tx, resource->select, 1, name);
    if (resource->warns)
        api_transaction_add(tx, api_warnings_sql, 0);
    api_transaction_run(tx, api_resource_on_put, resource);
}

static void on_delete(struct http_request *request, const void *arg, PGresult *const *results)
{
    (void)arg;
    (void)results;
    http_answer_empty(request, HTTP_NO_CONTENT);
}

void api_resource_delete(struct http_request *request, const struct api_resource *resource)
{
    const char *name = name_of(request);
    struct api_transaction *tx = api_resource_write(request, resource->kind, name, true);

    if (tx == NULL)
        return;
    api_transaction_add(tx, resource->delete, 1, name);
    api_transaction_run(tx, on_delete, NULL);
}

/* ---- get ---- */

static void on_get(struct http_request *request, const void *arg, PGresult *const *results)
{
    const struct api_resource *resource = arg;

    if (PQntuples(results[0]) == 0) {
        api_resource_missing(request, resource->kind, name_of(request));
        return;
    }
    set_version_etag(request, results[0]);
    http_answer_json(request, HTTP_OK, api_row_object(results[0], 0, resource->columns));
}

void api_resource_get(struct http_request *request, const struct api_resource *resource)
{
    struct api_transaction *tx = api_transaction_read(request);

    api_transaction_add(tx, resource->select, 1, name_of(request));
    api_transaction_run(tx, on_get, resource);
}

/* ---- lists ---- */

json_t *api_resource_page(const PGresult *rows, int limit, const struct api_column *columns)
{
    const bool more = PQntuples(rows) > limit;
    const int count = more ? limit : PQntuples(rows);
    json_t *items = json_array();

    for (int i = 0; i < count; i++)
        json_array_append_new(items, api_row_object(rows, i, columns));
    return json_pack("{s:o, s:o}", "items", items, "next",
                     more ? api_row_value(rows, count - 1, columns[0].name, columns[0].type)
                          : json_null());
}

static const char *member_of(const struct api_column *column)
{
    return column->member != NULL ? column->member : column->name;
}

/* Is the word, of len characters, one of the list, whose words are separated by commas? */
static bool lists(const char *list, const char *word, size_t len)
{
    for (const char *p = list;; p++) {
        const size_t span = strcspn(p, ",");

        if (span == len && strncmp(p, word, len) == 0)
            return true;
        p += span;
        if (*p == '\0')
            return false;
    }
}

bool api_resource_fields(struct http_request *request, const struct api_column *columns)
{
    const char *fields = http_request_parameter(request, "fields");
    struct hw_buf known = {0};
    bool good = true;

    if (fields == NULL)
        return true;
    for (const struct api_column *c = columns; c->name != NULL; c++)
        hw_buf_printf(&known, "%s%s", known.len > 0 ? "," : "", member_of(c));
    for (const char *p = fields; good; p++) {
        const size_t len = strcspn(p, ",");

        good = lists(hw_buf_str(&known), p, len);
        if (!good)
            http_answer_problem(request, &http_invalid_parameter,
                                "fields: there is no \"%.*s\"; there are: %s", (int)len, p,
                                hw_buf_str(&known));
        p += len;
        if (*p == '\0')
            break;
    }
    hw_buf_free(&known);
    return good;
}

json_t *api_resource_select(const struct http_request *request, json_t *page)
{
    const char *fields = http_request_parameter(request, "fields"), *name;
    json_t *item, *value;
    void *next;
    size_t i;

    if (fields == NULL)
        return page;
    json_array_foreach(json_object_get(page, "items"), i, item) {
        json_object_foreach_safe(item, next, name, value) {
            if (!lists(fields, name, strlen(name)))
                json_object_del(item, name);
        }
    }
    return page;
}

void api_resource_on_list(struct http_request *request, const void *columns,
                          PGresult *const *results)
{
    const char *ignored;
    int limit;

    if (api_parameter_limit(request, &limit, &ignored))
        http_answer_json(
            request, HTTP_OK,
            api_resource_select(request, api_resource_page(results[0], limit, columns)));
}

void api_resource_list(struct http_request *request, const struct api_resource *resource)
{
    struct api_transaction *tx;
    const char *most;
    int limit;

    if (!api_parameter_limit(request, &limit, &most) ||
        !api_resource_fields(request, resource->columns))
        return;
    tx = api_transaction_read(request);
    api_transaction_add(tx, resource->list, 2, http_request_parameter(request, "after"), most);
    api_transaction_run(tx, api_resource_on_list, resource->columns);
}
