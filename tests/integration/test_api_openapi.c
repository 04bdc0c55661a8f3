/*
 * The API's description, the table of routes and what a real service answers: each is held against
 * the others. Everything here is generated from api/openapi.json.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "api/openapi.h"
#include "api/problem.h"
#include "api/routes.h"
#include "base/buf.h"
#include "base/memory.h"
#include "common/version.h"
#include "tests/support/api_program.h"
#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_database db;
static struct test_api api;
static json_t *document;
static char *admin, *viewer;

/* ---- the document ---- */

static void load(void)
{
    json_error_t error;

    document = json_loadb(api_openapi, api_openapi_len, JSON_REJECT_DUPLICATES, &error);
    if (document == NULL)
        test_fail("api/openapi.json: line %d: %s", error.line, error.text);
}

static const char *text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

/* Follows {"$ref":"#/a/b"}; a reference to nothing fails the test. */
static json_t *resolve(json_t *value)
{
    const char *ref = text_of(value, "$ref");
    const char *at = ref;

    if (ref == NULL)
        return value;
    ck_assert_msg(strncmp(ref, "#/", 2) == 0, "%s: leads out of the document", ref);
    value = document;
    for (at++; value != NULL && *at == '/';) {
        const size_t len = strcspn(++at, "/");
        HW_AUTO_FREE char *name = hw_strndup(at, len);

        value = json_object_get(value, name);
        at += len;
    }
    ck_assert_msg(value != NULL, "%s: leads nowhere", ref);
    return value;
}

typedef void operation_fn(const char *path, const char *method, json_t *operation, void *arg);

/* method: in capitals. */
static void each_operation(operation_fn *operation, void *arg)
{
    const char *path, *name;
    json_t *methods, *one;

    json_object_foreach(json_object_get(document, "paths"), path, methods) {
        json_object_foreach(methods, name, one) {
            char method[16] = "";

            for (size_t i = 0; name[i] != '\0' && i < sizeof(method) - 1; i++)
                method[i] = (char)(name[i] & ~0x20);
            operation(path, method, one, arg);
        }
    }
}

/* ---- its schemas: what this test can check, and nothing else, may be used ---- */

static const char *const keywords[] = {"$ref",          "additionalProperties",
                                       "allOf",         "description",
                                       "discriminator", "enum",
                                       "format",        "items",
                                       "maximum",       "maxLength",
                                       "minimum",       "minLength",
                                       "oneOf",         "pattern",
                                       "properties",    "required",
                                       "type"};

static bool is_type(const json_t *value, const char *type)
{
    if (strcmp(type, "object") == 0)
        return json_is_object(value);
    if (strcmp(type, "array") == 0)
        return json_is_array(value);
    if (strcmp(type, "string") == 0)
        return json_is_string(value);
    if (strcmp(type, "integer") == 0)
        return json_is_integer(value);
    if (strcmp(type, "number") == 0)
        return json_is_number(value);
    if (strcmp(type, "boolean") == 0)
        return json_is_boolean(value);
    ck_assert_msg(strcmp(type, "null") == 0, "type %s is none of JSON Schema's", type);
    return json_is_null(value);
}

static bool has_type(const json_t *value, const json_t *type)
{
    const json_t *one;
    size_t i;

    if (type == NULL)
        return true;
    if (json_is_string(type))
        return is_type(value, json_string_value(type));
    json_array_foreach(type, i, one) {
        if (is_type(value, json_string_value(one)))
            return true;
    }
    return false;
}

static bool matches(const char *text, const char *pattern)
{
    HW_AUTO_FREE char *found = test_value(db.conn, "SELECT $t$%s$t$ ~ $p$%s$p$", text, pattern);

    return strcmp(found, "t") == 0;
}

static void validate(const json_t *value, json_t *schema, const char *where);

static void validate_object(const json_t *value, const json_t *schema, const char *where)
{
    json_t *properties = json_object_get(schema, "properties"), *member;
    const json_t *name;
    const char *key;
    size_t i;

    json_array_foreach(json_object_get(schema, "required"), i, name)
        ck_assert_msg(json_object_get(value, json_string_value(name)) != NULL, "%s.%s is missing",
                      where, json_string_value(name));
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        HW_AUTO_FREE char *below = hw_sprintf("%s.%s", where, key);
        json_t *expected = json_object_get(properties, key);

        if (expected != NULL)
            validate(member, expected, below);
        else
            ck_assert_msg(!json_is_false(json_object_get(schema, "additionalProperties")),
                          "%s is not documented", below);
    }
}

/* Of {"oneOf":[…]} the one that the discriminator names, or else the first whose required members
 * are all there, or the last. */
static json_t *choose(const json_t *value, json_t *schema)
{
    json_t *one, *all = json_object_get(schema, "oneOf");
    const json_t *discriminator = json_object_get(schema, "discriminator");
    const char *kind = text_of(value, text_of(discriminator, "propertyName"));
    const char *ref = text_of(json_object_get(discriminator, "mapping"), kind);
    const json_t *name;
    size_t i, k;

    json_array_foreach(all, i, one) {
        bool has_all = true;

        if (ref != NULL && strcmp(ref, text_of(one, "$ref")) == 0)
            return resolve(one);
        if (ref != NULL)
            continue;
        schema = resolve(one);
        json_array_foreach(json_object_get(schema, "required"), k, name)
            has_all = has_all && json_object_get(value, json_string_value(name)) != NULL;
        if (has_all)
            break;
    }
    return schema;
}

static void validate(const json_t *value, json_t *schema, const char *where)
{
    const json_t *choices, *choice, *limit;
    const char *pattern, *format;
    bool found = false;
    size_t i;
    json_t *item;

    schema = choose(value, resolve(schema));
    json_array_foreach(json_object_get(schema, "allOf"), i, item)
        validate(value, item, where);
    choices = json_object_get(schema, "enum");
    pattern = text_of(schema, "pattern");
    format = text_of(schema, "format");
    ck_assert_msg(has_type(value, json_object_get(schema, "type")), "%s has the wrong type", where);
    json_array_foreach(choices, i, choice)
        found = found || json_equal(value, choice);
    ck_assert_msg(choices == NULL || found, "%s: %s is not one of the documented values", where,
                  json_is_string(value) ? json_string_value(value) : "it");
    if (json_is_object(value))
        validate_object(value, schema, where);
    json_array_foreach(value, i, item) {
        HW_AUTO_FREE char *below = hw_sprintf("%s[%zu]", where, i);

        if (json_object_get(schema, "items") != NULL)
            validate(item, json_object_get(schema, "items"), below);
    }
    if ((limit = json_object_get(schema, "minLength")) != NULL && json_is_string(value))
        ck_assert_int_ge((json_int_t)json_string_length(value), json_integer_value(limit));
    if ((limit = json_object_get(schema, "minimum")) != NULL && json_is_integer(value))
        ck_assert_int_ge(json_integer_value(value), json_integer_value(limit));
    if ((limit = json_object_get(schema, "maximum")) != NULL && json_is_integer(value))
        ck_assert_int_le(json_integer_value(value), json_integer_value(limit));
    if (pattern != NULL && json_is_string(value))
        ck_assert_msg(matches(json_string_value(value), pattern), "%s: %s does not match %s", where,
                      json_string_value(value), pattern);
    if (format != NULL && json_is_string(value)) {
        ck_assert_str_eq(format, "date-time");
        ck_assert_msg(matches(json_string_value(value),
                              "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$"),
                      "%s: %s is no time", where, json_string_value(value));
    }
}

/* ---- the document itself ---- */

static bool may_be(const json_t *schema, const char *type)
{
    const json_t *types = json_object_get(schema, "type"), *one;
    size_t i;

    json_array_foreach(types, i, one) {
        if (strcmp(json_string_value(one), type) == 0)
            return true;
    }
    return json_is_string(types) && strcmp(json_string_value(types), type) == 0;
}

static void check_schema(json_t *schema, const char *where)
{
    const char *name;
    json_t *value;
    size_t i;

    ck_assert_msg(json_is_object(schema), "%s is no schema", where);
    resolve(schema);
    json_object_foreach(schema, name, value) {
        i = 0;
        while (i < HW_COUNT(keywords) && strcmp(keywords[i], name) != 0)
            i++;
        ck_assert_msg(i < HW_COUNT(keywords), "%s: this test cannot check %s", where, name);
    }
    (void)has_type(schema, json_object_get(schema, "type")); /* the types are known */
    json_object_foreach(json_object_get(schema, "properties"), name, value) {
        HW_AUTO_FREE char *below = hw_sprintf("%s.%s", where, name);

        check_schema(value, below);
    }
    json_array_foreach(json_object_get(schema, "oneOf"), i, value)
        check_schema(value, where);
    json_array_foreach(json_object_get(schema, "allOf"), i, value)
        check_schema(value, where);
    ck_assert_msg(!may_be(schema, "array") || json_object_get(schema, "items") != NULL,
                  "%s: an array of what?", where);
    ck_assert_msg(!may_be(schema, "integer") || json_object_get(schema, "format") != NULL,
                  "%s: an integer of how many bits?", where);
    if (json_object_get(schema, "items") != NULL)
        check_schema(json_object_get(schema, "items"), where);
}

/* A parameter is of some form: it has bounds, a pattern, or a list of values. */
static void check_bounds(json_t *schema, const char *where)
{
    static const char *const bounds[] = {"enum", "pattern", "maxLength", "minimum"};
    size_t i = 0;

    schema = resolve(schema);
    while (i < HW_COUNT(bounds) && json_object_get(schema, bounds[i]) == NULL)
        i++;
    ck_assert_msg(i < HW_COUNT(bounds), "%s: a parameter of any length and form", where);
}

static void check_content(const json_t *owner, const char *where)
{
    const char *media_type;
    json_t *content, *example;

    json_object_foreach(json_object_get(owner, "content"), media_type, content) {
        json_t *schema = json_object_get(content, "schema");

        ck_assert_msg(strchr(media_type, '/') != NULL, "%s: %s", where, media_type);
        check_schema(schema, where);
        example = json_object_get(content, "example");
        if (example != NULL)
            validate(example, schema, where);
    }
}

static void check_response(const char *status, json_t *response, const char *where)
{
    const char *name;
    json_t *header;

    response = resolve(response);
    ck_assert_msg(strcmp(status, "default") == 0 ||
                      (strlen(status) == 3 && strspn(status, "0123456789") == 3),
                  "%s: %s is no status", where, status);
    ck_assert_msg(text_of(response, "description") != NULL, "%s: %s has no description", where,
                  status);
    check_content(response, where);
    json_object_foreach(json_object_get(response, "headers"), name, header)
        check_schema(json_object_get(resolve(header), "schema"), name);
}

static void check_operation(const char *path, const char *method, json_t *operation, void *arg)
{
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE"};
    json_t *ids = arg, *one, *tags = json_object_get(document, "tags");
    HW_AUTO_FREE char *where = hw_sprintf("%s %s", method, path);
    const char *id = text_of(operation, "operationId"), *status;
    bool known = false;
    size_t i;

    for (i = 0; i < HW_COUNT(methods); i++)
        known = known || strcmp(methods[i], method) == 0;
    ck_assert_msg(known && path[0] == '/', "%s: is no method and path", where);
    ck_assert_msg(id != NULL && json_object_get(ids, id) == NULL, "%s: operationId", where);
    json_object_set_new(ids, id, json_true());
    ck_assert_msg(text_of(operation, "summary") != NULL, "%s: has no summary", where);
    ck_assert_uint_eq(json_array_size(json_object_get(operation, "tags")), 1);
    known = false;
    json_array_foreach(tags, i, one)
        known = known || json_equal(json_object_get(one, "name"),
                                    json_array_get(json_object_get(operation, "tags"), 0));
    ck_assert_msg(known, "%s: its tag is not declared", where);
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = resolve(one);

        ck_assert_ptr_nonnull(text_of(parameter, "name"));
        ck_assert_ptr_nonnull(text_of(parameter, "description"));
        check_schema(json_object_get(parameter, "schema"), where);
        check_bounds(json_object_get(parameter, "schema"), text_of(parameter, "name"));
    }
    check_content(json_object_get(operation, "requestBody"), where);
    ck_assert_uint_ge(json_object_size(json_object_get(operation, "responses")), 2);
    json_object_foreach(json_object_get(operation, "responses"), status, one)
        check_response(status, one, where);
}

/* Generators make types of the names of components, and arguments of those of parameters: two that
 * differ by case or by a hyphen alone stop them. name is noted in names. */
static void check_name(json_t *names, const char *name, const char *where)
{
    HW_AUTO_FREE char *plain = hw_strdup(name);
    char *end = plain;

    for (const char *p = name; *p != '\0'; p++)
        if (*p != '-' && *p != '_')
            *end++ = (char)(*p | 0x20);
    *end = '\0';
    ck_assert_msg(json_object_get(names, plain) == NULL, "%s: %s: there is a name nearly the same",
                  where, name);
    json_object_set_new(names, plain, json_true());
}

static void check_parameter_names(const char *path, const char *method, json_t *operation,
                                  void *arg)
{
    json_t *names = json_object(), *one;
    size_t i;

    (void)method;
    (void)arg;
    json_array_foreach(json_object_get(operation, "parameters"), i, one)
        check_name(names, text_of(resolve(one), "name"), path);
    json_decref(names);
}

START_TEST(test_names)
{
    static const char *const kinds[] = {"parameters", "responses", "schemas"};
    json_t *names = json_object(), *one;
    const char *name;

    for (size_t i = 0; i < HW_COUNT(kinds); i++) {
        json_object_foreach(json_object_get(json_object_get(document, "components"), kinds[i]),
                            name, one)
            check_name(names, name, kinds[i]);
    }
    json_decref(names);
    each_operation(check_parameter_names, NULL);
}
END_TEST

START_TEST(test_structure)
{
    static const char *const members[] = {"openapi", "info",  "servers",    "security",
                                          "tags",    "paths", "components", "x-problems"};
    json_t *ids = json_object(), *schema, *value;
    const json_t *info = json_object_get(document, "info");
    const char *name;

    json_object_foreach(document, name, value) {
        size_t i = 0;

        while (i < HW_COUNT(members) && strcmp(members[i], name) != 0)
            i++;
        ck_assert_msg(i < HW_COUNT(members), "%s is no member of the document", name);
    }
    ck_assert_str_eq(text_of(document, "openapi"), "3.1.0");
    ck_assert_ptr_nonnull(text_of(info, "title"));
    ck_assert_str_eq(text_of(info, "version"), HW_VERSION);
    json_object_foreach(json_object_get(json_object_get(document, "components"), "schemas"), name,
                        schema)
        check_schema(schema, name);
    each_operation(check_operation, ids);
    json_decref(ids);
}
END_TEST

/* ---- the table of routes ---- */

static const struct http_route *find_route(const char *method, const char *path)
{
    const struct http_route *route = api_routes;

    while (route->method != NULL &&
           (strcmp(route->method, method) != 0 || strcmp(route->pattern, path) != 0))
        route++;
    return route->method != NULL ? route : NULL;
}

static bool has_word(const char *words, const char *word)
{
    const size_t len = strlen(word);

    for (const char *p = words; *p != '\0'; p += strspn(p, " ")) {
        const size_t here = strcspn(p, " ");

        if (here == len && strncmp(p, word, len) == 0)
            return true;
        p += here;
    }
    return false;
}

static int count_words(const char *words)
{
    int count = 0;

    for (; *words != '\0'; words += strspn(words, " ")) {
        words += strcspn(words, " ");
        count++;
    }
    return count;
}

static void check_route(const char *path, const char *method, json_t *operation, void *arg)
{
    static const char *const roles[] = {NULL, "viewer", "operator", "approver", "admin"};
    const struct http_route *route = find_route(method, path);
    HW_AUTO_FREE char *where = hw_sprintf("%s %s", method, path);
    const json_t *body = json_object_get(operation, "requestBody");
    const char *role = text_of(operation, "x-role"), *expected;
    int variables = 0, queries = 0;
    json_t *one;
    size_t i;

    ck_assert_msg(route != NULL, "%s: there is no such route", where);
    ++*(int *)arg;
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = resolve(one);
        const char *name = text_of(parameter, "name"), *in = text_of(parameter, "in");

        if (strcmp(in, "path") == 0) {
            HW_AUTO_FREE char *variable = hw_sprintf("{%s}", name);

            ck_assert_msg(strstr(path, variable) != NULL, "%s: %s is not in it", where, variable);
            variables++;
        } else if (strcmp(in, "query") == 0) {
            ck_assert_msg(has_word(route->query, name), "%s takes no %s", where, name);
            queries++;
        } else {
            ck_assert_str_eq(in, "header");
        }
    }
    for (const char *p = path; (p = strchr(p, '{')) != NULL; p++)
        variables--;
    ck_assert_msg(variables == 0, "%s: a variable is not documented", where);
    ck_assert_msg(queries == count_words(route->query), "%s: takes %s", where, route->query);
    ck_assert_msg((body != NULL) == (route->body != HTTP_BODY_NONE), "%s: its body", where);
    if (body != NULL)
        ck_assert_int_eq(json_object_get(json_object_get(body, "content"), "*/*") != NULL,
                         route->body == HTTP_BODY_ANY);
    expected = roles[route->role];
    ck_assert_msg(role == expected ||
                      (role != NULL && expected != NULL && strcmp(role, expected) == 0),
                  "%s: its role is %s", where, expected != NULL ? expected : "none");
    ck_assert_msg((expected == NULL) == (json_object_get(operation, "security") != NULL),
                  "%s: security", where);
}

START_TEST(test_routes)
{
    int documented = 0, routed = 0;

    each_operation(check_route, &documented);
    while (api_routes[routed].method != NULL)
        routed++;
    ck_assert_int_eq(documented, routed);
}
END_TEST

/* ---- the problems ---- */

START_TEST(test_problems)
{
    const json_t *problems = json_object_get(document, "x-problems");
    HW_AUTO_FREE char *docs = test_read_file("docs/http.md");

    const struct http_problem *all[64];
    size_t count = 0;

    for (const struct http_problem *const *p = http_problems; *p != NULL; p++)
        all[count++] = *p;
    for (const struct http_problem *const *p = api_problems; *p != NULL; p++)
        all[count++] = *p;
    ck_assert_uint_eq(json_object_size(problems), count);
    for (size_t i = 0; i < count; i++) {
        const struct http_problem *kind = all[i];
        HW_AUTO_FREE char *row = hw_sprintf("\n| `%s` | %d | ", kind->name, kind->status);
        const json_t *problem = json_object_get(problems, kind->name);

        ck_assert_msg(strstr(docs, row) != NULL, "docs/http.md does not explain %s, %d", kind->name,
                      kind->status);
        ck_assert_msg(problem != NULL, "%s is not in x-problems", kind->name);
        ck_assert_msg((json_object_get(problem, "example") != NULL) !=
                          (text_of(problem, "unprovoked") != NULL),
                      "%s: an example, or why there is none", kind->name);
    }
}
END_TEST

/* ---- asking a real service ---- */

static char *position;

/* What the requests are about, as it was before each of them. The node failing has failed, and the
 * node example runs what it should, or does not yet. Its proposals: 1 pending, 2 in conflict, 3
 * rejected, 4 refused. */
static void reset(bool in_sync)
{
    test_run(db.conn,
             "DELETE FROM headwater.token WHERE name NOT IN ('test-admin', 'test-viewer');"
             "DELETE FROM headwater.assignment; DELETE FROM headwater.node;"
             "DELETE FROM headwater.config;"
             "INSERT INTO headwater.config (name, content) VALUES"
             " ('example', '{\"rate_hz\":1}'), ('unused', '{}'), ('checked', '{}');"
             "UPDATE headwater.config SET schema = '{\"type\":\"object\"}' WHERE name = 'checked';"
             "UPDATE headwater.config SET content = '{\"rate_hz\":2}' WHERE name = 'example';"
             "INSERT INTO headwater.node (name, labels) VALUES ('failing', '{}'), ('idle', '{}'),"
             " ('example', '{\"site\":\"north\"}');"
             "INSERT INTO headwater.assignment (name, config, node, selector) VALUES"
             " ('failing', 'example', 'failing', NULL),"
             " ('example', 'example', NULL, '{\"site\":\"north\"}');"
             "SELECT headwater.create_token('example', 'viewer');"
             "ALTER TABLE headwater.proposal ALTER id RESTART;"
             "SELECT headwater.propose((SELECT jsonb_agg(jsonb_build_object('node', 'example',"
             " 'ref', r, 'config', 'example', 'base_revision', c.revision - b,"
             " 'content', '{\"rate_hz\":3}', 'encoding', 'utf-8') || m) FROM (VALUES"
             " ('pending', 0, '{}'::jsonb), ('stale', 1, '{}'), ('done', 0, '{}'),"
             " ('bad', 0, '{\"problem\":\"bad\"}')) AS v (r, b, m), headwater.config AS c"
             " WHERE c.name = 'example'));"
             "SELECT headwater.reject(3);"
             "SELECT headwater.hear('{idle,stranger,visitor}', 1000, '{here-1}')");
    test_run(
        db.conn,
        "SELECT headwater.report(jsonb_agg(jsonb_build_object("
        " 'kv_created', '2026-01-01T00:00:00Z', 'kv_revision', (extract(epoch FROM"
        " clock_timestamp()) * 1000000)::bigint, 'value', r.value))) FROM ("
        " SELECT jsonb_build_object('node', 'failing', 'state', 'failed', 'failed',"
        "  jsonb_build_object('revision', revision, 'digest', digest, 'epoch', 1, 'lsn',"
        "  pg_current_wal_insert_lsn(), 'stage', 'apply', 'error', 'it is full', 'at', now()),"
        "  'desired_revision', revision, 'agent', '1', 'boot_id', 'b', 'reported_at', now())"
        "  AS value FROM headwater.desired WHERE node = 'failing'"
        " UNION ALL SELECT jsonb_build_object('node', 'example', 'state', 'applied', 'running',"
        "  jsonb_build_object('revision', revision - %d, 'digest', digest, 'epoch', 1, 'lsn',"
        "  '0/1', 'applied_at', now()), 'reported_at', now())"
        "  FROM headwater.desired WHERE node = 'example') AS r",
        in_sync ? 0 : 1);
    free(position);
    position = test_value(db.conn, "SELECT pg_current_wal_insert_lsn()");
}

static char *replaced(char *text, const char *what, const char *by)
{
    char *at = strstr(text, what), *result;

    if (at == NULL)
        return text;
    result = hw_sprintf("%.*s%s%s", (int)(at - text), text, by, at + strlen(what));
    free(text);
    return result;
}

/* Sends a request of the document: target ({now} and {failed} are a position), headers, body (JSON,
 * a string as it is, or
 * {"repeat","times"}), host, authorization ("none", "viewer"; the admin's otherwise). */
static struct test_answer ask(const char *method, const json_t *request)
{
    const json_t *body = json_object_get(request, "body");
    const char *host = text_of(request, "host"), *who = text_of(request, "authorization");
    const char *fill = text_of(body, "repeat"), *name;
    struct hw_buf head = {0}, bytes = {0};
    struct test_answer answer;
    json_t *value;
    bool chunked = false;
    char *target = hw_strdup(text_of(request, "target"));

    reset(strstr(target, "{failed}") != NULL);
    target = replaced(replaced(target, "{now}", position), "{failed}", position);
    hw_buf_printf(&head, "%s %s HTTP/1.1\r\nHost: ", method, target);
    if (host != NULL)
        hw_buf_printf(&head, "%s\r\n", host);
    else
        hw_buf_printf(&head, "127.0.0.1:%d\r\n", api.port);
    if (who == NULL || strcmp(who, "none") != 0)
        hw_buf_printf(&head, "Authorization: Bearer %s\r\n", who == NULL ? admin : viewer);
    json_object_foreach(json_object_get(request, "headers"), name, value) {
        hw_buf_printf(&head, "%s: %s\r\n", name, json_string_value(value));
        chunked = chunked || strcasecmp(name, "Transfer-Encoding") == 0;
    }
    if (fill != NULL) {
        for (json_int_t i = json_integer_value(json_object_get(body, "times")); i > 0; i--)
            hw_buf_puts(&bytes, fill);
    } else if (json_is_string(body)) {
        hw_buf_puts(&bytes, json_string_value(body));
    } else if (body != NULL) {
        HW_AUTO_FREE char *text = json_dumps(body, JSON_COMPACT);

        hw_buf_puts(&bytes, text);
    }
    if (body != NULL)
        hw_buf_printf(&head, "Content-Length: %zu\r\n", bytes.len);
    hw_buf_puts(&head, "\r\n");

    const int fd = test_http_connect(api.port);

    test_http_send(fd, head.data, head.len);
    if (!chunked)
        test_http_send(fd, hw_buf_str(&bytes), bytes.len);
    answer = test_http_receive(fd, strcmp(method, "HEAD") == 0);
    close(fd);
    free(target);
    hw_buf_free(&head);
    hw_buf_free(&bytes);
    return answer;
}

/* The answer against the response that is documented for its status. */
static void check_answer(const char *where, const struct test_answer *answer, json_t *response)
{
    json_t *content = json_object_get(response, "content"), *documented, *header;
    HW_AUTO_FREE char *type = test_answer_header(answer, "Content-Type");
    const char *name;

    json_object_foreach(json_object_get(response, "headers"), name, header) {
        HW_AUTO_FREE char *value = test_answer_header(answer, name);

        ck_assert_msg(value != NULL || !json_is_true(json_object_get(resolve(header), "required")),
                      "%s: %s is missing:\n%s", where, name, answer->head);
        if (value != NULL && text_of(json_object_get(resolve(header), "schema"), "pattern") != NULL)
            ck_assert_msg(
                matches(value, text_of(json_object_get(resolve(header), "schema"), "pattern")),
                "%s: %s: %s", where, name, value);
    }
    if (content == NULL) {
        ck_assert_msg(answer->len == 0, "%s: a body, which is not documented", where);
        return;
    }
    documented = type != NULL ? json_object_get(content, type) : NULL;
    if (documented == NULL)
        documented = json_object_get(content, "*/*");
    ck_assert_msg(documented != NULL, "%s: Content-Type: %s is not documented", where, type);
    if (type != NULL && strstr(type, "json") != NULL && answer->len > 0) {
        json_t *value = test_answer_json(answer);

        validate(value, json_object_get(documented, "schema"), where);
        json_decref(value);
    }
}

/* Sends one of an operation's requests; notes which status it was for. */
static void check_request(const char *path, const char *method, json_t *operation,
                          const json_t *request, json_t *statuses)
{
    const int status = (int)json_integer_value(json_object_get(request, "status"));
    json_t *responses = json_object_get(operation, "responses"), *response;
    const char *problem = text_of(request, "problem");
    HW_AUTO_FREE char *where =
        hw_sprintf("%s %s: %s -> %d", method, path, text_of(request, "target"), status);
    struct test_answer answer;
    char code[8];

    answer = ask(text_of(request, "method") != NULL ? text_of(request, "method") : method, request);
    ck_assert_msg(answer.status == status, "%s: answered\n%s%s", where, answer.head, answer.body);
    snprintf(code, sizeof(code), "%d", status);
    response = json_object_get(responses, code);
    ck_assert_msg(response != NULL, "%s: is not documented", where);
    check_answer(where, &answer, resolve(response));
    if (problem != NULL) {
        HW_AUTO_FREE char *name = test_answer_problem(&answer);

        ck_assert_msg(strcmp(name, problem) == 0, "%s: %s", where, name);
    }
    ck_assert_msg(status < 400 || problem != NULL, "%s: which problem?", where);
    json_object_set_new(statuses, code, json_true());
    test_answer_free(&answer);
}

static void try_operation(const char *path, const char *method, json_t *operation, void *arg)
{
    json_t *statuses = json_object(), *targets = json_object_get(operation, "x-requests");
    json_t *request, *one;
    const char *status;
    size_t i;

    ++*(int *)arg;
    json_array_foreach(targets, i, request)
        check_request(path, method, operation, request, statuses);
    json_object_foreach(json_object_get(operation, "responses"), status, one)
        ck_assert_msg(strcmp(status, "default") == 0 || json_object_get(statuses, status) != NULL,
                      "%s %s: no request is answered %s", method, path, status);
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = resolve(one);
        HW_AUTO_FREE char *given = hw_sprintf("%s=", text_of(parameter, "name"));
        bool found = false;
        size_t k;

        if (strcmp(text_of(parameter, "in"), "query") != 0)
            continue;
        json_array_foreach(targets, k, request)
            found = found || strstr(text_of(request, "target"), given) != NULL;
        ck_assert_msg(found, "%s %s: no request gives %s", method, path, given);
    }
    json_decref(statuses);
}

START_TEST(test_requests)
{
    int tried = 0;

    each_operation(try_operation, &tried);
    ck_assert_int_gt(tried, 0);
}
END_TEST

START_TEST(test_problem_examples)
{
    json_t *problem,
        *responses = json_object_get(json_object_get(document, "components"), "responses");
    const char *name;

    json_object_foreach(json_object_get(document, "x-problems"), name, problem) {
        const json_t *example = json_object_get(problem, "example");
        struct test_answer answer;

        if (example == NULL)
            continue;
        answer = ask(text_of(example, "method"), example);
        HW_AUTO_FREE char *found = test_answer_problem(&answer);

        ck_assert_msg(strcmp(found, name) == 0, "%s: answered %s", name, found);
        check_answer(name, &answer, json_object_get(responses, "Any"));
        test_answer_free(&answer);
    }
}
END_TEST

/* What is served is the document, the page is whole and loads nothing, the list is the table. */
START_TEST(test_served)
{
    struct test_answer answer = test_http(api.port, "GET", "/openapi.json", NULL, NULL, 0);
    json_t *list;

    ck_assert_uint_eq(answer.len, api_openapi_len);
    ck_assert_mem_eq(answer.body, api_openapi, answer.len);
    test_answer_free(&answer);

    answer = test_http(api.port, "GET", "/v1/reference", NULL, NULL, 0);
    HW_AUTO_FREE char *policy = test_answer_header(&answer, "Content-Security-Policy");

    ck_assert_ptr_nonnull(policy);
    ck_assert_ptr_nonnull(strstr(policy, "default-src 'none'"));
    ck_assert_ptr_nonnull(strstr(answer.body, "</html>"));
    ck_assert_ptr_null(strstr(answer.body, "<script"));
    ck_assert_ptr_null(strstr(answer.body, "src="));
    for (const struct http_route *route = api_routes; route->method != NULL; route++) {
        HW_AUTO_FREE char *heading =
            hw_sprintf("<span class=\"method\">%s</span> %s</code>", route->method, route->pattern);

        ck_assert_msg(strstr(answer.body, heading) != NULL, "not on the page: %s", heading);
    }
    test_answer_free(&answer);

    answer = test_http(api.port, "GET", "/v1", NULL, NULL, 0);
    list = test_answer_json(&answer);
    for (const struct http_route *route = api_routes; route->method != NULL; route++) {
        const json_t *row =
            json_array_get(json_object_get(list, "routes"), (size_t)(route - api_routes));

        ck_assert_str_eq(text_of(row, "path"), route->pattern);
        ck_assert_str_ne(text_of(row, "summary"), "");
    }
    json_decref(list);
    test_answer_free(&answer);
}
END_TEST

static void start(void)
{
    char url[128];

    load();
    test_postgres_start(&pg, true, NULL);
    test_database_create(&pg, &db);
    admin = test_value(db.conn, "SELECT headwater.create_token('test-admin', 'admin')");
    viewer = test_value(db.conn, "SELECT headwater.create_token('test-viewer', 'viewer')");
    snprintf(url, sizeof(url), "postgresql://headwater_api@127.0.0.1:%d/%s", pg.port, db.name);
    test_api_start(&api, url, NULL);
}

static void stop(void)
{
    test_api_stop(&api);
    test_database_drop(&pg, &db);
    test_postgres_remove(&pg);
    free(position);
    free(admin);
    free(viewer);
    json_decref(document);
}

int main(void)
{
    Suite *suite = suite_create("api_openapi");
    TCase *tcase = tcase_create("api_openapi");

    tcase_set_timeout(tcase, 300);
    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_test(tcase, test_structure);
    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_routes);
    tcase_add_test(tcase, test_problems);
    tcase_add_test(tcase, test_requests);
    tcase_add_test(tcase, test_problem_examples);
    tcase_add_test(tcase, test_served);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
