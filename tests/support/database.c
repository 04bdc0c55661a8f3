#include "tests/support/database.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void drop_notice(void *arg, const char *message)
{
    (void)arg, (void)message;
}

PGconn *test_database_connect(const struct test_database *db, const char *user)
{
    const char *const keywords[] = {"dbname", "user", NULL};
    const char *const values[] = {db->url, user, NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 1);
    ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, drop_notice, NULL);
    return conn;
}

void test_database_create(const struct test_postgres *pg, struct test_database *db)
{
    snprintf(db->name, sizeof(db->name), "test_%d", (int)getpid());
    struct test_database original = {0};
    snprintf(original.url, sizeof(original.url), "postgresql://postgres@127.0.0.1:%d/postgres",
             pg->port);
    PGconn *conn = test_database_connect(&original, NULL);
    test_run(conn, "CREATE DATABASE %s TEMPLATE headwater", db->name);
    PQfinish(conn);
    snprintf(db->url, sizeof(db->url), "postgresql://postgres@127.0.0.1:%d/%s", pg->port, db->name);
    db->conn = test_database_connect(db, NULL);
}

void test_database_drop(const struct test_postgres *pg, struct test_database *db)
{
    PQfinish(db->conn);
    db->conn = NULL;
    free(test_sql(pg, "DROP DATABASE %s WITH (FORCE)", db->name));
}

static PGresult *exec_format(PGconn *conn, const char *sql, va_list args, char **text)
{
    ck_assert_int_ge(vasprintf(text, sql, args), 0);
    return PQexec(conn, *text);
}

static void must_succeed(const PGresult *result, const char *text)
{
    const ExecStatusType status = PQresultStatus(result);
    ck_assert_msg(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%.400s: %s", text,
                  PQresultErrorMessage(result));
}

void test_run(PGconn *conn, const char *sql, ...)
{
    char *text;
    va_list args;
    va_start(args, sql);
    PGresult *result = exec_format(conn, sql, args, &text);
    va_end(args);
    must_succeed(result, text);
    PQclear(result);
    free(text);
}

static char *take_value(PGresult *result, const char *text)
{
    must_succeed(result, text);
    char *value = strdup(PQntuples(result) == 0           ? "(none)"
                         : PQgetisnull(result, 0, 0) != 0 ? "(null)"
                                                          : PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

char *test_value(PGconn *conn, const char *sql, ...)
{
    char *text;
    va_list args;
    va_start(args, sql);
    PGresult *result = exec_format(conn, sql, args, &text);
    va_end(args);
    char *value = take_value(result, text);
    free(text);
    return value;
}

void test_expect(PGconn *conn, const char *expected, const char *sql, ...)
{
    char *text;
    va_list args;
    va_start(args, sql);
    PGresult *result = exec_format(conn, sql, args, &text);
    va_end(args);
    char *value = take_value(result, text);
    ck_assert_msg(strcmp(value, expected) == 0, "%.400s: got %.400s, expected %s", text, value,
                  expected);
    free(value);
    free(text);
}

static const char *field(const PGresult *result, int code)
{
    const char *value = PQresultErrorField(result, code);
    return value != NULL ? value : "";
}

void test_refuse(PGconn *conn, const char *sqlstate, const char *constraint, const char *message,
                 const char *sql, ...)
{
    char *text;
    va_list args;
    va_start(args, sql);
    PGresult *result = exec_format(conn, sql, args, &text);
    va_end(args);
    ck_assert_msg(PQresultStatus(result) == PGRES_FATAL_ERROR, "not refused: %.400s", text);
    ck_assert_msg(strcmp(field(result, PG_DIAG_SQLSTATE), sqlstate) == 0 &&
                      strcmp(field(result, PG_DIAG_CONSTRAINT_NAME), constraint) == 0,
                  "%.400s: SQLSTATE %s, constraint \"%s\", expected %s and \"%s\": %s", text,
                  field(result, PG_DIAG_SQLSTATE), field(result, PG_DIAG_CONSTRAINT_NAME), sqlstate,
                  constraint, PQresultErrorMessage(result));
    ck_assert_msg(strstr(field(result, PG_DIAG_MESSAGE_PRIMARY), message) != NULL ||
                      strstr(field(result, PG_DIAG_MESSAGE_DETAIL), message) != NULL ||
                      strstr(field(result, PG_DIAG_MESSAGE_HINT), message) != NULL,
                  "%.400s: \"%s\" is not in: %s", text, message, PQresultErrorMessage(result));
    PQclear(result);
    free(text);
}
