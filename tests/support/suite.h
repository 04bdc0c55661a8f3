/*
 * The main() of a test program with one Check case: TEST_MAIN("lsn", 10, test_parse, test_format).
 * The seconds bound each single test; Check runs each in a fork of its own. A program with more
 * cases, or with fixtures, makes its suite itself and ends with test_suite_finish.
 */
#ifndef TEST_SUITE_H
#define TEST_SUITE_H

#include <check.h>
#include <stdlib.h>

/* Runs the suite and frees it; returns what main should. */
static inline int test_suite_finish(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int test_suite_run(const char *name, double timeout_s, const TTest *const *tests,
                                 size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, timeout_s);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}

#define TEST_MAIN(name, timeout_s, ...)                                                            \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return test_suite_run(name, timeout_s, tests, sizeof(tests) / sizeof(tests[0]));           \
    }

#endif
