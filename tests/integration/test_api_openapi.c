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
#include "tests/support/openapi.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_database db;
static struct test_api api;
static char *admin, *viewer;

static void validate(const json_t *value, json_t *schema, const char *where)
{
    HW_AUTO_FREE char *fault = test_openapi_fault(value, schema, where);

    ck_assert_msg(fault == NULL, "%s", fault);
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
    test_openapi_resolve(schema);
    json_object_foreach(schema, name, value) {
        i = 0;
        while (test_openapi_keywords[i] != NULL && strcmp(test_openapi_keywords[i], name) != 0)
            i++;
        ck_assert_msg(test_openapi_keywords[i] != NULL, "%s: this test cannot check %s", where,
                      name);
    }
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

    schema = test_openapi_resolve(schema);
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

    response = test_openapi_resolve(response);
    ck_assert_msg(strcmp(status, "default") == 0 ||
                      (strlen(status) == 3 && strspn(status, "0123456789") == 3),
                  "%s: %s is no status", where, status);
    ck_assert_msg(test_openapi_text(response, "description") != NULL, "%s: %s has no description",
                  where, status);
    check_content(response, where);
    json_object_foreach(json_object_get(response, "headers"), name, header)
        check_schema(json_object_get(test_openapi_resolve(header), "schema"), name);
}

static void check_operation(const char *path, const char *method, json_t *operation, void *arg)
{
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE"};
    json_t *ids = arg, *one, *tags = json_object_get(test_openapi, "tags");
    HW_AUTO_FREE char *where = hw_sprintf("%s %s", method, path);
    const char *id = test_openapi_text(operation, "operationId"), *status;
    bool known = false;
    size_t i;

    for (i = 0; i < HW_COUNT(methods); i++)
        known = known || strcmp(methods[i], method) == 0;
    ck_assert_msg(known && path[0] == '/', "%s: is no method and path", where);
    ck_assert_msg(id != NULL && json_object_get(ids, id) == NULL, "%s: operationId", where);
    json_object_set_new(ids, id, json_true());
    ck_assert_msg(test_openapi_text(operation, "summary") != NULL, "%s: has no summary", where);
    ck_assert_uint_eq(json_array_size(json_object_get(operation, "tags")), 1);
    known = false;
    json_array_foreach(tags, i, one)
        known = known || json_equal(json_object_get(one, "name"),
                                    json_array_get(json_object_get(operation, "tags"), 0));
    ck_assert_msg(known, "%s: its tag is not declared", where);
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = test_openapi_resolve(one);

        ck_assert_ptr_nonnull(test_openapi_text(parameter, "name"));
        ck_assert_ptr_nonnull(test_openapi_text(parameter, "description"));
        check_schema(json_object_get(parameter, "schema"), where);
        check_bounds(json_object_get(parameter, "schema"), test_openapi_text(parameter, "name"));
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
        check_name(names, test_openapi_text(test_openapi_resolve(one), "name"), path);
    json_decref(names);
}

START_TEST(test_names)
{
    static const char *const kinds[] = {"parameters", "responses", "schemas"};
    json_t *names = json_object(), *one;
    const char *name;

    for (size_t i = 0; i < HW_COUNT(kinds); i++) {
        json_object_foreach(json_object_get(json_object_get(test_openapi, "components"), kinds[i]),
                            name, one)
            check_name(names, name, kinds[i]);
    }
    json_decref(names);
    test_openapi_each(check_parameter_names, NULL);
}
END_TEST

START_TEST(test_structure)
{
    static const char *const members[] = {"openapi", "info",  "servers",    "security",
                                          "tags",    "paths", "components", "x-problems"};
    json_t *ids = json_object(), *schema, *value;
    const json_t *info = json_object_get(test_openapi, "info");
    const char *name;

    json_object_foreach(test_openapi, name, value) {
        size_t i = 0;

        while (i < HW_COUNT(members) && strcmp(members[i], name) != 0)
            i++;
        ck_assert_msg(i < HW_COUNT(members), "%s is no member of the document", name);
    }
    ck_assert_str_eq(test_openapi_text(test_openapi, "openapi"), "3.1.0");
    ck_assert_ptr_nonnull(test_openapi_text(info, "title"));
    ck_assert_str_eq(test_openapi_text(info, "version"), HW_VERSION);
    json_object_foreach(json_object_get(json_object_get(test_openapi, "components"), "schemas"),
                        name, schema)
        check_schema(schema, name);
    test_openapi_each(check_operation, ids);
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
    const char *role = test_openapi_text(operation, "x-role"), *expected;
    int variables = 0, queries = 0;
    json_t *one;
    size_t i;

    ck_assert_msg(route != NULL, "%s: there is no such route", where);
    ++*(int *)arg;
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = test_openapi_resolve(one);
        const char *name = test_openapi_text(parameter, "name"),
                   *in = test_openapi_text(parameter, "in");

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

    test_openapi_each(check_route, &documented);
    while (api_routes[routed].method != NULL)
        routed++;
    ck_assert_int_eq(documented, routed);
}
END_TEST

/* ---- the problems ---- */

START_TEST(test_problems)
{
    const json_t *problems = json_object_get(test_openapi, "x-problems");
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
                          (test_openapi_text(problem, "unprovoked") != NULL),
                      "%s: an example, or why there is none", kind->name);
    }
}
END_TEST

/* ---- asking a real service ---- */

static char *position;

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
    const char *host = test_openapi_text(request, "host"),
               *who = test_openapi_text(request, "authorization");
    const char *fill = test_openapi_text(body, "repeat"), *name;
    struct hw_buf head = {0}, bytes = {0};
    struct test_answer answer;
    json_t *value;
    bool chunked = false;
    char *target = hw_strdup(test_openapi_text(request, "target"));

    test_openapi_fill(db.conn, strstr(target, "{failed}") != NULL);
    free(position);
    position = test_value(db.conn, "SELECT pg_current_wal_insert_lsn()");
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

/* Sends one of an operation's requests; notes which status it was for. */
static void check_request(const char *path, const char *method, json_t *operation,
                          const json_t *request, json_t *statuses)
{
    const int status = (int)json_integer_value(json_object_get(request, "status"));
    const char *problem = test_openapi_text(request, "problem");
    HW_AUTO_FREE char *where =
        hw_sprintf("%s %s: %s -> %d", method, path, test_openapi_text(request, "target"), status);
    struct test_answer answer;
    char code[8];

    if (test_openapi_text(request, "method") != NULL)
        method = test_openapi_text(request, "method");
    answer = ask(method, request);
    ck_assert_msg(answer.status == status, "%s: answered\n%s%s", where, answer.head, answer.body);
    snprintf(code, sizeof(code), "%d", status);
    ck_assert_msg(json_object_get(json_object_get(operation, "responses"), code) != NULL,
                  "%s: is not documented", where);
    HW_AUTO_FREE char *fault = test_openapi_answer_fault(&answer, operation, method);

    ck_assert_msg(fault == NULL, "%s: %s:\n%s%s", where, fault, answer.head, answer.body);
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
        const json_t *parameter = test_openapi_resolve(one);
        HW_AUTO_FREE char *given = hw_sprintf("%s=", test_openapi_text(parameter, "name"));
        bool found = false;
        size_t k;

        if (strcmp(test_openapi_text(parameter, "in"), "query") != 0)
            continue;
        json_array_foreach(targets, k, request)
            found = found || strstr(test_openapi_text(request, "target"), given) != NULL;
        ck_assert_msg(found, "%s %s: no request gives %s", method, path, given);
    }
    json_decref(statuses);
}

START_TEST(test_requests)
{
    int tried = 0;

    test_openapi_each(try_operation, &tried);
    ck_assert_int_gt(tried, 0);
}
END_TEST

START_TEST(test_problem_examples)
{
    const char *name;
    json_t *problem;

    json_object_foreach(json_object_get(test_openapi, "x-problems"), name, problem) {
        const json_t *example = json_object_get(problem, "example");
        struct test_answer answer;

        if (example == NULL)
            continue;
        answer = ask(test_openapi_text(example, "method"), example);
        HW_AUTO_FREE char *found = test_answer_problem(&answer);

        ck_assert_msg(strcmp(found, name) == 0, "%s: answered %s", name, found);
        if (json_is_true(json_object_get(problem, "any"))) {
            HW_AUTO_FREE char *fault = test_openapi_answer_fault(&answer, NULL, "GET");

            ck_assert_msg(fault == NULL, "%s: %s", name, fault);
        }
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

        ck_assert_str_eq(test_openapi_text(row, "path"), route->pattern);
        ck_assert_str_ne(test_openapi_text(row, "summary"), "");
    }
    json_decref(list);
    test_answer_free(&answer);
}
END_TEST

static void start(void)
{
    char url[128];

    test_postgres_start(&pg, true, NULL);
    test_database_create(&pg, &db);
    test_openapi_load(db.conn);
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
    test_openapi_free();
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
