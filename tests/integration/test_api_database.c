/*
 * An API without its database says why, in its log, at /readyz, in every answer and by the command
 * line: each reason once, in words that tell what to do, and never with a password.
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/standby.h"
#include "tests/support/suite.h"

#define PASSWORD "pa55-not-to-be-seen"

static struct test_postgres pg;
static struct test_api_under_test {
    struct test_program program;
    int port;
} api;

static void setup(void)
{
    test_postgres_start(&pg, true, NULL);
    free(test_sql(&pg, "ALTER ROLE headwater_api PASSWORD '" PASSWORD "'"));
    free(test_sql(&pg, "CREATE DATABASE empty TEMPLATE template0"));
    free(test_sql(&pg, "CREATE DATABASE older TEMPLATE headwater"));
    /* A role that must know its password, beside the others. */
    free(test_sql(
        &pg, "DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all headwater_viewer all "
             "reject''), (''host postgres headwater_api 127.0.0.1/32 scram-sha-256''), (''host "
             "all all 127.0.0.1/32 trust'')) TO %%L', current_setting('hba_file')); END $$"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
}

static void teardown(void)
{
    test_postgres_remove(&pg);
}

static bool log_has(const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(api.program.log);

    return strstr(log, text) != NULL;
}

static int times_in_log(const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(api.program.log);
    int times = 0;

    for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
        times++;
    return times;
}

static void start(const char *database)
{
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", api.port = test_free_port());
    const char *const argv[] = {"headwater-api", "--database", database, "--listen", listen, NULL};

    test_program_start(&api.program, argv, NULL);
    test_wait_for(log_has("msg=serving"), 30);
}

static void stop(void)
{
    ck_assert_int_eq(test_program_stop(&api.program, SIGTERM), 0);
    ck_assert(!log_has(PASSWORD));
}

static bool is_ready(void)
{
    struct test_answer answer = test_http(api.port, "GET", "/readyz", NULL, NULL, 0);
    const bool ready = answer.status == 200;

    test_answer_free(&answer);
    return ready;
}

/* Does this answer have both words, and no secret? */
static bool answers(const char *path, const char *found, const char *advice)
{
    struct test_answer answer = test_http(api.port, "GET", path, NULL, NULL, 0);
    const bool right = answer.status == 503 && strstr(answer.body, found) != NULL &&
                       strstr(answer.body, advice) != NULL;

    ck_assert_ptr_null(strstr(answer.body, PASSWORD));
    test_answer_free(&answer);
    return right;
}

static void command_line_says(const char *found, const char *advice)
{
    HW_AUTO_FREE char *server = hw_sprintf("http://127.0.0.1:%d", api.port);
    HW_AUTO_FREE char *said = NULL;
    const char *const argv[] = {"headwater", "--server", server, "get", "nodes", NULL};

    ck_assert_int_ne(test_program_run(argv, NULL, NULL, &said), 0);
    ck_assert_msg(strstr(said, found) != NULL && strstr(said, advice) != NULL, "%s", said);
    ck_assert_ptr_null(strstr(said, PASSWORD));
    ck_assert_msg(strstr(said, "token") == NULL && strstr(said, "listens for") == NULL, "%s", said);
}

static void check_all(const char *database, const char *found, const char *advice)
{
    start(database);
    test_wait_for(log_has(found) && log_has(advice), 30);
    test_wait_for(answers("/readyz", found, advice), 30);
    test_wait_for(answers("/v1/nodes", found, advice), 30);
    command_line_says(found, advice);
}

static void check_says(const char *database, const char *found, const char *advice)
{
    check_all(database, found, advice);
    stop();
}

START_TEST(test_nobody_listens)
{
    HW_AUTO_FREE char *url = hw_sprintf(
        "postgresql://headwater_api:" PASSWORD "@127.0.0.1:%d/headwater", test_free_port());

    check_all(url, "Connection refused", "HEADWATER_DATABASE_URL");
    /* Four connections that try again and again: it is said once. */
    for (int i = 0; i < 50; i++)
        ck_assert(!is_ready());
    ck_assert_int_eq(times_in_log("msg=\"the database cannot be reached"), 1);
    stop();
}
END_TEST

START_TEST(test_wrong_names)
{
    HW_AUTO_FREE char *none = hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/nope", pg.port);
    HW_AUTO_FREE char *nobody = hw_sprintf("postgresql://nobody@127.0.0.1:%d/headwater", pg.port);

    check_says(none, "3D000", "correct the name in --database");
    check_says(nobody, "does not exist", "correct the user in --database");
    check_says("postgresql://headwater_api@no-such-host.invalid/headwater",
               "could not translate host name", "DNS does not know the host");
}
END_TEST

START_TEST(test_refused_roles)
{
    HW_AUTO_FREE char *wrong =
        hw_sprintf("postgresql://headwater_api:" PASSWORD "x@127.0.0.1:%d/postgres", pg.port);
    HW_AUTO_FREE char *without =
        hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/postgres", pg.port);
    HW_AUTO_FREE char *outside =
        hw_sprintf("postgresql://headwater_viewer@127.0.0.1:%d/headwater", pg.port);

    check_says(wrong, "28P01", "the password is wrong");
    check_says(without, "no password supplied", "asks for a password");
    check_says(outside, "pg_hba.conf", "add one, and reload");
}
END_TEST

START_TEST(test_not_postgresql)
{
    struct test_nats nats;

    test_nats_start(&nats);
    HW_AUTO_FREE char *url =
        hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/headwater", nats.port);
    check_says(url, "received invalid response", "not PostgreSQL: correct host and port");
    test_nats_remove(&nats);
}
END_TEST

START_TEST(test_tls)
{
    HW_AUTO_FREE char *required = hw_sprintf("%s?sslmode=require", pg.api_url);
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *cert = NULL;

    check_says(required, "does not support SSL", "ssl = on");
    free(test_sql(&pg, "COPY (SELECT) TO PROGRAM 'openssl req -x509 -newkey ec -pkeyopt "
                       "ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.crt -days 3 "
                       "-subj /CN=elsewhere -addext subjectAltName=DNS:elsewhere 2>&1 && chmod 600 "
                       "server.key'"));
    cert = test_sql(&pg, "SELECT pg_read_file('server.crt')");
    HW_AUTO_FREE char *root = hw_sprintf("%s/root.pem", dir);
    FILE *file = fopen(root, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(cert, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    free(test_sql(&pg, "ALTER SYSTEM SET ssl = on"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
    HW_AUTO_FREE char *right = hw_sprintf("%s?sslmode=verify-ca&sslrootcert=%s", pg.api_url, root);
    HW_AUTO_FREE char *name = hw_sprintf("%s?sslmode=verify-full&sslrootcert=%s", pg.api_url, root);
    HW_AUTO_FREE char *missing =
        hw_sprintf("%s?sslmode=verify-full&sslrootcert=%s.none", pg.api_url, root);
    test_wait_for(test_sql_is(&pg, "on", "SHOW ssl"), 30);
    start(right);
    test_wait_for(is_ready(), 30);
    stop();
    check_says(name, "does not match host name", "names other hosts");
    check_says(missing, "root certificate file", "sslrootcert must name a file");
    free(test_sql(&pg, "ALTER SYSTEM RESET ssl"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
}
END_TEST

START_TEST(test_schema_missing_and_older)
{
    HW_AUTO_FREE char *empty = hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/empty", pg.port);
    HW_AUTO_FREE char *older = hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/older", pg.port);
    HW_AUTO_FREE char *owner = hw_sprintf("postgresql://postgres@127.0.0.1:%d/empty", pg.port);
    HW_AUTO_FREE char *change = hw_sprintf("postgresql://postgres@127.0.0.1:%d/older", pg.port);

    check_all(empty, "does not have the schema", "run headwater-api migrate");
    ck_assert_int_eq(times_in_log("run headwater-api migrate"), 1);
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-api", "migrate", "--database", owner, NULL},
                         NULL, NULL, NULL),
        0);
    test_wait_for(is_ready(), 30);
    test_wait_for(log_has("the database is as this program needs it"), 30);
    stop();

    PGconn *conn = PQconnectdb(change);
    PQclear(PQexec(conn, "BEGIN"));
    PQclear(PQexec(conn, "CREATE TABLE kept AS SELECT * FROM headwater.migration"));
    PQclear(PQexec(conn, "DELETE FROM headwater.migration WHERE version = (SELECT max(version) "
                         "FROM headwater.migration)"));
    PGresult *done = PQexec(conn, "COMMIT");
    ck_assert_msg(strcmp(PQcmdStatus(done), "COMMIT") == 0, "%s", PQerrorMessage(conn));
    PQclear(done);
    start(older);
    test_wait_for(
        log_has("the database's schema is at version") && log_has("run headwater-api migrate"), 30);
    test_wait_for(answers("/readyz", "schema is at version", "run headwater-api migrate"), 30);
    PQclear(PQexec(conn, "INSERT INTO headwater.migration TABLE kept ON CONFLICT DO NOTHING"));
    PQfinish(conn);
    test_wait_for(is_ready(), 30);
    test_wait_for(log_has("the database is as this program needs it"), 30);
    stop();
}
END_TEST

START_TEST(test_full_and_shutting_down)
{
    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT 0"));
    check_all(pg.api_url, "53300", "max_connections");
    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT -1"));
    test_wait_for(is_ready(), 30);
    ck_assert(log_has("msg=\"the database is back\""));
    ck_assert(log_has("lasted_s="));

    /* A smart shutdown waits for this session, and lets nobody else in. */
    PGconn *conn = PQconnectdb(pg.url);
    ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
    stop();
    kill(pg.pid, SIGTERM);
    check_all(pg.api_url, "57P03", "goes on by itself");
    PQfinish(conn);
    test_postgres_stop(&pg);
    test_postgres_restart(&pg);
    test_wait_for(is_ready(), 30);
    test_wait_for(log_has("msg=\"the database is back\""), 30);
    stop();
}
END_TEST

static void put(const char *target, int status, const char *problem, const char *words)
{
    struct test_answer answer =
        test_http(api.port, "PUT", target, "Content-Type: application/json\r\n", "{}", 2);
    HW_AUTO_FREE char *found = status >= 400 ? test_answer_problem(&answer) : NULL;

    ck_assert_msg(answer.status == status && strstr(answer.body, words) != NULL, "%s%s",
                  answer.head, answer.body);
    if (problem != NULL)
        ck_assert_str_eq(found, problem);
    test_answer_free(&answer);
}

START_TEST(test_takes_no_writes)
{
    static const char said[] = "msg=\"the database takes no writes";

    start(pg.api_url);
    test_wait_for(is_ready(), 30);
    free(test_sql(&pg, "ALTER SYSTEM SET default_transaction_read_only = on"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
    test_wait_for(answers("/readyz", "takes no writes", "default_transaction_read_only is on"), 30);
    for (int i = 0; i < 5; i++)
        put("/v1/nodes/ro", 503, "not-ready", "default_transaction_read_only is on there");
    ck_assert_int_eq(times_in_log(said), 1);
    free(test_sql(&pg, "ALTER SYSTEM RESET default_transaction_read_only"));
    free(test_sql(&pg, "SELECT pg_reload_conf()"));
    test_wait_for(is_ready(), 60);
    test_wait_for(log_has("msg=\"the database takes writes again"), 60);
    stop();
}
END_TEST

/* A standby takes neither writes nor LISTEN. */
START_TEST(test_standby)
{
    struct test_postgres primary, standby;

    test_postgres_start(&primary, true, NULL);
    test_standby_start(&primary, NULL, NULL, &standby);
    test_standby_wait(&primary, &standby);
    start(standby.api_url);
    test_wait_for(log_has("msg=\"the database takes no writes") &&
                      log_has("msg=\"cannot listen for what happens in the database"),
                  30);
    test_wait_for(log_has("it is a standby, and notifications come from servers"), 30);
    test_wait_for(answers("/readyz", "takes no writes", "it is a standby"), 30);
    for (int i = 0; i < 5; i++)
        put("/v1/nodes/ro", 503, NULL, "standby");
    ck_assert_int_eq(times_in_log("msg=\"the database takes no writes"), 1);
    ck_assert_int_eq(times_in_log("msg=\"cannot listen for"), 1);
    stop();
    test_postgres_remove(&standby);
    test_postgres_remove(&primary);
}
END_TEST

/* Some connections are there, and no more are let in. */
START_TEST(test_too_few_connections)
{
    static const char said[] = "msg=\"a connection to the database is refused";

    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT 2"));
    start(pg.api_url);
    test_wait_for(log_has(said), 30);
    test_wait_for(answers("/readyz", "53300", "CONNECTION LIMIT"), 60);
    ck_assert_int_eq(times_in_log(said), 1);
    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT -1"));
    test_wait_for(is_ready(), 60);
    test_wait_for(log_has("msg=\"all connections to the database are there"), 60);
    put("/v1/nodes/again", 201, NULL, "again");

    /* The one that listens is alone in that. */
    const int before = times_in_log("msg=\"cannot listen for"); /* it may have come third above */

    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT 6"));
    free(test_sql(&pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                       "WHERE application_name = 'headwater-api listener'"));
    test_wait_for(answers("/readyz", "53300", "CONNECTION LIMIT"), 60);
    test_wait_for(log_has("msg=\"cannot listen for"), 30);
    free(test_sql(&pg, "ALTER ROLE headwater_api CONNECTION LIMIT -1"));
    test_wait_for(is_ready(), 60);
    ck_assert_int_eq(times_in_log("msg=\"cannot listen for"), before + 1);
    ck_assert_int_eq(times_in_log(said), 1);
    stop();
}
END_TEST

/* A statement that the database ends, here that of a dry run. */
START_TEST(test_too_slow)
{
    free(test_sql(&pg,
                  "CREATE FUNCTION public.hurry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                  "PERFORM set_config('statement_timeout', '100ms', true); RETURN NEW; END $$;"
                  "CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ "
                  "BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;"
                  "CREATE TRIGGER hurry BEFORE INSERT ON headwater.node "
                  "FOR EACH ROW EXECUTE FUNCTION public.hurry();"
                  "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON headwater.node DEFERRABLE "
                  "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.dawdle()"));
    start(pg.api_url);
    test_wait_for(is_ready(), 30);
    put("/v1/nodes/slow?dry_run=true", 504, "too-slow", "statement timeout");
    put("/v1/nodes/slow?dry_run=true", 504, "too-slow", "nothing was changed");
    ck_assert_int_eq(times_in_log("msg=\"the database ended a statement of a request"), 2);
    stop();
    free(test_sql(&pg, "DROP FUNCTION public.hurry CASCADE; DROP FUNCTION public.dawdle CASCADE"));
}
END_TEST

/* Who waits for a node when the database goes is told at the end of the time. */
START_TEST(test_lost_while_a_client_waits)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1');"
                       "INSERT INTO headwater.config (name, content) VALUES ('c', '{}');"
                       "INSERT INTO headwater.assignment (name, config, node)"
                       " VALUES ('a', 'c', 'n1')"));
    HW_AUTO_FREE char *lsn = test_sql(&pg, "SELECT pg_current_wal_insert_lsn()");
    HW_AUTO_FREE char *request =
        hw_sprintf("GET /v1/wait?lsn=%s&timeout=5s HTTP/1.1\r\nHost: localhost\r\n\r\n", lsn);

    start(pg.api_url);
    test_wait_for(is_ready(), 30);
    const int fd = test_http_connect(api.port);
    test_http_puts(fd, request);
    test_wait_for(test_sql_is(&pg, "1",
                              "SELECT count(*) FROM pg_stat_activity WHERE query LIKE "
                              "'%%headwater.judge_waits%%' AND application_name LIKE "
                              "'headwater-api%%'"),
                  30);
    test_postgres_stop(&pg);
    struct test_answer answer = test_http_receive(fd, false);
    ck_assert_int_eq(answer.status, 503);
    ck_assert_msg(strstr(answer.body, "cannot be reached to find out") != NULL &&
                      strstr(answer.body, "HEADWATER_DATABASE_URL") != NULL,
                  "%s", answer.body);
    test_answer_free(&answer);
    close(fd);
    stop();
    test_postgres_restart(&pg);
}
END_TEST

TEST_MAIN_BETWEEN("api without a database", 240, setup, teardown, test_nobody_listens,
                  test_wrong_names, test_refused_roles, test_not_postgresql, test_tls,
                  test_schema_missing_and_older, test_full_and_shutting_down, test_takes_no_writes,
                  test_standby, test_too_few_connections, test_too_slow,
                  test_lost_while_a_client_waits)
