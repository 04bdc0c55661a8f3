/*
 * Child processes of a test program and its temporary files: what servers.c and the public part of
 * servers.h stand on.
 *
 * Four nets, so that nothing is left behind. A child dies when the thread that started it ends
 * (PR_SET_PDEATHSIG: start children from the main thread). What still runs when a process of the
 * test calls exit is killed there. The program itself is the reaper of all that was started below
 * it (PR_SET_CHILD_SUBREAPER): whatever process 1 does with orphans, these are waited for, and
 * killed at the end. And a keeper, forked before main, holds one end of a pipe whose other end only
 * processes of the test hold: when they are gone, in whatever way, it removes the temporary
 * directory.
 */
#ifndef TEST_PROCESS_H
#define TEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct test_child {
    const char *const *argv; /* argv[0] is looked up in PATH when it holds no slash */
    const char *const *env;  /* "NAME=value", NULL-terminated, on top of ours; or NULL */
    const char *input;       /* what stdin gives, or NULL: /dev/null */
    const char *output;      /* file that stdout and stderr append to */
    int death_signal;        /* when its parent dies, or exits */
    bool as_postgres;        /* where we are root: as the user postgres */
};

/* Starts a child in a process group of its own. */
pid_t test_spawn(const struct test_child *child);

/* Waits for any process, a child or not; true when it ended within the time, be it as a zombie that
 * nobody has waited for (which kill(pid, 0) would take for alive). status: as of waitpid, or -1
 * when it is no child of this process; may be NULL. */
bool test_reap(pid_t pid, double timeout_s, int *status);

/* The directory of this test program (mode 0711), and a new path below it, from a name. */
const char *test_base_dir(void);
void test_new_path(char *path, size_t size, const char *name);

void test_remove_tree(const char *path);

/* The whole file, malloc'ed and terminated; "" where there is none. */
char *test_read_file(const char *path);
void test_print_tail(const char *path);

void test_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
