/* Where a timeline left another one, from the history file of a server that was promoted twice. */
#include "cdc/timeline.h"
#include "tests/support/suite.h"

START_TEST(test_find)
{
    static const char history[] = "1\t0/3000148\tno recovery target specified\n"
                                  "\n"
                                  "2\t1/A0\tbefore 2026-01-31 12:00:00+00\n";

    ck_assert_uint_eq(cdc_timeline_find(history, 1), 0x3000148);
    ck_assert_uint_eq(cdc_timeline_find(history, 2), 0x1000000A0);
    ck_assert_uint_eq(cdc_timeline_find(history, 3), HW_LSN_NONE);
    ck_assert_uint_eq(cdc_timeline_find("", 1), HW_LSN_NONE);
    ck_assert_uint_eq(cdc_timeline_find("1", 1), HW_LSN_NONE);
    ck_assert_uint_eq(cdc_timeline_find("1\t\n11\t0/1\n", 1), HW_LSN_NONE);
}
END_TEST

TEST_MAIN("timeline", 10, test_find)
