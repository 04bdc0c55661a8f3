/*
 * Numbers on every road through the API and the command line: what PostgreSQL can keep comes back
 * as it was written, in labels, selectors and content.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

/* In the order and form of jsonb, so that texts can be compared. */
#define ODD                                                                                        \
    "\"a\": 18446744073709551617, \"b\": 9007199254740993.0, \"c\": "                              \
    "0.1000000000000000055511151231257827, \"d\": 123456789012345678901234567890.5, \"e\": 0.10"

static void start(void)
{
    start_on_copy();
    cli_home(api.port);
}

/* Asks the API; a body is JSON. The answer's body, until the next call. */
static const char *ask(const char *method, const char *target, const char *body, int status)
{
    const int found = call(method, target, body != NULL ? JSON : NULL, body);

    ck_assert_msg(found == status, "%s %s:\n%s%.500s", method, target, last.head, last.body);
    return last.body;
}

/* Labels that are put come back, in the node and in lists, and get is what apply takes. */
START_TEST(test_labels)
{
    ask("PUT", "/v1/nodes/n1", "{\"labels\":{" ODD "}}", 201);
    check_sql("{" ODD "}", "SELECT labels FROM headwater.node WHERE name = 'n1'");
    const char *answer = ask("GET", "/v1/nodes/n1", NULL, 200);

    expect_in(answer, "\"a\":18446744073709551617,\"b\":9007199254740993.0,");
    expect_in(answer, "\"d\":123456789012345678901234567890.5,\"e\":0.10}");
    answer = ask("GET", "/v1/nodes?selector=a=18446744073709551617,b=9007199254740993", NULL, 200);

    expect_in(answer, "\"name\":\"n1\"");
    answer = ask("GET", "/v1/nodes?selector=a=18446744073709551616", NULL, 200);

    ck_assert_ptr_null(strstr(answer, "n1"));
    for (int yaml = 0; yaml < 2; yaml++) {
        HW_AUTO_FREE char *got = HEADWATER(0, "get", "node", "n1", "-o", yaml ? "yaml" : "json");
        HW_AUTO_FREE char *applied = HEADWATER_IN(0, got, "apply", "-f", "-");

        expect_in(applied, "unchanged");
        check_sql("{" ODD "}", "SELECT labels FROM headwater.node WHERE name = 'n1'");
    }
    EXPECT(0, "a=18446744073709551617", "get", "nodes");
}
END_TEST

/* Neither a selector nor an integer that has a fraction of zeros. */
START_TEST(test_assignments)
{
    ask("PUT", "/v1/configs/c", "{}", 201);
    ask("PUT", "/v1/assignments/x", "{\"config\":\"c\",\"selector\":{" ODD "},\"priority\":1.0}",
        201);
    check_sql("{" ODD "}", "SELECT selector FROM headwater.assignment WHERE name = 'x'");
    const char *read = ask("GET", "/v1/assignments/x", NULL, 200);

    expect_in(read, "\"a\":18446744073709551617");
    expect_in(read, "\"priority\":1,");
    ask("PUT", "/v1/assignments/x", "{\"config\":\"c\",\"selector\":{},\"priority\":1e400}", 422);
    ask("PUT", "/v1/assignments/x", "{\"config\":1e400,\"selector\":{}}", 422);
    HW_AUTO_FREE char *got = HEADWATER(0, "get", "assignment", "x", "-o", "json");
    HW_AUTO_FREE char *applied = HEADWATER_IN(0, got, "apply", "-f", "-");

    expect_in(applied, "unchanged");
}
END_TEST

/* What the database cannot keep is refused. The answer says where it stands, except that of apply:
 * its body is the database's to read. */
START_TEST(test_too_large)
{
    static const struct {
        const char *number;
        int status;
    } numbers[] = {{"1e399", 201},  {"1e400", 422},    {"-1e131072", 422},  {"0.001e131075", 422},
                   {"1e-390", 201}, {"1e-16383", 422}, {"1.0e-16383", 422}, {"1e1000000", 422}};

    for (size_t i = 0; i < HW_COUNT(numbers); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/nodes/n%zu", i);
        HW_AUTO_FREE char *body =
            hw_sprintf("{\"labels\":{\"x/y\":[0,{\"~\":%s}]}}", numbers[i].number);
        HW_AUTO_FREE char *many = hw_sprintf(
            "{\"resources\":[{\"kind\":\"node\",\"name\":\"m%zu\",\"labels\":{\"a\":%s}}]}", i,
            numbers[i].number);
        const char *answer = ask("PUT", target, body, numbers[i].status);

        if (numbers[i].status == 422)
            expect_in(answer, "/labels/x~1y/1/~0");
        ask("POST", "/v1/apply", many, numbers[i].status == 422 ? 422 : 200);
    }
}
END_TEST

/* What set does not name stays as it was written; what it names is what was typed. */
START_TEST(test_content)
{
    static const char rest[] = "\"a\":18446744073709551617,\"b\":9007199254740993.0,\"c\":1e-390,"
                               "\"d\":0.10,\"e\":[1E2,-0]";
    HW_AUTO_FREE char *before = hw_sprintf("{%s,\"rate\":1}", rest);
    HW_AUTO_FREE char *after = hw_sprintf("{%s,\"rate\":123456789012345678901.50}", rest);

    ask("PUT", "/v1/configs/c", before, 201);
    free(HEADWATER(0, "set", "c", "rate=123456789012345678901.50"));
    check_sql(after, "SELECT content FROM headwater.config WHERE name = 'c'");
    for (int yaml = 0; yaml < 2; yaml++) {
        HW_AUTO_FREE char *got = HEADWATER(0, "get", "config", "c", "-o", yaml ? "yaml" : "json");
        HW_AUTO_FREE char *applied = HEADWATER_IN(0, got, "apply", "-f", "-");

        expect_in(applied, "unchanged");
        check_sql(after, "SELECT content FROM headwater.config WHERE name = 'c'");
    }
    HW_AUTO_FREE char *yaml =
        HEADWATER_IN(0,
                     "kind: config\nname: y\ncontent:\n  a: 18446744073709551617\n  b: +.50\n"
                     "  c: 1e-390\n  d: 007\n",
                     "apply", "-f", "-");

    expect_in(yaml, "created");
    check_sql("{\"a\":18446744073709551617,\"b\":0.50,\"c\":1e-390,\"d\":7}",
              "SELECT content FROM headwater.config WHERE name = 'y'");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("numbers");
    TCase *tcase = tcase_create("numbers");

    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start_cluster, stop_cluster);
    tcase_add_checked_fixture(tcase, start, stop_on_copy);
    tcase_add_test(tcase, test_labels);
    tcase_add_test(tcase, test_assignments);
    tcase_add_test(tcase, test_too_large);
    tcase_add_test(tcase, test_content);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
