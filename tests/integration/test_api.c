/* Every route of headwater-api against a real PostgreSQL: what it answers, and what it refuses. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

/* ---- asking ---- */

static int get(const char *target)
{
    return call("GET", target, NULL, NULL);
}

static int put(const char *target, const char *body)
{
    return call("PUT", target, JSON, body);
}

/* ---- what came ---- */

/* Answers are compared as JSON: only has the members given, with these values. */
static void check_has(const char *expected)
{
    json_t *have = test_answer_json(&last);
    json_t *want = json_loads(expected, 0, NULL), *value;
    const char *name;

    ck_assert_msg(want != NULL, "the test's own JSON is wrong: %s", expected);
    json_object_foreach(want, name, value)
        ck_assert_msg(json_equal(json_object_get(have, name), value), "%s: expected %s, got:\n%s",
                      name, expected, last.body);
    json_decref(have);
    json_decref(want);
}

static void check_detail(const char *part)
{
    ck_assert_msg(strstr(last.body, part) != NULL, "\"%s\" is not in: %s", part, last.body);
}

/* Every write tells a position that the database has reached. */
static void check_position(void)
{
    const char *lsn = header("Headwater-LSN");

    ck_assert_ptr_nonnull(lsn);
    HW_AUTO_FREE char *reached =
        test_sql(&pg, "SELECT '%s'::pg_lsn <= pg_current_wal_insert_lsn()", lsn);
    ck_assert_str_eq(reached, "t");
}

/* The names of a list's items, separated by commas, then the next page's key. */
static const char *names(const char *key)
{
    static struct hw_buf out;
    json_t *page = test_answer_json(&last), *item;
    size_t i;

    hw_buf_reset(&out);
    hw_buf_puts(&out, "");
    json_array_foreach(json_object_get(page, "items"), i, item) {
        const json_t *value = json_object_get(item, key);

        if (json_is_integer(value))
            hw_buf_printf(&out, "%d,", (int)json_integer_value(value));
        else
            hw_buf_printf(&out, "%s,", json_string_value(value));
    }
    const json_t *next = json_object_get(page, "next");

    ck_assert(next != NULL);
    if (json_is_string(next))
        hw_buf_printf(&out, ">%s", json_string_value(next));
    else if (json_is_integer(next))
        hw_buf_printf(&out, ">%d", (int)json_integer_value(next));
    json_decref(page);
    return hw_buf_str(&out);
}

/* ---- operations ---- */

START_TEST(test_health)
{
    ck_assert_int_eq(get("/healthz"), 200);
    check_has("{\"status\":\"ok\"}");
    ck_assert_int_eq(get("/readyz"), 200);
    check_has("{\"status\":\"ready\"}");
    ck_assert_int_eq(call("HEAD", "/readyz", NULL, NULL), 200);
    ck_assert_uint_eq(last.len, 0);
    ck_assert_str_ne(header("Content-Length"), "0");
}
END_TEST

/* ---- nodes ---- */

START_TEST(test_node_life)
{
    ck_assert_int_eq(get("/v1/nodes/life.example-1_x"), 404);
    check_problem(404, "no-such-resource");

    ck_assert_int_eq(
        put("/v1/nodes/life.example-1_x",
            "{\"labels\":{\"site\":\"a\",\"gain\":0.1},\"description\":\"gr\\u00fcn\"}"),
        201);
    check_position();
    ck_assert_str_eq(header("Location"), "/v1/nodes/life.example-1_x");
    ck_assert_str_eq(header("Content-Type"), "application/json");
    HW_AUTO_FREE char *first = hw_strdup(header("ETag"));
    check_has("{\"name\":\"life.example-1_x\",\"labels\":{\"site\":\"a\",\"gain\":0.1},"
              "\"description\":\"gr\\u00fcn\"}");
    /* What was 0.1 stays 0.1, for psql as well. */
    check_sql("t",
              "SELECT labels @> '{\"gain\":0.1}' FROM headwater.node WHERE name LIKE 'life.%'");

    ck_assert_int_eq(get("/v1/nodes/life.example-1_x"), 200);
    ck_assert_str_eq(header("ETag"), first);
    ck_assert_int_eq(call("HEAD", "/v1/nodes/life.example-1_x", NULL, NULL), 200);
    ck_assert_str_eq(header("ETag"), first);

    /* Nothing new: no new version, no change log. */
    HW_AUTO_FREE char *log = test_sql(&pg, "SELECT count(*) FROM headwater.changelog");
    ck_assert_int_eq(
        put("/v1/nodes/life.example-1_x",
            "{\"description\":\"gr\\u00fcn\",\"labels\":{\"gain\":0.10,\"site\":\"a\"}}"),
        200);
    check_position();
    ck_assert_str_eq(header("ETag"), first);
    check_sql(log, "SELECT count(*) FROM headwater.changelog");

    ck_assert_int_eq(call("PUT", "/v1/nodes/life.example-1_x?message=because%20of+it", JSON, "{}"),
                     200);
    ck_assert_str_ne(header("ETag"), first);
    check_has("{\"labels\":{},\"description\":\"\"}");
    check_sql("because of it http:127.0.0.1", "SELECT message || ' ' || author FROM "
                                              "headwater.changelog ORDER BY rev DESC LIMIT 1");

    ck_assert_int_eq(call("DELETE", "/v1/nodes/life.example-1_x", NULL, NULL), 204);
    check_position();
    ck_assert_uint_eq(last.len, 0);
    ck_assert_int_eq(call("DELETE", "/v1/nodes/life.example-1_x", NULL, NULL), 404);
    check_problem(404, "no-such-resource");
}
END_TEST

START_TEST(test_node_list)
{
    for (int i = 0; i < 5; i++) {
        char target[64], body[64];

        snprintf(target, sizeof(target), "/v1/nodes/list%d", i);
        snprintf(body, sizeof(body), "{\"labels\":{\"list\":\"%s\",\"n\":%d}}",
                 i % 2 ? "odd" : "even", i);
        ck_assert_int_eq(put(target, body), 201);
    }
    ck_assert_int_eq(get("/v1/nodes?selector=list%3Deven"), 200);
    ck_assert_str_eq(names("name"), "list0,list2,list4,");
    ck_assert_int_eq(get("/v1/nodes?selector=%7B%22list%22:%22odd%22,%22n%22:3%7D"), 200);
    ck_assert_str_eq(names("name"), "list3,");
    ck_assert_int_eq(get("/v1/nodes?selector=list=even&limit=2"), 200);
    ck_assert_str_eq(names("name"), "list0,list2,>list2");
    ck_assert_int_eq(get("/v1/nodes?selector=list=even&limit=2&after=list2"), 200);
    ck_assert_str_eq(names("name"), "list4,");
    ck_assert_int_eq(get("/v1/nodes?selector=list=none"), 200);
    ck_assert_str_eq(names("name"), "");
    /* What 3 is in the short form, nobody can tell: both. In quotes, and in JSON, one of them. */
    ck_assert_int_eq(put("/v1/nodes/list5", "{\"labels\":{\"list\":\"text\",\"n\":\"3\"}}"), 201);
    ck_assert_int_eq(get("/v1/nodes?selector=n=3"), 200);
    ck_assert_str_eq(names("name"), "list3,list5,");
    ck_assert_int_eq(get("/v1/nodes?selector=n=3.0,list=odd"), 200);
    ck_assert_str_eq(names("name"), "list3,");
    ck_assert_int_eq(get("/v1/nodes?selector=n=%223%22"), 200);
    ck_assert_str_eq(names("name"), "list5,");
    ck_assert_int_eq(get("/v1/nodes?selector=%7B%22n%22:3%7D"), 200);
    ck_assert_str_eq(names("name"), "list3,");
    ck_assert_int_eq(get("/v1/nodes?selector=%7B%22n%22:%223%22%7D"), 200);
    ck_assert_str_eq(names("name"), "list5,");
    ck_assert_int_eq(get("/v1/fleet?selector=n=3&fields=node"), 200);
    ck_assert_str_eq(names("node"), "list3,list5,");
    ck_assert_int_eq(call("DELETE", "/v1/nodes/list5", NULL, NULL), 204);
    ck_assert_int_eq(get("/v1/nodes?limit=1000"), 200);
    ck_assert_ptr_nonnull(strstr(names("name"), "list0,list1,list2,list3,list4,"));

    static const char *const bad[] = {"limit=0",    "limit=1001", "limit=-1",
                                      "limit=x",    "limit=",     "limit=99999999999999999999",
                                      "selector=x", "selector={", "selector=[]"};
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/nodes?%s", bad[i]);

        get(target);
        check_problem(400, "invalid-parameter");
    }
}
END_TEST

/* ---- preconditions ---- */

START_TEST(test_preconditions)
{
    HW_AUTO_FREE char *first = NULL, *second = NULL, *if_match = NULL, *none_match = NULL;

    call("PUT", "/v1/nodes/cond", JSON "If-Match: *\r\n", "{}");
    check_problem(412, "precondition-failed");
    call("PUT", "/v1/nodes/cond", JSON "If-Match: \"1\"\r\n", "{}");
    check_problem(412, "precondition-failed");
    check_sql("0", "SELECT count(*) FROM headwater.node WHERE name = 'cond'");

    ck_assert_int_eq(call("PUT", "/v1/nodes/cond", JSON "If-None-Match: *\r\n", "{}"), 201);
    first = hw_strdup(header("ETag"));
    call("PUT", "/v1/nodes/cond", JSON "If-None-Match: *\r\n", "{}");
    check_problem(412, "precondition-failed");
    call("PUT", "/v1/nodes/cond", JSON "If-None-Match: *\r\n", "{\"description\":\"x\"}");
    check_problem(412, "precondition-failed");

    if_match = hw_sprintf(JSON "If-Match: W/\"1\", \"x\", %s\r\n", first);
    ck_assert_int_eq(call("PUT", "/v1/nodes/cond", if_match, "{\"description\":\"2\"}"), 200);
    second = hw_strdup(header("ETag"));
    ck_assert_str_ne(first, second);
    call("PUT", "/v1/nodes/cond", if_match, "{\"description\":\"3\"}");
    check_problem(412, "precondition-failed");
    /* Also where it would change nothing. */
    call("PUT", "/v1/nodes/cond", if_match, "{\"description\":\"2\"}");
    check_problem(412, "precondition-failed");
    check_detail("version");
    ck_assert_int_eq(
        call("PUT", "/v1/nodes/cond", JSON "If-Match: *\r\n", "{\"description\":\"2\"}"), 200);
    ck_assert_str_eq(header("ETag"), second);

    none_match = hw_sprintf("If-None-Match: \"0\", W/%s\r\n", second);
    ck_assert_int_eq(call("GET", "/v1/nodes/cond", none_match, NULL), 304);
    ck_assert_str_eq(header("ETag"), second);
    ck_assert_int_eq(call("HEAD", "/v1/nodes/cond", none_match, NULL), 304);
    ck_assert_int_eq(call("GET", "/v1/nodes/cond", "If-None-Match: \"0\"\r\n", NULL), 200);
    ck_assert_int_eq(call("GET", "/v1/nodes/nothing", "If-None-Match: *\r\n", NULL), 404);

    call("PUT", "/v1/nodes/cond", JSON "If-Match: 1\r\n", "{}");
    check_problem(400, "malformed-request");
    call("PUT", "/v1/nodes/cond", JSON "If-None-Match: \"1\"\r\n", "{}");
    check_problem(400, "malformed-request");
    call("PUT", "/v1/nodes/cond", JSON "If-Match: \"1\"\r\nIf-Match: *\r\n", "{}");
    check_problem(400, "malformed-request");

    call("DELETE", "/v1/nodes/cond", "If-Match: \"1\"\r\n", NULL);
    check_problem(412, "precondition-failed");
    HW_AUTO_FREE char *match = hw_sprintf("If-Match: %s\r\n", second);
    ck_assert_int_eq(call("DELETE", "/v1/nodes/cond", match, NULL), 204);
    call("DELETE", "/v1/nodes/cond", match, NULL);
    check_problem(404, "no-such-resource");
}
END_TEST

/* Of many who saw the same version one may change it, whatever the order. */
START_TEST(test_precondition_race)
{
    enum { WRITERS = 16 };
    int fds[WRITERS], changed = 0;

    ck_assert_int_eq(put("/v1/nodes/race", "{}"), 201);
    HW_AUTO_FREE char *etag = hw_strdup(header("ETag"));
    for (int i = 0; i < WRITERS; i++)
        fds[i] = test_http_connect(api.port);
    for (int i = 0; i < WRITERS; i++) {
        HW_AUTO_FREE char *body = hw_sprintf("{\"description\":\"%d\"}", i);
        HW_AUTO_FREE char *request = hw_sprintf("PUT /v1/nodes/race HTTP/1.1\r\nHost: a\r\n" JSON
                                                "If-Match: %s\r\nContent-Length: %zu\r\n\r\n%s",
                                                etag, strlen(body), body);

        test_http_puts(fds[i], request);
    }
    for (int i = 0; i < WRITERS; i++) {
        struct test_answer answer = test_http_receive(fds[i], false);

        ck_assert(answer.status == 200 || answer.status == 412);
        changed += answer.status == 200;
        test_answer_free(&answer);
    }
    ck_assert_int_eq(changed, 1);
}
END_TEST

/* The same of creating. */
START_TEST(test_creation_race)
{
    enum { WRITERS = 16 };
    int fds[WRITERS], created = 0;

    for (int i = 0; i < WRITERS; i++)
        fds[i] = test_http_connect(api.port);
    for (int i = 0; i < WRITERS; i++) {
        HW_AUTO_FREE char *request = hw_sprintf("PUT /v1/configs/race HTTP/1.1\r\nHost: a\r\n" JSON
                                                "Content-Length: 4\r\n\r\n%04d",
                                                1000 + i);

        test_http_puts(fds[i], request);
    }
    for (int i = 0; i < WRITERS; i++) {
        struct test_answer answer = test_http_receive(fds[i], false);

        ck_assert(answer.status == 200 || answer.status == 201);
        created += answer.status == 201;
        test_answer_free(&answer);
    }
    ck_assert_int_eq(created, 1);
    check_sql("16", "SELECT revision FROM headwater.config WHERE name = 'race'");
}
END_TEST

/* ---- configs ---- */

static char *digest_of(const void *bytes, size_t len)
{
    static char text[HW_DIGEST_STR_MAX];
    struct hw_digest digest;

    hw_digest_of(bytes, len, &digest);
    return hw_digest_format(&digest, text);
}

START_TEST(test_config_life)
{
    static const char one[] = "{\"rate_hz\": 1000}\n", two[] = "{\"rate_hz\": 2000}";

    get("/v1/configs/life");
    check_problem(404, "no-such-resource");
    get("/v1/configs/life/content");
    check_problem(404, "no-such-resource");
    get("/v1/configs/life/revisions");
    check_problem(404, "no-such-resource");

    ck_assert_int_eq(put("/v1/configs/life?message=first", one), 201);
    check_position();
    ck_assert_str_eq(header("Location"), "/v1/configs/life");
    HW_AUTO_FREE char *first = hw_strdup(header("ETag"));
    HW_AUTO_FREE char *is =
        hw_sprintf("{\"name\":\"life\",\"revision\":1,\"digest\":\"%s\",\"size\":18,\"media_type\":"
                   "\"application/json\",\"message\":\"first\",\"updated_by\":\"http:127.0.0.1\"}",
                   digest_of(one, strlen(one)));
    check_has(is);
    ck_assert_int_eq(get("/v1/configs/life"), 200);
    check_has(is);
    ck_assert_str_eq(header("ETag"), first);

    ck_assert_int_eq(get("/v1/configs/life/content"), 200);
    ck_assert_str_eq(last.body, one);
    ck_assert_str_eq(header("ETag"), first);
    ck_assert_str_eq(header("Content-Type"), "application/json");
    ck_assert_str_eq(header("X-Content-Type-Options"), "nosniff");
    ck_assert_str_eq(header("Content-Disposition"), "attachment; filename=\"life\"");
    HW_AUTO_FREE char *none_match = hw_sprintf("If-None-Match: %s\r\n", first);
    ck_assert_int_eq(call("GET", "/v1/configs/life/content", none_match, NULL), 304);

    /* Nothing new: the same revision, no change log, whatever message comes along. */
    HW_AUTO_FREE char *log = test_sql(&pg, "SELECT count(*) FROM headwater.changelog");
    ck_assert_int_eq(put("/v1/configs/life?message=again", one), 200);
    check_position();
    check_has(is);
    ck_assert_str_eq(header("ETag"), first);
    check_sql(log, "SELECT count(*) FROM headwater.changelog");

    HW_AUTO_FREE char *match = hw_sprintf(JSON "If-Match: %s\r\n", first);
    ck_assert_int_eq(call("PUT", "/v1/configs/life", match, two), 200);
    check_has("{\"revision\":2,\"message\":null}");
    call("PUT", "/v1/configs/life", match, one);
    check_problem(412, "precondition-failed");

    ck_assert_int_eq(get("/v1/configs/life/content?revision=1"), 200);
    ck_assert_str_eq(last.body, one);
    HW_AUTO_FREE char *tag = hw_sprintf("\"%s\"", digest_of(one, strlen(one)));
    ck_assert_str_eq(header("ETag"), tag);
    get("/v1/configs/life/content?revision=3");
    check_problem(404, "no-such-resource");
    get("/v1/configs/life/content?revision=0");
    check_problem(400, "invalid-parameter");

    ck_assert_int_eq(get("/v1/configs/life/revisions"), 200);
    ck_assert_str_eq(names("revision"), "2,1,");
    ck_assert_int_eq(get("/v1/configs/life/revisions?limit=1"), 200);
    ck_assert_str_eq(names("revision"), "2,>2");
    ck_assert_int_eq(get("/v1/configs/life/revisions?limit=1&after=2"), 200);
    ck_assert_str_eq(names("revision"), "1,");
    ck_assert_int_eq(get("/v1/configs/life/revisions?after=1"), 200);
    ck_assert_str_eq(names("revision"), "");

    ck_assert_int_eq(get("/v1/configs?limit=1&after=lifd"), 200);
    ck_assert(strncmp(names("name"), "life,", 5) == 0);

    ck_assert_int_eq(call("DELETE", "/v1/configs/life", NULL, NULL), 204);
    check_position();
    get("/v1/configs/life/content");
    check_problem(404, "no-such-resource");
    /* The history stays. */
    ck_assert_int_eq(get("/v1/configs/life/content?revision=2"), 200);
    ck_assert_str_eq(last.body, two);
}
END_TEST

START_TEST(test_rollback)
{
    ck_assert_int_eq(put("/v1/configs/roll", "{\"v\":1}"), 201);
    ck_assert_int_eq(put("/v1/configs/roll", "{\"v\":2}"), 200);
    ck_assert_int_eq(
        call("POST", "/v1/configs/roll/rollback?message=oops", JSON, "{\"revision\":1}"), 200);
    check_position();
    check_has("{\"revision\":3,\"message\":\"oops\"}");
    ck_assert_int_eq(get("/v1/configs/roll/content"), 200);
    ck_assert_str_eq(last.body, "{\"v\":1}");
    ck_assert_int_eq(call("POST", "/v1/configs/roll/rollback", JSON, "{\"revision\":1}"), 200);
    check_has("{\"revision\":3}");

    call("POST", "/v1/configs/roll/rollback", JSON, "{\"revision\":9}");
    check_problem(404, "no-such-resource");
    call("POST", "/v1/configs/rolls/rollback", JSON, "{\"revision\":1}");
    check_problem(404, "no-such-resource");
    call("POST", "/v1/configs/roll/rollback", JSON "If-Match: \"1\"\r\n", "{\"revision\":2}");
    check_problem(412, "precondition-failed");
    call("POST", "/v1/configs/roll/rollback", JSON, "{}");
    check_problem(422, "invalid-body");
    check_detail("$.revision");
    call("POST", "/v1/configs/roll/rollback", JSON, "{\"revision\":99999999999}");
    check_problem(422, "refused");
}
END_TEST

static int put_bytes(const char *target, const char *type, const void *bytes, size_t len)
{
    HW_AUTO_FREE char *headers = hw_sprintf("Content-Type: %s\r\n", type);

    test_answer_free(&last);
    last = test_http(api.port, "PUT", target, headers, bytes, len);
    return last.status;
}

/* Byte for byte there and back, text and binary; one more than the limit is refused. */
START_TEST(test_sizes)
{
    static const size_t sizes[] = {0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 16 << 20};
    static const char *const types[] = {"text/plain", "application/octet-stream"};
    char *bytes = hw_alloc((16 << 20) + 1);

    for (size_t t = 0; t < HW_COUNT(types); t++) {
        const bool text = t == 0;

        for (size_t i = 0; i <= 16 << 20; i++)
            bytes[i] = text ? (char)('!' + i % 90) : (char)(i * 2654435761U >> 13);
        for (size_t i = 0; i < HW_COUNT(sizes); i++) {
            HW_AUTO_FREE char *target = hw_sprintf("/v1/configs/size.%zu.%zu", t, sizes[i]);
            HW_AUTO_FREE char *content = hw_sprintf("%s/content", target);
            HW_AUTO_FREE char *is =
                hw_sprintf("{\"revision\":1,\"size\":%zu,\"media_type\":\"%s\",\"digest\":\"%s\"}",
                           sizes[i], types[t], digest_of(bytes, sizes[i]));

            ck_assert_int_eq(put_bytes(target, types[t], bytes, sizes[i]), 201);
            check_has(is);
            ck_assert_int_eq(get(content), 200);
            ck_assert_uint_eq(last.len, sizes[i]);
            ck_assert(memcmp(last.body, bytes, sizes[i]) == 0);
            ck_assert_str_eq(header("Content-Type"), types[t]);
            ck_assert_int_eq(put_bytes(target, types[t], bytes, sizes[i]), 200);
            check_has(is);
        }
        put_bytes("/v1/configs/size.over", types[t], bytes, (16 << 20) + 1);
        check_problem(413, "too-large");
        check_detail("16777216");
    }
    free(bytes);
    get("/v1/configs/size.over");
    check_problem(404, "no-such-resource");
}
END_TEST

START_TEST(test_config_refused)
{
    put("/v1/configs/bad", "{\"a\":");
    check_problem(422, "invalid-content");
    check_detail("not valid JSON");
    put("/v1/configs/bad", "");
    check_problem(422, "invalid-content");
    put_bytes("/v1/configs/bad", "application/vnd.x+json", "nope", 4);
    check_problem(422, "invalid-content");
    put_bytes("/v1/configs/bad", "text/plain", "ab\xff", 3);
    check_problem(422, "invalid-content");
    check_detail("byte 2");
    put_bytes("/v1/configs/bad", "application/json", "{\"a\":\"\xed\xa0\x80\"}", 11);
    check_problem(422, "invalid-content");
    put_bytes("/v1/configs/bad", "text/plain", "a\0b", 3);
    check_problem(422, "invalid-content");
    check_detail("NUL");

    call("PUT", "/v1/configs/bad", NULL, "x");
    check_problem(415, "unsupported-media-type");
    put_bytes("/v1/configs/bad", "nonsense", "x", 1);
    check_problem(415, "unsupported-media-type");
    put_bytes("/v1/configs/bad", "text/plain; charset=latin1", "x", 1);
    check_problem(415, "unsupported-media-type");
    put_bytes("/v1/configs/bad", "application/x-www-form-urlencoded", "x", 1);
    check_problem(415, "unsupported-media-type");
    check_detail("application/json");

    get("/v1/configs/bad");
    check_problem(404, "no-such-resource");
}
END_TEST

/* ---- assignments ---- */

START_TEST(test_assignment_life)
{
    ck_assert_int_eq(put("/v1/nodes/as1", "{\"labels\":{\"as\":1}}"), 201);
    ck_assert_int_eq(put("/v1/configs/as-base", "{\"a\":1,\"b\":1}"), 201);
    ck_assert_int_eq(put("/v1/configs/as-over", "{\"b\":2}"), 201);

    get("/v1/nodes/as1/desired");
    check_problem(404, "no-such-resource");
    check_detail("no assignment");

    ck_assert_int_eq(put("/v1/assignments/as-all",
                         "{\"config\":\"as-base\",\"selector\":{\"as\":1},\"priority\":-5}"),
                     201);
    check_position();
    check_has("{\"name\":\"as-all\",\"config\":\"as-base\",\"selector\":{\"as\":1},\"priority\":-5,"
              "\"revision\":null}");
    ck_assert_int_eq(get("/v1/nodes/as1/desired/content"), 200);
    ck_assert_str_eq(last.body, "{\"a\":1,\"b\":1}");
    ck_assert_str_eq(header("ETag"), "\"1\"");

    ck_assert_int_eq(
        put("/v1/assignments/as-one", "{\"config\":\"as-over\",\"node\":\"as1\",\"revision\":1}"),
        201);
    check_has("{\"node\":\"as1\",\"priority\":0,\"revision\":1}");
    ck_assert_int_eq(get("/v1/nodes/as1/desired"), 200);
    check_has("{\"node\":\"as1\",\"revision\":2,\"media_type\":\"application/json\",\"sources\":["
              "{\"config\":\"as-base\",\"revision\":1,\"assignment\":\"as-all\"},"
              "{\"config\":\"as-over\",\"revision\":1,\"assignment\":\"as-one\"}]}");
    ck_assert_int_eq(get("/v1/nodes/as1/desired/content"), 200);
    ck_assert_str_eq(last.body, "{\"a\": 1, \"b\": 2}");
    ck_assert_str_eq(header("ETag"), "\"2\"");
    ck_assert_int_eq(call("GET", "/v1/nodes/as1/desired/content", "If-None-Match: \"2\"\r\n", NULL),
                     304);

    ck_assert_int_eq(get("/v1/assignments/as-one"), 200);
    HW_AUTO_FREE char *etag = hw_strdup(header("ETag"));
    ck_assert_int_eq(
        put("/v1/assignments/as-one", "{\"config\":\"as-over\",\"node\":\"as1\",\"revision\":1}"),
        200);
    ck_assert_str_eq(header("ETag"), etag);
    ck_assert_int_eq(get("/v1/assignments?limit=1"), 200);
    ck_assert_str_eq(names("name"), "as-all,>as-all");

    call("DELETE", "/v1/configs/as-base", NULL, NULL);
    check_problem(409, "conflict");
    check_detail("assignment");

    ck_assert_int_eq(call("DELETE", "/v1/assignments/as-one", NULL, NULL), 204);
    ck_assert_int_eq(call("DELETE", "/v1/assignments/as-all", NULL, NULL), 204);
    get("/v1/nodes/as1/desired/content");
    check_problem(404, "no-such-resource");
    get("/v1/nodes/as2/desired");
    check_problem(404, "no-such-resource");
    check_detail("as2");
}
END_TEST

START_TEST(test_assignment_refused)
{
    static const struct {
        const char *body, *problem, *detail;
    } cases[] = {
        {"{\"selector\":{}}", "invalid-body", "$.config"},
        {"{\"config\":null,\"selector\":{}}", "invalid-body", "$.config"},
        {"{\"config\":\"none\",\"selector\":{}}", "refused", "assignment_config_exists"},
        {"{\"config\":\"ar\",\"node\":\"none\"}", "refused", "assignment_node_exists"},
        {"{\"config\":\"ar\"}", "refused", "assignment_target_is_one"},
        {"{\"config\":\"ar\",\"node\":\"ar\",\"selector\":{}}", "refused",
         "assignment_target_is_one"},
        {"{\"config\":\"ar\",\"selector\":{},\"revision\":7}", "refused",
         "assignment_revision_exists"},
        {"{\"config\":\"ar\",\"selector\":[]}", "invalid-body", "$.selector"},
        {"{\"config\":\"ar\",\"selector\":{},\"priority\":\"1\"}", "invalid-body", "$.priority"},
        {"{\"config\":\"ar\",\"selector\":{},\"priority\":1.5}", "invalid-body", "$.priority"},
        {"{\"config\":\"ar\",\"selector\":{},\"priority\":9999999999}", "refused", "out of range"},
        {"{\"config\":\"ar\",\"selector\":{},\"weight\":1}", "invalid-body", "$.weight"},
    };

    ck_assert_int_eq(put("/v1/nodes/ar", "{}"), 201);
    ck_assert_int_eq(put("/v1/configs/ar", "{}"), 201);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        put("/v1/assignments/ar", cases[i].body);
        check_problem(422, cases[i].problem);
        check_detail(cases[i].detail);
    }
    get("/v1/assignments/ar");
    check_problem(404, "no-such-resource");
}
END_TEST

/* ---- JSON bodies ---- */

START_TEST(test_bodies)
{
    static const struct {
        const char *body;
        int status;
        const char *problem, *detail;
    } cases[] = {
        {"", 400, "malformed-json", "line 1"},
        {"{\"labels\":\n{]}", 400, "malformed-json", "\"line\":2,\"column\":2"},
        {"{} {}", 400, "malformed-json", "line 1"},
        {"{\"labels\":{},\"labels\":{}}", 400, "malformed-json", "duplicate"},
        {"{\"labels\":{\"a\":1,\"a\":2}}", 400, "malformed-json", "duplicate"},
        {"{\"description\":\"\xff\"}", 400, "malformed-json", "decode"},
        {"{\"description\":\"a\\u0000b\"}", 400, "malformed-json", "u0000"},
        {"{\"description\":\"\\ud800\"}", 400, "malformed-json", "line 1"},
        {"{\"labels\":{\"n\":1e999}}", 422, "refused", "the number at \\\"/labels/n\\\""},
        {"[]", 422, "invalid-body", "$: must be an object, not an array"},
        {"null", 422, "invalid-body", "not null"},
        {"{\"labels\":[]}", 422, "invalid-body",
         "$.labels: must be an object such as {\\\"site\\\": \\\"north\\\"}, not an array"},
        {"{\"description\":5}", 422, "invalid-body", "\"path\":\"$.description\""},
        {"{\"colour\":\"red\"}", 422, "invalid-body",
         "$.colour: there is no such member; there are: labels, description"},
        {"{\"lables\":{}}", 422, "invalid-body", "did you mean labels?"},
        {"{\"Labels\":{}}", 422, "invalid-body", "$.Labels"},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        put("/v1/nodes/body", cases[i].body);
        check_problem(cases[i].status, cases[i].problem);
        check_detail(cases[i].detail);
    }
    call("PUT", "/v1/nodes/body", "Content-Type: text/plain\r\n", "{}");
    check_problem(415, "unsupported-media-type");
    call("PUT", "/v1/nodes/body", NULL, "{}");
    check_problem(415, "unsupported-media-type");
    ck_assert_int_eq(call("PUT", "/v1/nodes/body",
                          "Content-Type: Application/Json;charset=UTF-8\r\n", "{\"labels\":null}"),
                     201);

    HW_AUTO_FREE char *large = hw_alloc((1 << 20) + 2);
    memset(large, ' ', (1 << 20) + 1);
    put("/v1/nodes/body", large);
    check_problem(413, "too-large");
    check_detail("1048576");
    large[1 << 20] = '\0';
    memcpy(large, "{}", 2);
    ck_assert_int_eq(put("/v1/nodes/body", large), 200);
    /* Arrays in arrays, deeper than anyone means it. */
    memset(large, '[', 1 << 20);
    put("/v1/nodes/body", large);
    check_problem(400, "malformed-json");
}
END_TEST

/* ---- names, parameters, routes ---- */

START_TEST(test_names)
{
    static const struct {
        const char *name;
        int status;
        const char *problem;
    } cases[] = {
        {"a%20b", 422, "refused"},
        {"a..b", 422, "refused"},
        {".", 422, "refused"},
        {"..", 422, "refused"},
        {".a", 422, "refused"},
        {"a.", 422, "refused"},
        {"a*", 422, "refused"},
        {"a%3E", 422, "refused"},
        {"%24KV", 422, "refused"},
        {"a%0D%0AX-Evil:%201", 422, "refused"},
        {"a%27;DROP%20TABLE%20headwater.node;--", 422, "refused"},
        {"%C3%BC", 422, "refused"},
        {"a%5Cb", 422, "refused"},
        {"..%2f..%2fetc%2fpasswd", 400, "malformed-request"},
        {"a%00b", 400, "malformed-request"},
        {"a%FFb", 400, "malformed-request"},
        {"a%zz", 400, "malformed-request"},
        {"", 404, "no-such-route"},
        {"a/b", 404, "no-such-route"},
    };
    static const char *const kinds[][2] = {
        {"nodes", "{}"}, {"configs", "{}"}, {"assignments", "{\"config\":\"x\",\"selector\":{}}"}};
    HW_AUTO_FREE char *longest = hw_alloc(130);
    HW_AUTO_FREE char *tables = test_sql(&pg, "SELECT count(*) FROM pg_class");

    for (size_t k = 0; k < HW_COUNT(kinds); k++) {
        for (size_t i = 0; i < HW_COUNT(cases); i++) {
            HW_AUTO_FREE char *target = hw_sprintf("/v1/%s/%s", kinds[k][0], cases[i].name);

            put(target, kinds[k][1]);
            check_problem(cases[i].status, cases[i].problem);
            ck_assert_ptr_null(header("X-Evil"));
            /* What cannot be there is not found. */
            get(target);
            check_problem(cases[i].status == 422 ? 404 : cases[i].status,
                          cases[i].status == 422 ? "no-such-resource" : cases[i].problem);
        }
    }
    memset(longest, 'n', 129);
    HW_AUTO_FREE char *too_long = hw_sprintf("/v1/nodes/%s", longest);
    put(too_long, "{}");
    check_problem(422, "refused");
    check_detail("128");
    too_long[strlen(too_long) - 1] = '\0';
    ck_assert_int_eq(put(too_long, "{}"), 201);
    check_sql(tables, "SELECT count(*) FROM pg_class");
}
END_TEST

START_TEST(test_routes)
{
    static const char *const nowhere[] = {
        "/",          "/v2",        "/v1/",          "/v2/nodes",
        "/v1/nodes/", "/V1/nodes",  "/v1/nodes/a/b", "/v1/configs/a/contents",
        "/healthz/",  "//v1/nodes", "/v1/./nodes"};

    for (size_t i = 0; i < HW_COUNT(nowhere); i++) {
        get(nowhere[i]);
        check_problem(404, "no-such-route");
    }
    call("POST", "/v1/nodes", NULL, NULL);
    check_problem(405, "method-not-allowed");
    ck_assert_str_eq(header("Allow"), "GET, HEAD");
    call("PATCH", "/v1/nodes/a", JSON, "{}");
    check_problem(405, "method-not-allowed");
    ck_assert_str_eq(header("Allow"), "GET, HEAD, PUT, DELETE");
    call("OPTIONS", "/v1/configs/a/rollback", NULL, NULL);
    check_problem(405, "method-not-allowed");
    ck_assert_str_eq(header("Allow"), "POST");
    call("BREW", "/healthz", NULL, NULL);
    check_problem(405, "method-not-allowed");

    get("/v1/nodes?colour=red");
    check_problem(400, "invalid-parameter");
    check_detail("selector fields limit after");
    get("/v1/nodes/a?limit=1");
    check_problem(400, "invalid-parameter");
    get("/v1/nodes?limit=1&limit=2");
    check_problem(400, "malformed-request");
    call("GET", "/v1/nodes", JSON, "{}");
    check_problem(400, "malformed-request");
    call("DELETE", "/v1/nodes/a", JSON, "{}");
    check_problem(400, "malformed-request");
}
END_TEST

/* Quotes, backslashes and line ends stay text on their way through SQL and headers. */
START_TEST(test_injection)
{
    static const char text[] = "'; DROP TABLE headwater.node; -- \\' $1 \" \r\nX-Evil: 1";
    json_t *body = json_pack("{s:s, s:{s:s}}", "description", text, "labels", text, text);
    HW_AUTO_FREE char *dump = json_dumps(body, JSON_COMPACT);

    ck_assert_int_eq(put("/v1/nodes/inject?message=%27;DROP%20TABLE%20x;--%0D%0A", dump), 201);
    check_has(dump);
    ck_assert_int_eq(get("/v1/nodes/inject"), 200);
    check_has(dump);
    json_decref(body);
    ck_assert_int_eq(get("/v1/nodes?after=%27%20OR%20true%20--"), 200);
    ck_assert_int_eq(get("/v1/fleet?selector=%7B%22a%27%22:%22%27%22%7D"), 200);
    ck_assert_str_eq(names("node"), "");
    get("/v1/fleet?state=%27%20OR%20true");
    check_problem(400, "invalid-parameter");
    get("/v1/wait?lsn=0/0%27::pg_lsn");
    check_problem(400, "invalid-parameter");
    /* A media type that holds a header of its own never gets that far. */
    call("PUT", "/v1/configs/inject", "Content-Type: text/plain; a=\"b\rX-Evil: 1\"\r\n", "x");
    ck_assert_int_ge(last.status, 400);
    ck_assert_ptr_null(header("X-Evil"));
}
END_TEST

/* ---- reports and the fleet ---- */

static void report(const char *node, const char *state, const char *running, const char *failed)
{
    free(test_sql(
        &pg,
        "SELECT headwater.report(jsonb_build_array(jsonb_build_object('kv_created', "
        "now(), 'kv_revision', 1, 'value', jsonb_build_object('node', '%s', 'state', '%s', "
        "'running', %s, 'failed', %s, 'desired_revision', 1, 'agent', '1.0', 'boot_id', "
        "'b', 'reported_at', now()))))",
        node, state, running, failed));
}

/* SQL for what a node says that it runs or failed to: its desired row. */
static char *about(const char *node)
{
    return hw_sprintf(
        "(SELECT jsonb_build_object('revision', revision, 'digest', digest, 'epoch', 1, "
        "'lsn', '0/1', 'applied_at', now(), 'at', now(), 'stage', 'apply', 'error', "
        "'exit status 3') FROM headwater.desired WHERE node = '%s')",
        node);
}

START_TEST(test_unknown_nodes)
{
    ck_assert_int_eq(get("/v1/unknown-nodes"), 200);
    check_has(
        "{\"count\":0,\"most\":1000,\"full\":false,\"left_out\":0,\"items\":[],\"next\":null}");
    free(test_sql(&pg, "SELECT headwater.hear(array_agg('un-' || i), 1000) FROM generate_series(1, "
                       "1001) AS i"));
    report("un-2", "applied", "NULL", "NULL");
    ck_assert_int_eq(get("/v1/unknown-nodes?limit=1"), 200);
    check_has("{\"count\":1000,\"most\":1000,\"full\":true,\"left_out\":1,\"next\":\"un-1\"}");
    ck_assert_int_eq(get("/v1/unknown-nodes?limit=2&after=un-199"), 200);
    ck_assert_str_eq(names("name"), "un-2,un-20,>un-20");
    ck_assert_int_eq(get("/v1/unknown-nodes?limit=1&after=un-199&fields=name,agent"), 200);
    check_has("{\"items\":[{\"name\":\"un-2\",\"agent\":\"1.0\"}]}");
    /* Who is registered is gone at once, and is without an assignment. */
    ck_assert_int_eq(put("/v1/nodes/un-2", "{\"labels\":{\"un\":\"y\"}}"), 201);
    ck_assert_int_eq(get("/v1/unknown-nodes?limit=2&after=un-199"), 200);
    ck_assert_str_eq(names("name"), "un-20,un-200,>un-200");
    check_has("{\"count\":999,\"full\":false,\"left_out\":0}");
    ck_assert_int_eq(get("/v1/fleet?selector=un=y&state=unassigned"), 200);
    check_has("{\"counts\":{\"in_sync\":0,\"pending\":0,\"failed\":0,\"unassigned\":1,\"conflict\":"
              "0,\"unknown\":0}}");
    ck_assert_str_eq(names("node"), "un-2,");
    free(test_sql(&pg, "DELETE FROM headwater.unknown_heard"));
}
END_TEST

START_TEST(test_fleet)
{
    static const char *const nodes[] = {"fl-failed", "fl-pending", "fl-sync", "fl-unknown"};

    ck_assert_int_eq(put("/v1/configs/fl", "{\"x\":1}"), 201);
    for (size_t i = 0; i < HW_COUNT(nodes); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/nodes/%s", nodes[i]);

        ck_assert_int_eq(put(target, "{\"labels\":{\"fl\":\"y\"}}"), 201);
    }
    ck_assert_int_eq(put("/v1/assignments/fl", "{\"config\":\"fl\",\"selector\":{\"fl\":\"y\"}}"),
                     201);
    get("/v1/nodes/fl-sync/reported");
    check_problem(404, "no-such-resource");
    check_detail("not reported");

    HW_AUTO_FREE char *sync = about("fl-sync"), *failed = about("fl-failed");
    report("fl-sync", "applied", sync, "NULL");
    report("fl-failed", "failed", "NULL", failed);
    report("fl-pending", "applied", "NULL", "NULL");

    ck_assert_int_eq(get("/v1/nodes/fl-sync/reported"), 200);
    check_has("{\"node\":\"fl-sync\",\"state\":\"applied\",\"failed\":null,\"agent\":\"1.0\"}");
    ck_assert_int_eq(get("/v1/nodes/fl-failed/reported"), 200);
    check_has("{\"state\":\"failed\",\"running\":null}");
    check_detail("exit status 3");

    ck_assert_int_eq(get("/v1/fleet?selector=fl=y"), 200);
    check_has("{\"counts\":{\"in_sync\":1,\"pending\":1,\"failed\":1,\"unassigned\":0,\"conflict\":"
              "0,\"unknown\":1},"
              "\"next\":null}");
    ck_assert_str_eq(names("node"), "fl-failed,fl-pending,fl-sync,fl-unknown,");
    ck_assert_int_eq(get("/v1/fleet?selector=fl=y&state=failed"), 200);
    check_has("{\"counts\":{\"in_sync\":1,\"pending\":1,\"failed\":1,\"unassigned\":0,\"conflict\":"
              "0,\"unknown\":1}}");
    ck_assert_str_eq(names("node"), "fl-failed,");
    check_detail("\"error\":\"apply: exit status 3\"");
    ck_assert_int_eq(get("/v1/fleet?selector=fl=y&limit=3"), 200);
    ck_assert_str_eq(names("node"), "fl-failed,fl-pending,fl-sync,>fl-sync");
    ck_assert_int_eq(get("/v1/fleet?selector=fl=y&limit=3&after=fl-sync"), 200);
    ck_assert_str_eq(names("node"), "fl-unknown,");
    get("/v1/fleet?state=bad");
    check_problem(400, "invalid-parameter");

    /* What a node says besides. */
    free(test_sql(&pg, "SELECT headwater.report(jsonb_build_array(jsonb_build_object('kv_created', "
                       "now(), 'kv_revision', 2, 'value', jsonb_build_object('node', 'fl-sync', "
                       "'state', 'applied', 'running', NULL, 'failed', NULL, 'held', "
                       "jsonb_build_object('since', 'then', 'reason', 'run 42', 'waiting', 2), "
                       "'drift', jsonb_build_object('at', 'now', 'healed', true, 'error', 'gone'"
                       ")))))"));
    ck_assert_int_eq(get("/v1/nodes/fl-sync/reported"), 200);
    check_has("{\"held\":{\"since\":\"then\",\"reason\":\"run 42\",\"waiting\":2},"
              "\"drift\":{\"at\":\"now\",\"healed\":true,\"error\":\"gone\"}}");
    ck_assert_int_eq(get("/v1/fleet?selector=fl=y&limit=1&after=fl-pending"), 200);
    check_detail("\"reason\":\"run 42\"");
    ck_assert_int_eq(get("/v1/nodes/fl-failed/reported"), 200);
    check_has("{\"held\":null,\"drift\":null}");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api");
    TCase *all = tcase_create("routes");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_health);
    tcase_add_test(all, test_node_life);
    tcase_add_test(all, test_node_list);
    tcase_add_test(all, test_preconditions);
    tcase_add_test(all, test_precondition_race);
    tcase_add_test(all, test_creation_race);
    tcase_add_test(all, test_config_life);
    tcase_add_test(all, test_rollback);
    tcase_add_test(all, test_sizes);
    tcase_add_test(all, test_config_refused);
    tcase_add_test(all, test_assignment_life);
    tcase_add_test(all, test_assignment_refused);
    tcase_add_test(all, test_bodies);
    tcase_add_test(all, test_names);
    tcase_add_test(all, test_routes);
    tcase_add_test(all, test_injection);
    tcase_add_test(all, test_unknown_nodes);
    tcase_add_test(all, test_fleet);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
