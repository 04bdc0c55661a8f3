/* headwater-fleet: agents that share connections and loops are agents all the same. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"
#include "tests/support/upstream.h"

enum { NODES = 20 };

static struct upstream up;
static struct test_program fleet;

static char *path(void)
{
    const char *const build = getenv("HW_BUILD_DIR");

    return hw_sprintf("%s/bench/headwater-fleet", build != NULL ? build : "build");
}

static void start_fleet(const char *state_dir)
{
    HW_AUTO_FREE char *program = path();
    const char *const argv[] = {program, "--nats",      up.server.url, "--nodes",
                                "20",    "--prefix",    "edge-",       "--connections",
                                "3",     "--threads",   "2",           "--log-level",
                                "debug", "--state-dir", state_dir,     NULL};

    test_program_start(&fleet, argv, NULL);
}

static void stop_fleet(void)
{
    const int status = test_program_stop(&fleet, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x, see %s", status,
                  fleet.log);
}

static void desire(int revision)
{
    for (int i = 1; i <= NODES; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("edge-%d", i);
        HW_AUTO_FREE char *content = hw_sprintf("content %d of %s", revision, node);

        upstream_desire(&up, node, revision, content);
    }
}

static void expect_applied(int revision)
{
    for (int i = 1; i <= NODES; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("edge-%d", i);

        upstream_expect_applied(&up, node, revision);
    }
}

START_TEST(test_all_apply_and_come_back)
{
    HW_AUTO_FREE char *dir = test_temp_dir();

    upstream_open(&up);
    desire(1);
    start_fleet(dir);
    expect_applied(1);
    desire(2);
    expect_applied(2);
    upstream_stop(&up);
    upstream_restart(&up);
    desire(3);
    expect_applied(3);
    stop_fleet();
    /* Again with what is on disk. */
    desire(4);
    start_fleet(dir);
    expect_applied(4);
    stop_fleet();
    upstream_close(&up);
}
END_TEST

START_TEST(test_usage)
{
    HW_AUTO_FREE char *program = path();
    HW_AUTO_FREE char *help = NULL, *refused = NULL;

    ck_assert_int_eq(
        test_program_run((const char *const[]){program, "--help", NULL}, NULL, NULL, &help), 0);
    ck_assert_ptr_nonnull(strstr(help, "--connections"));
    ck_assert_int_eq(test_program_run((const char *const[]){program, "--nodes", "none", NULL}, NULL,
                                      NULL, &refused),
                     2);
    ck_assert_ptr_nonnull(strstr(refused, "nodes"));
}
END_TEST

TEST_MAIN("fleet", 180, test_all_apply_and_come_back, test_usage)
