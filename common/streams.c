#include "common/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/stderr.h"

/* At the end, so long may the reader of stderr take for what is still to be read. */
enum { FINISH_MS = 2000 };

static const char *program;
static int failure;
static bool is_lost; /* not all of stdout could be written, and somebody has said so */

/*
 * Gives each of the three numbers that is free to /dev/null, opened the wrong way round: reading
 * from this stdin and writing to this stdout or stderr still fails, as it does on a closed one.
 */
static void occupy_numbers(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(failure); /* a stream of ours would become another's */
}

static ssize_t write_stderr(void *cookie, const char *bytes, size_t len)
{
    (void)cookie;
    hw_stderr_write(bytes, len);
    return (ssize_t)len;
}

/* Messages are written by fprintf(stderr, …) everywhere, in libraries too. The GNU C library lets a
 * program put a stream of its own in the place of stderr. */
static void replace_stderr(void)
{
    FILE *own = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_stderr});

    if (own == NULL)
        return;
    setvbuf(own, NULL, _IONBF, 0);
    stderr = own;
}

enum hw_status hw_stdout_flush(struct hw_error *err)
{
    static const char doing[] = "writing to standard output";

    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return HW_OK;
    is_lost = true;
    return errno != 0 ? hw_fail_errno(err, doing) : hw_fail(err, HW_EIO, doing);
}

static void at_exit(int status, void *arg)
{
    struct hw_error err;

    (void)arg;
    if (!is_lost && hw_stdout_flush(&err) != HW_OK)
        fprintf(stderr, "%s: %s\n", program, err.message);
    hw_stderr_finish(FINISH_MS);
    if (is_lost && status <= 1)
        _exit(failure);
}

void hw_streams_open(const char *name, int failing)
{
    program = name;
    failure = failing;
    occupy_numbers();
    signal(SIGPIPE, SIG_IGN);
    replace_stderr();
    on_exit(at_exit, NULL);
}
