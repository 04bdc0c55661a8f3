/* How many warnings are logged, by a clock that the test moves. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "common/pace.h"
#include "common/warning.h"
#include "tests/support/suite.h"

static struct hw_warnings warnings;

/* Causes so many within a time; returns how many are logged, and adds up what they tell. */
static int cause(const char *name, const char *msg, int count, int64_t from, int64_t ms,
                 uint64_t *told)
{
    int logged = 0;

    for (int i = 0; i < count; i++) {
        uint64_t left_out = 0;

        if (hw_warning_due(&warnings, name, msg, from + ms * i / count, &left_out)) {
            logged++;
            *told += left_out;
        }
    }
    return logged;
}

static void tell(void *arg, const char *name, const char *msg, uint64_t left_out)
{
    (void)name;
    (void)msg;
    *(uint64_t *)arg += left_out;
}

START_TEST(test_pace)
{
    struct hw_pace pace = {0};
    int done = 0;

    for (int64_t now = 1000; now < 11000; now += 10)
        done += hw_pace_take(&pace, 1000, 3, now);
    ck_assert_int_eq(done, 3 + 9);
    ck_assert_int_gt(hw_pace_wait(&pace, 1000, 3, 10500), 0);
    ck_assert_int_le(hw_pace_wait(&pace, 1000, 3, 10500), 1000);
    ck_assert_int_eq(hw_pace_wait(&pace, 1000, 4, 10500), 0); /* whoever may more often */
    ck_assert_int_eq(hw_pace_wait(&pace, 1000, 1, 30000), 0);
}
END_TEST

/* What one node's junk did: 1,900 lines in 10 s. */
START_TEST(test_one_name)
{
    uint64_t told = 0;

    ck_assert_int_eq(cause("evil", "junk", 1900, 1000, 10000, &told), HW_WARNING_MOST);
    /* Neither another warning about it nor one about another waits for that. */
    ck_assert_int_eq(cause("evil", "refused", 1, 11000, 1, &told), 1);
    ck_assert_int_eq(cause("good", "junk", 1, 11000, 1, &told), 1);
    ck_assert_uint_eq(told, 0);
    ck_assert_int_eq(cause("evil", "junk", 1, 62000, 1, &told), 1);
    ck_assert_uint_eq(told, 1900 - HW_WARNING_MOST);
    ck_assert_uint_eq(hw_warnings_tell(&warnings, 63000, tell, &told), 0);
    ck_assert_uint_eq(told, 1900 - HW_WARNING_MOST);
}
END_TEST

START_TEST(test_the_end_is_told)
{
    uint64_t told = 0;

    ck_assert_int_eq(cause("evil", "junk", 500, 1000, 1000, &told), HW_WARNING_MOST);
    ck_assert_uint_eq(hw_warnings_tell(&warnings, 2000, tell, &told), 500 - HW_WARNING_MOST);
    ck_assert_uint_eq(told, 0);
    ck_assert_uint_eq(hw_warnings_tell(&warnings, 61001, tell, &told), 0);
    ck_assert_uint_eq(told, 500 - HW_WARNING_MOST);
}
END_TEST

/* A whole fleet that sends junk, twice each: all of it is logged or counted, in bounded memory. */
START_TEST(test_many_names)
{
    enum { NAMES = 100000 };
    uint64_t told = 0;
    int logged = 0;
    char name[32];

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < NAMES; i++) {
            snprintf(name, sizeof(name), "node-%d", i);
            logged += cause(name, "junk", 1, 1000 + i / 10, 1, &told);
        }
    ck_assert_int_ge(logged, HW_WARNINGS_MOST);
    ck_assert_int_le(logged, HW_WARNINGS_MOST + 10000 / HW_WARNINGS_EACH_MS + 1);
    for (int64_t now = 100000; hw_warnings_tell(&warnings, now, tell, &told) > 0; now += 60000)
        ck_assert_int_lt(now, 10000000);
    ck_assert_uint_eq(told + (uint64_t)logged, 2 * (uint64_t)NAMES);
}
END_TEST

/* A name may have any length. Those that begin alike count as one. */
START_TEST(test_long_names)
{
    uint64_t told = 0;
    char name[1000];

    memset(name, 'a', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(cause(name, "junk", 9, 0, 9, &told), HW_WARNING_MOST);
    name[sizeof(name) - 2] = 'b';
    ck_assert_int_eq(cause(name, "junk", 9, 10, 9, &told), 0);
}
END_TEST

TEST_MAIN("warning", 10, test_pace, test_one_name, test_the_end_is_told, test_many_names,
          test_long_names)
