/*
 * The conditions of a write, on every route that writes one resource: that they are judged on what
 * the write finds, and that a write which is answered with success was made.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

/* Each route with a body that changes something, and what shows in the database whether it did. */
static const struct write {
    const char *method, *target, *headers, *body;
    const char *done; /* a boolean: was it done? */
    bool creates;     /* it may be about what is not there */
} writes[] = {
    {"PUT", "/v1/nodes/n", JSON, "{\"description\":\"new\"}",
     "SELECT EXISTS (SELECT FROM headwater.node WHERE description = 'new')", true},
    {"DELETE", "/v1/nodes/n", NULL, NULL,
     "SELECT NOT EXISTS (SELECT FROM headwater.node WHERE name = 'n')", false},
    {"PUT", "/v1/configs/c", JSON, "[3]",
     "SELECT EXISTS (SELECT FROM headwater.config WHERE content = '[3]')", true},
    {"POST", "/v1/configs/c/rollback", JSON, "{\"revision\":1}",
     "SELECT EXISTS (SELECT FROM headwater.config WHERE name = 'c' AND content = '[1]')", false},
    {"PUT", "/v1/configs/c/schema", JSON, "{\"type\":\"array\",\"maxItems\":9}",
     "SELECT EXISTS (SELECT FROM headwater.config WHERE schema ? 'maxItems')", false},
    {"DELETE", "/v1/configs/c/schema", NULL, NULL,
     "SELECT EXISTS (SELECT FROM headwater.config WHERE name = 'c' AND schema IS NULL)", false},
    {"DELETE", "/v1/configs/c", NULL, NULL,
     "SELECT NOT EXISTS (SELECT FROM headwater.config WHERE name = 'c')", false},
    {"PUT", "/v1/assignments/a", JSON, "{\"config\":\"other\",\"selector\":{},\"priority\":9}",
     "SELECT EXISTS (SELECT FROM headwater.assignment WHERE priority = 9)", true},
    {"DELETE", "/v1/assignments/a", NULL, NULL,
     "SELECT NOT EXISTS (SELECT FROM headwater.assignment WHERE name = 'a')", false},
    {"POST", "/v1/proposals/1/reject", JSON, "{}",
     "SELECT EXISTS (SELECT FROM headwater.proposal WHERE state = 'rejected')", false},
    {"POST", "/v1/proposals/1/approve", JSON, "{}",
     "SELECT EXISTS (SELECT FROM headwater.proposal WHERE state = 'approved')", false},
};

/* One of each resource, as nobody has touched it. */
static void make_all(void)
{
    free(test_sql(&pg, "DELETE FROM headwater.assignment"));
    free(test_sql(&pg, "DELETE FROM headwater.node"));
    free(test_sql(&pg, "DELETE FROM headwater.config"));
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n')"));
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content, media_type) "
                       "VALUES ('c', '[0]', 'application/json'), "
                       "('other', '{}', 'application/json'), "
                       "('proposed', '{}', 'application/json')"));
    free(test_sql(&pg, "UPDATE headwater.config SET content = '[1]' WHERE name = 'c'"));
    free(test_sql(&pg,
                  "UPDATE headwater.config SET content = '[2]', schema = '{\"type\":\"array\"}' "
                  "WHERE name = 'c'"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, node) "
                       "VALUES ('a', 'other', 'n'), ('p', 'proposed', 'n')"));
    free(test_sql(&pg, "SELECT headwater.propose(jsonb_build_array(jsonb_build_object("
                       "'node', 'n', 'ref', gen_random_uuid(), 'config', 'proposed', "
                       "'base_revision', revision, 'media_type', 'application/json', "
                       "'encoding', 'utf-8', 'content', '{\"x\":1}'))) "
                       "FROM headwater.config WHERE name = 'proposed'"));
}

/* The revision whose content is [1], and the proposal that waits: their numbers grow from one round
 * to the next. */
static void fill_in(const struct write *write, char target[static 64], char body[static 96])
{
    HW_AUTO_FREE char *id = test_sql(&pg, "SELECT max(id) FROM headwater.proposal");
    HW_AUTO_FREE char *revision =
        test_sql(&pg, "SELECT max(revision) FROM headwater.config_revision WHERE content = '[1]'");

    if (strncmp(write->target, "/v1/proposals/", 14) == 0)
        snprintf(target, 64, "/v1/proposals/%s%s", id, strrchr(write->target, '/'));
    else
        snprintf(target, 64, "%s", write->target);
    if (strstr(write->target, "rollback") != NULL)
        snprintf(body, 96, "{\"revision\":%s}", revision);
    else
        snprintf(body, 96, "%s", write->body != NULL ? write->body : "");
}

static int do_write(const struct write *write, const char *condition, const char *query)
{
    char target[64], body[96];
    HW_AUTO_FREE char *headers =
        hw_sprintf("%s%s", write->headers != NULL ? write->headers : "", condition);

    fill_in(write, target, body);
    HW_AUTO_FREE char *asked = hw_sprintf("%s%s", target, query);
    return call(write->method, asked, headers, write->body != NULL ? body : NULL);
}

static const char *version_of(const struct write *write)
{
    static char version[24];
    HW_AUTO_FREE char *found = test_sql(
        &pg,
        "SELECT CASE split_part('%s', '/', 3) "
        "WHEN 'nodes' THEN (SELECT version FROM headwater.node WHERE name = 'n') "
        "WHEN 'configs' THEN (SELECT version FROM headwater.config WHERE name = 'c') "
        "WHEN 'assignments' THEN (SELECT version FROM headwater.assignment WHERE name = 'a') "
        "ELSE (SELECT max(version) FROM headwater.proposal) END",
        write->target);

    snprintf(version, sizeof(version), "%s", found);
    return version;
}

/* What does not hold is 412, on every route, and leaves all as it is; dry runs say the same. */
START_TEST(test_conditions_that_fail)
{
    static const char *const failing[] = {
        "If-Match: W/\"%s\"\r\n",                   /* weak tags never match */
        "If-Match: \"x\", W/\"%s\"\r\n",            /* not in a list either */
        "If-Match: \"0%s\"\r\n",                    /* nor does another spelling */
        "If-None-Match: *\r\n",                     /* it is there */
        "If-Match: \"%s\"\r\nIf-None-Match: *\r\n", /* one of the two */
        "If-Match: *\r\nIf-None-Match: *\r\n",
    };
    static const char head[] = "SELECT rev FROM headwater.changelog_head";
    const struct write *write = &writes[_i];

    for (size_t i = 0; i < HW_COUNT(failing); i++) {
        make_all();
        const char *const version = version_of(write);
        HW_AUTO_FREE char *before = test_sql(&pg, "%s", head);
        const char *at = strstr(failing[i], "%s");
        HW_AUTO_FREE char *condition = at == NULL ? hw_strdup(failing[i])
                                                  : hw_sprintf("%.*s%s%s", (int)(at - failing[i]),
                                                               failing[i], version, at + 2);

        do_write(write, condition, "?dry_run=true");
        check_problem(412, "precondition-failed");
        do_write(write, condition, "");
        check_problem(412, "precondition-failed");
        ck_assert_msg((strstr(failing[i], "W/") != NULL) == (strstr(last.body, "weak") != NULL),
                      "%s: %s", condition, last.body);
        check_sql("f", write->done);
        check_sql(before, head);
    }
}
END_TEST

/* What holds is done; and the answer tells the change that it made. */
START_TEST(test_conditions_that_hold)
{
    static const char *const holding[] = {"", "If-Match: *\r\n", "If-Match: W/\"1\", \"%s\"\r\n"};
    const struct write *write = &writes[_i];

    for (size_t i = 0; i < HW_COUNT(holding); i++) {
        make_all();
        const char *at = strstr(holding[i], "%s");
        HW_AUTO_FREE char *condition = at == NULL
                                           ? hw_strdup(holding[i])
                                           : hw_sprintf("%.*s%s%s", (int)(at - holding[i]),
                                                        holding[i], version_of(write), at + 2);
        const int status = do_write(write, condition, "");

        ck_assert_msg(status == 200 || status == 204, "%s%s: %s%s", write->target, condition,
                      last.head, last.body);
        check_sql("t", write->done);
        ck_assert_ptr_nonnull(header("Headwater-Change"));
        check_sql(header("Headwater-Change"), "SELECT max(rev) FROM headwater.changelog");
    }
}
END_TEST

/* What is not there is 404 for those who are about it, whatever the condition (RFC 9110 section
 * 13.2.1), and for those who may create it the condition counts. */
START_TEST(test_conditions_on_nothing)
{
    const struct write *write = &writes[_i];
    HW_AUTO_FREE char *missing = NULL;
    const char *const rest = strchr(write->target + 4, '/') + 2;

    make_all();
    missing = hw_sprintf("%.*s99%s", (int)(rest - 1 - write->target), write->target, rest);
    static const char *const conditions[] = {"If-Match: *\r\n", "If-Match: \"1\"\r\n",
                                             "If-None-Match: *\r\n", ""};
    for (size_t i = 0; i < HW_COUNT(conditions); i++) {
        HW_AUTO_FREE char *headers =
            hw_sprintf("%s%s", write->headers != NULL ? write->headers : "", conditions[i]);

        call(write->method, missing, headers, write->body);
        if (!write->creates)
            check_problem(404, "no-such-resource");
        else if (i < 2)
            check_problem(412, "precondition-failed");
        else
            ck_assert_msg(last.status == (i == 2 ? 201 : 200), "%s%s%s", conditions[i], last.head,
                          last.body);
    }
}
END_TEST

START_TEST(test_tokens_and_others)
{
    free(test_sql(&pg, "SELECT headwater.create_token('root', 'admin')"));
    HW_AUTO_FREE char *secret = test_sql(&pg, "SELECT headwater.create_token('boss', 'admin')");
    free(test_sql(&pg, "SELECT headwater.create_token('gone', 'viewer')"));
    HW_AUTO_FREE char *bearer = hw_sprintf("Authorization: Bearer %s\r\n", secret);
    HW_AUTO_FREE char *none_match = hw_sprintf("%sIf-None-Match: *\r\n", bearer);
    HW_AUTO_FREE char *match = hw_sprintf("%sIf-Match: \"1\"\r\n", bearer);
    HW_AUTO_FREE char *any = hw_sprintf("%sIf-Match: *\r\n", bearer);
    HW_AUTO_FREE char *with_body = hw_sprintf("%s%s", match, JSON);

    test_wait_for(call("GET", "/v1/tokens", bearer, NULL) == 200, 30);
    call("DELETE", "/v1/tokens/gone", none_match, NULL);
    check_problem(412, "precondition-failed");
    call("DELETE", "/v1/tokens/gone", match, NULL);
    check_problem(412, "precondition-failed");
    check_sql("active", "SELECT state FROM headwater.token_info WHERE name = 'gone'");
    call("DELETE", "/v1/tokens/nobody", any, NULL);
    check_problem(404, "no-such-resource");
    ck_assert_int_eq(call("DELETE", "/v1/tokens/gone", any, NULL), 204);

    /* Nothing there has a tag, so no tag can match. */
    call("POST", "/v1/tokens", with_body, "{\"name\":\"new\",\"role\":\"viewer\"}");
    check_problem(412, "precondition-failed");
    call("POST", "/v1/apply", with_body, "{\"resources\":[]}");
    check_problem(412, "precondition-failed");
    call("PUT", "/v1/nodes/n/instance", with_body, "{\"instance\":\"x-1\"}");
    check_problem(412, "precondition-failed");
    HW_AUTO_FREE char *none_with_body = hw_sprintf("%s%s", none_match, JSON);
    call("POST", "/v1/tokens", none_with_body, "{\"name\":\"new\",\"role\":\"viewer\"}");
    check_problem(412, "precondition-failed");
    call("POST", "/v1/apply", none_with_body, "{\"resources\":[]}");
    check_problem(412, "precondition-failed");
    call("PUT", "/v1/nodes/n/instance", none_with_body, "{\"instance\":\"x-1\"}");
    check_problem(412, "precondition-failed");
    check_sql("0", "SELECT count(*) FROM headwater.token_info WHERE name = 'new'");
}
END_TEST

static bool is_blocked(void)
{
    HW_AUTO_FREE char *waiting =
        test_sql(&pg, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                      "AND application_name = 'headwater-api'");

    return strcmp(waiting, "1") == 0;
}

/* A write waits for the writers' lock, and meanwhile its holder takes the config away and makes it
 * anew. The answer must fit what stands there afterwards. */
START_TEST(test_race_with_creation)
{
    static const struct {
        const char *method, *target, *headers, *body, *holds;
    } racers[] = {
        {"POST", "/v1/configs/c/rollback", JSON, "{\"revision\":1}",
         "SELECT content = '[1]' FROM headwater.config WHERE name = 'c'"},
        {"POST", "/v1/configs/c/rollback", JSON "If-Match: *\r\n", "{\"revision\":1}",
         "SELECT content = '[1]' FROM headwater.config WHERE name = 'c'"},
        {"PUT", "/v1/configs/c", JSON "If-Match: *\r\n", "[3]",
         "SELECT content = '[3]' FROM headwater.config WHERE name = 'c'"},
        {"PUT", "/v1/configs/c/schema", JSON "If-Match: *\r\n", "{\"maxItems\":9}",
         "SELECT schema ? 'maxItems' FROM headwater.config WHERE name = 'c'"},
        {"DELETE", "/v1/configs/c", "If-Match: *\r\n", NULL,
         "SELECT NOT EXISTS (SELECT FROM headwater.config WHERE name = 'c')"},
    };

    for (size_t i = 0; i < HW_COUNT(racers); i++) {
        char target[64], body[96];
        const struct write racer = {.target = racers[i].target, .body = racers[i].body};
        PGconn *holder = PQconnectdb(pg.url);
        const int fd = test_http_connect(api.port);

        make_all();
        fill_in(&racer, target, body);
        const size_t len = racers[i].body != NULL ? strlen(body) : 0;
        PQclear(PQexec(holder, "BEGIN; DELETE FROM headwater.config WHERE name = 'c'"));
        HW_AUTO_FREE char *request =
            hw_sprintf("%s %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n%s",
                       racers[i].method, target, racers[i].headers, len, len > 0 ? body : "");
        test_http_puts(fd, request);
        test_wait_for(is_blocked(), 30);
        PQclear(PQexec(holder, "INSERT INTO headwater.config (name, content, media_type, schema) "
                               "VALUES ('c', '[7]', 'application/json', '{}'); COMMIT"));
        PQfinish(holder);
        struct test_answer answer = test_http_receive(fd, false);
        HW_AUTO_FREE char *holds = test_sql(&pg, "%s", racers[i].holds);
        ck_assert_msg(answer.status / 100 == 2, "%zu: %s%s", i, answer.head, answer.body);
        ck_assert_msg(strcmp(holds, "t") == 0, "%zu: answered %d, and nothing was done", i,
                      answer.status);
        test_answer_free(&answer);
        close(fd);
    }
}
END_TEST

/* A write that changed nothing has no change; one that is sent again has that of the first. */
START_TEST(test_change)
{
    make_all();
    ck_assert_int_eq(call("PUT", "/v1/nodes/n", JSON, "{\"labels\":{}}"), 200);
    ck_assert_ptr_nonnull(header("Headwater-LSN"));
    ck_assert_ptr_null(header("Headwater-Change"));
    ck_assert_int_eq(call("PUT", "/v1/nodes/n?dry_run=true", JSON, "{\"labels\":{\"x\":1}}"), 200);
    ck_assert_ptr_null(header("Headwater-Change"));

    static const char keyed[] = JSON "Idempotency-Key: change\r\n";
    static const char body[] = "{\"resources\":[{\"kind\":\"node\",\"name\":\"k\"}]}";
    ck_assert_int_eq(call("POST", "/v1/apply", keyed, body), 200);
    HW_AUTO_FREE char *first = hw_strdup(header("Headwater-Change"));
    check_sql(first, "SELECT version FROM headwater.node WHERE name = 'k'");
    ck_assert_int_eq(call("PUT", "/v1/nodes/k2", JSON, "{}"), 201);
    ck_assert_str_ne(header("Headwater-Change"), first);
    ck_assert_int_eq(call("POST", "/v1/apply", keyed, body), 200);
    ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    ck_assert_str_eq(header("Headwater-Change"), first);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api conditions");
    TCase *all = tcase_create("conditions"), *tokens = tcase_create("tokens");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_loop_test(all, test_conditions_that_fail, 0, HW_COUNT(writes));
    tcase_add_loop_test(all, test_conditions_that_hold, 0, HW_COUNT(writes));
    tcase_add_loop_test(all, test_conditions_on_nothing, 0, HW_COUNT(writes));
    tcase_add_test(all, test_race_with_creation);
    tcase_add_test(all, test_change);
    suite_add_tcase(suite, all);
    tcase_add_unchecked_fixture(tokens, start_service, stop_service);
    tcase_set_timeout(tokens, 240);
    tcase_add_test(tokens, test_tokens_and_others);
    suite_add_tcase(suite, tokens);
    return test_suite_finish(suite);
}
