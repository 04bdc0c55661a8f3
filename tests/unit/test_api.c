/* The parts of headwater-api that take bytes from outside apart, each by itself. */
#include <stdio.h>
#include <string.h>

#include "api/migrate.h"
#include "api/problem.h"
#include "api/request/precondition.h"
#include "api/request/selector.h"
#include "api/routes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "http/etag.h"
#include "http/media_type.h"
#include "http/problem.h"
#include "http/router.h"
#include "http/server.h"
#include "http/target.h"
#include "tests/support/suite.h"

/* ---- request targets ---- */

START_TEST(test_target)
{
    struct http_target t;
    struct hw_error err;

    ck_assert_int_eq(
        http_target_parse("/v1/nodes/a%2Eb?limit=5&selector=%7B%22a%22:1%7D&x=a+b&e", &t, &err),
        HW_OK);
    ck_assert_int_eq(t.segment_count, 3);
    ck_assert_str_eq(t.segments[0], "v1");
    ck_assert_str_eq(t.segments[2], "a.b");
    ck_assert_str_eq(http_target_parameter(&t, "limit"), "5");
    ck_assert_str_eq(http_target_parameter(&t, "selector"), "{\"a\":1}");
    ck_assert_str_eq(http_target_parameter(&t, "x"), "a b");
    ck_assert_str_eq(http_target_parameter(&t, "e"), "");
    ck_assert_ptr_null(http_target_parameter(&t, "y"));
    http_target_free(&t);

    ck_assert_int_eq(http_target_parse("HTTP://host:80/v1/fleet?state=failed", &t, &err), HW_OK);
    ck_assert_str_eq(t.segments[1], "fleet");
    ck_assert_str_eq(http_target_parameter(&t, "state"), "failed");
    http_target_free(&t);

    ck_assert_int_eq(http_target_parse("http://host", &t, &err), HW_OK);
    ck_assert_int_eq(t.segment_count, 1);
    ck_assert_str_eq(t.segments[0], "");
    http_target_free(&t);

    ck_assert_int_eq(http_target_parse("/1/2/3/4/5/6/7/8/9/10", &t, &err), HW_OK);
    ck_assert_int_gt(t.segment_count, HTTP_TARGET_SEGMENTS);
    http_target_free(&t);

    /* Neither dots nor double slashes are folded. */
    ck_assert_int_eq(http_target_parse("/v1//..", &t, &err), HW_OK);
    ck_assert_int_eq(t.segment_count, 3);
    ck_assert_str_eq(t.segments[1], "");
    ck_assert_str_eq(t.segments[2], "..");
    http_target_free(&t);
}
END_TEST

START_TEST(test_target_refused)
{
    static const char *const bad[] = {
        "",           "*",
        "v1/nodes",   "/a%",
        "/a%4",       "/a%4g",
        "/a%G4",      "/a%00b",
        "/a%2Fb",     "/a%2fb",
        "/%ff",       "/%c0%af",
        "/%ed%a0%80", "/a?x=%",
        "/a?%zz=1",   "/a?x=%00",
        "/a?x=%fe",   "/a?x=1&x=2",
        "/a?x&x",     "/a?1=&2=&3=&4=&5=&6=&7=&8=&9=&10=&11=&12=&13=&14=&15=&16=&17=",
    };
    struct http_target t;
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(http_target_parse(bad[i], &t, &err) == HW_EINVAL, "%s was taken", bad[i]);
}
END_TEST

/* ---- routes ---- */

static const struct http_route routes[] = {
    {"GET", "/things", NULL, "limit after", HTTP_BODY_NONE, API_ROLE_NONE},
    {"GET", "/things/{name}", NULL, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"PUT", "/things/{name}", NULL, "message", HTTP_BODY_JSON, API_ROLE_NONE},
    {"GET", "/things/{name}/parts/{part}", NULL, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"POST", "/act", NULL, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {0},
};

/* The index of the route, -404, or -405 with what is allowed. */
static int find(const char *method, const char *raw, const char *allowed)
{
    struct http_target t;
    struct hw_error err;
    struct hw_buf allow = {0};
    const struct http_route *route = NULL;
    int result;

    ck_assert_int_eq(http_target_parse(raw, &t, &err), HW_OK);
    switch (http_router_find(routes, method, &t, &route, &allow)) {
    case HW_OK:
        result = (int)(route - routes);
        break;
    case HW_EDENIED:
        result = -405;
        ck_assert_str_eq(hw_buf_str(&allow), allowed);
        break;
    default:
        result = -404;
    }
    hw_buf_free(&allow);
    http_target_free(&t);
    return result;
}

START_TEST(test_router)
{
    ck_assert_int_eq(find("GET", "/things", NULL), 0);
    ck_assert_int_eq(find("HEAD", "/things", NULL), 0);
    ck_assert_int_eq(find("GET", "/things/a", NULL), 1);
    ck_assert_int_eq(find("PUT", "/things/a", NULL), 2);
    ck_assert_int_eq(find("GET", "/things/a/parts/b", NULL), 3);
    ck_assert_int_eq(find("GET", "/things/..", NULL), 1);

    ck_assert_int_eq(find("GET", "/", NULL), -404);
    ck_assert_int_eq(find("GET", "/thing", NULL), -404);
    ck_assert_int_eq(find("GET", "/thingsy", NULL), -404);
    ck_assert_int_eq(find("GET", "/things/", NULL), -404);
    ck_assert_int_eq(find("GET", "//things", NULL), -404);
    ck_assert_int_eq(find("GET", "/things/a/parts", NULL), -404);
    ck_assert_int_eq(find("GET", "/things/a/parts/b/c", NULL), -404);
    ck_assert_int_eq(find("GET", "/things/a/parts/b/c/d/e/f/g/h", NULL), -404);

    ck_assert_int_eq(find("DELETE", "/things/a", "GET, HEAD, PUT"), -405);
    ck_assert_int_eq(find("get", "/things", "GET, HEAD"), -405);
    ck_assert_int_eq(find("HEAD", "/act", "POST"), -405);
}
END_TEST

START_TEST(test_router_variables)
{
    struct http_target t;
    struct hw_error err;

    ck_assert_int_eq(http_target_parse("/things/x/parts/y?limit=1&lim=2", &t, &err), HW_OK);
    ck_assert_str_eq(http_router_variable(&routes[3], &t, "name"), "x");
    ck_assert_str_eq(http_router_variable(&routes[3], &t, "part"), "y");
    ck_assert_ptr_null(http_router_variable(&routes[3], &t, "par"));
    ck_assert_str_eq(http_router_unknown(&routes[3], &t), "limit");
    ck_assert_str_eq(http_router_unknown(&routes[0], &t), "lim");
    http_target_free(&t);
    ck_assert_int_eq(http_target_parse("/things?after=&limit=1", &t, &err), HW_OK);
    ck_assert_ptr_null(http_router_unknown(&routes[0], &t));
    http_target_free(&t);
}
END_TEST

/* ---- entity tags ---- */

START_TEST(test_etag)
{
    static const char *const valid[] = {
        "*", "\"1\"", "W/\"1\"", "\"a\",\"b\"", " \"a\" , W/\"b\"", "\"\""};
    static const char *const invalid[] = {"",        "1",          "\"1",      "\"1\"x", "*,\"1\"",
                                          "w/\"1\"", "\"1\"\"2\"", "W/ \"1\"", ",",      "'1'"};

    for (size_t i = 0; i < HW_COUNT(valid); i++)
        ck_assert_msg(http_etag_list_valid(valid[i]), "%s was refused", valid[i]);
    for (size_t i = 0; i < HW_COUNT(invalid); i++)
        ck_assert_msg(!http_etag_list_valid(invalid[i]), "%s was taken", invalid[i]);

    ck_assert(http_etag_list_has("*", "\"1\""));
    ck_assert(http_etag_list_has("\"0\", W/\"1\"", "\"1\""));
    ck_assert(!http_etag_list_has("\"11\", \"2\"", "\"1\""));
}
END_TEST

START_TEST(test_etag_versions)
{
    static const struct {
        const char *field, *versions;
    } cases[] = {
        {"\"17\"", "{17}"},
        {"\"17\", \"18\"", "{17,18}"},
        {"W/\"17\"", "{}"},
        {"\"x\", \"017\", \"-1\", \"\", \"1}'; DROP\", \"9999999999999999999\", \"5\"", "{5}"},
    };

    ck_assert_ptr_null(api_precondition_versions("*"));
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *versions = api_precondition_versions(cases[i].field);

        ck_assert_str_eq(versions, cases[i].versions);
    }
}
END_TEST

/* ---- selectors ---- */

START_TEST(test_selector)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"", "[{}]"},
        {"site=a", "[{'site':'a'}]"},
        {"site=a, role=daq", "[{'site':'a','role':'daq'}]"},
        {"empty=", "[{'empty':''}]"},
        {"a=b=c", "[{'a':'b=c'}]"},
        {"q=x\\", "[{'q':'x\\\\'}]"},
        {"{}", "[{}]"},
        {"{\"crate\": 7, \"x\": 0.1}", "[{'crate':7,'x':0.1}]"},
        {"slot=3", "[{'slot':'3'},{'slot':3}]"},
        {"slot=3,site=a", "[{'slot':'3','site':'a'},{'slot':3,'site':'a'}]"},
        {"x=-0.10", "[{'x':'-0.10'},{'x':-0.10}]"},
        {"x=1e3", "[{'x':'1e3'},{'x':1e3}]"},
        {"on=true,off=null", "[{'on':'true','off':'null'},{'on':true,'off':'null'},"
                             "{'on':'true','off':null},{'on':true,'off':null}]"},
        {"slot=\"3\"", "[{'slot':'3'}]"},
        {"slot=\"a,\\\"b=c\",x=y", "[{'slot':'a,\\'b=c','x':'y'}]"},
        {"a=03,b=True,c=0x1,d=[1],e={},f=1 2", "[{'a':'03','b':'True','c':'0x1','d':'[1]','e':'{}',"
                                               "'f':'1 2'}]"},
        /* Beyond what a number may hold here: the string alone. */
        {"a=1e999999", "[{'a':'1e999999'}]"},
        {"a=99999999999999999999", "[{'a':'99999999999999999999'},{'a':99999999999999999999}]"},
    };
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"site", "\"site\" is not label=value, such as site=north"},
        {"slot:3", "is not label=value"},
        {"=a", "is not label=value"},
        {"a=1,", "is not label=value"},
        {"a=1,b", "\"b\" is not label=value"},
        {"a=1,a=2", "\"a\" is given twice"},
        {"site!=a", "labels are asked for by = alone"},
        {"{", "in single quotes"},
        {"{a:1}", "line 1, column 2"},
        {"{\"a\"}", "a JSON object is meant"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{\"a\":1} x", "line 1"},
        {"[]", "is not label=value"},
        {"a=\xff", "not UTF-8"},
        {"\xff=a", "not UTF-8"},
        {"a=\"b", "a: a string in double quotes"},
        {"a=\"b\"c", "a comma is missing before \"c\""},
        {"a=1,b=2,c=3,d=4,e=5,f=6,g=7", "give a JSON object"},
    };
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_JSON json_t *alternatives = NULL;

        ck_assert_msg(api_selector_parse(cases[i].text, &alternatives, &err) == HW_OK, "%s: %s",
                      cases[i].text, err.message);
        HW_AUTO_FREE char *json = hw_json_text(alternatives, false);
        for (char *p = json; *p != '\0'; p++)
            if (*p == '"')
                *p = '\'';
        ck_assert_str_eq(json, cases[i].json);
    }
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        json_t *alternatives;

        ck_assert_msg(api_selector_parse(bad[i].text, &alternatives, &err) == HW_EINVAL,
                      "%s was taken", bad[i].text);
        ck_assert_msg(strstr(err.message, bad[i].says) != NULL, "%s: %s", bad[i].text, err.message);
    }
    HW_AUTO_JSON json_t *alternatives = NULL;
    ck_assert_int_eq(api_selector_parse("a=3,b=\"\\\\\"", &alternatives, &err), HW_OK);
    HW_AUTO_FREE char *array = api_selector_array(alternatives);
    ck_assert_str_eq(array, "{\"{\\\"a\\\":\\\"3\\\",\\\"b\\\":\\\"\\\\\\\\\\\"}\","
                            "\"{\\\"a\\\":3,\\\"b\\\":\\\"\\\\\\\\\\\"}\"}");
}
END_TEST

/* ---- media types ---- */

START_TEST(test_media_type)
{
    static const struct {
        const char *field, *stored;
        bool json, text;
    } cases[] = {
        {"application/json", "application/json", true, true},
        {"Application/JSON; charset=UTF-8", "application/json", true, true},
        {"application/json;charset=\"utf-8\"", "application/json", true, true},
        {"application/merge-patch+json", "application/merge-patch+json", true, true},
        {"application/vnd.x+json ; V=\"a b\"", "application/vnd.x+json; v=\"a b\"", true, true},
        {"text/plain", "text/plain", false, true},
        {"application/x-yaml", "application/x-yaml", false, true},
        {"image/svg+xml", "image/svg+xml", false, true},
        {"application/octet-stream", "application/octet-stream", false, false},
        {"application/jsonp", "application/jsonp", false, false},
        {"application/x.json", "application/x.json", false, false},
        {"texts/plain", "texts/plain", false, false},
        {"a/b; x=1;", "a/b; x=1", false, false},
    };
    static const char *const bad[] = {
        "",
        "json",
        "/json",
        "text/",
        "text/plain x",
        "te xt/plain",
        "a/b; x",
        "a/b; =1",
        "a/b; x=",
        "a/b;x=\"",
        "text/plain; charset=latin1",
        "a/b, c/d",
        "a/b\r\nX: y",
        "a/b; x=\"\\\"\"",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    };
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *type = NULL;

        ck_assert_msg(http_media_type_parse(cases[i].field, &type, &err) == HW_OK, "%s: %s",
                      cases[i].field, err.message);
        ck_assert_str_eq(type, cases[i].stored);
        ck_assert_int_eq(http_media_type_is_json(type), cases[i].json);
        ck_assert_int_eq(http_media_type_is_text(type), cases[i].text);
    }
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        char *type;

        ck_assert_msg(http_media_type_parse(bad[i], &type, &err) == HW_EINVAL, "%s was taken",
                      bad[i]);
    }
}
END_TEST

/* ---- UTF-8 ---- */

START_TEST(test_utf8)
{
    static const struct {
        const char *text;
        size_t len, bad; /* bad: len where there is nothing bad */
    } cases[] = {
        {"", 0, 0},
        {"plain ASCII of some length\n", 27, 27},
        {"a\0b", 3, 3},
        {"gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x9a\x80", 16, 16},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"12345678\xff", 9, 8},
        {"1234567\xc3", 8, 7},
        {"\x80", 1, 0},
        {"\xc0\xaf", 2, 0},
        {"\xe0\x80\xaf", 3, 0},
        {"a\xed\xa0\x80", 4, 1},
        {"ab\xf4\x90\x80\x80", 6, 2},
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xe2\x82", 2, 0},
        {"\xe2\x28\xa1", 3, 0},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        size_t bad = cases[i].len;

        ck_assert_int_eq(hw_utf8_valid(cases[i].text, cases[i].len, &bad),
                         cases[i].bad == cases[i].len);
        ck_assert_uint_eq(bad, cases[i].bad);
    }
}
END_TEST

/* ---- JSON text ---- */

START_TEST(test_json_text)
{
    static const char *const same[] = {
        "{\"a\":0.1,\"b\":[1,2.5]}",   "{}",  "[1e+300,0.30000000000000004]",
        "{\"n\":1234567890123456789}", "0.1", "100.0",
        "[true,null,\"\\n\"]"};

    for (size_t i = 0; i < HW_COUNT(same); i++) {
        json_t *value = json_loads(same[i], JSON_DECODE_ANY, NULL);
        HW_AUTO_FREE char *text = hw_json_text(value, false);

        ck_assert_str_eq(text, same[i]);
        json_decref(value);
    }
}
END_TEST

/* ---- problems ---- */

START_TEST(test_problem)
{
    json_t *members = json_pack("{s:i}", "line", 3);
    json_t *document = http_problem_document(&api_malformed_json, "line 3: \xff", members);

    ck_assert_str_eq(json_string_value(json_object_get(document, "type")),
                     "urn:headwater:problem:malformed-json");
    ck_assert_int_eq(json_integer_value(json_object_get(document, "status")), 400);
    ck_assert_str_eq(json_string_value(json_object_get(document, "detail")), "line 3: ?");
    ck_assert_int_eq(json_integer_value(json_object_get(document, "line")), 3);
    json_decref(document);
    json_decref(members);
}
END_TEST

static void check_documented(const char *docs, const struct http_problem *const *problems)
{
    for (; *problems != NULL; problems++) {
        HW_AUTO_FREE char *row =
            hw_sprintf("| `%s` | %d |", (*problems)->name, (*problems)->status);

        ck_assert_msg(strstr(docs, row) != NULL, "docs/http.md lacks %s", row);
    }
}

/* Each problem is described in docs/http.md, and so is each route. */
START_TEST(test_documented)
{
    char *docs;
    size_t len;
    struct hw_error err;

    ck_assert_int_eq(hw_file_read("docs/http.md", 1 << 20, &docs, &len, &err), HW_OK);
    check_documented(docs, http_problems);
    check_documented(docs, api_problems);
    for (const struct http_route *r = api_routes; r->method != NULL; r++) {
        HW_AUTO_FREE char *row = hw_sprintf("`%s %s", r->method, r->pattern);

        ck_assert_msg(strstr(docs, row) != NULL, "docs/http.md lacks %s", row);
    }
    free(docs);
}
END_TEST

/* ---- migrations ---- */

START_TEST(test_embedded)
{
    ck_assert_uint_gt(api_migrations_count, 0);
    for (size_t i = 0; i < api_migrations_count; i++) {
        const struct api_migration *m = &api_migrations[i];
        HW_AUTO_FREE char *path = hw_sprintf("sql/migrations/%04d_%s.sql", m->version, m->name);
        char *file;
        size_t len;
        struct hw_error err;

        ck_assert_int_eq(m->version, (int)i + 1);
        ck_assert_msg(hw_file_read(path, 1 << 24, &file, &len, &err) == HW_OK, "%s", path);
        ck_assert_uint_eq(m->size, len);
        ck_assert_mem_eq(m->sql, file, len + 1);
        free(file);
    }
    ck_assert_int_eq(api_migrate_version(), (int)api_migrations_count);
}
END_TEST

TEST_MAIN("api", 10, test_target, test_target_refused, test_router, test_router_variables,
          test_etag, test_etag_versions, test_selector, test_media_type, test_utf8, test_json_text,
          test_problem, test_documented, test_embedded)
