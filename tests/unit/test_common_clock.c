#include "base/memory.h"
#include "common/clock.h"
#include "tests/support/suite.h"

START_TEST(test_there_and_back)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2026-01-31T12:00:00.123456Z", 1769860800123456000},
                 {"2026-01-31T12:00:00.5Z", 1769860800500000000},
                 {"1969-12-31T23:59:59Z", -1000000000}};
    char text[HW_CLOCK_MAX];
    int64_t ns;

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        ck_assert_msg(hw_clock_parse(cases[i].text, &ns), "%s", cases[i].text);
        ck_assert_int_eq(ns, cases[i].ns);
    }
    ck_assert_str_eq(hw_clock_format(cases[1].ns, 6, text), cases[1].text);
}
END_TEST

START_TEST(test_refused)
{
    static const char *const texts[] = {"",
                                        "2026-01-31",
                                        "2026-01-31 12:00:00Z",
                                        "2026-01-31T12:00:00",
                                        "2026-01-31T12:00:00+01:00",
                                        "2026-13-31T12:00:00Z",
                                        "2026-01-31T12:00:00Zx"};
    int64_t ns = 7;

    for (size_t i = 0; i < HW_COUNT(texts); i++)
        ck_assert_msg(!hw_clock_parse(texts[i], &ns), "%s", texts[i]);
    ck_assert_int_eq(ns, 7);
}
END_TEST

/* What reads like a time, and is one that the database takes. */
START_TEST(test_is_time)
{
    static const char *const good[] = {"1678-01-01T00:00:00Z", "2024-02-29T23:59:59.5Z",
                                       "2261-12-31T23:59:59.999999Z"};
    static const char *const bad[] = {
        "0000-01-01T00:00:00Z",  "9999-12-31T23:59:59Z",  "2026-02-29T12:00:00Z",
        "2026-01-31T24:00:00Z",  "2026-01-31T12:00:60Z",  "2026-1-31T12:00:00Z",
        " 2026-01-31T12:00:00Z", "12026-01-31T12:00:00Z", ""};

    for (size_t i = 0; i < HW_COUNT(good); i++)
        ck_assert_msg(hw_clock_is_time(good[i]), "%s", good[i]);
    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(!hw_clock_is_time(bad[i]), "%s", bad[i]);
}
END_TEST

TEST_MAIN("clock", 10, test_there_and_back, test_refused, test_is_time)
