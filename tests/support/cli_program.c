#include "tests/support/cli_program.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

enum { ARGUMENTS_MOST = 40, PATIENCE_S = 60 };

static char *home;

void cli_server(int port)
{
    HW_AUTO_FREE char *server = hw_sprintf("http://127.0.0.1:%d", port);

    if (port != 0)
        setenv("HEADWATER_SERVER", server, 1);
    else
        unsetenv("HEADWATER_SERVER");
}

const char *cli_home(int port)
{
    free(home);
    home = test_temp_dir();
    setenv("XDG_CONFIG_HOME", home, 1);
    setenv("XDG_STATE_HOME", home, 1);
    setenv("TMPDIR", home, 1);
    cli_server(port);
    return home;
}

/* ---- to its end ---- */

static void make_argv(const char **argv, const char *const arguments[])
{
    size_t count = 0;

    argv[count++] = "headwater";
    while (*arguments != NULL && count < ARGUMENTS_MOST - 1)
        argv[count++] = *arguments++;
    argv[count] = NULL;
}

char *cli_run(int status, const char *input, const char *const env[], const char *const arguments[])
{
    const char *argv[ARGUMENTS_MOST];
    char *output;

    make_argv(argv, arguments);
    const int found = test_program_run(argv, env, input, &output);
    ck_assert_msg(found == status, "expected %d, got %d:\n%s", status, found, output);
    return output;
}

void expect_in(const char *output, const char *text)
{
    ck_assert_msg(strstr(output, text) != NULL, "no \"%s\" in:\n%s", text, output);
}

char *cli_file(const char *name, const char *text)
{
    char *path = hw_sprintf("%s/%s", home, name);

    ck_assert_int_eq(hw_file_replace(path, text, strlen(text), 0700, NULL), HW_OK);
    return path;
}

/* ---- on a terminal ---- */

void cli_terminal_start(struct cli_terminal *terminal, const char *const arguments[])
{
    const char *build = getenv("HW_BUILD_DIR"), *argv[ARGUMENTS_MOST];
    HW_AUTO_FREE char *path = hw_sprintf("%s/headwater", build != NULL ? build : "build");
    const struct winsize size = {.ws_row = 24, .ws_col = 100};

    make_argv(argv, arguments);
    *terminal = (struct cli_terminal){.text = hw_strdup("")};
    fflush(NULL);
    terminal->pid = forkpty(&terminal->fd, NULL, NULL, &size);
    ck_assert_int_ge(terminal->pid, 0);
    if (terminal->pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setenv("TERM", "xterm", 1);
    execv(path, (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* What is there to read within a moment; false at the end. */
static bool read_some(struct cli_terminal *terminal)
{
    char bytes[4096];

    if (poll(&(struct pollfd){.fd = terminal->fd, .events = POLLIN}, 1, 100) == 0)
        return true;
    const ssize_t got = read(terminal->fd, bytes, sizeof(bytes));
    if (got <= 0)
        return got < 0 && errno == EINTR;
    terminal->text = hw_realloc(terminal->text, terminal->len + (size_t)got + 1);
    memcpy(terminal->text + terminal->len, bytes, (size_t)got);
    terminal->len += (size_t)got;
    terminal->text[terminal->len] = '\0';
    return true;
}

void cli_terminal_expect(struct cli_terminal *terminal, const char *text)
{
    const double until = test_deadline(PATIENCE_S);
    const char *found;

    while ((found = strstr(terminal->text + terminal->seen, text)) == NULL) {
        const bool more = read_some(terminal) && test_now() < until;
        found = strstr(terminal->text + terminal->seen, text);
        ck_assert_msg(more || found != NULL, "no \"%s\" on the terminal:\n%s", text,
                      terminal->text);
    }
    terminal->seen = (size_t)(found - terminal->text) + strlen(text);
}

void cli_terminal_type(struct cli_terminal *terminal, const char *keys)
{
    ck_assert_int_eq(write(terminal->fd, keys, strlen(keys)), (ssize_t)strlen(keys));
}

int cli_terminal_end(struct cli_terminal *terminal)
{
    const double until = test_deadline(PATIENCE_S);
    int status = 0;

    while (read_some(terminal))
        ck_assert_msg(test_now() < until, "it does not end:\n%s", terminal->text);
    ck_assert_msg(test_reap(terminal->pid, PATIENCE_S, &status),
                  "it left the terminal and goes on");
    close(terminal->fd);
    ck_assert_ptr_null(strstr(terminal->text, "Sanitizer"));
    ck_assert_ptr_null(strstr(terminal->text, "runtime error:"));
    return status;
}
