#include "tests/support/service.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct test_postgres pg;
struct test_api api;
struct test_answer last;

void start_service(void)
{
    test_postgres_start(&pg, true, NULL);
    test_api_start(&api, pg.api_url, NULL);
}

void stop_service(void)
{
    test_api_stop(&api);
    test_postgres_remove(&pg);
}

int call(const char *method, const char *target, const char *headers, const char *body)
{
    test_answer_free(&last);
    last = test_http(api.port, method, target, headers, body, body != NULL ? strlen(body) : 0);
    return last.status;
}

const char *header(const char *name)
{
    static char *value;

    free(value);
    value = test_answer_header(&last, name);
    return value;
}

void check_problem(int status, const char *name)
{
    HW_AUTO_FREE char *problem = NULL;

    ck_assert_msg(last.status == status, "expected %d %s, got:\n%s%s", status, name, last.head,
                  last.body);
    problem = test_answer_problem(&last);
    ck_assert_msg(strcmp(problem, name) == 0, "expected %s, got %s", name, last.body);
}

void check_sql(const char *expected, const char *sql)
{
    HW_AUTO_FREE char *value = test_sql(&pg, "%s", sql);

    ck_assert_msg(value != NULL && strcmp(value, expected) == 0, "%s: expected %s, got %s", sql,
                  expected, value != NULL ? value : "nothing");
}
