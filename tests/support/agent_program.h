/*
 * headwater-agent as a test runs it, on top of tests/support/upstream.h: its directory, its node's
 * commands, what they left, and what the log says. One at a time.
 */
#ifndef TEST_AGENT_PROGRAM_H
#define TEST_AGENT_PROGRAM_H

#include "tests/support/upstream.h"

struct agent_program {
    struct upstream up;
    struct test_program program;
    const char *node;
    char *dir, *state_dir, *output; /* output: below a directory of its own */
    char *runs;                     /* "apply 1 one\n" …: what the commands noted */
};

void agent_program_open(struct agent_program *a, const char *node);
void agent_program_open_without_buckets(struct agent_program *a, const char *node);
void agent_program_close(struct agent_program *a);

/* Writes the script of a command, which notes its name, the revision and the content of the file,
 * and then does what body says. Returns the command line; malloc'ed. */
char *agent_program_script(struct agent_program *a, const char *name, const char *body);

/* Options, NULL-terminated, besides NATS, node and state directory. */
void agent_program_start(struct agent_program *a, const char *const options[],
                         const char *const env[]);
void agent_program_stop(struct agent_program *a); /* SIGTERM; must exit with 0 */
void agent_program_kill(struct agent_program *a);

/* hold, release, status …: exit status; *said malloc'ed, or NULL. */
int agent_program_command(struct agent_program *a, const char *const words[], char **said);

bool agent_program_file_is(const char *path, const char *content);
void agent_program_wait_file(struct agent_program *a, const char *path, const char *content);
void agent_program_wait_runs(struct agent_program *a, const char *content);
void agent_program_wait_log(struct agent_program *a, const char *text);
void agent_program_write(const char *path, const char *content); /* not atomically */

#endif
