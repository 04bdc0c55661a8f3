/*
 * Writes the page /v1/reference, the API's description for people, while the API is built: it is
 * made of api/openapi.json alone, and so is the same in every run of the program.
 *
 *   reference api/openapi.json > reference.html
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        char *name = strndup(at, len);

        value = json_object_get(value, name);
        free(name);
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

static void put(const char *text)
{
    fputs(text, stdout);
}

static void add_text(const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            put("&lt;");
            break;
        case '>':
            put("&gt;");
            break;
        case '&':
            put("&amp;");
            break;
        case '"':
            put("&quot;");
            break;
        default:
            putchar(*text);
        }
    }
}

static void add_in(const char *element, const char *text)
{
    printf("<%s>", element);
    add_text(text);
    printf("</%s>", element);
}

/* "integer", "string or null", "Node", "list of Node". */
static void add_type(const json_t *schema)
{
    const json_t *choices = json_object_get(schema, "oneOf");
    const json_t *whole = json_array_get(json_object_get(schema, "allOf"), 0);
    const char *name = schema_name(schema);
    const json_t *type = json_object_get(schema, "type");
    const json_t *one;
    size_t i;

    if (name != NULL)
        printf("<a href=\"#schema-%s\">%s</a>", name, name);
    else if (whole != NULL) {
        put("whole ");
        add_type(whole);
    } else if (strcmp(text_of(schema, "type"), "array") == 0) {
        put("list of ");
        add_type(json_object_get(schema, "items"));
    } else if (json_is_string(type))
        add_text(json_string_value(type));
    else if (type == NULL && choices == NULL)
        put("anything");
    json_array_foreach(choices, i, one) {
        put(i > 0 ? " or " : "");
        add_type(one);
    }
    json_array_foreach(type, i, one) {
        put(i > 0 ? " or " : "");
        add_text(json_string_value(one));
    }
}

static void add_meaning(const json_t *schema, const char *description)
{
    const json_t *choices = json_object_get(schema, "enum"), *choice;
    size_t i;

    add_text(description);
    json_array_foreach(choices, i, choice) {
        put(i > 0 ? ", " : *description != '\0' ? ": " : "");
        add_in("code", json_is_true(choice) ? "true" : json_string_value(choice));
    }
}

static void add_parameters(json_t *document, const json_t *parameters)
{
    json_t *one;
    size_t i;

    if (parameters == NULL)
        return;
    put("<table><tr><th>parameter<th>in<th>type<th>meaning</tr>");
    json_array_foreach(parameters, i, one) {
        const json_t *parameter = resolve(document, one);
        const json_t *schema = json_object_get(parameter, "schema");

        put("<tr><td>");
        add_in("code", text_of(parameter, "name"));
        put(json_is_true(json_object_get(parameter, "required")) ? " (needed)" : "");
        add_in("td", text_of(parameter, "in"));
        put("<td>");
        add_type(schema);
        put("<td>");
        add_meaning(schema, text_of(parameter, "description"));
        put("</tr>");
    }
    put("</table>");
}

static void add_body(const json_t *body)
{
    const char *media_type;
    json_t *content;

    if (body == NULL)
        return;
    put("<p>Body: ");
    add_text(text_of(body, "description"));
    json_object_foreach(json_object_get(body, "content"), media_type, content) {
        const json_t *example = json_object_get(content, "example");

        putchar(' ');
        add_in("code", media_type);
        put(", ");
        add_type(json_object_get(content, "schema"));
        if (example != NULL) {
            char *text = json_dumps(example, JSON_COMPACT | JSON_ENCODE_ANY);

            put(", such as ");
            add_in("code", text);
            free(text);
        }
        putchar('.');
    }
    put("</p>");
}

static void add_responses(json_t *document, json_t *responses)
{
    const char *status, *media_type;
    json_t *one, *content;

    put("<table><tr><th>answer<th>meaning<th>body</tr>");
    json_object_foreach(responses, status, one) {
        const json_t *response = resolve(document, one);

        put("<tr>");
        add_in("td", status);
        add_in("td", text_of(response, "description"));
        put("<td>");
        json_object_foreach(json_object_get(response, "content"), media_type, content) {
            add_in("code", media_type);
            put(": ");
            add_type(json_object_get(content, "schema"));
        }
        put("</tr>");
    }
    put("</table>");
}

static void add_operation(json_t *document, const char *path, const char *method,
                          const json_t *operation)
{
    const char *role = text_of(operation, "x-role");

    printf("<h3 id=\"%s\"><code><span class=\"method\">", text_of(operation, "operationId"));
    for (const char *p = method; *p != '\0'; p++)
        putchar(*p & ~0x20);
    put("</span> ");
    add_text(path);
    put("</code></h3><p>");
    add_text(text_of(operation, "summary"));
    put(". ");
    add_text(text_of(operation, "description"));
    put(" <span class=\"role\">For ");
    add_text(*role != '\0' ? role : "anyone");
    put(".</span></p>");
    add_parameters(document, json_object_get(operation, "parameters"));
    add_body(json_object_get(operation, "requestBody"));
    add_responses(document, json_object_get(operation, "responses"));
}

static void add_tag(json_t *document, const json_t *tag)
{
    const char *name = text_of(tag, "name"), *path, *method;
    json_t *methods, *operation;

    add_in("h2", name);
    add_in("p", text_of(tag, "description"));
    json_object_foreach(json_object_get(document, "paths"), path, methods) {
        json_object_foreach(methods, method, operation) {
            const json_t *first = json_array_get(json_object_get(operation, "tags"), 0);

            if (first != NULL && strcmp(json_string_value(first), name) == 0)
                add_operation(document, path, method, operation);
        }
    }
}

static void add_schema(const char *name, json_t *schema)
{
    const char *member;
    json_t *one;

    printf("<h3 id=\"schema-%s\">%s</h3><p>", name, name);
    add_type(schema);
    put(". ");
    add_meaning(schema, text_of(schema, "description"));
    put("</p>");
    if (json_object_get(schema, "properties") == NULL)
        return;
    put("<table><tr><th>member<th>type<th>meaning</tr>");
    json_object_foreach(json_object_get(schema, "properties"), member, one) {
        put("<tr><td>");
        add_in("code", member);
        put("<td>");
        add_type(one);
        put("<td>");
        add_meaning(one, text_of(one, "description"));
        put("</tr>");
    }
    put("</table>");
}

/* The document for people: one page, without scripts and without anything from outside. */
static void write_page(json_t *document)
{
    const json_t *info = json_object_get(document, "info");
    const char *title = text_of(info, "title"), *name;
    json_t *one;
    size_t i;

    put("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    add_in("title", title);
    printf("<style>%s</style></head><body>", style);
    add_in("h1", title);
    put("<p>Version ");
    add_text(text_of(info, "version"));
    put(". ");
    add_text(text_of(info, "description"));
    put(" Programs read <a href=\"/openapi.json\">openapi.json</a>.</p>");
    json_array_foreach(json_object_get(document, "tags"), i, one)
        add_tag(document, one);
    add_in("h2", "schemas");
    json_object_foreach(json_object_get(json_object_get(document, "components"), "schemas"), name,
                        one)
        add_schema(name, one);
    put("</body></html>\n");
}

int main(int argc, char **argv)
{
    json_error_t error;
    json_t *document = argc == 2 ? json_load_file(argv[1], JSON_REJECT_DUPLICATES, &error) : NULL;

    if (argc != 2) {
        fputs("usage: reference openapi.json\n", stderr);
        return 2;
    }
    if (document == NULL) {
        fprintf(stderr, "%s: line %d: %s\n", argv[1], error.line, error.text);
        return 1;
    }
    write_page(document);
    json_decref(document);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
