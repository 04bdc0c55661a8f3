/* When an outage is told, by a clock that the test moves. */
#include "common/outage.h"
#include "tests/support/suite.h"

START_TEST(test_once_then_each_minute_then_the_end)
{
    struct hw_outage o = {0};
    int64_t lasted = -1;
    int told = 0;

    ck_assert(!hw_outage_ends(&o, 5, &lasted));
    ck_assert_int_eq(lasted, -1);
    ck_assert_int_eq(hw_outage_age(&o, 5), 0);
    /* Tried each quarter of a second for three minutes: at 0, 1, 2 and 3 minutes it is said. */
    for (int64_t now = 1000; now <= 1000 + 180000; now += 250)
        if (hw_outage_goes_on(&o, "refused", now)) {
            ck_assert_int_eq((now - 1000) % HW_OUTAGE_AGAIN_MS, 0);
            told++;
        }
    ck_assert_int_eq(told, 4);
    ck_assert_int_eq(hw_outage_age(&o, 1000 + 180000), 180000);
    ck_assert(hw_outage_ends(&o, 1000 + 180500, &lasted));
    ck_assert_int_eq(lasted, 180500);
    ck_assert(!hw_outage_ends(&o, 1000 + 180501, &lasted));
    /* The next one is told at once, however soon it comes. */
    ck_assert(hw_outage_goes_on(&o, "refused", 1000 + 180502));
    ck_assert_int_eq(hw_outage_age(&o, 1000 + 180502), 0);
}
END_TEST

START_TEST(test_another_reason_is_told_but_not_each_time)
{
    struct hw_outage o = {0};
    int told = 0;

    ck_assert(hw_outage_goes_on(&o, "refused", 0));
    ck_assert(!hw_outage_goes_on(&o, "starting up", HW_OUTAGE_OTHER_MS - 1));
    ck_assert(hw_outage_goes_on(&o, "starting up", HW_OUTAGE_OTHER_MS));
    /* Two servers that fail in different ways, tried in turns, ten times a second for a minute. */
    for (int64_t now = 10000; now < 70000; now += 200) {
        told += hw_outage_goes_on(&o, "refused", now);
        told += hw_outage_goes_on(&o, "starting up", now + 100);
    }
    ck_assert_int_ge(told, 2);
    ck_assert_int_le(told, 60000 / HW_OUTAGE_OTHER_MS + 1);
}
END_TEST

TEST_MAIN("outage", 10, test_once_then_each_minute_then_the_end,
          test_another_reason_is_told_but_not_each_time)
