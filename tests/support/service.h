/*
 * What a test program about headwater-api has one of each: a database, the service on it, and a
 * client that keeps its last answer. The names are short, since such a program is about little
 * else.
 */
#ifndef TEST_SERVICE_H
#define TEST_SERVICE_H

#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/servers.h"

#define JSON "Content-Type: application/json\r\n"

extern struct test_postgres pg;
extern struct test_api api;
extern struct test_answer last;

/* Fixtures: a server, with a migrated database and the service on it. */
void start_service(void);
void stop_service(void);
/* Or, where each test has a database of its own, a server for all of them, and for each test a copy
 * of the migrated database and the service on that. */
void start_cluster(void);
void stop_cluster(void);
void start_on_copy(void);
void stop_on_copy(void);

/* Asks, and returns the status of the answer, which becomes the last one. headers: whole lines, or
 * NULL. body: text, or NULL. */
int call(const char *method, const char *target, const char *headers, const char *body);
/* A field of the last answer, or NULL; until the next call of this. */
const char *header(const char *name);
/* Fails the test unless the last answer is this problem, or the first value of a statement this. */
void check_problem(int status, const char *name);
void check_sql(const char *expected, const char *sql);
/* Every node whose name is like that reports what became of what it is to run, as the reconciler
 * would hand it over; an error has a control character in its text. */
void report_nodes(const char *like, bool ok);

#endif
