/* Schemas of configs, by SQL and by HTTP: what is checked, what is refused, and where it says so.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

/* Each keyword: content that fits, and content that does not, with the places of content and schema
 * ("" for none). The judgements are those of JSON Schema 2020-12. */
static const struct {
    const char *schema, *fits, *unfit, *at, *keyword;
} keywords[] = {
    {"true", "5", NULL, NULL, NULL},
    {"false", NULL, "5", "", ""},
    {"{}", "null", NULL, NULL, NULL},
    {"{\"type\":\"integer\"}", "2.0", "2.5", "", "/type"},
    {"{\"type\":\"number\"}", "2.5", "\"2\"", "", "/type"},
    {"{\"type\":[\"string\",\"null\"]}", "null", "[]", "", "/type"},
    {"{\"type\":\"boolean\"}", "false", "0", "", "/type"},
    {"{\"enum\":[1,\"a\",{\"b\":[]}]}", "{\"b\":[]}", "{}", "", "/enum"},
    {"{\"const\":{\"a\":1.0}}", "{\"a\":1}", "{\"a\":2}", "", "/const"},
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"b\":1}", "{\"a\":1}", "/a",
     "/properties/a/type"},
    {"{\"properties\":{\"x/y~\":false}}", "[]", "{\"x/y~\":1}", "/x~1y~0", "/properties/x~1y~0"},
    {"{\"required\":[\"a\",\"b\"]}", "{\"a\":1,\"b\":null}", "{\"a\":1}", "", "/required"},
    {"{\"properties\":{\"a\":true},\"patternProperties\":{\"^x\":true},"
     "\"additionalProperties\":false}",
     "{\"a\":1,\"x1\":2}", "{\"a\":1,\"y\":2}", "/y", "/additionalProperties"},
    {"{\"additionalProperties\":{\"type\":\"string\"}}", "{\"a\":\"\"}", "{\"a\":1}", "/a",
     "/additionalProperties/type"},
    {"{\"patternProperties\":{\"^n\":{\"minimum\":1}}}", "{\"m\":0}", "{\"n\":0}", "/n",
     "/patternProperties/^n/minimum"},
    {"{\"propertyNames\":{\"maxLength\":2}}", "{\"ab\":1}", "{\"abc\":1}", "",
     "/propertyNames/maxLength"},
    {"{\"minProperties\":1}", "{\"a\":1}", "{}", "", "/minProperties"},
    {"{\"maxProperties\":1}", "{\"a\":1}", "{\"a\":1,\"b\":2}", "", "/maxProperties"},
    {"{\"items\":{\"type\":\"integer\"}}", "[1,2]", "[1,\"2\"]", "/1", "/items/type"},
    {"{\"prefixItems\":[{\"const\":1}],\"items\":false}", "[1]", "[1,2]", "/1", "/items"},
    {"{\"prefixItems\":[{\"const\":1},{\"const\":2}]}", "[1]", "[1,3]", "/1",
     "/prefixItems/1/const"},
    {"{\"minItems\":1}", "[1]", "[]", "", "/minItems"},
    {"{\"maxItems\":1}", "[1]", "[1,2]", "", "/maxItems"},
    {"{\"uniqueItems\":true}", "[1,\"1\",true]", "[1,1.0]", "", "/uniqueItems"},
    {"{\"minimum\":1}", "1", "0.9", "", "/minimum"},
    {"{\"maximum\":1}", "1", "1.1", "", "/maximum"},
    {"{\"exclusiveMinimum\":1}", "1.1", "1", "", "/exclusiveMinimum"},
    {"{\"exclusiveMaximum\":1}", "0.9", "1", "", "/exclusiveMaximum"},
    {"{\"multipleOf\":0.1}", "0.3", "0.35", "", "/multipleOf"},
    {"{\"minLength\":2}", "\"\u00fc\u00fc\"", "\"\u00fc\"", "", "/minLength"},
    {"{\"maxLength\":1}", "\"\u00fc\"", "\"ab\"", "", "/maxLength"},
    {"{\"pattern\":\"^a+$\"}", "\"aa\"", "\"ab\"", "", "/pattern"},
    {"{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "2", "3", "", "/allOf/1/maximum"},
    {"{\"anyOf\":[{\"minimum\":5},{\"maximum\":2}]}", "1", "3", "", "/anyOf"},
    {"{\"oneOf\":[{\"minimum\":1},{\"maximum\":2}]}", "3", "2", "", "/oneOf"},
    {"{\"not\":{\"type\":\"null\"}}", "1", "null", "", "/not"},
    {"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},"
     "\"else\":{\"maxProperties\":0}}",
     "{\"a\":1,\"b\":1}", "{\"a\":1}", "", "/then/required"},
    {"{\"if\":{\"required\":[\"a\"]},\"else\":{\"maxProperties\":0}}", "{}", "{\"c\":1}", "",
     "/else/maxProperties"},
    {"{\"$defs\":{\"n\":{\"type\":\"integer\"}},\"additionalProperties\":{\"$ref\":\"#/$defs/n\"}}",
     "{\"a\":1}", "{\"a\":\"\"}", "/a", "/$defs/n/type"},
    {"{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#\"}}}", "{\"next\":{\"next\":{}}}",
     "{\"next\":{\"next\":1}}", "/next/next", "/type"},
    {"{\"$defs\":{\"50%/~\u00fc\":{\"const\":1}},\"$ref\":\"#/$defs/50%25~1~0%C3%BC\"}", "1", "2",
     "", "/$defs/50%~1~0\u00fc/const"},
    {"{\"pattern\":\"^\\\\w$\"}", "\"_\"", "\"\u00e9\"", "", "/pattern"},
    {"{\"pattern\":\"^\\\\W$\"}", "\"\u00e9\"", "\"a\"", "", "/pattern"},
    {"{\"pattern\":\"^\\\\d$\"}", "\"7\"", "\"\u0663\"", "", "/pattern"},
    {"{\"pattern\":\"^\\\\s$\"}", "\"\ufeff\"", "\"\u200b\"", "", "/pattern"},
    {"{\"pattern\":\"^[^\\\\S]$\"}", "\"\u2003\"", "\"\xc2\x85\"", "", "/pattern"},
    {"{\"pattern\":\"a\\\\b.\"}", "\"a\u00e9\"", "\"ab\"", "", "/pattern"},
    {"{\"pattern\":\"^[\\\\b]$\"}", "\"\\b\"", "\"b\"", "", "/pattern"},
    {"{\"pattern\":\"^.$\"}", "\"\xc2\x85\"", "\"\\n\"", "", "/pattern"},
    {"{\"pattern\":\"^.$\"}", "\"\U0001f432\"", "\"\u2028\"", "", "/pattern"},
    {"{\"pattern\":\"^\\\\ud83d\\\\udc32|\\\\u{1F432}$\"}", "\"\U0001f432\"", "\"\U0001f433\"", "",
     "/pattern"},
    {"{\"pattern\":\"(?<![a-c])(?:x|)(?=y)\"}", "\"xy\"", "\"ax\"", "", "/pattern"},
    {"{\"pattern\":\"^[[:alpha:]$\"}", "\":\"", "\"b\"", "", "/pattern"},
    {"{\"patternProperties\":{\"^\\\\w+$\":true},\"additionalProperties\":false}", "{\"a\":1}",
     "{\"\u00e9\":1}", "/\u00e9", "/additionalProperties"},
    {"{\"title\":\"t\",\"description\":\"d\",\"default\":1,\"examples\":[1],\"$comment\":\"c\","
     "\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"$id\":\"i\","
     "\"format\":\"date\"}",
     "\"no date\"", NULL, NULL, NULL},
};

static char *judge(const char *content, const char *schema)
{
    return test_sql(&pg,
                    "SELECT CASE WHEN v.problem IS NULL THEN 'fits' ELSE v.at || ' ' || v.keyword "
                    "END FROM headwater.judge('%s', '%s', '%s', '', '', 0, 0) AS v",
                    content, schema, schema);
}

START_TEST(test_keywords)
{
    for (size_t i = 0; i < HW_COUNT(keywords); i++) {
        free(test_sql(&pg, "SELECT headwater.check_schema('%s')", keywords[i].schema));
        if (keywords[i].fits != NULL) {
            HW_AUTO_FREE char *verdict = judge(keywords[i].fits, keywords[i].schema);

            ck_assert_msg(strcmp(verdict, "fits") == 0, "%s: %s: %s", keywords[i].schema,
                          keywords[i].fits, verdict);
        }
        if (keywords[i].unfit != NULL) {
            HW_AUTO_FREE char *verdict = judge(keywords[i].unfit, keywords[i].schema);
            HW_AUTO_FREE char *expected = hw_sprintf("%s %s", keywords[i].at, keywords[i].keyword);

            ck_assert_msg(strcmp(verdict, expected) == 0, "%s: %s: %s", keywords[i].schema,
                          keywords[i].unfit, verdict);
        }
    }
}
END_TEST

static void put_schema(const char *name, const char *schema)
{
    HW_AUTO_FREE char *target = hw_sprintf("/v1/configs/%s/schema", name);

    call("PUT", target, "Content-Type: application/schema+json\r\n", schema);
}

static void check_path(const char *path)
{
    json_t *problem = test_answer_json(&last);
    const char *have = json_string_value(json_object_get(problem, "path"));

    ck_assert_msg(have != NULL && strcmp(have, path) == 0, "expected \"%s\": %s", path, last.body);
    json_decref(problem);
}

START_TEST(test_no_schema)
{
    static const struct {
        const char *schema, *path;
    } cases[] = {
        {"5", ""},
        {"{\"typo\":1}", "/typo"},
        {"{\"contains\":{}}", "/contains"},
        {"{\"properties\":{\"a\":{\"dependentRequired\":{}}}}", "/properties/a/dependentRequired"},
        {"{\"$defs\":{\"unused\":{\"x\":1}}}", "/$defs/unused/x"},
        {"{\"type\":\"int\"}", "/type"},
        {"{\"type\":[1]}", "/type"},
        {"{\"enum\":1}", "/enum"},
        {"{\"required\":\"a\"}", "/required"},
        {"{\"required\":[1]}", "/required"},
        {"{\"minLength\":-1}", "/minLength"},
        {"{\"minLength\":1.5}", "/minLength"},
        {"{\"minimum\":\"1\"}", "/minimum"},
        {"{\"multipleOf\":0}", "/multipleOf"},
        {"{\"pattern\":\"(\"}", "/pattern"},
        {"{\"patternProperties\":{\"[\":true}}", "/patternProperties/["},
        {"{\"uniqueItems\":1}", "/uniqueItems"},
        {"{\"items\":[]}", "/items"},
        {"{\"allOf\":[]}", "/allOf"},
        {"{\"properties\":[]}", "/properties"},
        {"{\"not\":1}", "/not"},
        {"{\"$ref\":\"other.json\"}", "/$ref"},
        {"{\"$ref\":\"#/$defs/none\"}", "/$ref"},
        {"{\"enum\":[]}", "/enum"},
        {"{\"title\":1}", "/title"},
        {"{\"description\":{}}", "/description"},
        {"{\"$comment\":null}", "/$comment"},
        {"{\"examples\":1}", "/examples"},
        {"{\"format\":1}", "/format"},
        {"{\"type\":[]}", "/type"},
        {"{\"type\":[\"null\",\"null\"]}", "/type"},
        {"{\"required\":[\"a\",\"a\"]}", "/required"},
        {"{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}", "/$schema"},
        {"{\"$id\":1}", "/$id"},
        {"{\"$id\":\"#a\"}", "/$id"},
        {"{\"$defs\":{\"a\":{\"$id\":\"b\"}}}", "/$defs/a/$id"},
        {"{\"$ref\":\"#/%\"}", "/$ref"},
        {"{\"$ref\":\"#/%ff\"}", "/$ref"},
        {"{\"$ref\":\"#/%00\"}", "/$ref"},
        {"{\"$ref\":\"#/$defs/a%25\",\"$defs\":{\"a%25\":true}}", "/$ref"},
        {"{\"pattern\":\"\\\\p{L}\"}", "/pattern"},
        {"{\"pattern\":\"(a)\\\\1\"}", "/pattern"},
        {"{\"pattern\":\"(?<a>x)\\\\k<a>\"}", "/pattern"},
        {"{\"pattern\":\"(?i:a)\"}", "/pattern"},
        {"{\"pattern\":\"\\\\a\"}", "/pattern"},
        {"{\"pattern\":\"***=a\"}", "/pattern"},
        {"{\"pattern\":\"a{2,1}\"}", "/pattern"},
        {"{\"pattern\":\"a{256}\"}", "/pattern"},
        {"{\"pattern\":\"((a{99}){99}){99}\"}", "/pattern"},
        {"{\"pattern\":\"[z-a]\"}", "/pattern"},
        {"{\"pattern\":\"a]\"}", "/pattern"},
        {"{\"pattern\":\"[[:alpha:]]\"}", "/pattern"},
        {"{\"pattern\":\"(?=a)*\"}", "/pattern"},
        {"{\"default\":{\"x\":1},\"allOf\":[{\"$ref\":\"#/default\"}]}", "/allOf/0/$ref"},
    };

    ck_assert_int_eq(call("PUT", "/v1/configs/none", JSON, "{}"), 201);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        put_schema("none", cases[i].schema);
        check_problem(422, "refused");
        check_path(cases[i].path);
    }
    put_schema("none", "{");
    check_problem(400, "malformed-json");
    call("PUT", "/v1/configs/none/schema", "Content-Type: text/plain\r\n", "{}");
    check_problem(415, "unsupported-media-type");
    put_schema("nowhere", "{}");
    check_problem(404, "no-such-resource");
    call("GET", "/v1/configs/none/schema", NULL, NULL);
    check_problem(404, "no-such-resource");
    call("DELETE", "/v1/configs/none/schema", NULL, NULL);
    check_problem(404, "no-such-resource");
    /* A schema that would not end is stopped. */
    put_schema("none", "{\"$ref\":\"#\"}");
    check_problem(422, "invalid-content");
    put_schema("none", "{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"},{\"$ref\":\"#/$defs/"
                       "b\"}]},\"b\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}]"
                       "}},\"$ref\":\"#/$defs/a\"}");
    check_problem(422, "invalid-content");
    /* What is text stays text. */
    put_schema("none", "{\"'; DROP TABLE headwater.config; --\":1}");
    check_problem(422, "refused");
    check_path("/'; DROP TABLE headwater.config; --");
}
END_TEST

START_TEST(test_life)
{
    static const char schema[] = "{\"properties\":{\"rate\":{\"minimum\":1}}}";

    ck_assert_int_eq(call("PUT", "/v1/configs/life", JSON, "{\"rate\":5}"), 201);
    put_schema("life", schema);
    ck_assert_msg(last.status == 200, "%s", last.body);
    HW_AUTO_FREE char *etag = hw_strdup(header("ETag"));
    HW_AUTO_FREE char *version = hw_sprintf("If-Match: %s\r\n", etag);
    HW_AUTO_FREE char *json_version = hw_sprintf(JSON "If-Match: %s\r\n", etag);

    /* A version and an entry in the log, but no revision. */
    check_sql("1 t", "SELECT c.revision || ' ' || (c.version = h.rev)::text::char "
                     "FROM headwater.config AS c, headwater.changelog_head AS h "
                     "WHERE c.name = 'life'");
    ck_assert_int_eq(call("GET", "/v1/configs/life/schema", NULL, NULL), 200);
    ck_assert_str_eq(header("ETag"), etag);
    ck_assert_str_eq(header("Content-Type"), "application/schema+json");
    ck_assert_str_eq(last.body, "{\"properties\": {\"rate\": {\"minimum\": 1}}}");
    put_schema("life", schema);
    ck_assert_str_eq(header("ETag"), etag);

    call("PUT", "/v1/configs/life", JSON, "{\"rate\":0}");
    check_problem(422, "invalid-content");
    check_path("/rate");
    ck_assert_ptr_nonnull(strstr(last.body, "/properties/rate/minimum"));
    call("PUT", "/v1/configs/life", "Content-Type: text/plain\r\n", "x");
    check_problem(422, "refused");
    put_schema("life", "{\"required\":[\"gain\"]}");
    check_problem(422, "invalid-content");
    call("PUT", "/v1/configs/life/schema", JSON "If-None-Match: *\r\n", "{}");
    check_problem(412, "precondition-failed");
    call("PUT", "/v1/configs/life/schema", JSON "If-Match: \"1\"\r\n", "{}");
    check_problem(412, "precondition-failed");
    ck_assert_int_eq(call("PUT", "/v1/configs/life/schema?dry_run=true", JSON, "{}"), 200);
    ck_assert_int_eq(call("PUT", "/v1/configs/life/schema", json_version, "{\"type\":\"object\"}"),
                     200);
    call("DELETE", "/v1/configs/life/schema", version, NULL);
    check_problem(412, "precondition-failed");
    ck_assert_int_eq(call("DELETE", "/v1/configs/life/schema", NULL, NULL), 204);
    ck_assert_int_eq(call("PUT", "/v1/configs/life", JSON, "{\"rate\":0}"), 200);
    check_sql("update update update", "SELECT string_agg(action, ' ' ORDER BY id) FROM "
                                      "(SELECT * FROM headwater.audit WHERE name = 'life' "
                                      "AND action = 'update' ORDER BY id LIMIT 3) AS a");
}
END_TEST

/* SQL is bound as HTTP is, in one statement or many. */
START_TEST(test_in_sql)
{
    static const char refused[] =
        "DO $do$ BEGIN %s; RAISE 'not refused'; EXCEPTION WHEN check_violation THEN END $do$";
    static const char *const statements[] = {
        "INSERT INTO headwater.config (name, content, schema) VALUES ('sql2', '1', 'false')",
        "UPDATE headwater.config SET content = '\"x\"' WHERE name = 'sql'",
        "UPDATE headwater.config SET content = '5', schema = '{\"type\":\"object\"}' "
        "WHERE name = 'sql'",
        "UPDATE headwater.config SET content = 'x', media_type = 'text/plain' WHERE name = 'sql'",
        "UPDATE headwater.config SET schema = '{\"x\":1}' WHERE name = 'sql'",
        "INSERT INTO headwater.config (name, content) VALUES ('sql', '\"x\"') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content",
        "UPDATE headwater.config SET content = '{' WHERE name = 'sql'",
    };

    free(test_sql(&pg, "INSERT INTO headwater.config (name, content, schema) "
                       "VALUES ('sql', '1', '{\"type\":\"integer\"}')"));
    for (size_t i = 0; i < HW_COUNT(statements); i++)
        free(test_sql(&pg, refused, statements[i]));
    free(test_sql(&pg, "UPDATE headwater.config SET content = '\"x\"', "
                       "schema = '{\"type\":\"string\"}' WHERE name = 'sql'"));
    check_sql("2", "SELECT revision FROM headwater.config WHERE name = 'sql'");
    /* Base64 is read as what it stands for. */
    free(test_sql(&pg, "UPDATE headwater.config SET content = encode('\"yy\"', 'base64'), "
                       "encoding = 'base64' WHERE name = 'sql'"));
    /* Deep, but bounded. */
    free(test_sql(&pg, refused,
                  "UPDATE headwater.config SET schema = '{\"items\":{\"$ref\":\"#\"}}', "
                  "encoding = 'utf-8', content = 'x' WHERE name = 'sql'"));
    free(test_sql(&pg, "UPDATE headwater.config SET schema = '{\"items\":{\"$ref\":\"#\"}}', "
                       "encoding = 'utf-8', content = repeat('[', 60) || repeat(']', 60) "
                       "WHERE name = 'sql'"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sql schema");
    TCase *all = tcase_create("schema");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_keywords);
    tcase_add_test(all, test_no_schema);
    tcase_add_test(all, test_life);
    tcase_add_test(all, test_in_sql);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
