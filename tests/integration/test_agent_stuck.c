/*
 * A node that cannot be brought back: the command cannot be started, or the output cannot be
 * written. The fleet hears why the newest document is not applied, and the newest one frees the
 * node.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define NODE "edge-1"

static struct agent_program a;
static char *apply, *script, *aside;

#define START(...)                                                                                 \
    agent_program_start(                                                                           \
        &a, (const char *const[]){"--output", a.output, "--apply", script, __VA_ARGS__, NULL},     \
        NULL)
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail_at(__FILE__, __LINE__, #condition);                                          \
    } while (0)

static void desire(int revision, const char *content)
{
    upstream_desire(&a.up, NODE, revision, content);
}

static void delete_entry(hw_lsn lsn)
{
    upstream_put_entry(&a.up, NODE, NULL, 0, &(struct hw_fence){1, lsn});
}

/* Waits for a report of the failure of this revision, with the words, while another one runs. */
static void expect_failed(int revision, int running, const char *says)
{
    for (const double until = test_deadline(UPSTREAM_WAIT_S);;) {
        json_t *report = upstream_expect(&a.up, NODE, "failed", running, "apply");
        const json_t *failed = json_object_get(report, "failed");
        const bool found = json_integer_value(json_object_get(failed, "revision")) == revision &&
                           strstr(upstream_text(report, "failed", "error"), says) != NULL;
        if (!found && test_now() > until)
            test_fail("the report: %s", json_dumps(report, 0));
        json_decref(report);
        if (found)
            return;
    }
}

/* Revision 1 runs. */
static void begin(void)
{
    agent_program_open(&a, NODE);
    apply = agent_program_script(&a, "apply", "");
    script = hw_sprintf("%s/program", a.dir);
    aside = hw_sprintf("%s/aside", a.dir);
    char *text = hw_sprintf("#!/bin/sh\nexec %s\n", apply);
    agent_program_write(script, text);
    free(text);
    ck_assert_int_eq(chmod(script, 0755), 0);
    START("--poll", "1h");
    desire(1, "one");
    upstream_expect_applied(&a.up, NODE, 1);
}

static void end(void)
{
    agent_program_stop(&a);
    agent_program_close(&a);
    free(apply);
    free(script);
    free(aside);
}

/* The command disappears while revision 2 is applied, and then while nothing is. */
static void get_stuck(void)
{
    begin();
    ck_assert_int_eq(rename(script, aside), 0);
    desire(2, "two");
    expect_failed(2, 1, "going back to revision 1");
    CHECK(agent_program_file_is(a.output, "one"));
}

START_TEST(test_the_newest_says_why_and_frees_the_node)
{
    get_stuck();
    desire(3, "three");
    expect_failed(3, 1, "there is no such program");
    desire(4, "four");
    expect_failed(4, 1, "there is no such program");
    CHECK(agent_program_file_is(a.output, "one"));
    unlink(a.runs);
    ck_assert_int_eq(rename(aside, script), 0);
    desire(5, "five");
    upstream_expect_applied(&a.up, NODE, 5);
    CHECK(agent_program_file_is(a.output, "five"));
    end();
}
END_TEST

/* The same after a start: what a killed agent left is not brought back. */
START_TEST(test_the_same_after_a_start)
{
    get_stuck();
    agent_program_kill(&a);
    desire(3, "three");
    START("--poll", "1h");
    agent_program_wait_log(&a, "was stopped in the midst of applying");
    expect_failed(3, 1, "there is no such program");
    /* What is refused before the node is touched leaves the way back owed. */
    agent_program_kill(&a);
    desire(4, "four");
    START("--poll", "1h", "--validate", "false");
    json_decref(upstream_expect(&a.up, NODE, "rejected", 1, "validate"));
    agent_program_kill(&a);
    unlink(a.runs);
    ck_assert_int_eq(rename(aside, script), 0);
    START("--poll", "1h", "--validate", "false");
    agent_program_wait_runs(&a, "apply 1 one\n");
    CHECK(agent_program_file_is(a.output, "one"));
    end();
}
END_TEST

/* What runs is desired again, or nothing is: it has failed until it was brought back. */
START_TEST(test_what_runs_is_desired_again)
{
    get_stuck();
    desire(3, "one");
    expect_failed(3, 3, "there is no such program");
    delete_entry(0x40);
    for (const double until = test_deadline(UPSTREAM_WAIT_S);;) {
        json_t *report = upstream_expect(&a.up, NODE, "failed", 3, "apply");
        const bool none = json_is_null(json_object_get(report, "desired_revision"));
        json_decref(report);
        if (none)
            break;
        CHECK(test_now() < until);
    }
    unlink(a.runs);
    ck_assert_int_eq(rename(aside, script), 0);
    kill(a.program.pid, SIGHUP);
    json_decref(upstream_expect(&a.up, NODE, "applied", 3, NULL));
    agent_program_wait_runs(&a, "apply 3 one\n");
    end();
}
END_TEST

/* Drift that cannot be healed holds nothing up either. */
START_TEST(test_drift_that_cannot_be_healed)
{
    begin();
    unlink(a.output);
    ck_assert_int_eq(mkdir(a.output, 0755), 0);
    char *file = hw_sprintf("%s/in-the-way", a.output);
    agent_program_write(file, "");
    agent_program_wait_log(&a, "cannot apply");
    desire(2, "two");
    expect_failed(2, 1, "output.conf");
    unlink(file);
    ck_assert_int_eq(rmdir(a.output), 0);
    desire(3, "three");
    upstream_expect_applied(&a.up, NODE, 3);
    CHECK(agent_program_file_is(a.output, "three"));
    free(file);
    end();
}
END_TEST

/* A hold stops the newest document, and never the way back. */
START_TEST(test_a_hold_meanwhile)
{
    get_stuck();
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"hold", "run", NULL}, NULL),
                     0);
    desire(3, "three");
    json_t *report = upstream_expect_member(&a.up, NODE, "held", true);
    json_decref(report);
    unlink(a.runs);
    ck_assert_int_eq(rename(aside, script), 0);
    kill(a.program.pid, SIGHUP);
    agent_program_wait_runs(&a, "apply 1 one\n");
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"release", NULL}, NULL), 0);
    upstream_expect_applied(&a.up, NODE, 3);
    agent_program_wait_runs(&a, "apply 1 one\napply 3 three\n");
    end();
}
END_TEST

TEST_MAIN("agent stuck", 120, test_the_newest_says_why_and_frees_the_node,
          test_the_same_after_a_start, test_what_runs_is_desired_again,
          test_drift_that_cannot_be_healed, test_a_hold_meanwhile)
