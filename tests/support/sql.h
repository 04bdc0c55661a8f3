/*
 * What a test program about the schema has one of each: a server, and for each test a database of
 * its own, which is a copy of the migrated one, with search_path at headwater. The names are short,
 * since such a program is about little else.
 */
#ifndef TEST_SQL_H
#define TEST_SQL_H

#include "tests/support/database.h"
#include "tests/support/suite.h"

extern struct test_postgres server;
extern struct test_database db;

#define RUN(...)    test_run(db.conn, __VA_ARGS__)
#define EXPECT(...) test_expect(db.conn, __VA_ARGS__)
#define REFUSE(...) test_refuse(db.conn, __VA_ARGS__)

/* Fixtures: of the program, and of each test. */
void start_server(void);
void remove_server(void);
void create_database(void);
void drop_database(void);

/* One more database, which is empty and is called as db is, with _new behind it; its URL for a
 * user. options: of CREATE DATABASE. Drops the one of before. */
void make_database(const char *options, const char *user, char url[256]);

/* Two sites of two nodes, a config for all and one for site b. */
void make_fleet(void);
/* What the nodes of make_fleet should run at first, as DESIRED says it. */
#define FLEET                                                                                      \
    "n1 1 {\"rate\":1,\"log\":{\"level\":3}}\nn2 1 {\"rate\":1,\"log\":{\"level\":3}}\n"           \
    "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": 1}"
/* What nodes should run, one line a node: name, revision, content (as text). */
#define DESIRED                                                                                    \
    "SELECT coalesce(string_agg(concat_ws(' ', d.node, d.revision, convert_from(bytes_of("         \
    "b.content, b.encoding), 'UTF8')), E'\\n' ORDER BY d.node), '') "                              \
    "FROM desired AS d JOIN blob AS b USING (digest)"

/* Fails the test unless a computation from scratch would change nothing. */
void expect_no_drift(void);

/* The main() of such a program: all tests on one server, at most so many seconds each.
 * TEST_SQL_MAIN_WITH names the fixtures that start the server and make a test's database. */
#define TEST_SQL_MAIN(name, timeout_s, ...)                                                        \
    TEST_SQL_MAIN_WITH(name, timeout_s, start_server, create_database, __VA_ARGS__)

#define TEST_SQL_MAIN_WITH(name, timeout_s, start, create, ...)                                    \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        Suite *suite = suite_create(name);                                                         \
                                                                                                   \
        test_sql_add(suite, timeout_s, start, create, tests, sizeof(tests) / sizeof(tests[0]));    \
        return test_suite_finish(suite);                                                           \
    }

void test_sql_add(Suite *suite, double timeout_s, SFun start, SFun create,
                  const TTest *const *tests, size_t count);

#endif
