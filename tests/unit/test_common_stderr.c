/*
 * stderr with readers that hang, come back, are slow or gone. Nobody reads while a test writes, so
 * a write that waits never ends, and the test's time limit ends it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/log.h"
#include "common/stderr.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { PIPE_BYTES = 4096, LINE = 100, NOBODY = 65534 };

/* What stderr may be. Of the pipe that is LOCKED no second open file can be had; SHARED has
 * O_NONBLOCK, which somebody else has set. */
enum kind { PIPE, LOCKED, SHARED, SOCKET, TERMINAL, KINDS };

static int reader; /* our end */

/* Makes stderr the writing end of something that holds a few thousand bytes. */
static void open_stderr(enum kind kind)
{
    const int few = PIPE_BYTES;
    int ends[2];

    if (kind == SOCKET) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &few, sizeof(few));
    } else if (kind == TERMINAL) {
        struct termios raw;

        ck_assert_int_eq(openpty(&ends[0], &ends[1], NULL, NULL, NULL), 0);
        tcgetattr(ends[1], &raw);
        cfmakeraw(&raw);
        tcsetattr(ends[1], TCSANOW, &raw);
    } else {
        ck_assert_int_eq(pipe(ends), 0);
        fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
    }
    if (kind == SHARED)
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
    if (kind == LOCKED) {
        ck_assert_int_eq(fchmod(ends[1], 0), 0);
        if (geteuid() == 0)
            ck_assert_int_eq(setuid(NOBODY), 0);
    }
    reader = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    hw_log_setup(HW_LOG_INFO, HW_LOG_LOGFMT);
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = -2; /* . and .. */

    while (readdir(tasks) != NULL)
        count++;
    closedir(tasks);
    return count;
}

static void write_line(int i)
{
    char line[LINE + 1];

    snprintf(line, sizeof(line), "line %-*d\n", LINE - 6, i);
    hw_stderr_write(line, LINE);
}

/* ---- reading ---- */

static char *text; /* all that was read */
static size_t text_len;

/* Reads what is there within so many ms. False: nothing, or the end. */
static bool read_some(int ms)
{
    if (poll(&(struct pollfd){.fd = reader, .events = POLLIN}, 1, ms) <= 0)
        return false;
    text = hw_realloc(text, text_len + 4097);
    const ssize_t n = read(reader, text + text_len, 4096);
    text_len += n > 0 ? (size_t)n : 0;
    text[text_len] = '\0';
    return n > 0;
}

static void read_until(const char *sign)
{
    const double until = test_deadline(30);

    while (text == NULL || strstr(text, sign) == NULL) {
        ck_assert_msg(test_now() < until, "no \"%s\" in what is read: …%s", sign,
                      text_len > 300 ? text + text_len - 300 : text);
        read_some(10);
    }
}

/* Every line is whole; they are in order; as many are missing where lines are missing as a notice
 * there says. Returns how many are missing in all, up to the line count - 1. */
static int check_lines(int count)
{
    int next = 0, told = 0, missing = 0;
    HW_AUTO_FREE char *copy = hw_strdup(text);

    for (char *rest = copy, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0';) {
        const char *notice = strstr(line, " lines=");

        if (notice != NULL) {
            ck_assert_msg(strstr(line, "level=warn") != NULL, "%s", line);
            told += (int)strtol(notice + 7, NULL, 10);
            continue;
        }
        ck_assert_msg(strlen(line) == LINE - 1 && strncmp(line, "line ", 5) == 0, "torn: %s", line);
        const int i = (int)strtol(line + 5, NULL, 10);
        ck_assert_msg(i == next + told, "line %d instead of %d, and %d were told to be missing", i,
                      next, told);
        missing += told;
        told = 0;
        next = i + 1;
    }
    missing += told;
    ck_assert_int_eq(next + told, count);
    return missing;
}

/* ---- tests ---- */

/* As long as the reader keeps up, there is no thread; and the flags that others see stay. */
START_TEST(test_reader_that_keeps_up)
{
    const enum kind kind = (enum kind)_i;

    open_stderr(kind);
    const int flags = fcntl(STDERR_FILENO, F_GETFL);
    for (int i = 0; i < 200; i++) {
        char sign[24];

        write_line(i);
        snprintf(sign, sizeof(sign), "line %d ", i);
        read_until(sign);
    }
    ck_assert_int_eq(check_lines(200), 0);
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_GETFL), flags);
    ck_assert_int_eq(threads(), kind == LOCKED ? 2 : 1);
    ck_assert_uint_eq(hw_stderr_lost(), 0);
}
END_TEST

/* More than fits waits for a reader that is slow, as long as it is less than the bound. */
START_TEST(test_slow_reader)
{
    enum { COUNT = 1500 };

    open_stderr((enum kind)_i);
    const int flags = fcntl(STDERR_FILENO, F_GETFL);
    for (int i = 0; i < COUNT; i++)
        write_line(i);
    read_until("line 1499 ");
    ck_assert_int_eq(check_lines(COUNT), 0);
    ck_assert_uint_eq(hw_stderr_lost(), 0);
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_GETFL), flags);
}
END_TEST

/* One that reads nothing for a long time: a bounded number waits, the rest is counted, and told of
 * when it is back, also when no line comes by which to tell. */
START_TEST(test_reader_that_hangs)
{
    enum { COUNT = 20000 };

    open_stderr((enum kind)_i);
    for (int i = 0; i < COUNT; i++)
        write_line(i);
    const int lost = (int)hw_stderr_lost();
    ck_assert_int_gt(lost, COUNT / 2);
    ck_assert_uint_gt((size_t)(COUNT - lost) * LINE, HW_STDERR_WAITING_MOST / 3);

    read_until(" lines=");
    read_until("written\"\n");
    ck_assert_int_eq(check_lines(COUNT), lost);
    for (int i = COUNT; i < COUNT + 10; i++)
        write_line(i);
    read_until("line 20009 ");
    ck_assert_int_eq(check_lines(COUNT + 10), lost);
    ck_assert_uint_eq(hw_stderr_lost(), (uint64_t)lost);
}
END_TEST

/* It hangs again and again: each gap is told of where it is. */
START_TEST(test_gaps)
{
    int i = 0;

    open_stderr((enum kind)_i);
    for (int turn = 0; turn < 40; turn++) {
        for (int end = i + 1000; i < end; i++)
            write_line(i);
        for (int n = 0; n < 8; n++)
            read_some(0);
    }
    const int lost = (int)hw_stderr_lost();
    write_line(i++); /* lost as well, or not */
    while (read_some(500))
        ;
    ck_assert_int_gt(lost, 0);
    ck_assert_int_eq(check_lines(i), (int)hw_stderr_lost());
}
END_TEST

/* Errors are losses, too; and a line that was written in part does not spoil the next one. */
START_TEST(test_errors)
{
    char path[128];
    int ends[2];

    hw_log_setup(HW_LOG_INFO, HW_LOG_LOGFMT);
    const int full = open("/dev/full", O_WRONLY);
    dup2(full, STDERR_FILENO);
    write_line(0);
    ck_assert_uint_eq(hw_stderr_lost(), 1);
    dup2(open("/dev/null", O_RDONLY), STDERR_FILENO);
    write_line(1);
    ck_assert_uint_eq(hw_stderr_lost(), 2);
    close(STDERR_FILENO);
    write_line(2);
    ck_assert_uint_eq(hw_stderr_lost(), 3);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[0]);
    write_line(3);
    test_wait_for(hw_stderr_lost() == 4, 10); /* the thread finds it out */

    test_new_path(path, sizeof(path), "log");
    dup2(open(path, O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
    write_line(4);
    text = test_read_file(path);
    text_len = strlen(text);
    ck_assert_int_eq(check_lines(5), 4);
}
END_TEST

/* At the end what waits is waited for, but not for ever. */
START_TEST(test_finish)
{
    open_stderr(PIPE);
    write_line(0);
    const double began = test_now();
    hw_stderr_finish(10000);
    ck_assert(test_now() - began < 5);
    for (int i = 1; i < 1000; i++)
        write_line(i);
    hw_stderr_finish(50);
    ck_assert_uint_eq(hw_stderr_lost(), 0);
    read_until("line 999 ");
    hw_stderr_finish(10000);
    ck_assert_int_eq(check_lines(1000), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stderr");
    const TTest *const of_each_kind[] = {test_reader_that_keeps_up, test_slow_reader,
                                         test_reader_that_hangs, test_gaps};
    const TTest *const others[] = {test_errors, test_finish};

    for (size_t i = 0; i < HW_COUNT(of_each_kind); i++) {
        TCase *each = tcase_create(of_each_kind[i]->name);

        tcase_set_timeout(each, 60);
        tcase_add_loop_test(each, of_each_kind[i], 0, KINDS);
        suite_add_tcase(suite, each);
    }
    test_suite_add(suite, 60, NULL, NULL, others, HW_COUNT(others));
    return test_suite_finish(suite);
}
