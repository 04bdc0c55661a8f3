/* /openapi.json, /v1 and /v1/reference: what the service says about itself. */
#include "api/openapi.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "api/routes.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/version.h"
#include "http/answer.h"
#include "http/request.h"

/* A page that is made of one document may load nothing at all. */
#define CONTENT_POLICY "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

static const char style[] =
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "h2{border-bottom:2px solid #ccc;margin-top:2em}h3{margin-top:2em}"
    "code,pre{font:14px/1.4 monospace;background:#f4f4f4}pre{padding:.6em;overflow:auto}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #ddd;padding:.2em .5em;text-align:left;vertical-align:top}"
    "h3 code{background:none;font-size:1em}.method{font-weight:bold}.role{color:#666}";

/* ---- the document ---- */

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text != NULL ? text : "";
}

/* Follows {"$ref":"#/a/b"}; anything else is itself. */
static json_t *resolve(json_t *document, json_t *value)
{
    const char *at = json_string_value(json_object_get(value, "$ref"));

    if (at == NULL)
        return value;
    at++; /* the document itself */
    value = document;
    while (value != NULL && *at == '/') {
        const size_t len = strcspn(++at, "/");
        HW_AUTO_FREE char *name = hw_strndup(at, len);

        value = json_object_get(value, name);
        at += len;
    }
    return value;
}

/* "Node" of {"$ref":"#/components/schemas/Node"}, or NULL. */
static const char *schema_name(const json_t *schema)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));

    return ref != NULL ? strrchr(ref, '/') + 1 : NULL;
}

/* ---- HTML ---- */

static void add_text(struct hw_buf *page, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            hw_buf_puts(page, "&lt;");
            break;
        case '>':
            hw_buf_puts(page, "&gt;");
            break;
        case '&':
            hw_buf_puts(page, "&amp;");
            break;
        case '"':
            hw_buf_puts(page, "&quot;");
            break;
        default:
            hw_buf_putc(page, *text);
        }
    }
}

static void add_in(struct hw_buf *page, const char *element, const char *text)
{
    hw_buf_printf(page, "<%s>", element);
    add_text(page, text);
    hw_buf_printf(page, "</%s>", element);
}

/* "integer", "string or null", "Node", "list of Node". */
static void add_type(struct hw_buf *page, const json_t *schema)
{
    const json_t *choices = json_object_get(schema, "oneOf");
    const char *name = schema_name(schema);
    const json_t *type = json_object_get(schema, "type");
    const json_t *one;
    size_t i;

    if (name != NULL)
        hw_buf_printf(page, "<a href=\"#schema-%s\">%s</a>", name, name);
    else if (strcmp(text_of(schema, "type"), "array") == 0) {
        hw_buf_puts(page, "list of ");
        add_type(page, json_object_get(schema, "items"));
    } else if (json_is_string(type))
        add_text(page, json_string_value(type));
    else if (type == NULL && choices == NULL)
        hw_buf_puts(page, "anything");
    json_array_foreach(choices, i, one)
    {
        hw_buf_puts(page, i > 0 ? " or " : "");
        add_type(page, one);
    }
    json_array_foreach(type, i, one)
    {
        hw_buf_puts(page, i > 0 ? " or " : "");
        add_text(page, json_string_value(one));
    }
}

static void add_meaning(struct hw_buf *page, const json_t *schema, const char *description)
{
    const json_t *choices = json_object_get(schema, "enum"), *choice;
    size_t i;

    add_text(page, description);
    json_array_foreach(choices, i, choice)
    {
        hw_buf_puts(page, i > 0 ? ", " : *description != '\0' ? ": " : "");
        add_in(page, "code", json_string_value(choice));
    }
}

static void add_parameters(struct hw_buf *page, json_t *document, const json_t *parameters)
{
    json_t *one;
    size_t i;

    if (parameters == NULL)
        return;
    hw_buf_puts(page, "<table><tr><th>parameter<th>in<th>type<th>meaning</tr>");
    json_array_foreach(parameters, i, one)
    {
        const json_t *parameter = resolve(document, one);
        const json_t *schema = json_object_get(parameter, "schema");

        hw_buf_puts(page, "<tr><td>");
        add_in(page, "code", text_of(parameter, "name"));
        hw_buf_puts(page, json_is_true(json_object_get(parameter, "required")) ? " (needed)" : "");
        add_in(page, "td", text_of(parameter, "in"));
        hw_buf_puts(page, "<td>");
        add_type(page, schema);
        hw_buf_puts(page, "<td>");
        add_meaning(page, schema, text_of(parameter, "description"));
        hw_buf_puts(page, "</tr>");
    }
    hw_buf_puts(page, "</table>");
}

static void add_body(struct hw_buf *page, const json_t *body)
{
    const char *media_type;
    json_t *content;

    if (body == NULL)
        return;
    hw_buf_puts(page, "<p>Body: ");
    add_text(page, text_of(body, "description"));
    json_object_foreach(json_object_get(body, "content"), media_type, content)
    {
        const json_t *example = json_object_get(content, "example");

        hw_buf_putc(page, ' ');
        add_in(page, "code", media_type);
        hw_buf_puts(page, ", ");
        add_type(page, json_object_get(content, "schema"));
        if (example != NULL) {
            HW_AUTO_FREE char *text = hw_json_dump(example);

            hw_buf_puts(page, ", such as ");
            add_in(page, "code", text);
        }
        hw_buf_putc(page, '.');
    }
    hw_buf_puts(page, "</p>");
}

static void add_responses(struct hw_buf *page, json_t *document, json_t *responses)
{
    const char *status, *media_type;
    json_t *one, *content;

    hw_buf_puts(page, "<table><tr><th>answer<th>meaning<th>body</tr>");
    json_object_foreach(responses, status, one)
    {
        const json_t *response = resolve(document, one);

        hw_buf_puts(page, "<tr>");
        add_in(page, "td", status);
        add_in(page, "td", text_of(response, "description"));
        hw_buf_puts(page, "<td>");
        json_object_foreach(json_object_get(response, "content"), media_type, content)
        {
            add_in(page, "code", media_type);
            hw_buf_puts(page, ": ");
            add_type(page, json_object_get(content, "schema"));
        }
        hw_buf_puts(page, "</tr>");
    }
    hw_buf_puts(page, "</table>");
}

static void add_operation(struct hw_buf *page, json_t *document, const char *path,
                          const char *method, const json_t *operation)
{
    const char *role = text_of(operation, "x-role");

    hw_buf_printf(page, "<h3 id=\"%s\"><code><span class=\"method\">",
                  text_of(operation, "operationId"));
    for (const char *p = method; *p != '\0'; p++)
        hw_buf_putc(page, (char)(*p & ~0x20));
    hw_buf_puts(page, "</span> ");
    add_text(page, path);
    hw_buf_puts(page, "</code></h3><p>");
    add_text(page, text_of(operation, "summary"));
    hw_buf_puts(page, ". ");
    add_text(page, text_of(operation, "description"));
    hw_buf_puts(page, " <span class=\"role\">For ");
    add_text(page, *role != '\0' ? role : "anyone");
    hw_buf_puts(page, ".</span></p>");
    add_parameters(page, document, json_object_get(operation, "parameters"));
    add_body(page, json_object_get(operation, "requestBody"));
    add_responses(page, document, json_object_get(operation, "responses"));
}

static void add_tag(struct hw_buf *page, json_t *document, const json_t *tag)
{
    const char *name = text_of(tag, "name"), *path, *method;
    json_t *methods, *operation;

    add_in(page, "h2", name);
    add_in(page, "p", text_of(tag, "description"));
    json_object_foreach(json_object_get(document, "paths"), path, methods)
    {
        json_object_foreach(methods, method, operation)
        {
            const json_t *first = json_array_get(json_object_get(operation, "tags"), 0);

            if (first != NULL && strcmp(json_string_value(first), name) == 0)
                add_operation(page, document, path, method, operation);
        }
    }
}

static void add_schema(struct hw_buf *page, const char *name, json_t *schema)
{
    const char *member;
    json_t *one;

    hw_buf_printf(page, "<h3 id=\"schema-%s\">%s</h3><p>", name, name);
    add_type(page, schema);
    hw_buf_puts(page, ". ");
    add_meaning(page, schema, text_of(schema, "description"));
    hw_buf_puts(page, "</p>");
    if (json_object_get(schema, "properties") == NULL)
        return;
    hw_buf_puts(page, "<table><tr><th>member<th>type<th>meaning</tr>");
    json_object_foreach(json_object_get(schema, "properties"), member, one)
    {
        hw_buf_puts(page, "<tr><td>");
        add_in(page, "code", member);
        hw_buf_puts(page, "<td>");
        add_type(page, one);
        hw_buf_puts(page, "<td>");
        add_meaning(page, one, text_of(one, "description"));
        hw_buf_puts(page, "</tr>");
    }
    hw_buf_puts(page, "</table>");
}

/* The document for people: one page, without scripts and outside assets; malloc'ed. */
static char *make_page(json_t *document, size_t *len)
{
    const json_t *info = json_object_get(document, "info");
    const char *title = text_of(info, "title"), *name;
    struct hw_buf page = {0};
    json_t *one;
    size_t i;

    hw_buf_puts(&page, "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    add_in(&page, "title", title);
    hw_buf_printf(&page, "<style>%s</style></head><body>", style);
    add_in(&page, "h1", title);
    hw_buf_puts(&page, "<p>Version ");
    add_text(&page, text_of(info, "version"));
    hw_buf_puts(&page, ". ");
    add_text(&page, text_of(info, "description"));
    hw_buf_puts(&page, " Programs read <a href=\"/openapi.json\">openapi.json</a>.</p>");
    json_array_foreach(json_object_get(document, "tags"), i, one) add_tag(&page, document, one);
    add_in(&page, "h2", "schemas");
    json_object_foreach(json_object_get(json_object_get(document, "components"), "schemas"), name,
                        one) add_schema(&page, name, one);
    hw_buf_puts(&page, "</body></html>\n");
    *len = page.len;
    return page.data;
}

/* ---- routes ---- */

/* The answer was made of this program's own bytes, so that its version is theirs. */
static void answer_own(struct http_request *request, char *data, size_t len, const char *media_type)
{
    struct hw_digest digest;
    char hex[HW_DIGEST_HEX_MAX];

    hw_digest_of(data, len, &digest);
    http_answer_etag(request, "%.32s", hw_digest_hex(&digest, hex));
    http_answer_bytes(request, HTTP_OK, data, len, media_type);
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
    answer_own(request, hw_strndup(api_openapi, api_openapi_len), api_openapi_len,
               "application/json");
}

void api_openapi_reference(struct http_request *request)
{
    HW_AUTO_JSON json_t *document = load(request);
    char *page;
    size_t len;

    if (document == NULL)
        return;
    page = make_page(document, &len);
    http_answer_header(request, "Content-Security-Policy", CONTENT_POLICY);
    answer_own(request, page, len, "text/html; charset=utf-8");
}

static json_t *find_operation(const json_t *paths, const struct http_route *route)
{
    const char *method;
    json_t *operation;

    json_object_foreach(json_object_get(paths, route->pattern), method, operation)
    {
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
