/* Numbers in text from outside: digits, all of them, and nothing else. */
#include <stddef.h>

#include "base/memory.h"
#include "base/number.h"
#include "tests/support/suite.h"

START_TEST(test_numbers)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0}, {"7", 7}, {"007", 7}, {"18446744073709551615", UINT64_MAX}};
    uint64_t value;

    for (size_t i = 0; i < HW_COUNT(good); i++) {
        ck_assert_msg(hw_number_parse(good[i].text, &value), "refused %s", good[i].text);
        ck_assert_uint_eq(value, good[i].value);
    }
    ck_assert(hw_number_parse_until("12.34", '.', &value));
    ck_assert_uint_eq(value, 12);
    ck_assert(hw_number_parse_until("12", '.', &value));
    ck_assert_uint_eq(value, 12);
}
END_TEST

START_TEST(test_no_numbers)
{
    static const char *const bad[] = {NULL,
                                      "",
                                      " 1",
                                      "+1",
                                      "-1",
                                      "1 ",
                                      "1x",
                                      "0x1",
                                      "1.2",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    uint64_t value = 42;

    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(!hw_number_parse(bad[i], &value), "took %s", bad[i]);
    ck_assert(!hw_number_parse_until(".1", '.', &value));
    ck_assert(!hw_number_parse_until("1x.1", '.', &value));
    ck_assert_uint_eq(value, 42);
}
END_TEST

TEST_MAIN("numbers", 30, test_numbers, test_no_numbers)
