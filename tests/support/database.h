/*
 * Databases for tests of SQL: each is a copy of the migrated database of a test_postgres, made in a
 * moment, so that a test may do in it what cannot be undone. What goes wrong fails the test with
 * the statement and the server's message.
 */
#ifndef TEST_DATABASE_H
#define TEST_DATABASE_H

#include <libpq-fe.h>

#include "tests/support/servers.h"

struct test_database {
    char name[32];
    char url[256]; /* as superuser */
    PGconn *conn;  /* as superuser; the first connection */
};

/* Nobody may be connected to the server's database headwater, which is the original. */
void test_database_create(const struct test_postgres *pg, struct test_database *db);
void test_database_drop(const struct test_postgres *pg, struct test_database *db);

/* One more connection; user: NULL for the superuser. PQfinish. */
PGconn *test_database_connect(const struct test_database *db, const char *user);

/* Statements that must succeed. */
void test_run(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));

/* The first value, as text, malloc'ed; "(null)" and "(none)" for NULL and for no row. */
char *test_value(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));

/* Fails the test unless the statement's first value is expected. */
void test_expect(PGconn *conn, const char *expected, const char *sql, ...)
    __attribute__((format(printf, 3, 4)));

/* Fails the test unless the statement is refused: with this SQLSTATE, by this constraint ("" for
 * none), with text in its message, detail or hint. */
void test_refuse(PGconn *conn, const char *sqlstate, const char *constraint, const char *text,
                 const char *sql, ...) __attribute__((format(printf, 5, 6)));

#endif
