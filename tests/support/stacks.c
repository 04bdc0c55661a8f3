/*
 * Stacks of what takes too long. Check ends a test whose time is over with killpg, and says no more
 * than that; what stands here stands in front of libc's, and has tests/support/stacks look first.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t runner; /* the process in which Check itself runs, whose children are the tests */

static void __attribute__((constructor)) note_runner(void)
{
    runner = getpid();
}

/* Called in a handler of signals, while the runner does nothing but wait. */
static void leave_stacks(pid_t test)
{
    char pid[16];
    char timeout[] = "timeout", most[] = "120", script[] = "tests/support/stacks";
    char *const argv[] = {timeout, most, script, pid, NULL};
    pid_t looking;

    snprintf(pid, sizeof(pid), "%d", (int)test);
    if (posix_spawnp(&looking, timeout, NULL, NULL, argv, environ) == 0)
        while (waitpid(looking, NULL, 0) < 0 && errno == EINTR)
            ;
}

int killpg(pid_t group, int signo)
{
    /* Check calls it for what is left of each test, too; then there is no leader any more. */
    if (signo == SIGKILL && getpid() == runner && kill(group, 0) == 0)
        leave_stacks(group);
    return kill(-group, signo);
}
