#include "agent/daemon/drain.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/log.h"

static bool has_writers(int fd)
{
    struct pollfd pipe = {.fd = fd, .events = POLLIN};

    return poll(&pipe, 1, 0) >= 0 && (pipe.revents & POLLHUP) == 0;
}

/* The process that reads. Other threads of the agent may have held any lock at the fork, so only
 * functions that are safe in a signal handler are called. It keeps no other descriptor, above all
 * not the lock of the state directory. */
_Noreturn static void drain(int fd)
{
    char bytes[4096];
    sigset_t none;
    ssize_t n;

    setsid();
    prctl(PR_SET_NAME, "headwater-drain");
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, signo == SIGHUP ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(fd, STDIN_FILENO);
    closefrom(STDIN_FILENO + 1);
    if (chdir("/") != 0) { /* then it stays, and no file system can be unmounted below it */
    }
    fcntl(STDIN_FILENO, F_SETFL, 0); /* it blocks */
    do
        n = read(STDIN_FILENO, bytes, sizeof(bytes));
    while (n > 0 || (n < 0 && errno == EINTR));
    _exit(0);
}

void agent_drain(int fd)
{
    const pid_t pid = has_writers(fd) ? fork() : 1;

    if (pid == 0)
        drain(fd);
    if (pid < 0)
        hw_log_warn("what a command left running in the background may die of its next output: no "
                    "process can be started that reads it");
    close(fd);
}
