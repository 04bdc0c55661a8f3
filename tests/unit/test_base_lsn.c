#include <string.h>

#include "base/lsn.h"
#include "tests/support/suite.h"

START_TEST(test_format_and_parse_are_inverse)
{
    static const struct {
        hw_lsn lsn;
        const char *text;
    } cases[] = {{0, "0/0"},
                 {1, "0/1"},
                 {0x16B3748, "0/16B3748"},
                 {0xFFFFFFFF, "0/FFFFFFFF"},
                 {0x100000000, "1/0"},
                 {0x16B374D848, "16/B374D848"},
                 {UINT64_MAX, "FFFFFFFF/FFFFFFFF"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        hw_lsn lsn = 42;
        ck_assert_str_eq(HW_LSN(cases[i].lsn), cases[i].text);
        ck_assert_int_eq(hw_lsn_parse(cases[i].text, &lsn, NULL), HW_OK);
        ck_assert_uint_eq(lsn, cases[i].lsn);
    }
}
END_TEST

START_TEST(test_parse_takes_lower_case_and_leading_zeros)
{
    hw_lsn lsn = 0;
    ck_assert_int_eq(hw_lsn_parse("0000000a/0b", &lsn, NULL), HW_OK);
    ck_assert_uint_eq(lsn, 0xA0000000BULL);
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "0",
                                      "0/",
                                      "/0",
                                      "0/0/0",
                                      " 0/0",
                                      "0/0 ",
                                      "0/0\n",
                                      "g/0",
                                      "0/x",
                                      "-1/0",
                                      "+1/0",
                                      "0x1/0",
                                      "123456789/0",
                                      "0/123456789",
                                      "0//0",
                                      "0\\0",
                                      "a very long text, and no position"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hw_error err = {0};
        hw_lsn lsn = 42;
        ck_assert_msg(hw_lsn_parse(bad[i], &lsn, &err) == HW_EINVAL, "took \"%s\"", bad[i]);
        ck_assert_uint_eq(lsn, 42);
        ck_assert_ptr_nonnull(strstr(err.message, "LSN"));
    }
}
END_TEST

START_TEST(test_fences_are_ordered_by_epoch_first)
{
    static const struct hw_fence ascending[] = {{0, 0}, {1, 0}, {1, 1},         {1, UINT64_MAX},
                                                {2, 0}, {2, 5}, {UINT64_MAX, 0}};
    const int count = sizeof(ascending) / sizeof(ascending[0]);
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            const int order = hw_fence_compare(ascending[a], ascending[b]);
            ck_assert_int_eq(order < 0, a < b);
            ck_assert_int_eq(order == 0, a == b);
        }
    }
}
END_TEST

TEST_MAIN("lsn", 10, test_format_and_parse_are_inverse,
          test_parse_takes_lower_case_and_leading_zeros, test_parse_refuses,
          test_fences_are_ordered_by_epoch_first)
