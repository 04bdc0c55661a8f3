/*
 * The programs, and a PostgreSQL that is frozen, or is not the server that is wanted: readiness is
 * red meanwhile, and all is back by itself.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/proxy.h"
#include "tests/support/standby.h"
#include "tests/support/suite.h"

enum { BACK_S = 30 };

static struct test_pipeline p;
static struct proxy *proxy;
static struct test_program api;
static int api_port;

static void aim_at(char *url, size_t size, const char *role)
{
    snprintf(url, size, "postgresql://%s@127.0.0.1:%d/headwater", role, proxy_port(proxy));
}

/* The programs reach the database through the proxy. */
static void begin(void)
{
    pipeline_open(&p, NULL);
    proxy = proxy_start(p.pg.port);
    aim_at(p.pg.reconciler_url, sizeof(p.pg.reconciler_url), "headwater_reconciler");
    aim_at(p.pg.api_url, sizeof(p.pg.api_url), "headwater_api");
}

static void end(void)
{
    proxy_stop(proxy);
    pipeline_close(&p);
}

static void start_api(const char *url)
{
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", api_port = test_free_port());

    test_program_start(&api,
                       (const char *[]){"headwater-api", "--database", url, "--listen", listen,
                                        "--nats", p.nats.url, NULL},
                       NULL);
    test_wait_for(pipeline_times_in_log(&api, "msg=serving") > 0, 30);
}

/* Is the answer of /readyz this status, with this text? */
static bool api_is(int status, const char *text)
{
    struct test_answer answer = test_http(api_port, "GET", "/readyz", NULL, NULL, 0);
    const bool is = answer.status == status && (text == NULL || strstr(answer.body, text) != NULL);

    test_answer_free(&answer);
    return is;
}

static bool reconciler_says(const char *text)
{
    struct test_answer answer = test_http(p.monitor, "GET", "/readyz", NULL, NULL, 0);
    const bool is = answer.status == 503 && strstr(answer.body, text) != NULL;

    test_answer_free(&answer);
    return is;
}

static void lead(void)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 30);
}

static void change(const char *content)
{
    pipeline_set_content(&p, content);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), BACK_S);
}

START_TEST(test_frozen)
{
    lead();
    start_api(p.pg.api_url);
    test_wait_for(api_is(200, NULL), 30);
    proxy_blackhole(proxy, INFINITY);
    test_wait_for(pipeline_readyz(&p) == 503, BACK_S);
    test_wait_for(api_is(503, NULL), BACK_S);
    proxy_heal(proxy);
    test_wait_for(pipeline_readyz(&p) == 200, BACK_S);
    test_wait_for(api_is(200, NULL), BACK_S);
    change("{\"a\":\"after\"}");
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    pipeline_stop(&p);
}
END_TEST

/* A firewall forgot its connections, or a proxy's worker hangs: whoever connects anew is served. */
START_TEST(test_connections_that_are_dead)
{
    lead();
    start_api(p.pg.api_url);
    test_wait_for(api_is(200, NULL), 30);
    const int before = pipeline_times_in_log(&p.reconciler, "msg=streaming");
    proxy_forget(proxy);
    test_wait_for(pipeline_times_in_log(&p.reconciler, "msg=streaming") > before, 2 * BACK_S);
    test_wait_for(pipeline_readyz(&p) == 200, BACK_S);
    change("{\"a\":\"after\"}");
    test_wait_for(api_is(200, NULL), BACK_S);
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    pipeline_stop(&p);
}
END_TEST

/* The sender alone is frozen: nothing can be done, and it is said. */
START_TEST(test_sender_that_is_frozen)
{
    lead();
    HW_AUTO_FREE char *pid = test_sql(&p.pg, "SELECT active_pid FROM pg_replication_slots "
                                             "WHERE slot_name = 'headwater'");
    kill((pid_t)strtol(pid, NULL, 10), SIGSTOP);
    test_wait_for(reconciler_says("the server's sender says nothing"), BACK_S);
    kill((pid_t)strtol(pid, NULL, 10), SIGCONT);
    test_wait_for(pipeline_readyz(&p) == 200, BACK_S);
    change("{\"a\":\"after\"}");
    pipeline_stop(&p);
}
END_TEST

static void set_read_only(const char *value)
{
    free(test_sql(&p.pg, "ALTER SYSTEM SET default_transaction_read_only = %s", value));
    free(test_sql(&p.pg, "SELECT pg_reload_conf()"));
}

START_TEST(test_no_writes)
{
    static const char said[] = "default_transaction_read_only is on there";

    lead();
    start_api(p.pg.api_url);
    test_wait_for(api_is(200, NULL), 30);
    set_read_only("on");
    test_wait_for(api_is(503, said), BACK_S);
    test_wait_for(reconciler_says(said), BACK_S);
    struct test_answer answer =
        test_http(api_port, "PUT", "/v1/nodes/n9", "Content-Type: application/json\r\n", "{}", 2);
    ck_assert_int_eq(answer.status, 503);
    ck_assert_ptr_null(strstr(answer.body, "migrate"));
    test_answer_free(&answer);
    answer = test_http(api_port, "GET", "/v1/nodes", NULL, NULL, 0);
    ck_assert_int_eq(answer.status, 200); /* what can be read is */
    test_answer_free(&answer);
    set_read_only("off");
    test_wait_for(api_is(200, NULL), BACK_S);
    test_wait_for(pipeline_readyz(&p) == 200, BACK_S);
    change("{\"a\":\"after\"}");
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    pipeline_stop(&p);
}
END_TEST

/* An API that finds a standby, which is promoted later: it listens then, too. */
START_TEST(test_standby_that_is_promoted)
{
    struct test_postgres standby;

    pipeline_make_nodes(&p, 1);
    test_standby_start(&p.pg, NULL, NULL, &standby);
    start_api(standby.api_url);
    test_wait_for(api_is(503, "it is a standby"), 30);
    test_standby_wait(&p.pg, &standby);
    test_standby_promote(&standby);
    test_wait_for(api_is(200, NULL), BACK_S);
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    test_postgres_remove(&standby);
}
END_TEST

TEST_MAIN_BETWEEN("a PostgreSQL that is gone", 240, begin, end, test_frozen,
                  test_connections_that_are_dead, test_sender_that_is_frozen, test_no_writes,
                  test_standby_that_is_promoted)
