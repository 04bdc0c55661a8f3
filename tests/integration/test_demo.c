/* The demonstration ends clean, and the README's tour through it works as it stands there. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

/* Servers, programs and the fleet, perhaps under sanitizers, on a machine that does other things.
 */
#define DEMO_S 240

/* Fails when a directory is left of a demonstration, or a process that was told of $TMPDIR. */
static const char left_over[] =
    "cd \"$TMPDIR\" && echo \"$TMPDIR\" >pattern\n"
    "! ls -d headwater-demo.* 2>/dev/null || exit 1\n"
    "! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -F -f pattern\n";

/* The tour is what README.md says, and so is what comes after it. */
static const char keep_and_tour[] =
    "set -eu\n"
    "scripts/demo --keep >\"$TMPDIR/kept\" || { cat \"$TMPDIR/kept\"; exit 1; }\n"
    "cat \"$TMPDIR/kept\"\n"
    "eval \"$(sed -n 's/^  export /export /p' \"$TMPDIR/kept\")\"\n"
    "trap 'scripts/demo --stop \"$DEMO\"' EXIT\n"
    "tests/readme 'A tour of five minutes' |\n"
    "    sed \"s,build/,${HW_BUILD_DIR:-build}/,\" >\"$TMPDIR/tour\"\n"
    "sh -eux \"$TMPDIR/tour\"\n"
    "tests/readme 'A node of your own' >\"$TMPDIR/node\"\n"
    "mkdir \"$TMPDIR/here\" && ln -s \"$(readlink -f \"${HW_BUILD_DIR:-build}\")\" "
    "\"$TMPDIR/here/build\"\n"
    "(cd \"$TMPDIR/here\" && sh -eux \"$TMPDIR/node\")\n";

static int run(const char *tmp, const char *const argv[], char **output)
{
    HW_AUTO_FREE char *env = hw_sprintf("TMPDIR=%s", tmp);
    struct test_program p;
    test_program_start(&p, argv, (const char *const[]){env, NULL});
    test_wait_for(!test_program_running(&p), DEMO_S);
    const int status = test_program_stop(&p, 0);
    *output = test_read_file(p.log);
    return status;
}

/* Not by Check, which does not take messages of this length. */
static void expect(const char *output, const char *text)
{
    if (strstr(output, text) == NULL)
        test_fail("no \"%s\" in:\n%s", text, output);
}

static void expect_not(const char *output, const char *text)
{
    if (strstr(output, text) != NULL)
        test_fail("\"%s\" in:\n%s", text, output);
}

static void expect_success(int status, const char *output)
{
    if (status != 0)
        test_fail("status %d:\n%s", status, output);
}

static void expect_nothing_left(const char *tmp)
{
    HW_AUTO_FREE char *env = hw_sprintf("TMPDIR=%s", tmp);
    char *output;
    if (test_program_run((const char *const[]){"sh", "-c", left_over, NULL},
                         (const char *const[]){env, NULL}, NULL, &output) != 0)
        test_fail("left over: %s", output);
    free(output);
}

/* The three commands that it ends with, as they are pasted: the lines that are indented by two. */
static const char next_three[] =
    "set -eu\n"
    "scripts/demo | tee \"$TMPDIR/shown\"\n"
    "sed '1,/^Three commands/d' \"$TMPDIR/shown\" | sed -n 's/^  //p' >\"$TMPDIR/next\"\n"
    "[ \"$(wc -l <\"$TMPDIR/next\")\" -eq 3 ]\n"
    ". \"$TMPDIR/next\"\n"
    "scripts/demo --stop \"$DEMO\"\n";

START_TEST(test_demo_shows_and_ends_clean)
{
    HW_AUTO_FREE char *tmp = test_temp_dir();
    char *output;
    const int status = run(tmp, (const char *const[]){"sh", "-c", next_three, NULL}, &output);
    expect_success(status, output);
    expect(output, "| daq-3 |                2 |                2 | in_sync |");
    expect(output, "daq-2/config.json: {\"rate_hz\": 2000, \"trigger\": \"external\"}");
    expect(output, "Stopped and removed.");
    expect(output, "3 of 3 nodes applied");
    free(output);
    expect_nothing_left(tmp);
}
END_TEST

START_TEST(test_tour_of_the_readme)
{
    HW_AUTO_FREE char *tmp = test_temp_dir();
    char *output;
    const int status = run(tmp, (const char *const[]){"sh", "-c", keep_and_tour, NULL}, &output);
    expect_success(status, output);
    expect_not(output, "urn:headwater:problem");
    expect_not(output, "ERROR:");
    expect(output, "daq-1/config.json:{\"rate_hz\": 3000, \"trigger\": \"internal\"}");
    expect(output, "daq-2/config.json:{\"rate_hz\": 4000, \"trigger\": \"external\"}");
    expect(output, "ok    trial");
    expect(output, "\n{\"rate_hz\": 4000, \"trigger\": \"external\", \"channels\": [1, 2, 3]}");
    expect(output, "\nStopped and removed ");
    expect_not(output, "does not end"); /* although nobody waits for what --keep left */
    free(output);
    expect_nothing_left(tmp);
}
END_TEST

START_TEST(test_failure_is_told_and_ends_clean)
{
    HW_AUTO_FREE char *tmp = test_temp_dir();
    char *output;
    /* A reconciler that cannot run. */
    HW_AUTO_FREE char *script =
        hw_sprintf("mkdir '%s/bin' && cp \"${HW_BUILD_DIR:-build}\"/headwater-* '%s/bin' &&\n"
                   "printf '#!/bin/sh\\necho no river today >&2; exit 3\\n' "
                   ">'%s/bin/headwater-reconciler' &&\n"
                   "HW_BUILD_DIR='%s/bin' exec scripts/demo",
                   tmp, tmp, tmp, tmp);
    const int status = run(tmp, (const char *const[]){"sh", "-c", script, NULL}, &output);
    ck_assert_int_ne(status, 0);
    expect(output, "demo: the reconciler ended");
    expect(output, "no river today");
    free(output);
    expect_nothing_left(tmp);
}
END_TEST

START_TEST(test_interrupted_demo_ends_clean)
{
    HW_AUTO_FREE char *tmp = test_temp_dir();
    HW_AUTO_FREE char *env = hw_sprintf("TMPDIR=%s", tmp);
    struct test_program p;
    test_program_start(&p, (const char *const[]){"scripts/demo", NULL},
                       (const char *const[]){env, NULL});
    /* In the midst of it: the agents run. */
    for (bool midst = false; !midst;) {
        char *output = test_read_file(p.log);
        midst = strstr(output, "PUT  /v1/nodes/daq-1") != NULL;
        free(output);
        ck_assert(test_program_running(&p));
        test_pause();
    }
    kill(p.pid, SIGINT);
    test_wait_for(!test_program_running(&p), 60);
    ck_assert_int_eq(test_program_stop(&p, 0), 130 << 8);
    char *output = test_read_file(p.log);
    expect(output, "demo: stopped and removed");
    free(output);
    expect_nothing_left(tmp);
}
END_TEST

TEST_MAIN("demo", DEMO_S, test_demo_shows_and_ends_clean, test_tour_of_the_readme,
          test_failure_is_told_and_ends_clean, test_interrupted_demo_ends_clean)
