/* Each service under a service manager, whose socket is the test's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/memory.h"
#include "tests/support/notify.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define WATCHDOG "WATCHDOG_USEC=200000"

static struct test_postgres pg;
static struct test_nats nats;
static struct test_notify manager;

static void set_up(void)
{
    test_postgres_start(&pg, true, NULL);
    test_nats_start(&nats);
}

static void tear_down(void)
{
    test_nats_remove(&nats);
    test_postgres_remove(&pg);
}

static void start(struct test_program *program, const char *const argv[])
{
    test_notify_open(&manager);
    test_program_start(program, argv, (const char *const[]){manager.variable, WATCHDOG, NULL});
}

/* From being ready on: signs of life again and again, whatever signal comes by mistake, and
 * goodbye. */
static void expect_life_and_end(struct test_program *program)
{
    kill(program->pid, SIGUSR1);
    kill(program->pid, SIGUSR2);
    for (int i = 0; i < 4; i++)
        test_notify_expect(&manager, "WATCHDOG=1", "STOPPING=1");
    kill(program->pid, SIGTERM);
    test_notify_expect(&manager, "STOPPING=1", "READY=1");
    ck_assert_int_eq(test_program_stop(program, 0), 0);
    test_notify_close(&manager);
}

static void expect_reload(struct test_program *program)
{
    kill(program->pid, SIGHUP);
    test_notify_expect(&manager, "RELOADING=1", "READY=1");
    ck_assert(test_notify_has(&manager, "MONOTONIC_USEC="));
    test_notify_expect(&manager, "READY=1", "RELOADING=1");
}

START_TEST(test_the_api)
{
    struct test_program api;

    start(&api, (const char *const[]){"headwater-api", "--database", pg.api_url, "--listen",
                                      "127.0.0.1:0", NULL});
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    ck_assert(test_notify_has(&manager, "STATUS=serving 127.0.0.1:"));
    /* Without certificates there is nothing to read again, and nothing to die of. */
    kill(api.pid, SIGHUP);
    expect_life_and_end(&api);
}
END_TEST

START_TEST(test_the_api_reads_its_certificate_again)
{
    struct test_program api;
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *key = hw_sprintf("%s/key.pem", dir);
    HW_AUTO_FREE char *cert = hw_sprintf("%s/cert.pem", dir);
    char *output;
    const int status = test_program_run(
        (const char *const[]){"/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                              "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
                              "-keyout", key, "-out", cert, NULL},
        NULL, NULL, &output);

    ck_assert_msg(status == 0, "%s", output);
    free(output);
    start(&api, (const char *const[]){"headwater-api", "--database", pg.api_url, "--listen",
                                      "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, NULL});
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    expect_reload(&api);
    expect_life_and_end(&api);
}
END_TEST

START_TEST(test_the_reconciler)
{
    struct test_program leader, standby;
    struct test_notify of_leader;
    const char *const argv[] = {
        "headwater-reconciler", "--database", pg.reconciler_url, "--nats", nats.url, NULL};

    /* It waits for its servers as long as it takes, and says so. */
    test_postgres_stop(&pg);
    start(&leader, argv);
    test_notify_expect(&manager, "STATUS=PostgreSQL cannot be reached", "READY=1");
    for (int i = 0; i < 4; i++)
        test_notify_expect(&manager, "EXTEND_TIMEOUT_USEC=200000", "READY=1");
    test_postgres_restart(&pg);
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    ck_assert(test_notify_has(&manager, "STATUS=streaming"));
    of_leader = manager;

    start(&standby, argv);
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    ck_assert(test_notify_has(&manager, "STATUS=standing by"));
    expect_life_and_end(&standby);

    manager = of_leader;
    test_nats_stop(&nats);
    test_notify_expect(&manager, "STATUS=NATS cannot be reached", "READY=1");
    test_nats_restart(&nats);
    test_notify_expect(&manager, "STATUS=streaming", "READY=1");
    /* There is nothing to read again, and nothing to die of. */
    kill(leader.pid, SIGHUP);
    expect_life_and_end(&leader);
}
END_TEST

START_TEST(test_the_agent)
{
    struct test_program agent;
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir);
    HW_AUTO_FREE char *output = hw_sprintf("%s/config.json", dir);

    start(&agent, (const char *const[]){"headwater-agent", "--nats", nats.url, "--node", "daq-1",
                                        "--state-dir", state, "--output", output, NULL});
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    ck_assert(test_notify_has(&manager, "STATUS=keeping /"));
    expect_reload(&agent);
    expect_life_and_end(&agent);
}
END_TEST

START_TEST(test_a_socket_that_cannot_be)
{
    char *output;
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *file = hw_sprintf("%s/config.json", dir);
    const int status =
        test_program_run((const char *const[]){"headwater-agent", "--nats", nats.url, "--node",
                                               "daq-1", "--state-dir", dir, "--output", file, NULL},
                         (const char *const[]){"NOTIFY_SOCKET=notify", NULL}, NULL, &output);

    ck_assert_int_eq(status, 1);
    ck_assert_msg(strstr(output, "NOTIFY_SOCKET") != NULL, "%s", output);
    free(output);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("notify");
    TCase *tcase = tcase_create("notify");

    tcase_set_timeout(tcase, 240);
    tcase_add_unchecked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, test_the_api);
    tcase_add_test(tcase, test_the_api_reads_its_certificate_again);
    tcase_add_test(tcase, test_the_agent);
    tcase_add_test(tcase, test_a_socket_that_cannot_be);
    tcase_add_test(tcase, test_the_reconciler);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
