/*
 * A transaction that somebody forgot holds the writers' lock. Reads go on, writes wait in line for
 * a bounded time, and those that give up say whom they waited for.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

enum { WRITERS = 12, WRITE_CONNECTIONS = 2 };

static int blocked(void)
{
    HW_AUTO_FREE char *count =
        test_sql(&pg, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                      "AND application_name = 'headwater-api'");

    return (int)strtol(count, NULL, 10);
}

static int send_put(int i)
{
    const int fd = test_http_connect(api.port);
    HW_AUTO_FREE char *request =
        hw_sprintf("PUT /v1/nodes/w%d HTTP/1.1\r\nHost: a\r\n" JSON "%sContent-Length: 2\r\n\r\n{}",
                   i, i % 2 == 0 ? "" : "Idempotency-Key: w\r\n");

    test_http_puts(fd, request);
    return fd;
}

/* A session that has the writers' lock, and does nothing. */
static PGconn *hold(const char *application)
{
    HW_AUTO_FREE char *url = hw_sprintf("%s?application_name=%s", pg.url, application);
    PGconn *holder = PQconnectdb(url);

    ck_assert_int_eq(PQstatus(holder), CONNECTION_OK);
    PQclear(PQexec(holder, "BEGIN; INSERT INTO headwater.node (name) VALUES ('forgotten')"));
    return holder;
}

static void check_names(const struct test_answer *answer, PGconn *holder)
{
    HW_AUTO_FREE char *problem = test_answer_problem(answer);
    HW_AUTO_FREE char *backend = hw_sprintf("pg_terminate_backend(%d)", PQbackendPID(holder));
    HW_AUTO_FREE char *retry = test_answer_header(answer, "Retry-After");

    ck_assert_int_eq(answer->status, 503);
    ck_assert_str_eq(problem, "contention");
    ck_assert_ptr_nonnull(retry);
    ck_assert_msg(strstr(answer->body, "the-one-who-forgot") != NULL &&
                      strstr(answer->body, backend) != NULL,
                  "%s", answer->body);
}

START_TEST(test_forgotten_transaction)
{
    static const char *const reads[] = {"/v1/nodes", "/v1/configs", "/v1/fleet",
                                        "/readyz",   "/v1/audit",   "/v1/system"};
    static const char refused[] = "msg=\"requests are refused because somebody holds a lock";
    PGconn *holder = hold("the-one-who-forgot");
    int fds[WRITERS];

    for (int i = 0; i < WRITERS; i++)
        fds[i] = send_put(i);
    test_wait_for(blocked() == WRITE_CONNECTIONS, 30);
    for (size_t i = 0; i < 5 * HW_COUNT(reads); i++)
        ck_assert_int_eq(call("GET", reads[i % HW_COUNT(reads)], NULL, NULL), 200);
    ck_assert_int_eq(blocked(), WRITE_CONNECTIONS); /* so nobody has had to wait until these end */

    for (int i = 0; i < WRITERS; i++) {
        struct test_answer answer = test_http_receive(fds[i], false);

        check_names(&answer, holder);
        test_answer_free(&answer);
        close(fds[i]);
    }
    HW_AUTO_FREE char *log = test_read_file(api.program.log);
    const char *told = strstr(log, refused);
    ck_assert_ptr_nonnull(told);
    ck_assert_ptr_null(strstr(told + 1, refused));

    PQfinish(holder);
    ck_assert_int_eq(call("PUT", "/v1/nodes/w0", JSON, "{}"), 201);
    check_sql("1", "SELECT count(*) FROM headwater.node");
}
END_TEST

/* A token that got about can be revoked whatever writers of configuration do. */
START_TEST(test_tokens_do_not_wait)
{
    PGconn *holder;
    int fds[WRITERS];

    HW_AUTO_FREE char *secret = test_sql(&pg, "SELECT headwater.create_token('boss', 'admin')");
    free(test_sql(&pg, "SELECT headwater.create_token('leaked', 'viewer')"));
    HW_AUTO_FREE char *bearer = hw_sprintf("Authorization: Bearer %s\r\n", secret);

    test_wait_for(call("GET", "/v1/tokens", bearer, NULL) == 200, 30);
    holder = hold("the-one-who-forgot");
    for (int i = 0; i < WRITERS; i++) {
        HW_AUTO_FREE char *request =
            hw_sprintf("DELETE /v1/nodes/none%d HTTP/1.1\r\nHost: a\r\n%s\r\n", i, bearer);

        fds[i] = test_http_connect(api.port);
        test_http_puts(fds[i], request);
    }
    test_wait_for(blocked() == WRITE_CONNECTIONS, 30);
    ck_assert_int_eq(call("DELETE", "/v1/tokens/leaked", bearer, NULL), 204);
    ck_assert_int_eq(blocked(), WRITE_CONNECTIONS);
    PQfinish(holder);
    for (int i = 0; i < WRITERS; i++) {
        struct test_answer answer = test_http_receive(fds[i], false);

        ck_assert_int_eq(answer.status, 404);
        test_answer_free(&answer);
        close(fds[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api contention");
    TCase *all = tcase_create("contention");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_forgotten_transaction);
    tcase_add_test(all, test_tokens_do_not_wait);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
