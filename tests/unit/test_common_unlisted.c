/* An event that a state table does not list: tests die of it, and programs of users do not. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/unlisted.h"
#include "tests/support/suite.h"

START_TEST(test_unlisted_event)
{
    int status;
    const pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        hw_unlisted_event("lamp", "off", "dim");
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
#ifdef HW_STRICT
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
#else
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}
END_TEST

TEST_MAIN("unlisted", 10, test_unlisted_event)
