/*
 * The main() of a test program: TEST_MAIN("lsn", 10, test_parse, test_format). The seconds bound
 * each single test; Check runs each in a fork of its own, and as a case of its name, which
 * CK_RUN_CASE picks. TEST_MAIN_BETWEEN has a function that runs before each of them, and one after.
 * A program with other fixtures makes its suite itself and ends with test_suite_finish.
 */
#ifndef TEST_SUITE_H
#define TEST_SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Runs the suite and frees it; returns what main should. */
static inline int test_suite_finish(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
    srunner_free(runner);
    if (run == 0)
        fputs("no test was run: is CK_RUN_CASE the name of one?\n", stderr);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline void test_suite_add(Suite *suite, double timeout_s, SFun before, SFun after,
                                  const TTest *const *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TCase *tcase = tcase_create(tests[i]->name);
        tcase_set_timeout(tcase, timeout_s);
        tcase_add_checked_fixture(tcase, before, after);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
}

#define TEST_MAIN(name, timeout_s, ...) TEST_MAIN_BETWEEN(name, timeout_s, NULL, NULL, __VA_ARGS__)

#define TEST_MAIN_BETWEEN(name, timeout_s, before, after, ...)                                     \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        Suite *suite = suite_create(name);                                                         \
                                                                                                   \
        test_suite_add(suite, timeout_s, before, after, tests, sizeof(tests) / sizeof(tests[0]));  \
        return test_suite_finish(suite);                                                           \
    }

#endif
