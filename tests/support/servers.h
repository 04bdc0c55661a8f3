/*
 * Real servers for tests: a private PostgreSQL and a private nats-server, each in a temporary
 * directory, on a free port of 127.0.0.1, gone when the test is over, whatever became of it. As
 * root, PostgreSQL runs as the user postgres.
 *
 * Failures end the test program with a message: there is nothing to test without a server.
 *
 * A server or program belongs to the process that started it and dies with it. Under Check, each
 * test is a fork: what an unchecked fixture starts serves all its tests, and any of them may stop
 * it; what a test starts, or starts again, ends with that test. Start from the main thread only.
 */
#ifndef TEST_SERVERS_H
#define TEST_SERVERS_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/patience.h"

struct test_postgres {
    pid_t pid;
    int port;
    char dir[128];            /* data directory and log live below */
    char url[256];            /* superuser: postgresql://postgres@127.0.0.1:<port>/headwater */
    char reconciler_url[256]; /* as the role headwater_reconciler (trust on loopback) */
    char api_url[256];        /* as the role headwater_api */
};
/* initdb (once a program: later ones are copies), wal_level=logical, output_plugin_libraries where
 * the server knows it, fsync off, database headwater (UTF8); migrate: applies sql/migrations with
 * psql -f. extra: further postgresql.conf lines or NULL. */
void test_postgres_start(struct test_postgres *pg, bool migrate, const char *extra);
int test_postgres_version(void);                      /* the major version that is started: 15 */
void test_postgres_stop(struct test_postgres *pg);    /* fast shutdown; the data stays */
void test_postgres_kill(struct test_postgres *pg);    /* SIGQUIT to all: crash */
void test_postgres_restart(struct test_postgres *pg); /* same port, same data */
void test_postgres_remove(struct test_postgres *pg);  /* stop and delete */
/* Runs SQL as superuser; returns the first value malloc'ed (or NULL); an SQL error fails the test.
 */
char *test_sql(const struct test_postgres *pg, const char *sql, ...)
    __attribute__((format(printf, 2, 3)));
bool test_sql_is(const struct test_postgres *pg, const char *expected, const char *sql, ...)
    __attribute__((format(printf, 3, 4))); /* NULL is nothing that can be expected */

/* Drops a slot that nobody is to use any more: the server notices a little later that its client is
 * gone. */
void test_postgres_drop_slot(const struct test_postgres *pg, const char *name);

struct test_nats {
    pid_t pid;
    int port;
    char dir[128];
    char url[64]; /* nats://127.0.0.1:<port> */
    char *config; /* of its next start: a configuration file, or NULL; the test's */
};
void test_nats_start(struct test_nats *nats);
void test_nats_stop(struct test_nats *nats);    /* SIGTERM */
void test_nats_kill(struct test_nats *nats);    /* SIGKILL */
void test_nats_restart(struct test_nats *nats); /* same port, same storage */
void test_nats_wipe(struct test_nats *nats);    /* while stopped: deletes the storage */
void test_nats_remove(struct test_nats *nats);
/* A connection that waits for a loaded server; what goes wrong ends the test. wait_ms: of calls of
 * JetStream; 0: the library's own. */
void test_nats_connect(const char *url, int64_t wait_ms, natsConnection **nc, jsCtx **js);

/* A program of ours (or any), with its output in a file. argv[0] is looked up in $HW_BUILD_DIR
 * (default build) when it holds no slash. env: "NAME=value" entries, NULL-terminated, or NULL. */
struct test_program {
    pid_t pid;
    char log[160];
};
void test_program_start(struct test_program *p, const char *const argv[], const char *const env[]);
/* Sends signo (0: none), waits 5 s with patience (then SIGKILL and fails the test); returns the
 * status as of waitpid. Also fails the test on a sanitizer report in the log. */
int test_program_stop(struct test_program *p, int signo);
bool test_program_running(struct test_program *p);
/* Has the program come so far that it catches the signal, or reads it from a descriptor? Until then
 * the signal ends it, whatever it would have done about it. */
bool test_program_heeds(struct test_program *p, int signo);
/* Runs a program to its end (120 s, with patience); returns its exit status; *output malloc'ed
 * (stdout and stderr together), or NULL to drop. */
int test_program_run(const char *const argv[], const char *const env[], const char *input,
                     char **output);

/* The memory that is a process' own (RssAnon: what it allocated, or wrote to), in KiB. The pages of
 * shared libraries, which are resident as well, are as many as Debian made them. */
long test_own_kib(pid_t pid);

int test_free_port(void);
char *test_temp_dir(void); /* malloc'ed; removed at exit */

/* Tries the condition every 5 ms until it holds; fails the test with its text after timeout_s,
 * with patience. */
#define test_wait_for(condition, timeout_s)                                                        \
    do {                                                                                           \
        const double test_until_ = test_deadline(timeout_s);                                       \
        while (!(condition)) {                                                                     \
            if (test_now() > test_until_)                                                          \
                test_fail_at(__FILE__, __LINE__, "timed out waiting for: " #condition);            \
            test_pause();                                                                          \
        }                                                                                          \
    } while (0)
double test_now(void);
void test_pause(void);
void test_fail_at(const char *file, int line, const char *what) __attribute__((noreturn));

#endif
