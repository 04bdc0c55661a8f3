#include "tests/support/openapi.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/openapi.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

json_t *test_openapi;

static PGconn *database;
static json_t *regexes; /* of PostgreSQL, by pattern */

/* ---- the description ---- */

void test_openapi_load(PGconn *conn)
{
    json_error_t error;

    database = conn;
    regexes = json_object();
    test_openapi = json_loadb(api_openapi, api_openapi_len, JSON_REJECT_DUPLICATES, &error);
    if (test_openapi == NULL)
        test_fail("api/openapi.json: line %d: %s", error.line, error.text);
}

void test_openapi_free(void)
{
    json_decref(HW_TAKE(test_openapi));
    json_decref(HW_TAKE(regexes));
}

const char *test_openapi_text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

json_t *test_openapi_resolve(json_t *value)
{
    const char *ref = test_openapi_text(value, "$ref");
    const char *at = ref;

    if (ref == NULL)
        return value;
    ck_assert_msg(strncmp(ref, "#/", 2) == 0, "%s: leads out of the document", ref);
    value = test_openapi;
    for (at++; value != NULL && *at == '/';) {
        const size_t len = strcspn(++at, "/");
        HW_AUTO_FREE char *name = hw_strndup(at, len);

        value = json_object_get(value, name);
        at += len;
    }
    ck_assert_msg(value != NULL, "%s: leads nowhere", ref);
    return value;
}

void test_openapi_each(test_operation_fn *operation, void *arg)
{
    const char *path, *name;
    json_t *methods, *one;

    json_object_foreach(json_object_get(test_openapi, "paths"), path, methods) {
        json_object_foreach(methods, name, one) {
            char method[16] = "";

            for (size_t i = 0; name[i] != '\0' && i < sizeof(method) - 1; i++)
                method[i] = (char)(name[i] & ~0x20);
            operation(path, method, one, arg);
        }
    }
}

/* ---- values ---- */

const char *const test_openapi_keywords[] = {"$ref",          "additionalProperties",
                                             "allOf",         "description",
                                             "discriminator", "enum",
                                             "format",        "items",
                                             "maximum",       "maxLength",
                                             "minimum",       "minLength",
                                             "oneOf",         "pattern",
                                             "properties",    "required",
                                             "type",          NULL};

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

    if (json_is_string(type))
        return is_type(value, json_string_value(type));
    json_array_foreach(type, i, one) {
        if (is_type(value, json_string_value(one)))
            return true;
    }
    return type == NULL;
}

/* The database translates patterns from ECMA-262, since schemas of configs have them as well. */
static bool matches(const char *text, const char *pattern)
{
    const char *regex = test_openapi_text(regexes, pattern);

    if (regex == NULL) {
        PGresult *translated = PQexecParams(database, "SELECT headwater.regex_of($1, '')", 1, NULL,
                                            &pattern, NULL, NULL, 0);

        ck_assert_msg(PQntuples(translated) == 1, "%s: %s", pattern, PQerrorMessage(database));
        json_object_set_new(regexes, pattern, json_string(PQgetvalue(translated, 0, 0)));
        PQclear(translated);
        regex = test_openapi_text(regexes, pattern);
    }
    PGresult *result = PQexecParams(database, "SELECT $1::text ~ $2", 2, NULL,
                                    (const char *const[]){text, regex}, NULL, NULL, 0);

    ck_assert_msg(PQntuples(result) == 1, "%s", PQerrorMessage(database));
    const bool found = strcmp(PQgetvalue(result, 0, 0), "t") == 0;

    PQclear(result);
    return found;
}

static char *object_fault(const json_t *value, const json_t *schema, const char *where)
{
    const json_t *name, *additional = json_object_get(schema, "additionalProperties");
    json_t *properties = json_object_get(schema, "properties"), *member;
    const char *key;
    char *fault = NULL;
    size_t i;

    json_array_foreach(json_object_get(schema, "required"), i, name) {
        if (json_object_get(value, json_string_value(name)) == NULL)
            return hw_sprintf("%s.%s is missing", where, json_string_value(name));
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        HW_AUTO_FREE char *below = hw_sprintf("%s.%s", where, key);
        json_t *expected = json_object_get(properties, key);

        if (expected == NULL && json_is_object(additional))
            expected = (json_t *)(uintptr_t)additional;
        if (expected != NULL)
            fault = test_openapi_fault(member, expected, below);
        else if (json_is_false(additional))
            fault = hw_sprintf("%s is not documented", below);
        if (fault != NULL)
            return fault;
    }
    return NULL;
}

static char *string_fault(const char *text, size_t length, const json_t *schema, const char *where)
{
    const json_t *least = json_object_get(schema, "minLength");
    const char *pattern = test_openapi_text(schema, "pattern");
    const char *format = test_openapi_text(schema, "format");

    if (least != NULL && (json_int_t)length < json_integer_value(least))
        return hw_sprintf("%s is shorter than %lld", where, (long long)json_integer_value(least));
    if (pattern != NULL && !matches(text, pattern))
        return hw_sprintf("%s: \"%s\" does not match %s", where, text, pattern);
    if (format != NULL && strcmp(format, "date-time") == 0 &&
        !matches(text, "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$"))
        return hw_sprintf("%s: \"%s\" is no time", where, text);
    return NULL;
}

/* Of {"oneOf":[…]}: the one that the discriminator names, or else exactly one. */
static char *choice_fault(const json_t *value, const json_t *schema, const char *where)
{
    const json_t *discriminator = json_object_get(schema, "discriminator");
    const char *kind = test_openapi_text(value, test_openapi_text(discriminator, "propertyName"));
    const char *named = test_openapi_text(json_object_get(discriminator, "mapping"), kind);
    char *fault = NULL;
    int fits = 0;
    json_t *one;
    size_t i;

    json_array_foreach(json_object_get(schema, "oneOf"), i, one) {
        if (named != NULL && strcmp(named, test_openapi_text(one, "$ref")) != 0)
            continue;
        free(fault);
        fault = test_openapi_fault(value, one, where);
        fits += fault == NULL;
    }
    if (fits == 1) {
        free(fault);
        return NULL;
    }
    return fault != NULL ? fault : hw_sprintf("%s fits %d of the schemas", where, fits);
}

char *test_openapi_fault(const json_t *value, json_t *schema, const char *where)
{
    const json_t *choices, *choice, *limit;
    char *fault = NULL;
    bool found = false;
    json_t *item;
    size_t i;

    schema = test_openapi_resolve(schema);
    if (!has_type(value, json_object_get(schema, "type")))
        return hw_sprintf("%s has the wrong type", where);
    json_array_foreach(json_object_get(schema, "allOf"), i, item) {
        if ((fault = test_openapi_fault(value, item, where)) != NULL)
            return fault;
    }
    if (json_object_get(schema, "oneOf") != NULL &&
        (fault = choice_fault(value, schema, where)) != NULL)
        return fault;
    choices = json_object_get(schema, "enum");
    json_array_foreach(choices, i, choice)
        found = found || json_equal(value, choice);
    if (choices != NULL && !found)
        return hw_sprintf("%s: %s is not one of the documented values", where,
                          json_is_string(value) ? json_string_value(value) : "it");
    if (json_is_object(value))
        return object_fault(value, schema, where);
    if (json_is_string(value))
        return string_fault(json_string_value(value), json_string_length(value), schema, where);
    json_array_foreach(value, i, item) {
        HW_AUTO_FREE char *below = hw_sprintf("%s[%zu]", where, i);

        if (json_object_get(schema, "items") != NULL &&
            (fault = test_openapi_fault(item, json_object_get(schema, "items"), below)) != NULL)
            return fault;
    }
    if (json_is_integer(value) && (limit = json_object_get(schema, "minimum")) != NULL &&
        json_integer_value(value) < json_integer_value(limit))
        return hw_sprintf("%s is below its minimum", where);
    if (json_is_integer(value) && (limit = json_object_get(schema, "maximum")) != NULL &&
        json_integer_value(value) > json_integer_value(limit))
        return hw_sprintf("%s is above its maximum", where);
    return NULL;
}

/* ---- answers ---- */

/* What HTTP itself says, and what stands in every answer. */
static bool is_general(const char *field)
{
    static const char *const fields[] = {"Cache-Control",         "Connection", "Content-Length",
                                         "Content-Type",          "Date",       "Transfer-Encoding",
                                         "X-Content-Type-Options"};

    for (size_t i = 0; i < HW_COUNT(fields); i++)
        if (strcasecmp(fields[i], field) == 0)
            return true;
    return false;
}

static char *field_fault(const char *name, const char *value, json_t *header)
{
    json_t *schema = json_object_get(header, "schema"), *parsed;
    const char *type = test_openapi_text(schema, "type");
    const bool is_integer = type != NULL && strcmp(type, "integer") == 0;
    char *fault;

    if (value == NULL)
        return json_is_true(json_object_get(header, "required")) ? hw_sprintf("%s is missing", name)
                                                                 : NULL;
    parsed = is_integer ? json_integer(strtoll(value, NULL, 10)) : json_string(value);
    fault = test_openapi_fault(parsed, schema, name);
    json_decref(parsed);
    return fault;
}

static char *head_fault(const struct test_answer *answer, json_t *response)
{
    json_t *headers = json_object_get(response, "headers"), *header;
    const char *name;
    char *fault;

    json_object_foreach(headers, name, header) {
        HW_AUTO_FREE char *value = test_answer_header(answer, name);

        if ((fault = field_fault(name, value, test_openapi_resolve(header))) != NULL)
            return fault;
    }
    for (const char *line = strstr(answer->head, "\r\n"); line != NULL && line[2] != '\0';
         line = strstr(line + 2, "\r\n")) {
        HW_AUTO_FREE char *field = hw_strndup(line + 2, strcspn(line + 2, ":\r"));

        if (*field != '\0' && json_object_get(headers, field) == NULL && !is_general(field))
            return hw_sprintf("the field %s is not documented", field);
    }
    return NULL;
}

static char *body_fault(const struct test_answer *answer, const json_t *response, bool has_body)
{
    json_t *content = json_object_get(response, "content"), *documented;
    HW_AUTO_FREE char *type = test_answer_header(answer, "Content-Type");
    char *fault = NULL;

    if (content == NULL)
        return answer->len > 0 ? hw_strdup("a body, which is not documented") : NULL;
    documented = type != NULL ? json_object_get(content, type) : NULL;
    if (documented == NULL)
        documented = json_object_get(content, "*/*");
    if (documented == NULL)
        return hw_sprintf("Content-Type: %s is not documented", type != NULL ? type : "(none)");
    if (has_body && json_object_get(content, type) != NULL && strstr(type, "json") != NULL) {
        json_t *value = test_answer_json(answer);

        fault = test_openapi_fault(value, json_object_get(documented, "schema"), "$");
        json_decref(value);
    }
    return fault;
}

char *test_openapi_answer_fault(const struct test_answer *answer, const json_t *operation,
                                const char *method)
{
    const bool has_body = strcmp(method, "HEAD") != 0 && answer->status != 304;
    json_t *responses = json_object_get(operation, "responses"), *response;
    const json_t *problem = NULL;
    char status[8], *fault;

    if (has_body && answer->status >= 400) {
        HW_AUTO_FREE char *name = test_answer_problem(answer);

        problem = json_object_get(json_object_get(test_openapi, "x-problems"), name);
        if (problem == NULL || strcmp(name, "internal") == 0)
            return hw_sprintf("the problem %s", name);
    }
    snprintf(status, sizeof(status), "%d", answer->status);
    response = json_object_get(responses, status);
    if (response == NULL &&
        (json_is_true(json_object_get(problem, "any")) || (!has_body && answer->status >= 400)))
        response = json_object_get(
            json_object_get(json_object_get(test_openapi, "components"), "responses"), "Any");
    if (response == NULL)
        return hw_sprintf("the status %d is not documented", answer->status);
    response = test_openapi_resolve(response);
    if ((fault = head_fault(answer, response)) != NULL)
        return fault;
    return body_fault(answer, response, has_body && answer->len > 0);
}

/* ---- what the requests are about ---- */

void test_openapi_fill(PGconn *conn, bool in_sync)
{
    test_run(conn,
             "DELETE FROM headwater.token WHERE name NOT LIKE 'test-%%';"
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
        conn,
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
}
