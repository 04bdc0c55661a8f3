#include "tests/support/service.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

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

static struct test_postgres cluster;

void start_cluster(void)
{
    test_postgres_start(&cluster, true, NULL);
}

void stop_cluster(void)
{
    test_postgres_remove(&cluster);
}

static void name_database(char *url, size_t size, const char *name)
{
    char *slash = strrchr(url, '/');

    ck_assert_ptr_nonnull(slash);
    snprintf(slash + 1, size - (size_t)(slash + 1 - url), "%s", name);
}

void start_on_copy(void)
{
    static int count;
    HW_AUTO_FREE char *name = hw_sprintf("test_%ld_%d", (long)getpid(), ++count);

    free(test_sql(&cluster, "CREATE DATABASE %s TEMPLATE headwater", name));
    pg = cluster;
    name_database(pg.url, sizeof(pg.url), name);
    name_database(pg.api_url, sizeof(pg.api_url), name);
    test_api_start(&api, pg.api_url, NULL);
}

void stop_on_copy(void)
{
    test_api_stop(&api);
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

void report_nodes(const char *like, bool ok)
{
    static int kv_revision;

    free(test_sql(
        &pg,
        "SELECT count(*) FROM headwater.report((SELECT jsonb_agg(jsonb_build_object('kv_created', "
        "'2026-01-01', 'kv_revision', %d, 'value', jsonb_build_object('node', node, 'state', '%s', "
        "'%s', jsonb_build_object('revision', revision, 'digest', digest, 'epoch', 1, 'lsn', "
        "wal_lsn, 'stage', 'apply', 'error', E'no such \\x1b[31mcrate')))) "
        "FROM headwater.desired WHERE node LIKE '%s'))",
        ++kv_revision, ok ? "applied" : "failed", ok ? "running" : "failed", like));
}
