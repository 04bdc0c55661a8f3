#include <errno.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/suite.h"

START_TEST(test_fail_fills_and_returns)
{
    struct hw_error err;
    ck_assert_int_eq(hw_fail(&err, HW_ELIMIT, "node %s: %d bytes", "n1", 7), HW_ELIMIT);
    ck_assert_int_eq(err.status, HW_ELIMIT);
    ck_assert_str_eq(err.message, "node n1: 7 bytes");
    ck_assert_int_eq(hw_fail(NULL, HW_EIO, "nobody asked"), HW_EIO);
}
END_TEST

START_TEST(test_context_goes_in_front)
{
    struct hw_error err;
    ck_assert_int_eq(hw_fail(&err, HW_EPROTO, "no answer"), HW_EPROTO);
    ck_assert_int_eq(hw_fail_in(&err, "slot %s", "headwater"), HW_EPROTO);
    ck_assert_str_eq(err.message, "slot headwater: no answer");
}
END_TEST

START_TEST(test_errno_gives_status_and_text)
{
    static const struct {
        int code;
        enum hw_status status;
    } cases[] = {{ENOENT, HW_ENOENT}, {EACCES, HW_EDENIED}, {EPERM, HW_EDENIED}, {ENOSPC, HW_EIO}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hw_error err;
        errno = cases[i].code;
        ck_assert_int_eq(hw_fail_errno(&err, "opening %s", "f"), cases[i].status);
        ck_assert_ptr_nonnull(strstr(err.message, "opening f: "));
        ck_assert_ptr_nonnull(strstr(err.message, strerror(cases[i].code)));
    }
}
END_TEST

/* A message of two-byte characters, shifted by 0 and 1: one of them would be cut in the middle. */
START_TEST(test_long_message_is_cut_at_a_character)
{
    char text[2 * HW_ERROR_MAX + 1];
    for (size_t i = 0; i < HW_ERROR_MAX; i++)
        memcpy(text + 2 * i, "\xC3\xA9", 3);
    for (int shift = 0; shift < 2; shift++) {
        struct hw_error err;
        ck_assert_int_eq(hw_fail(&err, HW_EINVAL, "%s%s", shift ? "x" : "", text), HW_EINVAL);
        const size_t len = strlen(err.message);
        ck_assert_uint_lt(len, HW_ERROR_MAX);
        ck_assert_uint_gt(len, HW_ERROR_MAX - 8);
        ck_assert_int_eq((unsigned char)err.message[len - 1], 0xA9);
    }
}
END_TEST

START_TEST(test_long_context_keeps_terminating)
{
    struct hw_error err;
    char text[2 * HW_ERROR_MAX];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    ck_assert_int_eq(hw_fail(&err, HW_EINVAL, "%s", text), HW_EINVAL);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(hw_fail_in(&err, "%s", text), HW_EINVAL);
    ck_assert_uint_lt(strlen(err.message), HW_ERROR_MAX);
}
END_TEST

START_TEST(test_every_status_has_a_name_of_its_own)
{
    for (int a = HW_OK; a <= HW_ESTOPPED; a++) {
        ck_assert_str_ne(hw_status_name((enum hw_status)a), "unknown");
        for (int b = HW_OK; b < a; b++)
            ck_assert_str_ne(hw_status_name((enum hw_status)a), hw_status_name((enum hw_status)b));
    }
}
END_TEST

TEST_MAIN("status", 10, test_fail_fills_and_returns, test_context_goes_in_front,
          test_errno_gives_status_and_text, test_long_message_is_cut_at_a_character,
          test_long_context_keeps_terminating, test_every_status_has_a_name_of_its_own)
