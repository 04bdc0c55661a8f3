/*
 * headwater-agent with all that it does besides fetching and applying: validation, health,
 * generations, owners, confirmation, holds, drift, a life without NATS, and commands and disks that
 * do not do what they should.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define NODE   "edge-1"
#define WAIT_S 60

static struct agent_program a;

#define START(...)                                                                                 \
    agent_program_start(&a, (const char *const[]){"--output", a.output, __VA_ARGS__, NULL}, NULL)
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail_at(__FILE__, __LINE__, #condition);                                          \
    } while (0)

static void desire(int revision, const char *content)
{
    upstream_desire(&a.up, NODE, revision, content);
}

static void expect_applied(int revision)
{
    upstream_expect_applied(&a.up, NODE, revision);
}

/* Waits for the report, and gives the text of its failure. */
static char *expect_failed(const char *state, int running, const char *stage)
{
    json_t *report = upstream_expect(&a.up, NODE, state, running, stage);
    char *error = hw_strdup(upstream_text(report, "failed", "error"));
    json_decref(report);
    return error;
}

static void expect_error(const char *state, int running, const char *stage, const char *says)
{
    char *error = expect_failed(state, running, stage);
    for (const double until = test_deadline(WAIT_S); strstr(error, says) == NULL;) {
        if (test_now() > until)
            test_fail("the report says \"%s\", not \"%s\"", error, says);
        free(error);
        error = expect_failed(state, running, stage);
    }
    free(error);
}

static int times_in_log(const char *text)
{
    char *log = test_read_file(a.program.log);
    int times = 0;
    for (const char *at = log; (at = strstr(at, text)) != NULL; at += strlen(text))
        times++;
    free(log);
    return times;
}

static bool output_is(const char *content)
{
    return agent_program_file_is(a.output, content);
}

/* ---- validation and health ------------------------------------------------------------------- */

START_TEST(test_validation_comes_before_any_change)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    char *validate = agent_program_script(
        &a, "validate",
        "case $HEADWATER_FILE in */output.conf) exit 9;; esac\n"
        "if [ $HEADWATER_REVISION = 2 ]; then echo 'rate_hz is too high'; exit 3; fi\n"
        "if [ $HEADWATER_REVISION = 3 ]; then sleep 600; fi");
    START("--apply", apply, "--validate", validate, "--validate-timeout", "3s");
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    expect_error("rejected", 1, "validate", "sh exited with status 3: rate_hz is too high");
    CHECK(output_is("one"));
    desire(3, "three");
    expect_error("rejected", 1, "validate", "did not end within 3 s");
    desire(4, "four");
    expect_applied(4);
    agent_program_wait_runs(
        &a, "validate 1 one\napply 1 one\nvalidate 2 two\nvalidate 3 three\nvalidate 4 four\n"
            "apply 4 four\n");
    free(apply);
    free(validate);
    agent_program_close(&a);
}
END_TEST

START_TEST(test_health_is_waited_for)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    char *health =
        agent_program_script(&a, "health",
                             "if [ $HEADWATER_REVISION = 2 ] && [ $(grep -c 'health 2' ../runs) "
                             "-lt 3 ]; then exit 1; fi\n"
                             "if [ $HEADWATER_REVISION = 3 ]; then echo 'no samples'; exit 1; fi");
    char *within = hw_sprintf("cd '%s/out'; %s", a.dir, health);
    char *command = hw_sprintf("sh -c \"%s\"", within);
    START("--apply", apply, "--health", command, "--health-within", "20s");
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&a, "apply 1 one\nhealth 1 one\napply 2 two\nhealth 2 two\n"
                                "health 2 two\nhealth 2 two\n");
    agent_program_stop(&a);
    START("--apply", apply, "--health", command, "--health-within", "0s");
    unlink(a.runs);
    desire(3, "three");
    expect_error("failed", 2, "health", "sh exited with status 1: no samples");
    CHECK(output_is("two"));
    agent_program_wait_runs(&a, "apply 3 three\nhealth 3 three\napply 2 two\n");
    /* A check that cannot be started says nothing about the document. */
    agent_program_stop(&a);
    char *later = hw_sprintf("%s/later", a.dir);
    desire(4, "four"); /* before the start, which would try once more what has failed */
    START("--health", later);
    expect_error("failed", 2, "health", later);
    /* Seen whenever it is looked for: it is tried again, and is in place for a moment. */
    agent_program_wait_file(&a, a.output, "two");
    agent_program_write(later, "#!/bin/sh\n");
    expect_applied(4);
    CHECK(output_is("four"));
    free(later);
    free(command);
    free(within);
    free(health);
    free(apply);
    agent_program_close(&a);
}
END_TEST

/* ---- the output ------------------------------------------------------------------------------ */

static int count_generations(const char *dir)
{
    char *line = hw_sprintf("ls '%s' | grep -c '^r[0-9]*-[0-9a-f]*$'", dir);
    char *said;
    test_program_run((const char *const[]){"/bin/sh", "-c", line, NULL}, NULL, NULL, &said);
    const int count = (int)strtol(said, NULL, 10);
    free(said);
    free(line);
    return count;
}

START_TEST(test_generations)
{
    char target[256];
    agent_program_open(&a, NODE);
    char *dir = hw_sprintf("%s/out", a.dir);
    char *current = hw_sprintf("%s/current", dir);
    char *apply = agent_program_script(&a, "apply", "test $HEADWATER_REVISION != 5");
    const char *const options[] = {"--output-dir", dir,      "--keep", "3", "--apply",
                                   apply,          "--mode", "0600",   NULL};
    char *foreign = hw_sprintf("%s/README", dir);
    agent_program_write(foreign, "not ours");
    agent_program_start(&a, options, NULL);
    for (int revision = 1; revision <= 4; revision++) {
        char content[32];
        snprintf(content, sizeof(content), "content %d", revision);
        desire(revision, content);
        expect_applied(revision);
        CHECK(agent_program_file_is(current, content));
    }
    ck_assert_int_eq(count_generations(dir), 3);
    const ssize_t len = readlink(current, target, sizeof(target) - 1);
    ck_assert_int_gt(len, 0);
    target[len] = '\0';
    CHECK(strncmp(target, "r4-", 3) == 0 && strlen(target) == 15);
    struct stat st;
    ck_assert_int_eq(stat(current, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);

    /* Back to the generation before, which is there still. */
    desire(5, "five");
    free(expect_failed("failed", 4, "apply"));
    CHECK(agent_program_file_is(current, "content 4"));
    CHECK(agent_program_file_is(foreign, "not ours"));

    /* Drift: the link and the generation itself. */
    unlink(current);
    agent_program_wait_file(&a, current, "content 4");
    json_decref(upstream_expect_member(&a.up, NODE, "drift", true));
    char *generation = hw_sprintf("%s/%s", dir, target);
    agent_program_write(generation, "edited");
    agent_program_wait_file(&a, current, "content 4");
    free(generation);

    agent_program_kill(&a);
    agent_program_start(&a, options, NULL);
    agent_program_wait_log(&a, "runs already");
    desire(6, "six");
    expect_applied(6);
    CHECK(agent_program_file_is(current, "six"));
    CHECK(count_generations(dir) <= 3);
    free(foreign);
    free(apply);
    free(current);
    free(dir);
    agent_program_close(&a);
}
END_TEST

START_TEST(test_mode_and_owner)
{
    struct stat st;
    agent_program_open(&a, NODE);
    if (geteuid() == 0) {
        START("--mode", "0440", "--owner", "nobody:12345");
        desire(1, "one");
        expect_applied(1);
        ck_assert_int_eq(stat(a.output, &st), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0440);
        ck_assert_uint_eq(st.st_uid, getpwnam("nobody")->pw_uid);
        ck_assert_uint_eq(st.st_gid, 12345);
    } else {
        START("--owner", "0");
        desire(1, "one");
        expect_error("failed", 0, "apply", "changing the owner of");
        CHECK(access(a.output, F_OK) != 0);
    }
    agent_program_close(&a);
}
END_TEST

/* ---- confirmation ---------------------------------------------------------------------------- */

START_TEST(test_a_change_that_cuts_the_node_off_is_taken_back)
{
    agent_program_open(&a, NODE);
    char *body =
        hw_sprintf("if [ $HEADWATER_REVISION = 2 ]; then kill -9 %d; fi", (int)a.up.server.pid);
    char *apply = agent_program_script(&a, "apply", body);
    START("--apply", apply, "--confirm-within", "5s");
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    agent_program_wait_runs(&a, "apply 1 one\napply 2 two\napply 1 one\n");
    CHECK(output_is("one"));
    agent_program_wait_log(&a, "the last known good runs again");
    free(agent_program_script(&a, "apply", ""));
    test_nats_kill(&a.up.server);
    upstream_restart(&a.up);
    expect_error("failed", 1, "health", "NATS was not reached within 5 s");
    CHECK(output_is("one"));
    /* What cut it off is not tried again by itself; something newer is, and is confirmed. */
    desire(3, "three");
    expect_applied(3);
    agent_program_wait_log(&a, "confirmed: NATS was reached");
    agent_program_wait_runs(&a, "apply 1 one\napply 2 two\napply 1 one\napply 3 three\n");
    free(apply);
    free(body);
    agent_program_close(&a);
}
END_TEST

/* The window outlives the agent: a crash in it does not make a change a good one. */
START_TEST(test_confirmation_is_owed_after_a_restart)
{
    char *said;
    agent_program_open(&a, NODE);
    char *body =
        hw_sprintf("if [ $HEADWATER_REVISION = 2 ]; then kill -9 %d; fi", (int)a.up.server.pid);
    char *apply = agent_program_script(&a, "apply", body);
    START("--apply", apply, "--confirm-within", "1h");
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    agent_program_wait_log(&a, "msg=applied");
    agent_program_wait_file(&a, a.output, "two");
    for (const double until = test_deadline(WAIT_S);;) {
        ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"status", NULL}, &said),
                         0);
        const bool owed = strstr(said, "not confirmed yet") != NULL;
        free(said);
        if (owed)
            break;
        CHECK(test_now() < until);
        test_pause();
    }
    agent_program_kill(&a);
    START("--apply", apply, "--confirm-within", "1s");
    agent_program_wait_runs(&a, "apply 1 one\napply 2 two\napply 1 one\n");
    CHECK(output_is("one"));
    test_nats_kill(&a.up.server);
    upstream_restart(&a.up);
    expect_error("failed", 1, "health", "NATS was not reached");
    free(apply);
    free(body);
    agent_program_close(&a);
}
END_TEST

/* ---- holding --------------------------------------------------------------------------------- */

START_TEST(test_hold)
{
    static const char *const hold[] = {"hold", "run 4711", NULL},
                             *const release[] = {"release", NULL},
                             *const status[] = {"status", NULL},
                             *const json[] = {"status", "--json", NULL};
    char *said;
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    ck_assert_int_eq(agent_program_command(&a, hold, NULL), 0);
    desire(2, "two");
    desire(3, "three");
    json_t *report = upstream_expect_member(&a.up, NODE, "held", true);
    ck_assert_str_eq(upstream_text(report, "held", "reason"), "run 4711");
    ck_assert_uint_eq(strlen(upstream_text(report, "held", "since")), 24);
    ck_assert_str_eq(json_string_value(json_object_get(report, "state")), "applied");
    json_decref(report);
    for (const double until = test_deadline(WAIT_S);;) {
        report = upstream_expect_member(&a.up, NODE, "held", true);
        const json_int_t waiting =
            json_integer_value(json_object_get(json_object_get(report, "held"), "waiting"));
        json_decref(report);
        if (waiting == 3)
            break;
        CHECK(test_now() < until);
    }
    /* It outlives the agent. */
    agent_program_stop(&a);
    START("--apply", apply);
    agent_program_wait_log(&a, "held: it waits for the release");
    json_decref(upstream_expect(&a.up, NODE, "applied", 1, NULL));
    CHECK(output_is("one"));
    ck_assert_int_eq(agent_program_command(&a, status, &said), 0);
    CHECK(strstr(said, "held         since") != NULL && strstr(said, ": run 4711") != NULL);
    CHECK(strstr(said, "agent        alive") != NULL);
    CHECK(strstr(said, "running      revision 1, sha256:") != NULL);
    free(said);
    agent_program_wait_runs(&a, "apply 1 one\n");

    ck_assert_int_eq(agent_program_command(&a, release, NULL), 0);
    expect_applied(3);
    json_decref(upstream_expect_member(&a.up, NODE, "held", false));
    agent_program_wait_runs(&a, "apply 1 one\napply 3 three\n");
    ck_assert_int_eq(agent_program_command(&a, release, NULL), 0);

    agent_program_stop(&a);
    ck_assert_int_eq(agent_program_command(&a, json, &said), 0);
    struct hw_error err;
    json_t *value;
    ck_assert_int_eq(hw_json_parse_object(said, strlen(said), &value, &err), HW_OK);
    CHECK(json_is_false(json_object_get(value, "alive")));
    ck_assert_str_eq(json_string_value(json_object_get(value, "node")), NODE);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(value, "running"), "revision")), 3);
    json_decref(value);
    free(said);
    free(apply);
    agent_program_close(&a);
}
END_TEST

/* A hold that is there when hold has returned keeps back all that comes afterwards. */
START_TEST(test_nothing_begins_once_hold_has_returned)
{
    static const char *const hold[] = {"hold", NULL}, *const release[] = {"release", NULL};
    agent_program_open(&a, NODE);
    START("--drift", "heal");
    for (int round = 1; round <= 15; round++) {
        char content[32];
        snprintf(content, sizeof(content), "content %d", round);
        desire(2 * round - 1, content);
        expect_applied(2 * round - 1);
        ck_assert_int_eq(agent_program_command(&a, hold, NULL), 0);
        desire(2 * round, "too early");
        json_decref(upstream_expect_member(&a.up, NODE, "held", true));
        CHECK(output_is(content));
        ck_assert_int_eq(agent_program_command(&a, release, NULL), 0);
        expect_applied(2 * round);
    }
    agent_program_close(&a);
}
END_TEST

START_TEST(test_status_without_a_state)
{
    char *said;
    agent_program_open(&a, NODE);
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"status", NULL}, &said), 1);
    CHECK(strstr(said, "state.json") != NULL);
    free(said);
    ck_assert_int_eq(
        agent_program_command(&a, (const char *const[]){"release", "now", NULL}, &said), 2);
    free(said);
    agent_program_close(&a);
}
END_TEST

static void expect_status(const char *text)
{
    static const char *const argv[] = {"status", "--json", NULL};
    HW_AUTO_FREE char *said = NULL;

    for (const double until = test_now() + WAIT_S;; free(HW_TAKE(said))) {
        if (agent_program_command(&a, argv, &said) == 0 && strstr(said, text) != NULL)
            return;
        CHECK(test_now() < until);
    }
}

/* Of whom nothing is desired, and who is asked: it knows, and says so until something is. */
START_TEST(test_nothing_is_desired)
{
    static const char nothing[] = "nothing desired: not registered, or without an assignment";
    HW_AUTO_FREE char *said = NULL;

    agent_program_open(&a, NODE);
    START("--poll", "100ms");
    agent_program_wait_log(&a, nothing);
    expect_status("\"nothing_desired\":true");
    CHECK(agent_program_command(&a, (const char *const[]){"status", NULL}, &said) == 0);
    CHECK(strstr(said, nothing) != NULL && strstr(said, "running      nothing") != NULL);
    /* Word of it is on the disk. */
    agent_program_stop(&a);
    expect_status("\"nothing_desired\":true");
    START("--poll", "100ms");
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"hold", NULL}, NULL), 0);
    desire(1, "one");
    expect_status("\"nothing_desired\":false"); /* though it waits */
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"release", NULL}, NULL), 0);
    expect_applied(1);
    expect_status("\"nothing_desired\":false");
    /* Many looks later it was said once by each start. */
    HW_AUTO_FREE char *log = test_read_file(a.program.log);
    int count = 0;
    for (const char *at = log; (at = strstr(at, nothing)) != NULL; at++)
        count++;
    ck_assert_int_le(count, 2);
    agent_program_close(&a);
}
END_TEST

/* ---- drift ----------------------------------------------------------------------------------- */

START_TEST(test_drift_is_healed)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    agent_program_write(a.output, "edited");
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\n");
    CHECK(output_is("one"));
    json_t *report = upstream_expect_member(&a.up, NODE, "drift", true);
    for (const double until = test_deadline(WAIT_S);
         !json_is_true(json_object_get(json_object_get(report, "drift"), "healed"));) {
        CHECK(test_now() < until);
        json_decref(report);
        report = upstream_expect_member(&a.up, NODE, "drift", true);
    }
    CHECK(strstr(upstream_text(report, "drift", "error"), "other content") != NULL);
    ck_assert_str_eq(json_string_value(json_object_get(report, "state")), "applied");
    json_decref(report);
    unlink(a.output);
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\napply 1 one\n");
    CHECK(output_is("one"));
    /* The directory itself, which inotify cannot outlive. */
    char *dir = hw_sprintf("%s/out", a.dir);
    char *away = hw_sprintf("%s/away", a.dir);
    ck_assert_int_eq(rename(dir, away), 0);
    test_wait_for(times_in_log("the output is missing") > 1, WAIT_S); /* once by the unlink above */
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    agent_program_wait_file(&a, a.output, "one");
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\napply 1 one\napply 1 one\n");

    desire(2, "two");
    expect_applied(2);
    json_decref(upstream_expect_member(&a.up, NODE, "drift", false));
    free(away);
    free(dir);
    free(apply);
    agent_program_close(&a);
}
END_TEST

START_TEST(test_drift_is_only_reported)
{
    char *said;
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    START("--apply", apply, "--drift", "report");
    desire(1, "one");
    expect_applied(1);
    agent_program_write(a.output, "edited");
    json_t *report = upstream_expect_member(&a.up, NODE, "drift", true);
    CHECK(json_is_false(json_object_get(json_object_get(report, "drift"), "healed")));
    json_decref(report);
    ck_assert_int_eq(agent_program_command(
                         &a, (const char *const[]){"status", "--output", a.output, NULL}, &said),
                     0);
    CHECK(strstr(said, "drift        the output") != NULL);
    free(said);
    /* Also one that was made while no agent ran. */
    agent_program_stop(&a);
    START("--apply", apply, "--drift", "report");
    json_decref(upstream_expect_member(&a.up, NODE, "drift", true));
    CHECK(output_is("edited"));
    agent_program_write(a.output, "one");
    json_decref(upstream_expect_member(&a.up, NODE, "drift", false));
    agent_program_write(a.output, "edited");
    json_decref(upstream_expect_member(&a.up, NODE, "drift", true));
    desire(2, "two");
    expect_applied(2);
    CHECK(output_is("two"));
    json_decref(upstream_expect_member(&a.up, NODE, "drift", false));
    agent_program_wait_runs(&a, "apply 1 one\napply 2 two\n");
    free(apply);
    agent_program_close(&a);
}
END_TEST

START_TEST(test_drift_waits_for_the_release)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"hold", NULL}, NULL), 0);
    json_decref(upstream_expect_member(&a.up, NODE, "held", true));
    agent_program_write(a.output, "edited");
    json_decref(upstream_expect_member(&a.up, NODE, "drift", true));
    CHECK(output_is("edited"));
    ck_assert_int_eq(agent_program_command(&a, (const char *const[]){"release", NULL}, NULL), 0);
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\n");
    CHECK(output_is("one"));
    free(apply);
    agent_program_close(&a);
}
END_TEST

/* ---- without NATS ---------------------------------------------------------------------------- */

START_TEST(test_only_the_newest_after_a_long_absence)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    agent_program_kill(&a);
    for (int revision = 2; revision <= 40; revision++) {
        char content[32];
        snprintf(content, sizeof(content), "content %d", revision);
        desire(revision, content);
    }
    upstream_stop(&a.up);
    /* Where nobody answers, and where nobody can be asked. */
    const char *const unknown[] = {
        "headwater-agent", "--nats",   "nats://no-such-host.invalid:4222",
        "--node",          NODE,       "--state-dir",
        a.state_dir,       "--output", a.output,
        "--apply",         apply,      NULL};
    unlink(a.output);
    test_program_start(&a.program, unknown, NULL);
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\n");
    CHECK(output_is("one"));
    agent_program_stop(&a);
    START("--apply", apply);
    agent_program_wait_log(&a, "runs already");
    agent_program_wait_log(&a, "going on with what is on disk");
    upstream_restart(&a.up);
    expect_applied(40);
    agent_program_wait_runs(&a, "apply 1 one\napply 1 one\napply 40 content 40\n");
    /* The same without a restart of the agent. */
    upstream_stop(&a.up);
    agent_program_wait_log(&a, "lost NATS");
    upstream_restart(&a.up);
    desire(41, "content 41");
    desire(42, "content 42");
    expect_applied(42);
    CHECK(output_is("content 42"));
    free(apply);
    agent_program_close(&a);
}
END_TEST

/* ---- commands that misbehave ----------------------------------------------------------------- */

START_TEST(test_commands_that_misbehave)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(
        &a, "apply",
        "case $HEADWATER_REVISION in\n"
        "2) trap '' TERM; sleep 600;;\n"               /* hangs, and will not end */
        "3) (sleep 5) & (setsid sleep 5) & exit 0;;\n" /* leaves children behind */
        "4) yes 'a flood of words' | head -c 20000000; exit 4;;\n"
        "5) kill -SEGV $$;;\n"
        "6) printf '\\377\\000\\033'; exit 6;;\n"
        "esac");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&a);
    /* Only for the one that hangs: a second may be too short for the others. */
    START("--apply", apply, "--apply-timeout", "1s");
    desire(2, "two");
    expect_error("failed", 1, "apply", "did not end within 1 s");
    CHECK(output_is("one"));
    agent_program_stop(&a);
    desire(3, "three");
    START("--apply", apply);
    expect_applied(3);
    desire(4, "four");
    expect_error("failed", 3, "apply", "status 4: ");
    CHECK(output_is("three"));
    desire(5, "five");
    expect_error("failed", 3, "apply", "signal 11");
    desire(6, "six");
    expect_error("failed", 3, "apply", "status 6: ???");
    desire(7, "seven");
    expect_applied(7);
    CHECK(output_is("seven"));
    free(apply);
    agent_program_close(&a);
}
END_TEST

/* ---- disks that misbehave -------------------------------------------------------------------- */

/* A small file system of its own at dir; false where that is not permitted. */
static bool mount_small(const char *dir)
{
    if (mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") == 0)
        return true;
    ck_assert_msg(errno == EPERM, "mounting at %s: %s", dir, strerror(errno));
    printf("no file system can be mounted here: limits and permissions alone are tried\n");
    return false;
}

/* The agent reports before it has written everything: as long as it writes, the system refuses. */
static void make_read_only(const char *dir)
{
    test_wait_for(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0, WAIT_S);
}

static void fill(const char *path)
{
    static const char block[4096];
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, block, sizeof(block)) > 0)
        continue;
    close(fd);
}

START_TEST(test_full_and_read_only_output)
{
    agent_program_open(&a, NODE);
    char *dir = hw_sprintf("%s/out", a.dir);
    char *filler = hw_sprintf("%s/filler", dir);
    char *apply = agent_program_script(&a, "apply", "");
    char large[9000];
    if (mount_small(dir)) {
        memset(large, 'x', sizeof(large) - 1);
        large[sizeof(large) - 1] = '\0';
        START("--apply", apply);
        desire(1, "one");
        expect_applied(1);
        fill(filler);
        desire(2, large);
        expect_error("failed", 1, "apply", "No space left on device");
        CHECK(output_is("one"));
        unlink(filler);
        expect_applied(2);
        CHECK(output_is(large));

        make_read_only(dir);
        desire(3, "three");
        expect_error("failed", 2, "apply", "Read-only file system");
        CHECK(output_is(large));
        ck_assert_int_eq(mount(NULL, dir, NULL, MS_REMOUNT, "size=64k"), 0);
        expect_applied(3);
        CHECK(output_is("three"));
        agent_program_stop(&a);
        umount2(dir, MNT_DETACH);
    }
    free(apply);
    free(filler);
    free(dir);
    agent_program_close(&a);
}
END_TEST

/* The state cannot be kept, so nothing is applied; what is wrong is reported all the same. */
START_TEST(test_full_and_read_only_state_directory)
{
    agent_program_open(&a, NODE);
    char *filler = hw_sprintf("%s/filler", a.state_dir);
    char *apply = agent_program_script(&a, "apply", "");
    ck_assert_int_eq(mkdir(a.state_dir, 0755), 0);
    if (mount_small(a.state_dir)) {
        START("--apply", apply);
        desire(1, "one");
        expect_applied(1);
        fill(filler);
        desire(2, "two");
        expect_error("failed", 1, "apply", "No space left on device");
        CHECK(output_is("one"));
        unlink(filler);
        expect_applied(2);
        CHECK(output_is("two"));

        make_read_only(a.state_dir);
        desire(3, "three");
        expect_error("failed", 2, "apply", "Read-only file system");
        CHECK(output_is("two"));
        agent_program_kill(&a);
        START("--apply", apply);
        agent_program_wait_log(&a, "runs already");
        expect_error("failed", 2, "apply", "Read-only file system");
        ck_assert_int_eq(mount(NULL, a.state_dir, NULL, MS_REMOUNT, "size=64k"), 0);
        expect_applied(3);
        CHECK(output_is("three"));
        agent_program_kill(&a);
        START("--apply", apply);
        agent_program_wait_log(&a, "runs already");
        agent_program_stop(&a);
        umount2(a.state_dir, MNT_DETACH);
    }
    free(apply);
    free(filler);
    agent_program_close(&a);
}
END_TEST

/* The agent makes it again, and before it touches the output a copy of what runs. */
START_TEST(test_state_directory_that_was_removed)
{
    agent_program_open(&a, NODE);
    char *apply = agent_program_script(&a, "apply", "[ $HEADWATER_REVISION != 3 ]");
    START("--apply", apply);
    desire(1, "one");
    expect_applied(1);
    test_remove_tree(a.state_dir);
    desire(2, "two");
    expect_applied(2);
    CHECK(output_is("two"));
    test_remove_tree(a.state_dir);
    desire(3, "three");
    expect_error("failed", 2, "apply", "status 1");
    CHECK(output_is("two"));
    agent_program_kill(&a);
    unlink(a.output);
    START("--apply", apply);
    /* Seen whenever it is looked for: a start also tries once more what had failed. */
    agent_program_wait_log(&a, "the last known good runs again");
    agent_program_wait_file(&a, a.output, "two");
    free(apply);
    agent_program_close(&a);
}
END_TEST

START_TEST(test_file_size_limit)
{
    const struct rlimit small = {4096, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    char large[9000];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    agent_program_open(&a, NODE);
    START("--drift", "heal");
    desire(1, "one");
    expect_applied(1);
    ck_assert_int_eq(prlimit(a.program.pid, RLIMIT_FSIZE, &small, NULL), 0);
    desire(2, large);
    expect_error("failed", 1, "apply", "File too large");
    CHECK(output_is("one"));
    ck_assert_int_eq(prlimit(a.program.pid, RLIMIT_FSIZE, &none, NULL), 0);
    expect_applied(2);
    CHECK(output_is(large));
    agent_program_close(&a);
}
END_TEST

/* Neither a directory where the file should be, nor a missing one, nor one of someone else's. */
START_TEST(test_output_that_cannot_be)
{
    agent_program_open(&a, NODE);
    char *dir = hw_sprintf("%s/out", a.dir);
    char *apply = agent_program_script(&a, "apply", "");
    ck_assert_int_eq(mkdir(a.output, 0755), 0);
    START("--apply", apply);
    desire(1, "one");
    expect_error("failed", 0, "apply", "output.conf");
    ck_assert_int_eq(rmdir(a.output), 0);
    expect_applied(1);
    agent_program_stop(&a);

    const char *build = getenv("HW_BUILD_DIR");
    char *binary = hw_sprintf("%s/headwater-agent", build != NULL ? build : "build");
    if (geteuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0) {
        char *line =
            hw_sprintf("chmod 755 '%s' && chown -R nobody '%s' '%s'", a.dir, a.state_dir, a.dir);
        ck_assert_int_eq(
            test_program_run((const char *const[]){"/bin/sh", "-c", line, NULL}, NULL, NULL, NULL),
            0);
        free(line);
        ck_assert_int_eq(chown(dir, 0, 0), 0);
        const char *argv[] = {"/usr/bin/setpriv",
                              "--reuid=nobody",
                              "--clear-groups",
                              "--",
                              binary,
                              "--nats",
                              a.up.server.url,
                              "--node",
                              NODE,
                              "--state-dir",
                              a.state_dir,
                              "--output",
                              a.output,
                              "--apply",
                              apply,
                              NULL,
                              NULL,
                              NULL};
        test_program_start(&a.program, argv, NULL);
        agent_program_wait_log(&a, "runs already");
        desire(2, "two");
        expect_error("failed", 1, "apply", "Permission denied");
        CHECK(output_is("one"));
        ck_assert_int_eq(chown(dir, getpwnam("nobody")->pw_uid, (gid_t)-1), 0);
        expect_applied(2);
        CHECK(output_is("two"));
        agent_program_stop(&a);

        argv[HW_COUNT(argv) - 3] = "--owner";
        argv[HW_COUNT(argv) - 2] = "0";
        test_program_start(&a.program, argv, NULL);
        desire(3, "three");
        expect_error("failed", 2, "apply", "changing the owner of");
        CHECK(output_is("two"));
    }
    free(binary);
    free(apply);
    free(dir);
    agent_program_close(&a);
}
END_TEST

TEST_MAIN("agent daemon", 240, test_validation_comes_before_any_change, test_health_is_waited_for,
          test_generations, test_mode_and_owner, test_a_change_that_cuts_the_node_off_is_taken_back,
          test_confirmation_is_owed_after_a_restart, test_hold,
          test_nothing_begins_once_hold_has_returned, test_status_without_a_state,
          test_nothing_is_desired, test_drift_is_healed, test_drift_is_only_reported,
          test_drift_waits_for_the_release, test_only_the_newest_after_a_long_absence,
          test_commands_that_misbehave, test_full_and_read_only_output,
          test_full_and_read_only_state_directory, test_state_directory_that_was_removed,
          test_file_size_limit, test_output_that_cannot_be)
