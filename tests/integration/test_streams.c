/*
 * The three standard streams as unlucky surroundings leave them: every program with each of the
 * descriptors 0, 1 and 2 closed, full, a pipe at whose other end nobody does anything, and a pipe
 * whose other end is gone. A program that runs on does its work all the same. One that answers
 * gives its answer whatever became of the other streams, and fails with a message when it is the
 * answer that cannot be written. No bytes go anywhere else: what a program opens itself never gets
 * one of the three numbers.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

/* HANGING, as stdout and stderr: the reader is there and never reads. A service's log finds the
 * pipe full from the start; an answer finds it empty, and there is room for it. */
enum way { CLOSED, FULL, HANGING, GONE, WAYS };
enum { STREAMS = 3, CASES = STREAMS * WAYS, HANDED_OVER = 9, ARGUMENTS_MOST = 24 };

static const char *const way_names[] = {"closed", "full", "hanging", "gone"};

static struct test_pipeline p;
static struct test_api api;
static char *server, *dir;

/* Without a connection to NATS of its own, whose threads the forks of Check would not have. */
static void start(void)
{
    /* The number by which a program gets its pipe, before anything else has it. */
    ck_assert_int_eq(dup3(open("/dev/null", O_RDONLY | O_CLOEXEC), HANDED_OVER, O_CLOEXEC),
                     HANDED_OVER);
    test_postgres_start(&p.pg, true, "max_replication_slots = 30\nmax_wal_senders = 30\n");
    test_nats_start(&p.nats);
    p.monitor = test_free_port();
    pipeline_make_nodes(&p, CASES);
    pipeline_start(&p, NULL);
    test_api_start(&api, p.pg.api_url, NULL);
    server = hw_sprintf("http://127.0.0.1:%d", api.port);
    dir = test_temp_dir();
    test_wait_for(pipeline_log_says(&p, "msg=started"), 60);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
}

static void stop(void)
{
    test_api_stop(&api);
    pipeline_stop(&p);
    test_nats_remove(&p.nats);
    test_postgres_remove(&p.pg);
    free(server);
    free(dir);
}

/* ---- one program, one stream, one way ---- */

struct trial {
    int stream;
    enum way way;
    char name[160]; /* for messages */
    struct test_program program;
    char out[160], err[160]; /* files: what came by the streams that were left alone */
    int other_end;           /* of the pipe, or -1 */
    int port;                /* for a service */
};

/* Makes the pipe that becomes the stream; returns the program's end. */
static int make_pipe(struct trial *t, bool full)
{
    static const char block[4096];
    const int own = t->stream == STDIN_FILENO ? 0 : 1;
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    t->other_end = ends[1 - own];
    if (t->way == GONE) {
        close(t->other_end);
        t->other_end = -1;
    }
    if (full) {
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        while (write(ends[1], block, sizeof(block)) > 0)
            ;
        fcntl(ends[1], F_SETFL, 0);
    }
    return ends[own];
}

/* An argument with the number of the case in the place of {n}, and a port in that of {port}. */
static char *fill_in(const char *argument, int number, int port)
{
    const char *const n = strstr(argument, "{n}"), *const at = strstr(argument, "{port}");

    if (n != NULL)
        return hw_sprintf("%.*s%d%s", (int)(n - argument), argument, number, n + 3);
    if (at != NULL)
        return hw_sprintf("%.*s%d%s", (int)(at - argument), argument, port, at + 6);
    return hw_strdup(argument);
}

static void begin(struct trial *t, int number, const char *const argv[])
{
    static const char *const redirections[STREAMS][WAYS] = {
        {"<&-", "</dev/full", "<&9 9<&-", "<&9 9<&-"},
        {">&-", ">/dev/full", ">&9 9>&-", ">&9 9>&-"},
        {"2>&-", "2>/dev/full", "2>&9 9>&-", "2>&9 9>&-"},
    };
    const char *const build = getenv("HW_BUILD_DIR"), *words[ARGUMENTS_MOST];
    char *own[ARGUMENTS_MOST] = {NULL};
    size_t count = 0;
    int handed = -1;

    *t = (struct trial){.stream = number / WAYS,
                        .way = (enum way)(number % WAYS),
                        .other_end = -1,
                        .port = test_free_port()};
    snprintf(t->name, sizeof(t->name), "%s %s, descriptor %d %s", argv[0],
             argv[1] != NULL ? argv[1] : "", t->stream, way_names[t->way]);
    test_new_path(t->out, sizeof(t->out), "out");
    test_new_path(t->err, sizeof(t->err), "err");
    if (t->way == HANGING || t->way == GONE)
        handed = make_pipe(t, t->way == HANGING && t->stream == STDERR_FILENO);
    HW_AUTO_FREE char *script = hw_sprintf(
        "out=$1 err=$2; shift 2; exec \"$@\" %s %s %s", t->stream != 1 ? ">\"$out\"" : "",
        t->stream != 2 ? "2>\"$err\"" : "", redirections[t->stream][t->way]);
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s", build != NULL ? build : "build", argv[0]);

    for (const char *const *first =
             (const char *const[]){"/bin/sh", "-c", script, "sh", t->out, t->err, path, NULL};
         *first != NULL; first++)
        words[count++] = *first;
    for (argv++; *argv != NULL; argv++) {
        own[count] = fill_in(*argv, number + 1, t->port);
        words[count] = own[count];
        count++;
    }
    words[count] = NULL;
    if (handed >= 0)
        dup2(handed, HANDED_OVER);
    test_program_start(&t->program, words, NULL);
    if (handed >= 0) {
        fcntl(HANDED_OVER, F_SETFD, FD_CLOEXEC);
        close(handed);
    }
    for (size_t i = 0; i < HW_COUNT(own); i++)
        free(own[i]);
}

static int reap(struct trial *t)
{
    int status;

    if (!test_reap(t->program.pid, 60, &status)) {
        kill(t->program.pid, SIGKILL);
        ck_abort_msg("%s: it does not end", t->name);
    }
    if (t->other_end >= 0)
        close(t->other_end);
    HW_AUTO_FREE char *err = test_read_file(t->err);
    ck_assert_msg(strstr(err, "Sanitizer") == NULL, "%s: %s", t->name, err);
    ck_assert_msg(WIFEXITED(status), "%s: ended with %x\n%s", t->name, (unsigned)status, err);
    return WEXITSTATUS(status);
}

/* ---- programs that answer ---- */

static void check_answer(struct trial *t)
{
    const int status = reap(t);
    HW_AUTO_FREE char *out = test_read_file(t->out);
    HW_AUTO_FREE char *err = test_read_file(t->err);

    if (t->stream == STDOUT_FILENO && t->way != HANGING) {
        ck_assert_msg(status != 0, "%s: exit status 0\n%s", t->name, err);
        ck_assert_msg(strstr(err, "to standard output") != NULL, "%s: it says\n%s", t->name, err);
    } else {
        ck_assert_msg(status == 0, "%s: exit status %d\n%.1000s%.2000s", t->name, status, out, err);
        ck_assert_msg(t->stream == STDOUT_FILENO || *out != '\0', "%s: no answer\n%s", t->name,
                      err);
    }
}

/* In all the cases at once. {n} in an argument is the number of the case, from 1. */
static void answers(const char *const argv[])
{
    struct trial trials[CASES];

    for (int i = 0; i < CASES; i++)
        begin(&trials[i], i, argv);
    for (int i = 0; i < CASES; i++)
        check_answer(&trials[i]);
}
#define ANSWERS(...) answers((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_help_and_version)
{
    static const char *const programs[] = {"headwater", "headwater-api", "headwater-reconciler",
                                           "headwater-agent", "headwater-cdc"};

    for (size_t i = 0; i < HW_COUNT(programs); i++) {
        ANSWERS(programs[i], "--help");
        ANSWERS(programs[i], "--version");
    }
    ANSWERS("headwater-api", "permissions");
    ANSWERS("headwater-reconciler", "permissions");
    ANSWERS("headwater-agent", "permissions", "--node", "n1");
}
END_TEST

START_TEST(test_tools)
{
    HW_AUTO_FREE char *lsn = test_sql(&p.pg, "SELECT confirmed_flush_lsn FROM pg_replication_slots "
                                             "WHERE slot_name = 'headwater_archive'");

    ANSWERS("headwater-api", "migrate", "--dry-run", "--database", p.pg.url);
    ANSWERS("headwater-api", "token", "list", "--database", p.pg.url);
    ANSWERS("headwater-reconciler", "verify", "--database", p.pg.reconciler_url, "--nats",
            p.nats.url);
    ANSWERS("headwater-cdc", "preflight", "--database", p.pg.url);
    ANSWERS("headwater-cdc", "status", "--database", p.pg.url);
    ANSWERS("headwater-cdc", "replay", "--dry-run", "--from", lsn, "--database", p.pg.url);
}
END_TEST

/* It has an answer when something is committed. */
START_TEST(test_tail)
{
    const char *const argv[] = {"headwater-cdc", "tail",   "--count", "1",
                                "--database",    p.pg.url, NULL};
    struct trial trials[CASES];

    for (int i = 0; i < CASES; i++)
        begin(&trials[i], i, argv);
    for (int i = 0; i < CASES; i++) {
        for (const double until = test_deadline(60);
             test_program_running(&trials[i].program) && test_now() < until; test_pause())
            free(test_sql(&p.pg, "SELECT pg_logical_emit_message(true, 'headwater', 'test')"));
        check_answer(&trials[i]);
    }
}
END_TEST

START_TEST(test_command_line)
{
    ANSWERS("headwater", "get", "nodes", "--server", server);
    ANSWERS("headwater", "fleet", "--server", server, "-o", "json");
    ANSWERS("headwater", "describe", "node", "n1", "--server", server);
    ANSWERS("headwater", "explain", "n1", "--server", server);
    ANSWERS("headwater", "delete", "node", "n{n}", "--dry-run", "--server", server);
}
END_TEST

/* ---- tokens: one that nobody was shown is not good ---- */

/* Those that could not be shown are revoked, and the rest are as many as were shown. */
static void check_tokens(const char *like)
{
    for (int i = 0; i < CASES; i++) {
        const bool lost = i / WAYS == STDOUT_FILENO && i % WAYS != HANGING;

        if (!test_sql_is(&p.pg, lost ? "revoked" : "active",
                         "SELECT state FROM headwater.token_info WHERE name = '%s%d'", like, i + 1))
            ck_abort_msg("the token of case %d: is%s active", i, lost ? "" : " not");
    }
}

START_TEST(test_token_of_api)
{
    ANSWERS("headwater-api", "token", "create", "made-{n}", "--role", "admin", "--database",
            p.pg.url);
    check_tokens("made-");
}
END_TEST

START_TEST(test_token_of_command_line)
{
    static const char script[] = "umask 077; \"${HW_BUILD_DIR:-build}/headwater-api\" token create "
                                 "boss --role admin --database \"$0\" >\"$1\"";
    HW_AUTO_FREE char *file = hw_sprintf("%s/token", dir);
    const char *const argv[] = {"/bin/sh", "-c", script, p.pg.url, file, NULL};

    ck_assert_int_eq(test_program_run(argv, NULL, NULL, NULL), 0);
    ANSWERS("headwater", "token", "create", "asked-{n}", "--role", "viewer", "--server", server,
            "--token-file", file);
    check_tokens("asked-");
}
END_TEST

/* ---- what is read from standard input ---- */

/* No document is not an empty one: nothing may be removed because of it. */
START_TEST(test_input)
{
    const char *const argv[] = {"headwater", "apply", "-f",       "-",    "--set", "s",
                                "--prune",   "--yes", "--server", server, NULL};
    struct trial t;

    for (enum way way = CLOSED; way <= FULL; way++) {
        begin(&t, (int)way, argv);
        ck_assert_msg(reap(&t) != 0, "%s: exit status 0", t.name);
    }
}
END_TEST

/* ---- services ---- */

/* Whether /metrics or /readyz at a port answers 200; *body: malloc'ed. */
static bool asks(int port, const char *target, char **body)
{
    HW_AUTO_FREE char *url = hw_sprintf("http://127.0.0.1:%d%s", port, target);
    const char *const argv[] = {"/usr/bin/env", "curl", "-sf", "--max-time", "5", url, NULL};

    return test_program_run(argv, NULL, NULL, body) == 0;
}

/* What descriptor fd of the process is. */
static char *what_is(const struct trial *t, int fd)
{
    HW_AUTO_FREE char *path = hw_sprintf("/proc/%d/fd/%d", (int)t->program.pid, fd);
    char *text = hw_alloc(256);

    if (readlink(path, text, 255) < 0)
        text[0] = '\0';
    return text;
}

/* Starts it in all the cases at once, waits until each is ready and has done what works says (or
 * NULL), looks at its descriptors and at its count of lost lines, and stops it. In an argument,
 * {n} is the number of the case, from 1, and {port} the one that is asked. */
static void serves(const char *lost_lines, bool (*works)(int number), const char *const argv[])
{
    struct trial trials[CASES];

    for (int i = 0; i < CASES; i++)
        begin(&trials[i], i, argv);
    for (int i = 0; i < CASES; i++) {
        struct trial *t = &trials[i];
        const double until = test_deadline(60);
        char *body = NULL;

        while (!asks(t->port, "/readyz", NULL) || (works != NULL && !works(i + 1))) {
            HW_AUTO_FREE char *err = test_read_file(t->err);

            ck_assert_msg(test_now() < until && test_program_running(&t->program),
                          "%s: it does not work\n%s", t->name, err);
            test_pause();
        }
        for (int fd = 0; fd < STREAMS; fd++) {
            HW_AUTO_FREE char *what = what_is(t, fd);

            ck_assert_msg(*what == '/' || strncmp(what, "pipe:", 5) == 0, "%s: descriptor %d is %s",
                          t->name, fd, what);
        }
        ck_assert_msg(asks(t->port, "/metrics", &body), "%s: no metrics", t->name);
        const char *const count = strstr(body, lost_lines);
        ck_assert_msg(count != NULL, "%s: no %s in:\n%s", t->name, lost_lines, body);
        const double lost = strtod(count + strlen(lost_lines), NULL);
        if (t->stream == STDERR_FILENO && t->way != HANGING)
            ck_assert_msg(lost > 0, "%s: no line was lost", t->name);
        else
            ck_assert_msg(lost == 0, "%s: %g lines were lost", t->name, lost);
        free(body);
        kill(t->program.pid, SIGTERM);
    }
    for (int i = 0; i < CASES; i++) {
        const int status = reap(&trials[i]);

        ck_assert_msg(status == 0, "%s: exit status %d", trials[i].name, status);
    }
}

START_TEST(test_api)
{
    serves("\nheadwater_api_log_lines_lost_total ", NULL,
           (const char *const[]){"headwater-api", "--database", p.pg.api_url, "--listen",
                                 "127.0.0.1:{port}", "--log-level", "debug", NULL});
}
END_TEST

/* One leads, the others stand by: they are ready as well. */
START_TEST(test_reconciler)
{
    serves("\nheadwater_reconciler_log_lines_lost_total ", NULL,
           (const char *const[]){"headwater-reconciler", "--database", p.pg.reconciler_url,
                                 "--nats", p.nats.url, "--monitor", "127.0.0.1:{port}",
                                 "--log-level", "debug", NULL});
}
END_TEST

static bool is_applied(int number)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/n%d", dir, number);

    return access(path, R_OK) == 0;
}

START_TEST(test_agent)
{
    HW_AUTO_FREE char *output = hw_sprintf("%s/n{n}", dir);
    HW_AUTO_FREE char *state_dir = hw_sprintf("%s/state-{n}", dir);

    serves("\nheadwater_agent_log_lines_lost_total ", is_applied,
           (const char *const[]){"headwater-agent", "--node", "n{n}", "--nats", p.nats.url,
                                 "--output", output, "--state-dir", state_dir, "--monitor",
                                 "127.0.0.1:{port}", "--apply", "/bin/echo applied", "--log-level",
                                 "debug", NULL});
    ANSWERS("headwater-agent", "status", "--node", "n{n}", "--state-dir", state_dir, "--output",
            output);
    ANSWERS("headwater-agent", "propose", "--node", "n{n}", "--state-dir", state_dir, "--config",
            "c", "--base-revision", "1", "--file", "/proc/self/environ");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_help_and_version,     test_tools, test_tail,
                                  test_command_line,         test_input, test_api,
                                  test_reconciler,           test_agent, test_token_of_api,
                                  test_token_of_command_line};
    Suite *suite = suite_create("streams");
    TCase *all = tcase_create("streams");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 240);
    for (size_t i = 0; i < HW_COUNT(tests); i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
