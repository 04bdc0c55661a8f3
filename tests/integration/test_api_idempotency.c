/* Idempotency-Key: what is sent twice is done once, whatever happens in between. */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

#define KEY(k) "Idempotency-Key: " k "\r\n"

static bool same(const struct test_answer *a, const struct test_answer *b)
{
    HW_AUTO_FREE char *etag_a = test_answer_header(a, "ETag");
    HW_AUTO_FREE char *etag_b = test_answer_header(b, "ETag");
    HW_AUTO_FREE char *location_a = test_answer_header(a, "Location");
    HW_AUTO_FREE char *location_b = test_answer_header(b, "Location");

    return a->status == b->status && strcmp(a->body, b->body) == 0 &&
           (etag_a == NULL) == (etag_b == NULL) && (etag_a == NULL || !strcmp(etag_a, etag_b)) &&
           (location_a == NULL) == (location_b == NULL) &&
           (location_a == NULL || !strcmp(location_a, location_b));
}

START_TEST(test_replay)
{
    static const struct {
        const char *method, *target, *headers, *body;
        int status;
    } cases[] = {
        {"PUT", "/v1/nodes/replay", JSON KEY("node"), "{}", 201},
        {"PUT", "/v1/configs/replay", JSON KEY("config"), "{\"a\":1}", 201},
        {"PUT", "/v1/configs/replay", JSON KEY("config 2"), "{\"a\":2}", 200},
        {"POST", "/v1/configs/replay/rollback", JSON KEY("back"), "{\"revision\":1}", 200},
        {"PUT", "/v1/configs/bytes", "Content-Type: application/octet-stream\r\n" KEY("bytes"),
         "\x01\xff", 201},
        {"PUT", "/v1/assignments/replay", JSON KEY("assignment"),
         "{\"config\":\"replay\",\"node\":\"replay\"}", 201},
        {"DELETE", "/v1/assignments/replay", KEY("gone"), NULL, 204},
    };
    struct test_answer first[HW_COUNT(cases)];

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        ck_assert_msg(call(cases[i].method, cases[i].target, cases[i].headers, cases[i].body) ==
                          cases[i].status,
                      "%zu: %s", i, last.body);
        ck_assert_ptr_nonnull(header("Headwater-LSN"));
        ck_assert_ptr_null(header("Idempotency-Replayed"));
        first[i] = last;
        last = (struct test_answer){0};
    }
    HW_AUTO_FREE char *rev = test_sql(&pg, "SELECT rev FROM headwater.changelog_head");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        call(cases[i].method, cases[i].target, cases[i].headers, cases[i].body);
        ck_assert_msg(same(&last, &first[i]), "%zu: %s%s", i, last.head, last.body);
        ck_assert_str_eq(header("Idempotency-Replayed"), "true");
        ck_assert_ptr_nonnull(header("Headwater-LSN"));
        test_answer_free(&first[i]);
    }
    check_sql(rev, "SELECT rev FROM headwater.changelog_head");
}
END_TEST

START_TEST(test_reused)
{
    ck_assert_int_eq(call("PUT", "/v1/nodes/reused", JSON KEY("reused"), "{}"), 201);
    call("PUT", "/v1/nodes/reused", JSON KEY("reused"), "{ }");
    check_problem(422, "idempotency-key-reused");
    call("PUT", "/v1/nodes/reused2", JSON KEY("reused"), "{}");
    check_problem(422, "idempotency-key-reused");
    call("PUT", "/v1/nodes/reused?message=x", JSON KEY("reused"), "{}");
    check_problem(422, "idempotency-key-reused");
    call("PUT", "/v1/nodes/reused", JSON KEY("reused") "If-Match: *\r\n", "{}");
    check_problem(422, "idempotency-key-reused");
    call("DELETE", "/v1/nodes/reused", KEY("reused"), NULL);
    check_problem(422, "idempotency-key-reused");
    check_sql("1", "SELECT count(*) FROM headwater.node WHERE name LIKE 'reused%'");
}
END_TEST

/* What was refused was not done: it may be tried again with its key. */
START_TEST(test_refused)
{
    static const char body[] = "{\"config\":\"refused\",\"selector\":{\"none\":1}}";

    call("PUT", "/v1/assignments/refused", JSON KEY("refused"), body);
    check_problem(422, "refused");
    call("DELETE", "/v1/nodes/refused", KEY("refused"), NULL);
    check_problem(404, "no-such-resource");
    check_sql("0", "SELECT count(*) FROM headwater.idempotency WHERE key = 'refused'");
    ck_assert_int_eq(call("PUT", "/v1/configs/refused", JSON, "{}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/assignments/refused", JSON KEY("refused"), body), 201);
    /* A dry run takes no key, and one that was used does not answer for it. */
    ck_assert_int_eq(call("PUT", "/v1/assignments/refused?dry_run=true", JSON KEY("refused"), body),
                     200);
    ck_assert_ptr_null(header("Idempotency-Replayed"));
}
END_TEST

START_TEST(test_keys)
{
    HW_AUTO_FREE char *longest = hw_alloc(257);

    call("PUT", "/v1/nodes/keys", JSON "Idempotency-Key: \r\n", "{}");
    check_problem(400, "malformed-request");
    call("PUT", "/v1/nodes/keys", JSON KEY("\xc3\xbc"), "{}");
    check_problem(400, "malformed-request");
    call("PUT", "/v1/nodes/keys", JSON KEY("a") KEY("b"), "{}");
    check_problem(400, "malformed-request");
    memset(longest, 'k', 256);
    HW_AUTO_FREE char *too_long = hw_sprintf(JSON "Idempotency-Key: %s\r\n", longest);
    call("PUT", "/v1/nodes/keys", too_long, "{}");
    check_problem(400, "malformed-request");
    longest[255] = '\0';
    HW_AUTO_FREE char *fits = hw_sprintf(JSON "Idempotency-Key: %s\r\n", longest);
    ck_assert_int_eq(call("PUT", "/v1/nodes/keys", fits, "{}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/nodes/keys", fits, "{}"), 201);
    /* Quotes and the like are text. */
    ck_assert_int_eq(call("PUT", "/v1/nodes/keys2",
                          JSON KEY("'; DROP TABLE headwater.idempotency; -- \\' \" $1 %s"), "{}"),
                     201);
    check_sql("1", "SELECT count(*) FROM headwater.idempotency WHERE key LIKE '''; DROP TABLE%'");
    /* Reads have none. */
    ck_assert_int_eq(call("GET", "/v1/nodes/keys", KEY("keys"), NULL), 200);
    check_sql("0", "SELECT count(*) FROM headwater.idempotency WHERE key = 'keys'");
}
END_TEST

START_TEST(test_old_ones_go)
{
    ck_assert_int_eq(call("PUT", "/v1/nodes/old", JSON KEY("old"), "{}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/nodes/old2", JSON KEY("older"), "{}"), 201);
    free(test_sql(&pg, "UPDATE headwater.idempotency "
                       "SET created_at = created_at - interval '25 hours' WHERE key LIKE 'old%%'"));
    ck_assert_int_eq(call("PUT", "/v1/nodes/old", JSON KEY("old"), "{}"), 200);
    ck_assert_ptr_null(header("Idempotency-Replayed"));
    check_sql("old",
              "SELECT string_agg(key, ' ') FROM headwater.idempotency WHERE key LIKE 'old%'");
}
END_TEST

static PGconn *hold_lock(const struct test_postgres *server)
{
    PGconn *conn = PQconnectdb(server->url);

    PQclear(PQexec(conn, "BEGIN"));
    PGresult *result = PQexec(conn, "SELECT 1 FROM headwater.changelog_head FOR UPDATE");
    ck_assert_int_eq(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    return conn;
}

static bool is_blocked(const struct test_postgres *server)
{
    HW_AUTO_FREE char *waiting =
        test_sql(server, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                         "AND application_name = 'headwater-api'");

    return strcmp(waiting, "1") == 0;
}

static void send_put(int fd, const char *name, const char *key)
{
    HW_AUTO_FREE char *request = hw_sprintf("PUT /v1/nodes/%s HTTP/1.1\r\nHost: a\r\n" JSON
                                            "Idempotency-Key: %s\r\nContent-Length: 2\r\n\r\n{}",
                                            name, key);

    test_http_puts(fd, request);
}

START_TEST(test_in_use)
{
    PGconn *holder = hold_lock(&pg);
    const int fd = test_http_connect(api.port);

    send_put(fd, "busy", "busy");
    test_wait_for(is_blocked(&pg), 30);
    call("PUT", "/v1/nodes/busy", JSON KEY("busy"), "{}");
    check_problem(409, "idempotency-key-in-use");
    ck_assert_ptr_nonnull(header("Retry-After"));
    PQfinish(holder);
    struct test_answer first = test_http_receive(fd, false);
    ck_assert_int_eq(first.status, 201);
    call("PUT", "/v1/nodes/busy", JSON KEY("busy"), "{}");
    ck_assert(same(&last, &first));
    test_answer_free(&first);
    close(fd);
}
END_TEST

/* Many clients at once, one key each round: done once, and all hear the same in the end. */
START_TEST(test_race)
{
    enum { CLIENTS = 24, ROUNDS = 6 };

    for (int round = 0; round < ROUNDS; round++) {
        HW_AUTO_FREE char *name = hw_sprintf("race%d", round);
        HW_AUTO_FREE char *fields = hw_sprintf(JSON "Idempotency-Key: %s\r\n", name);
        HW_AUTO_FREE char *target = hw_sprintf("/v1/nodes/%s", name);
        int fds[CLIENTS], firsts = 0;

        for (int i = 0; i < CLIENTS; i++)
            fds[i] = test_http_connect(api.port);
        for (int i = 0; i < CLIENTS; i++)
            send_put(fds[i], name, name);
        for (int i = 0; i < CLIENTS; i++) {
            struct test_answer answer = test_http_receive(fds[i], false);
            HW_AUTO_FREE char *replayed = test_answer_header(&answer, "Idempotency-Replayed");

            ck_assert_msg(answer.status == 201 || answer.status == 409, "%s", answer.body);
            firsts += answer.status == 201 && replayed == NULL;
            test_answer_free(&answer);
            close(fds[i]);
        }
        ck_assert_int_eq(firsts, 1);
        ck_assert_int_eq(call("PUT", target, fields, "{}"), 201);
        ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    }
}
END_TEST

static void end_backends(const struct test_postgres *server)
{
    free(test_sql(server, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                          "WHERE application_name = 'headwater-api'"));
}

/* The database is lost at some moment of a write; the same request again tells what came of it,
 * and in the end it was done once. */
START_TEST(test_lost_connection)
{
    enum { ROUNDS = 40 };

    for (int round = 0; round < ROUNDS; round++) {
        HW_AUTO_FREE char *name = hw_sprintf("lost%d", round);
        HW_AUTO_FREE char *fields = hw_sprintf(JSON "Idempotency-Key: %s\r\n", name);
        HW_AUTO_FREE char *target = hw_sprintf("/v1/configs/%s", name);
        HW_AUTO_FREE char *request = hw_sprintf("PUT %s HTTP/1.1\r\nHost: a\r\n%s"
                                                "Content-Length: 2\r\n\r\n{}",
                                                target, fields);
        PGconn *killer = PQconnectdb(pg.url);
        const int fd = test_http_connect(api.port);

        test_http_puts(fd, request);
        for (int i = 0; i < round % 8; i++)
            PQclear(PQexec(killer, "SELECT 1"));
        end_backends(&pg);
        PQfinish(killer);
        struct test_answer first = test_http_receive(fd, false);

        close(fd);
        ck_assert_msg(first.status == 201 || first.status == 503, "%s", first.body);
        test_wait_for(({
                          call("PUT", target, fields, "{}");
                          ck_assert_msg(last.status == 201 || last.status == 503 ||
                                            last.status == 409,
                                        "%s", last.body);
                          last.status == 201;
                      }),
                      60);
        if (first.status == 201)
            ck_assert(same(&first, &last));
        test_answer_free(&first);
        HW_AUTO_FREE char *done = test_sql(
            &pg, "SELECT count(*) FROM headwater.config_revision WHERE config = '%s'", name);
        ck_assert_str_eq(done, "1");
    }
}
END_TEST

static void check_outcome_unknown(int fd)
{
    struct test_answer answer = test_http_receive(fd, false);
    HW_AUTO_FREE char *problem = test_answer_problem(&answer);

    ck_assert_int_eq(answer.status, 503);
    ck_assert_str_eq(problem, "commit-outcome-unknown");
    test_answer_free(&answer);
    close(fd);
}

static bool waits_for_standby(void)
{
    HW_AUTO_FREE char *waiting =
        test_sql(&pg, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
                      "AND application_name = 'headwater-api'");

    return strcmp(waiting, "1") == 0;
}

/* Lost behind the COMMIT, before anyone heard of it: the moment that keys are for. A standby that
 * never comes keeps a transaction there, committed and unanswered. */
START_TEST(test_committed_unheard)
{
    const int fd = test_http_connect(api.port);

    free(test_sql(&pg, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
    test_wait_for(({
                      HW_AUTO_FREE char *set = test_sql(&pg, "SHOW synchronous_standby_names");

                      strcmp(set, "nobody") == 0;
                  }),
                  30);
    send_put(fd, "unheard", "unheard");
    test_wait_for(waits_for_standby(), 30);
    free(test_sql(&pg, "ALTER SYSTEM RESET synchronous_standby_names"));
    end_backends(&pg);
    check_outcome_unknown(fd);
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
    test_wait_for(call("PUT", "/v1/nodes/unheard", JSON KEY("unheard"), "{}") == 201, 60);
    ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    ck_assert_str_eq(header("Location"), "/v1/nodes/unheard");
    check_sql("1", "SELECT count(*) FROM headwater.audit WHERE name = 'unheard'");
}
END_TEST

/* Committed, and what comes behind it fails: here the database does not tell the position. */
START_TEST(test_committed_whatever_follows)
{
    static const char function[] = "FUNCTION pg_catalog.pg_current_wal_insert_lsn()";

    free(test_sql(&pg, "REVOKE EXECUTE ON %s FROM PUBLIC", function));
    free(test_sql(&pg, "GRANT EXECUTE ON %s TO headwater_owner", function));
    for (int i = 0; i < 2; i++) {
        const char *headers = i == 0 ? JSON : JSON KEY("behind");

        ck_assert_int_eq(
            call("PUT", "/v1/nodes/behind", headers, i == 0 ? "{}" : "{\"description\":\"again\"}"),
            i == 0 ? 201 : 200);
        ck_assert_ptr_null(header("Headwater-LSN"));
        check_sql(header("Headwater-Change"),
                  "SELECT version FROM headwater.node WHERE name = 'behind'");
    }
    free(test_sql(&pg, "GRANT EXECUTE ON %s TO PUBLIC", function));
    ck_assert_int_eq(
        call("PUT", "/v1/nodes/behind", JSON KEY("behind"), "{\"description\":\"again\"}"), 200);
    ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    ck_assert_ptr_nonnull(header("Headwater-LSN"));
}
END_TEST

/* Lost in the COMMIT, before it was done. */
START_TEST(test_uncommitted)
{
    PGconn *holder = PQconnectdb(pg.url);
    const int fd = test_http_connect(api.port);

    /* A deferred trigger keeps the COMMIT itself waiting. */
    free(test_sql(&pg, "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ "
                       "BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$"));
    free(test_sql(&pg,
                  "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON headwater.node "
                  "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.wait()"));
    PQclear(PQexec(holder, "SELECT pg_advisory_lock(4711)"));
    send_put(fd, "unknown", "unknown");
    test_wait_for(is_blocked(&pg), 30);
    end_backends(&pg);
    check_outcome_unknown(fd);
    PQfinish(holder);
    test_wait_for(call("PUT", "/v1/nodes/unknown", JSON KEY("unknown"), "{}") == 201, 60);
    ck_assert_ptr_null(header("Idempotency-Replayed"));
    call("PUT", "/v1/nodes/unknown", JSON KEY("unknown"), "{}");
    ck_assert_str_eq(header("Idempotency-Replayed"), "true");
    free(test_sql(&pg, "DROP TRIGGER wait ON headwater.node"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api idempotency");
    TCase *all = tcase_create("idempotency");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_replay);
    tcase_add_test(all, test_reused);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_keys);
    tcase_add_test(all, test_old_ones_go);
    tcase_add_test(all, test_in_use);
    tcase_add_test(all, test_race);
    tcase_add_test(all, test_lost_connection);
    tcase_add_test(all, test_committed_unheard);
    tcase_add_test(all, test_committed_whatever_follows);
    tcase_add_test(all, test_uncommitted);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
