#include "tests/support/between.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/process.h"
#include "tests/support/servers.h"

enum { ENDS_MOST = 512 };

/* Ends of connections: those of one connection are neighbours. */
static struct pollfd ends[1 + ENDS_MOST];
static int count = 1; /* the first is the listener */
static volatile sig_atomic_t freeze_old, stop_listening;

static void on_freeze_old(int signo)
{
    (void)signo;
    freeze_old = 1;
}

static void on_stop_listening(int signo)
{
    (void)signo;
    stop_listening = 1;
}

static struct sockaddr_in address_of(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void take_one(int target)
{
    const struct sockaddr_in address = address_of(target);
    const int client = accept(ends[0].fd, NULL, NULL);
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (client < 0 || server < 0 || count + 1 >= ENDS_MOST ||
        connect(server, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        close(client);
        close(server);
        return;
    }
    ends[count++] = (struct pollfd){.fd = client, .events = POLLIN};
    ends[count++] = (struct pollfd){.fd = server, .events = POLLIN};
}

/* poll(2) passes over what is negative. */
static void drop_pair(int i)
{
    const int first = i % 2 == 1 ? i : i - 1;

    for (int k = first; k < first + 2; k++) {
        close(ends[k].fd);
        ends[k].fd = -1;
    }
}

static void pump(int i)
{
    char bytes[65536];
    const ssize_t n = read(ends[i].fd, bytes, sizeof(bytes));

    if (n <= 0 || send(ends[i % 2 == 1 ? i + 1 : i - 1].fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
        drop_pair(i);
}

static void serve(int target) __attribute__((noreturn));
static void serve(int target)
{
    for (;;) {
        const bool interrupted = poll(ends, (nfds_t)count, -1) < 0;

        if (stop_listening && ends[0].fd >= 0) {
            close(ends[0].fd);
            ends[0].fd = -1;
        }
        for (int i = 1; i < count && freeze_old; i++)
            ends[i].fd = -1; /* left open, and never read again */
        freeze_old = 0;
        if (interrupted)
            continue;
        for (int i = 1; i < count; i++)
            if (ends[i].fd >= 0 && ends[i].revents != 0)
                pump(i);
        if (ends[0].fd >= 0 && ends[0].revents != 0)
            take_one(target);
    }
}

static int listen_at(int port)
{
    const struct sockaddr_in address = address_of(port);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 128) != 0)
        test_fail("the proxy cannot listen on port %d", port);
    return fd;
}

static pid_t start_at(int port, int target)
{
    const int fd = listen_at(port);
    const pid_t pid = fork();

    if (pid != 0) {
        close(fd);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_freeze_old}, NULL);
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_stop_listening}, NULL);
    ends[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    serve(target);
}

void test_between_start(struct test_between *between, int target)
{
    between->port = test_free_port();
    between->pid = start_at(between->port, target);
}

void test_between_freeze(const struct test_between *between)
{
    kill(between->pid, SIGSTOP);
}

void test_between_thaw(const struct test_between *between)
{
    kill(between->pid, SIGCONT);
}

void test_between_freeze_old(const struct test_between *between)
{
    kill(between->pid, SIGUSR1);
}

/* A process for new connections takes the place of the old one, which lives on for those that it
 * has, unless they are to be cut. */
void test_between_aim(struct test_between *between, int target, bool cut)
{
    if (cut)
        test_between_stop(between);
    else
        kill(between->pid, SIGUSR2);
    between->pid = start_at(between->port, target);
}

void test_between_stop(struct test_between *between)
{
    kill(between->pid, SIGKILL);
    waitpid(between->pid, NULL, 0);
}
