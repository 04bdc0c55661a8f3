/* What tests/run says and does about programs that pass, are skipped, fail and hang. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static char *dir;
static struct hw_error err;

/* A test program as a line of shell; the path, malloc'ed. */
static char *program(const char *name, const char *line)
{
    HW_AUTO_FREE char *text = hw_sprintf("#!/bin/sh\n%s\n", line);
    char *path = hw_sprintf("%s/%s", dir, name);

    ck_assert_int_eq(hw_file_replace(path, text, strlen(text), 0755, &err), HW_OK);
    return path;
}

static void setup(void)
{
    dir = test_temp_dir();
}

static void teardown(void)
{
    free(dir);
}

static void expect(const char *output, const char *text, bool there)
{
    if ((strstr(output, text) != NULL) != there)
        test_fail("%s\"%s\" in:\n%s", there ? "no " : "", text, output);
}

START_TEST(test_progress_and_sum)
{
    HW_AUTO_FREE char *pass = program("pass", "echo quiet; [ $HW_PATIENCE = 2.50 ]");
    HW_AUTO_FREE char *skip = program("skip", "echo there is no river; exit 77");
    HW_AUTO_FREE char *fail = program("fail", "echo it leaks; exit 3");
    HW_AUTO_FREE char *output = NULL;
    const char *const env[] = {"HW_PATIENCE=2.50", "JOBS=1", NULL};

    ck_assert_int_eq(test_program_run((const char *const[]){"tests/run", pass, skip, pass, pass,
                                                            pass, pass, NULL},
                                      env, NULL, &output),
                     0);
    expect(output, "6 test programs, ", true);
    expect(output, "time limits times 2.50\n", true);
    expect(output, "[1/6] passed ", true);
    expect(output, "[2/6] skipped ", true);
    expect(output, "there is no river\n", true);
    expect(output, "[6/6] passed ", true);
    expect(output, "quiet", false);
    expect(output, "the slowest:\n", true);
    expect(output, "\n5 passed, 0 failed, 1 skipped\n", true);
    free(output);

    ck_assert_int_ne(
        test_program_run((const char *const[]){"tests/run", pass, fail, NULL}, env, NULL, &output),
        0);
    expect(output, "[2/2] failed ", true);
    expect(output, "it leaks\n", true);
    expect(output, "\n1 passed, 1 failed, 0 skipped\n", true);
    free(output);

    /* Nothing that could be tried is no success. */
    ck_assert_int_ne(
        test_program_run((const char *const[]){"tests/run", skip, NULL}, env, NULL, &output), 0);
}
END_TEST

/* The first program measures, and every one gets the same. */
START_TEST(test_patience_is_measured_once)
{
    HW_AUTO_FREE char *first = program(
        "first", "[ \"$HW_PATIENCE\" != measure ] || exec echo 3.25; [ $HW_PATIENCE = 3.25 ]");
    HW_AUTO_FREE char *second = program("second", "[ $HW_PATIENCE = 3.25 ]");
    HW_AUTO_FREE char *output = NULL;

    unsetenv("HW_PATIENCE");
    ck_assert_int_eq(test_program_run((const char *const[]){"tests/run", first, second, NULL}, NULL,
                                      NULL, &output),
                     0);
    expect(output, "time limits times 3.25\n", true);
}
END_TEST

/* Never below 1, never without end; limits grow with it. */
START_TEST(test_patience_of_a_program)
{
    static const struct {
        const char *given;
        double least, most;
    } cases[] = {{"HW_PATIENCE=0.1", 1, 1},
                 {"HW_PATIENCE=2.5", 2.5, 2.5},
                 {"HW_PATIENCE=1000", 20, 20},
                 {"HW_PATIENCE=measure", 1, 20}};
    char self[256] = "";

    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *output = NULL;
        const char *const env[] = {cases[i].given, NULL};

        ck_assert_int_eq(
            test_program_run((const char *const[]){self, "--patience", NULL}, env, NULL, &output),
            0);
        const double said = strtod(output, NULL);
        ck_assert_msg(said >= cases[i].least && said <= cases[i].most, "%s: %s", cases[i].given,
                      output);
    }
    const double begun = test_now();
    const double deadline = test_deadline(10);
    ck_assert_double_ge_tol(deadline - begun, 10 * test_patience(), 1e-6);
    ck_assert_int_eq(test_patient_ms(100), (int)(100 * test_patience()));
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = {test_progress_and_sum, test_patience_is_measured_once,
                                  test_patience_of_a_program};

    if (argc == 2 && strcmp(argv[1], "--patience") == 0) {
        printf("%.2f\n", test_patience());
        return 0;
    }
    Suite *suite = suite_create("run");
    test_suite_add(suite, 120, setup, teardown, tests, sizeof(tests) / sizeof(tests[0]));
    return test_suite_finish(suite);
}
