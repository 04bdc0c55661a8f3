/*
 * headwater, the command line, as a test runs it: by the environment that cli_home makes, with
 * directories of its own for what it keeps; on a terminal where that matters.
 */
#ifndef TEST_CLI_PROGRAM_H
#define TEST_CLI_PROGRAM_H

#include <stddef.h>
#include <sys/types.h>

/* A new directory, as XDG_CONFIG_HOME, XDG_STATE_HOME and TMPDIR of what this process starts from
 * now on, with HEADWATER_SERVER set as cli_server does. */
const char *cli_home(int port);
/* Sets HEADWATER_SERVER alone, to a port of 127.0.0.1 (0: not set). */
void cli_server(int port);

/* Runs it to its end; what it wrote is malloc'ed. Another status fails the test. input, env: as of
 * test_program_run. arguments: NULL ends them. */
char *cli_run(int status, const char *input, const char *const env[],
              const char *const arguments[]);
#define HEADWATER(status, ...) cli_run(status, NULL, NULL, (const char *const[]){__VA_ARGS__, NULL})
/* input: what it reads from standard input */
#define HEADWATER_IN(status, input, ...)                                                           \
    cli_run(status, input, NULL, (const char *const[]){__VA_ARGS__, NULL})
/* variable: "NAME=value" */
#define HEADWATER_WITH(status, variable, ...)                                                      \
    cli_run(status, NULL, (const char *const[]){variable, NULL},                                   \
            (const char *const[]){__VA_ARGS__, NULL})

void expect_in(const char *output, const char *text);
/* Runs it, and its output must hold the text. */
#define EXPECT(status, text, ...)                                                                  \
    do {                                                                                           \
        char *output_ = HEADWATER(status, __VA_ARGS__);                                            \
        expect_in(output_, text);                                                                  \
        free(output_);                                                                             \
    } while (0)
#define EXPECT_WITH(status, text, variable, ...)                                                   \
    do {                                                                                           \
        char *output_ = HEADWATER_WITH(status, variable, __VA_ARGS__);                             \
        expect_in(output_, text);                                                                  \
        free(output_);                                                                             \
    } while (0)

/* A file below the home, and its path, malloc'ed; mode 0700, so that it may be a script. */
char *cli_file(const char *name, const char *text);

struct cli_terminal {
    pid_t pid;
    int fd;
    char *text; /* all that it showed */
    size_t len, seen;
};
void cli_terminal_start(struct cli_terminal *terminal, const char *const arguments[]);
#define ON_TERMINAL(terminal, ...)                                                                 \
    cli_terminal_start(terminal, (const char *const[]){__VA_ARGS__, NULL})
/* Waits for a text behind the one before. */
void cli_terminal_expect(struct cli_terminal *terminal, const char *text);
void cli_terminal_type(struct cli_terminal *terminal, const char *keys);
/* Waits for the end; the status as of waitpid. The text is the caller's to free. */
int cli_terminal_end(struct cli_terminal *terminal);

#endif
