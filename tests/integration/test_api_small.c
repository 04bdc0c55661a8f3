/*
 * Small promises of the HTTP API that stand beside the large ones: what HEAD says of a stream, that
 * half a document is none, that numbers, names and tags mean the same on every route.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static void must(int status, const char *method, const char *target, const char *headers,
                 const char *body)
{
    ck_assert_msg(call(method, target, headers, body) == status, "%s %s%s: %s%s", method, target,
                  headers != NULL ? headers : "", last.head, last.body);
}

/* A part of a document, or an encoded one, would otherwise be taken for the whole. */
START_TEST(test_whole_documents)
{
    static const struct {
        const char *method, *target, *body;
    } writes[] = {
        {"PUT", "/v1/configs/part", "{}"},
        {"PUT", "/v1/nodes/part", "{}"},
        {"PUT", "/v1/configs/part/schema", "{}"},
        {"POST", "/v1/apply", "{\"resources\":[]}"},
    };

    for (size_t i = 0; i < HW_COUNT(writes); i++) {
        call(writes[i].method, writes[i].target, JSON "Content-Range: bytes 0-1/9\r\n",
             writes[i].body);
        check_problem(400, "malformed-request");
        call(writes[i].method, writes[i].target, JSON "Content-Encoding: gzip\r\n", writes[i].body);
        check_problem(415, "unsupported-media-type");
        ck_assert_str_eq(header("Accept-Encoding"), "identity");
        call(writes[i].method, writes[i].target,
             JSON "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", writes[i].body);
        check_problem(415, "unsupported-media-type");
        call(writes[i].method, writes[i].target, JSON "Content-Encoding: identity, br\r\n",
             writes[i].body);
        check_problem(415, "unsupported-media-type");
    }
    check_sql("0", "SELECT count(*) FROM headwater.changelog");
    must(201, "PUT", "/v1/configs/whole", JSON "Content-Encoding: Identity\r\n", "{}");
    /* A GET has no document to be halved. */
    must(200, "GET", "/v1/configs/whole", "Content-Encoding: gzip\r\n", NULL);
}
END_TEST

/* HEAD has the fields of GET (RFC 9110 section 9.3.2), and a stream has no length. */
START_TEST(test_head_of_a_stream)
{
    const int fd = test_http_connect(api.port);
    char head[4096] = "";
    size_t len = 0;
    ssize_t got;

    test_http_puts(fd, "HEAD /v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while ((got = read(fd, head + len, sizeof(head) - 1 - len)) > 0)
        len += (size_t)got;
    close(fd);
    ck_assert_msg(strncmp(head, "HTTP/1.1 200 ", 13) == 0, "%s", head);
    ck_assert_msg(strstr(head, "\r\nContent-Type: text/event-stream") != NULL, "%s", head);
    ck_assert_msg(strcasestr(head, "\r\nContent-Length:") == NULL, "%s", head);
    ck_assert_msg(strcmp(strstr(head, "\r\n\r\n"), "\r\n\r\n") == 0, "%s", head);
}
END_TEST

START_TEST(test_after_zero)
{
    static const char *const lists[] = {"/v1/configs/list/revisions", "/v1/audit", "/v1/proposals"};

    must(201, "PUT", "/v1/configs/list", JSON, "{}");
    for (size_t i = 0; i < HW_COUNT(lists); i++) {
        static const char *const bad[] = {"", "-1", "x", "1.5", "99999999999999999999"};
        HW_AUTO_FREE char *zero = hw_sprintf("%s?after=0", lists[i]);

        must(200, "GET", zero, NULL, NULL);
        ck_assert_msg(strstr(last.body, "\"items\":[]") != NULL, "%s", last.body);
        for (size_t k = 0; k < HW_COUNT(bad); k++) {
            HW_AUTO_FREE char *target = hw_sprintf("%s?after=%s", lists[i], bad[k]);

            call("GET", target, NULL, NULL);
            check_problem(400, "invalid-parameter");
        }
        HW_AUTO_FREE char *all = hw_sprintf("%s?after=9999999999", lists[i]);
        must(200, "GET", all, NULL, NULL);
    }
}
END_TEST

static void check_message(const char *target, const char *expected)
{
    must(200, "GET", target, NULL, NULL);
    HW_AUTO_JSON json_t *object = test_answer_json(&last);
    const json_t *items = json_object_get(object, "items");
    const json_t *message =
        json_object_get(items != NULL ? json_array_get(items, 0) : object, "message");

    if (expected == NULL)
        ck_assert_msg(json_is_null(message), "%s: %s", target, last.body);
    else
        ck_assert_str_eq(json_string_value(message), expected);
}

/* Who gave no reason gave none, which is not an empty one. */
START_TEST(test_no_message)
{
    static const char *const places[] = {"/v1/configs/quiet", "/v1/configs?after=q",
                                         "/v1/configs/quiet/revisions", "/v1/audit?name=quiet"};

    must(201, "PUT", "/v1/configs/quiet", JSON, "{\"a\":1}");
    for (size_t i = 0; i < HW_COUNT(places); i++)
        check_message(places[i], NULL);
    must(200, "PUT", "/v1/configs/quiet?message=", JSON, "{\"a\":2}");
    for (size_t i = 0; i < HW_COUNT(places); i++)
        check_message(places[i], NULL);
    must(200, "PUT", "/v1/configs/quiet?message=why", JSON, "{\"a\":3}");
    for (size_t i = 0; i < HW_COUNT(places); i++)
        check_message(places[i], "why");
}
END_TEST

/* 1.0 is an integer, on every road. */
START_TEST(test_integers)
{
    static const struct {
        const char *number, *value; /* NULL: it is refused */
    } cases[] = {
        {"1.0", "1"},         {"-2.00", "-2"}, {"1e3", "1000"},
        {"1.5e1", "15"},      {"20E-1", "2"},  {"1.5", NULL},
        {"1e10", NULL},       {"1e400", NULL}, {"2147483647", "2147483647"},
        {"2147483648", NULL}, {"\"1\"", NULL}, {"true", NULL},
    };

    must(201, "PUT", "/v1/configs/integer", JSON, "{}");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *put =
            hw_sprintf("{\"config\":\"integer\",\"selector\":{},\"priority\":%s}", cases[i].number);
        HW_AUTO_FREE char *apply = hw_sprintf(
            "{\"resources\":[{\"kind\":\"assignment\",\"name\":\"applied\",\"config\":\"integer\","
            "\"selector\":{},\"priority\":%s}]}",
            cases[i].number);
        const int statuses[] = {call("PUT", "/v1/assignments/put", JSON, put),
                                call("POST", "/v1/apply", JSON, apply)};

        for (size_t k = 0; k < HW_COUNT(statuses); k++)
            ck_assert_msg((cases[i].value != NULL) == (statuses[k] / 100 == 2) &&
                              (cases[i].value != NULL || statuses[k] / 100 == 4),
                          "%s, %zu: %d %s", cases[i].number, k, statuses[k], last.body);
        if (cases[i].value != NULL)
            check_sql(cases[i].value, "SELECT string_agg(DISTINCT priority::text, ' ') FROM "
                                      "headwater.assignment WHERE config = 'integer'");
    }
    must(200, "POST", "/v1/configs/integer/rollback", JSON, "{\"revision\":1.0}");
}
END_TEST

/* While a node lags, the seconds of its lag grow, and nothing else is new. */
START_TEST(test_tag_of_the_fleet)
{
    must(201, "PUT", "/v1/nodes/lags", JSON, "{}");
    must(201, "PUT", "/v1/configs/lag", JSON, "{}");
    must(201, "PUT", "/v1/assignments/lag", JSON, "{\"config\":\"lag\",\"node\":\"lags\"}");
    must(200, "GET", "/v1/fleet?node=lags", NULL, NULL);
    HW_AUTO_FREE char *before = hw_strdup(last.body);
    HW_AUTO_FREE char *tag = hw_strdup(header("ETag"));
    HW_AUTO_FREE char *condition = hw_sprintf("If-None-Match: %s\r\n", tag);

    ck_assert_int_eq(strncmp(tag, "W/\"", 3), 0);
    test_wait_for(({
                      must(200, "GET", "/v1/fleet?node=lags", NULL, NULL);
                      strcmp(before, last.body) != 0; /* its lag grew */
                  }),
                  30);
    ck_assert_str_eq(header("ETag"), tag);
    must(304, "GET", "/v1/fleet?node=lags", condition, NULL);
    report_nodes("lags", true);
    must(200, "GET", "/v1/fleet?node=lags", condition, NULL);
    ck_assert_str_ne(header("ETag"), tag);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api small");
    TCase *all = tcase_create("small");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_whole_documents);
    tcase_add_test(all, test_head_of_a_stream);
    tcase_add_test(all, test_after_zero);
    tcase_add_test(all, test_no_message);
    tcase_add_test(all, test_integers);
    tcase_add_test(all, test_tag_of_the_fleet);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
