/* POST /v1/apply and headwater.apply(): many resources, all or nothing. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static int apply(const char *body)
{
    return call("POST", "/v1/apply", JSON, body);
}

/* The results of the last answer: "created changed …". */
static const char *results(void)
{
    static struct hw_buf out;
    json_t *answer = test_answer_json(&last), *item;
    size_t i;

    ck_assert_msg(last.status == 200, "%s", last.body);
    hw_buf_reset(&out);
    json_array_foreach(json_object_get(answer, "results"), i, item)
        hw_buf_printf(&out, "%s%s", i > 0 ? " " : "",
                      json_string_value(json_object_get(item, "result")));
    json_decref(answer);
    return hw_buf_str(&out);
}

static void check_refused(int status, const char *name, const char *path, const char *detail)
{
    check_problem(status, name);
    json_t *problem = test_answer_json(&last);
    const char *have = json_string_value(json_object_get(problem, "path"));

    ck_assert_msg(path == NULL || (have != NULL && strcmp(have, path) == 0), "expected path %s: %s",
                  path, last.body);
    ck_assert_msg(strstr(last.body, detail) != NULL, "\"%s\" is not in: %s", detail, last.body);
    json_decref(problem);
}

#define FIRST                                                                                      \
    "{\"message\":\"first light\",\"resources\":["                                                 \
    "{\"kind\":\"assignment\",\"name\":\"a\",\"config\":\"c\",\"selector\":{\"x\":1}},"            \
    "{\"kind\":\"config\",\"name\":\"c\",\"content\":{\"b\": 1.50, \"a\": [1, 2]}},"               \
    "{\"kind\":\"config\",\"name\":\"t\",\"text\":\"k: "                                           \
    "v\\n\",\"media_type\":\"application/yaml\"},"                                                 \
    "{\"kind\":\"config\",\"name\":\"w\",\"base64\":\"AAH/\"},"                                    \
    "{\"kind\":\"node\",\"name\":\"n\",\"labels\":{\"x\":1},\"description\":\"d\"}]}"

START_TEST(test_life)
{
    HW_AUTO_FREE char *rev = test_sql(&pg, "SELECT rev + 1 FROM headwater.changelog_head");

    ck_assert_msg(apply(FIRST) == 200, "%s", last.body);
    ck_assert_str_eq(results(), "created created created created created");
    ck_assert_ptr_nonnull(header("Headwater-LSN"));
    check_sql(rev, "SELECT rev FROM headwater.changelog_head");
    check_sql("first light", "SELECT message FROM headwater.changelog ORDER BY rev DESC LIMIT 1");
    check_sql("{\"b\": 1.50, \"a\": [1, 2]}",
              "SELECT content FROM headwater.desired JOIN headwater.blob USING (digest) "
              "WHERE node = 'n'");
    check_sql("application/yaml base64",
              "SELECT t.media_type || ' ' || w.encoding FROM headwater.config AS t, "
              "headwater.config AS w WHERE t.name = 't' AND w.name = 'w'");
    /* Again, also written in another way: nothing. */
    ck_assert_int_eq(apply(FIRST), 200);
    ck_assert_str_eq(results(), "unchanged unchanged unchanged unchanged unchanged");
    ck_assert_int_eq(apply("{\"resources\":[{\"kind\":\"config\",\"name\":\"c\",\"content\":\n"
                           "{\"a\":[1,2],\"b\":1.5}}]}"),
                     200);
    ck_assert_str_eq(results(), "unchanged");
    check_sql(rev, "SELECT rev FROM headwater.changelog_head");
    HW_AUTO_FREE char *etag = hw_sprintf("\"etag\":\"%s\"", rev);
    ck_assert_ptr_nonnull(strstr(last.body, etag));

    /* What goes, what comes, and what is asked to be as it was seen. */
    HW_AUTO_FREE char *body = hw_sprintf(
        "{\"resources\":[{\"kind\":\"config\",\"name\":\"c\",\"delete\":true,"
        "\"if_match\":\"%s\"},{\"kind\":\"assignment\",\"name\":\"a\",\"config\":\"e\","
        "\"node\":\"n\",\"priority\":-1,\"if_match\":\"*\"},{\"kind\":\"config\",\"name\":"
        "\"e\",\"content\":null},{\"kind\":\"node\",\"name\":\"gone\",\"delete\":true}]}",
        rev);
    ck_assert_int_eq(call("POST", "/v1/apply?dry_run=true", JSON, body), 200);
    ck_assert_ptr_nonnull(strstr(last.body, "\"dry_run\":true,\"nodes\":1"));
    check_sql(rev, "SELECT rev FROM headwater.changelog_head");
    ck_assert_int_eq(apply(body), 200);
    ck_assert_str_eq(results(), "deleted changed created unchanged");
    apply(body);
    check_refused(412, "precondition-failed", "$.resources[0].if_match", "there is no config");
    ck_assert_int_eq(apply("{\"resources\":[{\"kind\":\"node\",\"name\":\"n\",\"delete\":true},"
                           "{\"kind\":\"config\",\"name\":\"e\",\"delete\":true},"
                           "{\"kind\":\"assignment\",\"name\":\"a\",\"delete\":true}]}"),
                     200);
    ck_assert_str_eq(results(), "deleted deleted deleted");
    ck_assert_int_eq(apply("{\"resources\":[]}"), 200);
    ck_assert_str_eq(results(), "");
}
END_TEST

START_TEST(test_refused)
{
    static const struct {
        const char *body, *problem, *path, *detail;
        int status;
    } cases[] = {
        {"{", "malformed-json", NULL, "not JSON", 400},
        {"", "malformed-json", NULL, "not JSON", 400},
        {"[]", "invalid-body", "$", "object", 422},
        {"{}", "invalid-body", "$.resources", "missing", 422},
        {"{\"resources\":{}}", "invalid-body", "$.resources", "array", 422},
        {"{\"resources\":[],\"x y\":1}", "invalid-body", "$[\"x y\"]", "no such member", 422},
        {"{\"resources\":[],\"resources\":[]}", "invalid-body", "$.resources", "twice", 422},
        {"{\"message\":5,\"resources\":[]}", "invalid-body", "$.message", "string", 422},
        {"{\"message\":\"\\u0000\",\"resources\":[]}", "malformed-json", NULL, "u0000", 400},
        {"{\"resources\":[1]}", "invalid-body", "$.resources[0]", "object", 422},
        {"{\"resources\":[{}]}", "invalid-body", "$.resources[0].kind", "node", 422},
        {"{\"resources\":[{\"kind\":\"token\",\"name\":\"x\"}]}", "invalid-body",
         "$.resources[0].kind", "node", 422},
        {"{\"resources\":[{\"kind\":\"node\"}]}", "invalid-body", "$.resources[0].name", "missing",
         422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":5}]}", "invalid-body", "$.resources[0].name",
         "string", 422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"x\",\"config\":\"y\"}]}", "invalid-body",
         "$.resources[0].config", "no such member", 422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"x\",\"name\":\"y\"}]}", "invalid-body",
         "$.resources[0].name", "twice", 422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"x\",\"description\":\"\\u0000\"}]}",
         "malformed-json", NULL, "u0000", 400},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"x\"},{\"kind\":\"node\",\"name\":\"x\"}]}",
         "invalid-body", "$.resources[1].name", "twice", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"x\"}]}", "invalid-body", "$.resources[0]",
         "one of content", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"x\",\"content\":1,\"text\":\"1\"}]}",
         "invalid-body", "$.resources[0]", "one of content", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"x\",\"content\":1,\"media_type\":"
         "\"text/plain\"}]}",
         "invalid-body", "$.resources[0].content", "text/plain", 422},
        {"{\"resources\":[{\"kind\":\"assignment\",\"name\":\"x\",\"config\":\"y\",\"node\":\"z\","
         "\"priority\":3000000000}]}",
         "invalid-body", "$.resources[0].priority", "32 bits", 422},
        {"{\"resources\":[{\"kind\":\"assignment\",\"name\":\"x\",\"config\":\"y\",\"node\":\"z\","
         "\"priority\":1.5}]}",
         "invalid-body", "$.resources[0].priority", "integer", 422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"fine\"},{\"kind\":\"node\",\"name\":"
         "\"'; DROP TABLE headwater.node; --\"}]}",
         "refused", "$.resources[1].name", "not legal", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"fine\",\"content\":1},{\"kind\":"
         "\"config\",\"name\":\"bad\",\"text\":\"{\",\"media_type\":\"application/json\"}]}",
         "invalid-content", NULL, "$.resources[1]", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"bad\",\"base64\":\"*\"}]}", "refused",
         "$.resources[0].base64", "base64", 422},
        {"{\"resources\":[{\"kind\":\"node\",\"name\":\"fine\"},{\"kind\":\"assignment\",\"name\":"
         "\"x\",\"config\":\"none\",\"node\":\"fine\"}]}",
         "refused", "$.resources[1]", "assignment_config_exists", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"x\",\"content\":{\"a\":1},\"schema\":"
         "{\"properties\":{\"a\":{\"type\":\"string\"}}}}]}",
         "invalid-content", "$.resources[0].content", "\\\"/a\\\"", 422},
        {"{\"resources\":[{\"kind\":\"config\",\"name\":\"x\",\"content\":{},\"schema\":"
         "{\"typ\":1}}]}",
         "refused", "$.resources[0].schema", "/typ", 422},
    };
    ck_assert_int_eq(apply("{\"resources\":[{\"kind\":\"config\",\"name\":\"used\",\"content\":1},"
                           "{\"kind\":\"assignment\",\"name\":\"used\",\"config\":\"used\","
                           "\"selector\":{\"none\":1}}]}"),
                     200);
    HW_AUTO_FREE char *before = test_sql(&pg, "SELECT rev FROM headwater.changelog_head");

    apply("{\"resources\":[{\"kind\":\"node\",\"name\":\"fine\"},"
          "{\"kind\":\"config\",\"name\":\"used\",\"delete\":true}]}");
    check_refused(409, "conflict", "$.resources[1]", "assignment");

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        apply(cases[i].body);
        check_refused(cases[i].status, cases[i].problem, cases[i].path, cases[i].detail);
    }
    check_sql(before, "SELECT rev FROM headwater.changelog_head");
    check_sql("0", "SELECT count(*) FROM headwater.node WHERE name = 'fine'");
    call("POST", "/v1/apply", "Content-Type: text/plain\r\n", "{\"resources\":[]}");
    check_problem(415, "unsupported-media-type");
    apply("{\"resources\":[\"\xff\"]}");
    check_problem(400, "malformed-json");
}
END_TEST

/* Text is text in every member. */
START_TEST(test_hostile)
{
    static const char text[] = "'; DROP TABLE headwater.node; -- \\' $1 %I \" \r\nX-Evil: 1";
    json_t *body = json_pack(
        "{s:s, s:[{s:s, s:s, s:s, s:{s:s}}, {s:s, s:s, s:{s:s}}, {s:s, s:s, s:s, s:{s:s}}]}",
        "message", text, "resources", "kind", "node", "name", "hostile", "description", text,
        "labels", text, text, "kind", "config", "name", "hostile", "content", text, text, "kind",
        "assignment", "name", "hostile", "config", "hostile", "selector", text, text);
    HW_AUTO_FREE char *dump = json_dumps(body, JSON_COMPACT);

    ck_assert_msg(apply(dump) == 200, "%s", last.body);
    ck_assert_int_eq(call("GET", "/v1/nodes/hostile", NULL, NULL), 200);
    json_t *node = test_answer_json(&last);
    ck_assert_str_eq(json_string_value(json_object_get(node, "description")), text);
    check_sql("1", "SELECT count(*) FROM headwater.desired WHERE node = 'hostile'");
    json_decref(node);
    json_decref(body);
}
END_TEST

/* One change for the fleet, however many resources; and sent again with its key, done once. */
START_TEST(test_many)
{
    struct hw_buf body = {0};

    hw_buf_puts(&body, "{\"resources\":[");
    for (int i = 0; i < 1000; i++)
        hw_buf_printf(&body, "{\"kind\":\"node\",\"name\":\"m%d\",\"labels\":{\"m\":1}},", i);
    for (int i = 0; i < 50; i++)
        hw_buf_printf(&body,
                      "{\"kind\":\"config\",\"name\":\"m%d\",\"content\":{\"k%d\":1}},"
                      "{\"kind\":\"assignment\",\"name\":\"m%d\",\"config\":\"m%d\","
                      "\"selector\":{\"m\":1}}%s",
                      i, i, i, i, i < 49 ? "," : "]}");
    ck_assert_int_eq(call("POST", "/v1/apply", JSON "Idempotency-Key: many\r\n", body.data), 200);
    HW_AUTO_FREE char *first = hw_strdup(last.body);
    check_sql("1000 1", "SELECT count(*) || ' ' || max(revision) FROM headwater.desired "
                        "WHERE node LIKE 'm%'");
    ck_assert_int_eq(call("POST", "/v1/apply", JSON "Idempotency-Key: many\r\n", body.data), 200);
    ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    ck_assert_str_eq(last.body, first);
    hw_buf_free(&body);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api apply");
    TCase *all = tcase_create("apply");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_life);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_hostile);
    tcase_add_test(all, test_many);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
