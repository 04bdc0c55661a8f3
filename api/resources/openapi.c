/* /openapi.json, /v1 and /v1/reference: what the service says about itself. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/openapi.h"
#include "api/routes.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/version.h"
#include "http/answer.h"

/* A page that is made of one document may load nothing at all. */
#define CONTENT_POLICY "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text != NULL ? text : "";
}

/* Bytes that the program carries are their own version. */
static void answer_own(struct http_request *request, const char *bytes, size_t len,
                       const char *media_type)
{
    http_answer_etag_of(request, bytes, len);
    http_answer_bytes(request, HTTP_OK, hw_strndup(bytes, len), len, media_type);
}

/* NULL when the request was answered with the problem. */
static json_t *load(struct http_request *request)
{
    json_t *document = NULL;
    struct hw_error err;

    if (hw_json_parse_object(api_openapi, api_openapi_len, &document, &err) != HW_OK)
        http_answer_internal(request, "reading the API's description", err.message);
    return document;
}

void api_openapi_get(struct http_request *request)
{
    answer_own(request, api_openapi, api_openapi_len, "application/json");
}

void api_openapi_reference(struct http_request *request)
{
    http_answer_header(request, "Content-Security-Policy", CONTENT_POLICY);
    answer_own(request, api_reference, api_reference_len, "text/html; charset=utf-8");
}

static json_t *find_operation(const json_t *paths, const struct http_route *route)
{
    const char *method;
    json_t *operation;

    json_object_foreach(json_object_get(paths, route->pattern), method, operation) {
        if (strcasecmp(method, route->method) == 0)
            return operation;
    }
    return NULL;
}

void api_openapi_routes(struct http_request *request)
{
    HW_AUTO_JSON json_t *document = load(request);
    const json_t *paths = json_object_get(document, "paths");
    json_t *routes;

    if (document == NULL)
        return;
    routes = json_array();
    for (const struct http_route *route = api_routes; route->method != NULL; route++) {
        const json_t *operation = find_operation(paths, route);

        json_array_append_new(routes,
                              json_pack("{s:s, s:s, s:s?, s:s}", "method", route->method, "path",
                                        route->pattern, "role",
                                        json_string_value(json_object_get(operation, "x-role")),
                                        "summary", text_of(operation, "summary")));
    }
    http_answer_json(request, HTTP_OK,
                     json_pack("{s:s, s:s, s:s, s:s, s:o}", "service", "headwater-api", "version",
                               HW_VERSION, "openapi", "/openapi.json", "reference", "/v1/reference",
                               "routes", routes));
}
