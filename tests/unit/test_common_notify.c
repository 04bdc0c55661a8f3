#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/notify.h"
#include "tests/support/notify.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define SOME_PERIODS_MS 100 /* five of a watchdog of 20000 us */

static struct hw_loop *loop;
static struct hw_notify *notify;
static struct test_notify manager;

static void new_loop(void)
{
    struct hw_error err = {0};
    ck_assert_msg(hw_loop_new(&loop, &err) == HW_OK, "%s", err.message);
}

static void open_notify(const char *socket, const char *usec, const char *pid)
{
    struct hw_error err = {0};
    new_loop();
    setenv("NOTIFY_SOCKET", socket, 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (usec != NULL)
        setenv("WATCHDOG_USEC", usec, 1);
    if (pid != NULL)
        setenv("WATCHDOG_PID", pid, 1);
    ck_assert_msg(hw_notify_open(loop, &notify, &err) == HW_OK, "%s", err.message);
}

static void close_notify(void)
{
    hw_notify_close(notify);
    hw_loop_free(loop);
}

static void turn(int64_t ms)
{
    const bool never = false;
    hw_loop_run_until(loop, &never, ms);
}

/* The next message, which is there already. */
static void expect(const char *message)
{
    ck_assert_msg(test_notify_next(&manager, 0), "nothing instead of %s", message);
    ck_assert_str_eq(manager.message, message);
}

static void expect_nothing(void)
{
    ck_assert_msg(!test_notify_next(&manager, 0), "%s instead of nothing", manager.message);
}

START_TEST(test_what_is_told)
{
    test_notify_open(&manager);
    open_notify(manager.path, NULL, NULL);
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    expect("EXTEND_TIMEOUT_USEC=20000000");
    hw_notify_status(notify, "waiting\nfor Godot");
    expect("STATUS=waiting for Godot");
    hw_notify_status(notify, "waiting for Godot");
    expect_nothing();
    hw_notify_ready(notify, "serving");
    expect("READY=1\nSTATUS=serving");
    hw_notify_reloading(notify);
    ck_assert(test_notify_next(&manager, 0));
    ck_assert(test_notify_has(&manager, "RELOADING=1"));
    ck_assert(test_notify_has(&manager, "MONOTONIC_USEC="));
    hw_notify_ready(notify, "serving");
    expect("READY=1\nSTATUS=serving");
    hw_notify_stopping(notify);
    expect("STOPPING=1\nSTATUS=stopping");
    expect_nothing();
    close_notify();
    test_notify_close(&manager);
}
END_TEST

START_TEST(test_signs_of_life_come_from_the_loop)
{
    test_notify_open(&manager);
    open_notify(manager.path, "20000", NULL);
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    expect("EXTEND_TIMEOUT_USEC=20000");
    turn(SOME_PERIODS_MS);
    expect("EXTEND_TIMEOUT_USEC=20000");
    hw_notify_ready(notify, "serving");
    test_notify_expect(&manager, "READY=1", "WATCHDOG=1");
    expect("WATCHDOG=1");
    /* A loop that is stuck: its timer is due, and nothing is told. */
    ck_assert_msg(!test_notify_next(&manager, SOME_PERIODS_MS), "%s", manager.message);
    for (int i = 0; i < 3; i++) {
        turn(SOME_PERIODS_MS);
        test_notify_expect(&manager, "WATCHDOG=1", "EXTEND_TIMEOUT_USEC");
    }
    close_notify();
    test_notify_close(&manager);
}
END_TEST

START_TEST(test_a_watchdog_of_another_process_is_not_ours)
{
    char pid[32];

    test_notify_open(&manager);
    open_notify(manager.path, "20000", "1");
    hw_notify_ready(notify, "serving");
    test_notify_expect(&manager, "READY=1", NULL);
    turn(SOME_PERIODS_MS);
    expect_nothing();
    close_notify();
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    open_notify(manager.path, "20000", pid);
    hw_notify_ready(notify, "serving");
    test_notify_expect(&manager, "WATCHDOG=1", NULL);
    close_notify();
    test_notify_close(&manager);
}
END_TEST

START_TEST(test_an_abstract_name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    const int len =
        snprintf(name, sizeof(name), "@headwater-test-%d-%g", (int)getpid(), test_now());

    memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
    manager = (struct test_notify){.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ck_assert_int_eq(bind(manager.fd, (struct sockaddr *)&address,
                          (socklen_t)(sizeof(address.sun_family) + (size_t)len)),
                     0);
    open_notify(name, NULL, NULL);
    hw_notify_ready(notify, "serving");
    test_notify_expect(&manager, "READY=1", NULL);
    close_notify();
    close(manager.fd);
}
END_TEST

START_TEST(test_without_a_manager_nothing_happens)
{
    struct hw_error err;

    new_loop();
    unsetenv("NOTIFY_SOCKET");
    setenv("WATCHDOG_USEC", "20000", 1);
    ck_assert(hw_notify_open(loop, &notify, &err) == HW_OK);
    ck_assert_ptr_null(notify);
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    hw_notify_ready(notify, "serving");
    hw_notify_status(notify, "serving");
    hw_notify_reloading(notify);
    hw_notify_stopping(notify);
    close_notify();
    /* One that went away is passed over. */
    open_notify("/nonexistent/notify", NULL, NULL);
    hw_notify_ready(notify, "serving");
    close_notify();
}
END_TEST

START_TEST(test_malformed_variables)
{
    static const struct {
        const char *socket, *usec, *pid, *named;
    } cases[] = {
        {"run/notify", NULL, NULL, "NOTIFY_SOCKET"}, {"/", NULL, NULL, "NOTIFY_SOCKET"},
        {"/x", "often", NULL, "WATCHDOG_USEC"},      {"/x", "0", NULL, "WATCHDOG_USEC"},
        {"/x", "-1", NULL, "WATCHDOG_USEC"},         {"/x", "20s", NULL, "WATCHDOG_USEC"},
        {"/x", "20000", "me", "WATCHDOG_PID"},
    };
    char long_path[200] = "/";

    memset(long_path + 1, 'x', sizeof(long_path) - 2);
    new_loop();
    for (size_t i = 0; i <= sizeof(cases) / sizeof(cases[0]); i++) {
        const bool last = i == sizeof(cases) / sizeof(cases[0]);
        struct hw_error err = {0};

        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        setenv("NOTIFY_SOCKET", last ? long_path : cases[i].socket, 1);
        if (!last && cases[i].usec != NULL)
            setenv("WATCHDOG_USEC", cases[i].usec, 1);
        if (!last && cases[i].pid != NULL)
            setenv("WATCHDOG_PID", cases[i].pid, 1);
        ck_assert_int_eq(hw_notify_open(loop, &notify, &err), HW_EINVAL);
        ck_assert_ptr_nonnull(strstr(err.message, last ? "NOTIFY_SOCKET" : cases[i].named));
    }
    hw_loop_free(loop);
}
END_TEST

TEST_MAIN("notify", 60, test_what_is_told, test_signs_of_life_come_from_the_loop,
          test_a_watchdog_of_another_process_is_not_ours, test_an_abstract_name,
          test_without_a_manager_nothing_happens, test_malformed_variables)
