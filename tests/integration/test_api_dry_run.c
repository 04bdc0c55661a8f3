/* ?dry_run=true and headwater.plan(): what a write would change, and that it changes nothing. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

/* Everything that a write leaves behind. */
static char *traces(void)
{
    return test_sql(&pg, "SELECT concat_ws(' ', (SELECT rev FROM headwater.changelog_head), "
                         "(SELECT count(*) FROM headwater.changelog), "
                         "(SELECT count(*) FROM headwater.desired_history), "
                         "(SELECT count(*) FROM headwater.config_revision), "
                         "(SELECT count(*) FROM headwater.blob), "
                         "(SELECT md5(string_agg(t::text, '|')) FROM headwater.config AS t), "
                         "(SELECT md5(string_agg(t::text, '|')) FROM headwater.node AS t), "
                         "(SELECT md5(string_agg(t::text, '|')) FROM headwater.desired AS t), "
                         "(SELECT md5(string_agg(t::text, '|')) FROM headwater.assignment AS t))");
}

/* The dry run of a write leaves no trace; answers its changes, as compact JSON. */
static const char *try_write(const char *method, const char *target, const char *body)
{
    static char *text;
    HW_AUTO_FREE char *before = traces();
    HW_AUTO_FREE char *dry = hw_sprintf("%s?dry_run=true", target);

    ck_assert_msg(call(method, dry, body != NULL ? JSON : NULL, body) == 200, "%s: %s", target,
                  last.body);
    ck_assert_ptr_null(header("Headwater-LSN"));
    ck_assert_ptr_null(header("ETag"));
    ck_assert_ptr_null(header("Location"));
    HW_AUTO_FREE char *after = traces();
    ck_assert_str_eq(before, after);
    json_t *answer = test_answer_json(&last), *changes = json_object_get(answer, "changes"), *c;
    size_t i;

    ck_assert(json_is_true(json_object_get(answer, "dry_run")));
    ck_assert(json_is_false(json_object_get(answer, "truncated")));
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "nodes")),
                     (json_int_t)json_array_size(changes));
    json_array_foreach(changes, i, c) {
        json_object_del(json_object_get(c, "old"), "digest");
        json_object_del(json_object_get(c, "new"), "digest");
    }
    free(text);
    text = json_dumps(changes, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(answer);
    return text;
}

static void put(const char *target, const char *body)
{
    ck_assert_msg(call("PUT", target, JSON, body) / 100 == 2, "%s: %s", target, last.body);
}

#define REVISION(n) "{\"media_type\":\"application/json\",\"revision\":" #n "}"

START_TEST(test_every_write)
{
    ck_assert_str_eq(try_write("PUT", "/v1/nodes/d1", "{\"labels\":{\"d\":1}}"), "[]");
    put("/v1/nodes/d1", "{\"labels\":{\"d\":1}}");
    ck_assert_str_eq(try_write("PUT", "/v1/configs/d", "{\"a\":1}"), "[]");
    put("/v1/configs/d", "{\"a\":1,\"b\":{\"c\":[1,2]},\"x/y~z\":0}");
    ck_assert_str_eq(
        try_write("PUT", "/v1/assignments/d", "{\"config\":\"d\",\"selector\":{\"d\":1}}"),
        "[{\"change\":\"create\",\"diff\":null,\"new\":" REVISION(
            1) ",\"node\":\"d1\",\"old\":null}]");
    put("/v1/assignments/d", "{\"config\":\"d\",\"selector\":{\"d\":1}}");
    ck_assert_str_eq(
        try_write("PUT", "/v1/configs/d", "{\"a\":2,\"b\":{\"c\":[1,3,4]},\"n\":null}"),
        "[{\"change\":\"update\",\"diff\":[{\"new\":2,\"old\":1,\"path\":\"/a\"},"
        "{\"new\":3,\"old\":2,\"path\":\"/b/c/1\"},{\"new\":4,\"path\":\"/b/c/2\"},"
        "{\"new\":null,\"path\":\"/n\"},{\"old\":0,\"path\":\"/x~1y~0z\"}],\"new\":" REVISION(
            2) ",\"node\":\"d1\",\"old\":" REVISION(1) "}]");
    /* What is the same changes nothing. */
    ck_assert_str_eq(try_write("PUT", "/v1/configs/d", "{\"a\":1,\"b\":{\"c\":[1,2]},\"x/y~z\":0}"),
                     "[]");
    ck_assert_str_eq(
        try_write("DELETE", "/v1/assignments/d", NULL),
        "[{\"change\":\"remove\",\"diff\":null,\"new\":null,\"node\":\"d1\",\"old\":" REVISION(
            1) "}]");
    ck_assert_str_eq(
        try_write("DELETE", "/v1/nodes/d1", NULL),
        "[{\"change\":\"remove\",\"diff\":null,\"new\":null,\"node\":\"d1\",\"old\":" REVISION(
            1) "}]");
    put("/v1/configs/d", "{\"a\":5}");
    ck_assert_ptr_nonnull(strstr(try_write("POST", "/v1/configs/d/rollback", "{\"revision\":1}"),
                                 "{\"new\":1,\"old\":5,\"path\":\"/a\"}"));
    /* Not JSON on one side: no difference inside. */
    ck_assert_int_eq(call("PUT", "/v1/configs/d?dry_run=true", "Content-Type: text/plain\r\n", "x"),
                     200);
    ck_assert_ptr_nonnull(strstr(last.body, "\"diff\":null"));
    ck_assert_int_eq(call("DELETE", "/v1/assignments/d", NULL, NULL), 204);
    ck_assert_str_eq(try_write("DELETE", "/v1/configs/d", NULL), "[]");
    ck_assert_int_eq(call("PUT", "/v1/configs/d?dry_run=false", JSON, "{\"a\":6}"), 200);
    ck_assert_ptr_nonnull(header("Headwater-LSN"));
}
END_TEST

/* Whatever the write is refused for, its dry run is. */
START_TEST(test_refused)
{
    static const struct {
        const char *method, *target, *headers, *body;
    } cases[] = {
        {"PUT", "/v1/nodes/a..b", JSON, "{}"},
        {"PUT", "/v1/nodes/r", JSON, "{\"labels\":[]}"},
        {"PUT", "/v1/nodes/r", JSON "If-Match: \"1\"\r\n", "{}"},
        {"PUT", "/v1/nodes/r", JSON "If-Match: 1\r\n", "{}"},
        {"PUT", "/v1/configs/r", JSON, "{"},
        {"PUT", "/v1/configs/used", JSON "If-None-Match: *\r\n", "{\"a\":1}"},
        {"DELETE", "/v1/configs/used", NULL, NULL},
        {"DELETE", "/v1/configs/none", NULL, NULL},
        {"DELETE", "/v1/nodes/used", "If-Match: \"1\"\r\n", NULL},
        {"POST", "/v1/configs/used/rollback", JSON, "{\"revision\":77}"},
        {"PUT", "/v1/assignments/r", JSON, "{\"config\":\"none\",\"selector\":{}}"},
        {"PUT", "/v1/assignments/r", JSON, "{\"config\":\"used\",\"node\":\"none\"}"},
    };

    put("/v1/nodes/used", "{}");
    put("/v1/configs/used", "{}");
    put("/v1/assignments/used", "{\"config\":\"used\",\"node\":\"used\"}");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *before = traces();
        HW_AUTO_FREE char *dry = hw_sprintf("%s?dry_run=true", cases[i].target);

        call(cases[i].method, dry, cases[i].headers, cases[i].body);
        HW_AUTO_FREE char *body = hw_strdup(last.body);
        const int status = last.status;

        ck_assert_int_ge(status, 400);
        ck_assert_int_eq(call(cases[i].method, cases[i].target, cases[i].headers, cases[i].body),
                         status);
        ck_assert_str_eq(last.body, body);
        HW_AUTO_FREE char *after = traces();
        ck_assert_str_eq(before, after);
    }
    call("PUT", "/v1/nodes/r?dry_run=yes", JSON, "{}");
    check_problem(400, "invalid-parameter");
    call("GET", "/v1/nodes?dry_run=true", NULL, NULL);
    check_problem(400, "invalid-parameter");
}
END_TEST

/* Ten thousand nodes are counted, a thousand listed; each pair of documents is compared once. */
START_TEST(test_many)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name, labels) "
                       "SELECT format('many%%s', i), '{\"many\":1}' "
                       "FROM generate_series(10001, 20000) AS i"));
    put("/v1/configs/many", "{\"v\":1}");
    put("/v1/assignments/many", "{\"config\":\"many\",\"selector\":{\"many\":1}}");
    ck_assert_int_eq(call("PUT", "/v1/configs/many?dry_run=true", JSON, "{\"v\":2}"), 200);
    json_t *answer = test_answer_json(&last), *changes = json_object_get(answer, "changes");
    const json_t *end = json_array_get(changes, 999);

    ck_assert_int_eq(json_integer_value(json_object_get(answer, "nodes")), 10000);
    ck_assert(json_is_true(json_object_get(answer, "truncated")));
    ck_assert_uint_eq(json_array_size(changes), 1000);
    ck_assert_str_eq(json_string_value(json_object_get(end, "node")), "many11000");
    ck_assert_uint_eq(json_array_size(json_object_get(end, "diff")), 1);
    json_decref(answer);
}
END_TEST

/* In psql, as often as one likes, also with savepoints; of another transaction it says nothing. */
START_TEST(test_plan_in_sql)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('psql')"));
    free(
        test_sql(&pg, "INSERT INTO headwater.config (name, content) VALUES ('psql', '{\"k\":1}')"));
    check_sql("0", "SELECT count(*) FROM headwater.plan()");
    check_sql("create psql 1",
              "BEGIN; SAVEPOINT s; INSERT INTO headwater.assignment (name, config, node) "
              "VALUES ('psql', 'psql', 'psql'); "
              "SELECT concat_ws(' ', change, node, new_revision) FROM headwater.plan()");
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, node) "
                       "VALUES ('psql', 'psql', 'psql')"));
    /* There and back makes a new revision, of the same document. */
    check_sql("update 1 3 []",
              "BEGIN; UPDATE headwater.config SET content = '{\"k\":2}' WHERE name = 'psql'; "
              "UPDATE headwater.config SET content = '{\"k\":1}' WHERE name = 'psql'; "
              "SELECT concat_ws(' ', change, old_revision, new_revision, diff) "
              "FROM headwater.plan()");
    check_sql("0", "BEGIN; UPDATE headwater.config SET message = 'why' WHERE name = 'psql'; "
                   "SELECT count(*) FROM headwater.plan()");
    check_sql("[{\"old\": 1, \"path\": \"/k\", \"omitted\": \"new\"}]",
              "SELECT headwater.json_diff('{\"k\":1}', "
              "jsonb_build_object('k', repeat('x', 2000)))::text");
    check_sql("201", "SELECT jsonb_array_length(headwater.json_diff('{}', "
                     "(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 5000) AS i)))");
    check_sql("[{\"new\": [], \"old\": {}, \"path\": \"\"}]",
              "SELECT headwater.json_diff('{}', '[]')");
}
END_TEST

/* The code and the name of each warning in the last answer, as "code name\n". */
static const char *warnings(void)
{
    static char text[1024];
    HW_AUTO_JSON json_t *answer = test_answer_json(&last);
    const json_t *list = json_object_get(answer, "warnings"), *w;
    size_t i, used = 0;

    text[0] = '\0';
    ck_assert_msg(json_is_array(list), "%s", last.body);
    json_array_foreach(list, i, w) {
        ck_assert_str_eq(json_string_value(json_object_get(w, "kind")), "assignment");
        ck_assert_ptr_nonnull(json_string_value(json_object_get(w, "message")));
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %s\n",
                                 json_string_value(json_object_get(w, "code")),
                                 json_string_value(json_object_get(w, "name")));
    }
    return text;
}

/* In the dry run, in the answer to the write, and in that of apply; kept with an Idempotency-Key.
 */
START_TEST(test_warnings)
{
    static const char none[] = "{\"config\":\"w\",\"selector\":{\"slot\":\"3\"}}";
    static const char text[] = "{\"config\":\"wt\",\"node\":\"w1\",\"priority\":9}";
    static const char applied[] =
        "{\"resources\":[{\"kind\":\"assignment\",\"name\":\"w-many\",\"config\":\"w\","
        "\"selector\":{\"slot\":4}},{\"kind\":\"assignment\",\"name\":\"w-text\",\"config\":\"wt\","
        "\"node\":\"w1\",\"priority\":9}]}";

    put("/v1/nodes/w1", "{\"labels\":{\"slot\":3}}");
    put("/v1/configs/w", "{\"a\":1}");
    ck_assert_int_eq(call("PUT", "/v1/configs/wt", "Content-Type: text/plain\r\n", "x"), 201);
    put("/v1/assignments/w", "{\"config\":\"w\",\"selector\":{\"slot\":3}}");
    ck_assert_str_eq(warnings(), "");

    try_write("PUT", "/v1/assignments/w-none", none);
    ck_assert_str_eq(warnings(), "assignment-without-nodes w-none\n");
    put("/v1/assignments/w-none", none);
    ck_assert_str_eq(warnings(), "assignment-without-nodes w-none\n");
    ck_assert_ptr_nonnull(strstr(last.body, "of another type than its selector"));
    ck_assert_int_eq(call("GET", "/v1/assignments/w-none", NULL, NULL), 200);
    ck_assert_ptr_null(strstr(last.body, "warnings")); /* it is no part of the resource */
    put("/v1/assignments/w-none", none);
    ck_assert_str_eq(warnings(), ""); /* which changed nothing */

    try_write("PUT", "/v1/assignments/w-text", text);
    ck_assert_str_eq(warnings(), "base-replaced w-text\n");
    try_write("POST", "/v1/apply", applied);
    ck_assert_str_eq(warnings(), "assignment-without-nodes w-many\nbase-replaced w-text\n");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(call("POST", "/v1/apply", JSON "Idempotency-Key: warned\r\n", applied),
                         200);
        ck_assert_str_eq(warnings(), "assignment-without-nodes w-many\nbase-replaced w-text\n");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api dry run");
    TCase *all = tcase_create("dry run");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_every_write);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_many);
    tcase_add_test(all, test_plan_in_sql);
    tcase_add_test(all, test_warnings);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
