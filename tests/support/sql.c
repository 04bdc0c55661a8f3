#include "tests/support/sql.h"

#include <stdio.h>

struct test_postgres server;
struct test_database db;

void start_server(void)
{
    test_postgres_start(&server, true, NULL);
}

void remove_server(void)
{
    test_postgres_remove(&server);
}

void create_database(void)
{
    test_database_create(&server, &db);
    RUN("SET search_path = headwater");
}

void drop_database(void)
{
    test_database_drop(&server, &db);
}

void make_database(const char *options, const char *user, char url[256])
{
    RUN("DROP DATABASE IF EXISTS %s_new", db.name);
    RUN("CREATE DATABASE %s_new TEMPLATE template0 %s", db.name, options);
    snprintf(url, 256, "postgresql://%s@127.0.0.1:%d/%s_new", user, server.port, db.name);
}

void make_fleet(void)
{
    RUN("INSERT INTO node (name, labels) VALUES ('n1', '{\"site\": \"a\"}'), ('n2', '{\"site\": "
        "\"a\"}'), ('n3', '{\"site\": \"b\"}'), ('n4', '{\"site\": \"b\"}')");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\":1,\"log\":{\"level\":3}}'), "
        "('site-b', '{\"log\":{\"level\":5}}')");
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
        "('everyone', 'base', '{}', 0), ('b', 'site-b', '{\"site\": \"b\"}', 10)");
}

void expect_no_drift(void)
{
    EXPECT("0", "SELECT count(*) FROM desired_drift()");
    EXPECT("0", "SELECT recompute()");
}

void test_sql_add(Suite *suite, double timeout_s, SFun start, SFun create,
                  const TTest *const *tests, size_t count)
{
    TCase *tcase = tcase_create("sql");

    tcase_set_timeout(tcase, timeout_s);
    tcase_add_unchecked_fixture(tcase, start, remove_server);
    tcase_add_checked_fixture(tcase, create, drop_database);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}
