/* What a test leaves behind that hangs: the stacks of all its threads. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static char self[4096]; /* this program's path: of a child it would be another's */

__attribute__((noinline)) static void wait_in_the_main_thread(void)
{
    for (;;)
        pause();
}

__attribute__((noinline)) static void *wait_in_another_thread(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void hang(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, wait_in_another_thread, NULL);
    wait_in_the_main_thread();
}

START_TEST(test_that_hangs)
{
    hang();
}
END_TEST

static void check_stacks(const char *output)
{
    ck_assert_msg(strstr(output, "wait_in_the_main_thread") != NULL, "%s", output);
    ck_assert_msg(strstr(output, "wait_in_another_thread") != NULL, "%s", output);
}

/* A case that takes longer than Check gives it. */
START_TEST(test_case)
{
    char *output;

    ck_assert_int_eq(test_program_run((const char *[]){self, "case", NULL}, NULL, NULL, &output),
                     1);
    ck_assert_msg(strstr(output, "Test timeout expired") != NULL, "%s", output);
    check_stacks(output);
    free(output);
}
END_TEST

/* A program that takes longer than tests/run gives it. */
START_TEST(test_program)
{
    char *output;
    const char *const argv[] = {"tests/support/limited", "1", self, "hang", NULL};
    const char *const quick[] = {"tests/support/limited", "60", "sh", "-c", "exit 3", NULL};

    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &output), 124);
    check_stacks(output);
    free(output);
    ck_assert_int_eq(test_program_run(quick, NULL, NULL, NULL), 3);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("stacks");
    TCase *tcase = tcase_create("stacks");

    if (argc > 1 && strcmp(argv[1], "hang") == 0)
        hang();
    if (argc > 1) {
        tcase_set_timeout(tcase, 1);
        tcase_add_test(tcase, test_that_hangs);
    } else {
        if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
            return 1;
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, test_case);
        tcase_add_test(tcase, test_program);
    }
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
