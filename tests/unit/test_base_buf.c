#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "tests/support/suite.h"

START_TEST(test_empty)
{
    struct hw_buf buf = {0};
    ck_assert_str_eq(hw_buf_str(&buf), "");
    hw_buf_reset(&buf);
    hw_buf_add(&buf, NULL, 0);
    ck_assert_uint_eq(buf.len, 0);
    ck_assert_str_eq(hw_buf_str(&buf), "");
    hw_buf_free(&buf);
    hw_buf_free(&buf);
    hw_buf_puts(&buf, "again");
    ck_assert_str_eq(hw_buf_str(&buf), "again");
    hw_buf_free(&buf);
}
END_TEST

START_TEST(test_grows_and_stays_terminated)
{
    struct hw_buf buf = {0};
    for (size_t i = 0; i < 100000; i++) {
        hw_buf_putc(&buf, (char)('a' + i % 26));
        ck_assert_uint_eq(buf.len, i + 1);
        ck_assert_int_eq(buf.data[i + 1], '\0');
    }
    for (size_t i = 0; i < 100000; i++)
        ck_assert_int_eq(buf.data[i], (char)('a' + i % 26));
    hw_buf_free(&buf);
}
END_TEST

START_TEST(test_bytes_with_nul)
{
    struct hw_buf buf = {0};
    hw_buf_add(&buf, "a\0b", 3);
    hw_buf_puts(&buf, "c");
    ck_assert_uint_eq(buf.len, 4);
    ck_assert_mem_eq(buf.data, "a\0bc", 5);
    hw_buf_free(&buf);
}
END_TEST

/* Around every capacity that printf may find too small. */
START_TEST(test_printf_of_any_length)
{
    char text[1024];
    memset(text, 'x', sizeof(text));
    for (int len = 0; len < (int)sizeof(text); len++) {
        struct hw_buf buf = {0};
        hw_buf_puts(&buf, "<");
        hw_buf_printf(&buf, "%.*s%s", len, text, ">");
        ck_assert_uint_eq(buf.len, (size_t)len + 2);
        ck_assert_uint_eq(strlen(buf.data), buf.len);
        ck_assert_int_eq(buf.data[buf.len - 1], '>');
        hw_buf_free(&buf);
    }
}
END_TEST

START_TEST(test_json_string_of_every_byte_is_json)
{
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            const char pair[2] = {(char)a, (char)b};
            struct hw_buf buf = {0};
            hw_buf_json_string(&buf, pair, 2);
            json_t *value = json_loadb(buf.data, buf.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            ck_assert_msg(json_is_string(value), "bytes %02x %02x: %s", (unsigned)a, (unsigned)b,
                          buf.data);
            if (a < 0x80 && b < 0x80) {
                ck_assert_uint_eq(json_string_length(value), 2);
                ck_assert_mem_eq(json_string_value(value), pair, 2);
            }
            json_decref(value);
            hw_buf_free(&buf);
        }
    }
}
END_TEST

START_TEST(test_json_string_utf8)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", "\"\""},
        {"a\"b\\c/\n\t", "\"a\\\"b\\\\c/\\n\\t\""},
        {"\x01\x1f", "\"\\u0001\\u001f\""},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\x8A", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\x8A\""},
        /* overlong, surrogate, above U+10FFFF, cut short, lone continuation (RFC 3629) */
        {"\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xF4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"x\xE2\x82", "\"x\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\x80y", "\"\xEF\xBF\xBDy\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hw_buf buf = {0};
        hw_buf_json_string(&buf, cases[i].in, strlen(cases[i].in));
        ck_assert_str_eq(hw_buf_str(&buf), cases[i].out);
        hw_buf_free(&buf);
    }
}
END_TEST

TEST_MAIN("buf", 60, test_empty, test_grows_and_stays_terminated, test_bytes_with_nul,
          test_printf_of_any_length, test_json_string_of_every_byte_is_json, test_json_string_utf8)
