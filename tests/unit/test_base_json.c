#include <string.h>

#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "tests/support/suite.h"

START_TEST(test_parse_and_unpack)
{
    static const char text[] = "{\"node\": \"n1\", \"revision\": 7, \"more\": [1]}";
    HW_AUTO_JSON json_t *object = NULL;
    const char *node = NULL;
    json_int_t revision = 0;
    ck_assert_int_eq(hw_json_parse_object(text, strlen(text), &object, NULL), HW_OK);
    ck_assert_int_eq(
        hw_json_unpack(object, NULL, "{s:s, s:I}", "node", &node, "revision", &revision), HW_OK);
    ck_assert_str_eq(node, "n1");
    ck_assert_int_eq(revision, 7);
    HW_AUTO_FREE char *dump = hw_json_dump(object);
    ck_assert_str_eq(dump, "{\"node\":\"n1\",\"revision\":7,\"more\":[1]}");
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const struct {
        const char *text;
        size_t len; /* 0: strlen */
    } bad[] = {
        {"", 0},
        {"{", 0},
        {"{} x", 0},
        {"[]", 0},
        {"7", 0},
        {"null", 0},
        {"\"text\"", 0},
        {"{\"a\":1,\"a\":2}", 0},
        {"{\"a\":\"\\u0000\"}", 0},
        {"{\"a\":\"\0\"}", 9},
        {"{\"a\":\"\xff\"}", 0},
        {"{\"a\":\"\xc0\xaf\"}", 0},
        {"{\"a\":\"\xed\xa0\x80\"}", 0},
        {"{\"a\":NaN}", 0},
        {"{a:1}", 0},
        {"{\"a\":1,}", 0},
    };
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        struct hw_error err = {0};
        json_t *object = NULL;
        const size_t len = bad[i].len != 0 ? bad[i].len : strlen(bad[i].text);
        ck_assert_msg(hw_json_parse_object(bad[i].text, len, &object, &err) == HW_EINVAL, "took %s",
                      bad[i].text);
        ck_assert_ptr_null(object);
        ck_assert_uint_gt(strlen(err.message), 0);
    }
}
END_TEST

START_TEST(test_hints)
{
    static const char *const cases[][2] = {
        {"{\"a\": 1,}",
         "line 1, column 9: string or '}' expected near '}'; the comma before it is"},
        {"{\"a\": [1,\n 2,\n ]}", "line 3, column 2: unexpected token near ']'; the comma before"},
        {"{'a': 1}", "; strings have double quotes"},
        {"{\"a\": 'x'}", "; strings have double quotes"},
        {"{a: 1}", "; names are in double quotes"},
        {"{\"b\": 1, a: 1}", "; names are in double quotes"},
        {"{\"a\": True}", "true, false and null"},
        {"{\"a\": none}", "true, false and null"},
        {"// why\n{}", "; JSON has no comments"},
        {"{\"a\": 1, # why\n}", "; JSON has no comments"},
        {"{\"a\": 1 \"b\": 2}", "; is a comma missing before it?"},
        {"{\"a\": \xE2\x80\x9Cx\xE2\x80\x9D}", "; strings have straight double quotes"},
        {"", "; it is empty"},
        {" \n", "; it is empty"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        struct hw_error err = {0};
        json_t *object = NULL;
        ck_assert_int_eq(hw_json_parse_object(cases[i][0], strlen(cases[i][0]), &object, &err),
                         HW_EINVAL);
        ck_assert_msg(strstr(err.message, cases[i][1]) != NULL, "%s: %s", cases[i][0], err.message);
    }
    /* Where it is anyone's guess, none is made. */
    static const char *const others[] = {"{\"a\":1", "{\"a\" 1}", "{\"a\":01}", "{\"a\":1}}"};
    for (size_t i = 0; i < HW_COUNT(others); i++) {
        struct hw_error err = {0};
        json_t *object = NULL;
        ck_assert_int_eq(hw_json_parse_object(others[i], strlen(others[i]), &object, &err),
                         HW_EINVAL);
        ck_assert_msg(strchr(err.message, ';') == NULL, "%s: %s", others[i], err.message);
    }
}
END_TEST

START_TEST(test_error_names_line_and_column)
{
    static const char text[] = "{\n \"a\": 1,\n \"b\": oops}";
    struct hw_error err = {0};
    json_t *object;
    ck_assert_int_eq(hw_json_parse_object(text, strlen(text), &object, &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "line 3"));
    ck_assert_ptr_nonnull(strstr(err.message, "column"));
}
END_TEST

START_TEST(test_only_the_given_length_counts)
{
    HW_AUTO_JSON json_t *object = NULL;
    ck_assert_int_eq(hw_json_parse_object("{}garbage", 2, &object, NULL), HW_OK);
}
END_TEST

START_TEST(test_unpack_refuses)
{
    HW_AUTO_JSON json_t *object = json_pack("{s:s, s:i}", "node", "n1", "revision", 7);
    struct hw_error err = {0};
    const char *text = NULL;
    json_int_t number = 0;
    ck_assert_int_eq(hw_json_unpack(object, &err, "{s:s}", "absent", &text), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "absent"));
    ck_assert_int_eq(hw_json_unpack(object, &err, "{s:I}", "node", &number), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "integer"));
    ck_assert_int_eq(hw_json_unpack(object, &err, "{s:s!}", "node", &text), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "revision"));
    ck_assert_int_eq(hw_json_unpack(object, &err, "{s:s*}", "node", &text), HW_OK);
    ck_assert_int_eq(hw_json_unpack(object, &err, "{s?:s}", "absent", &text), HW_OK);
}
END_TEST

/* A number that C would change is written as it was read; a text with such numbers has its errors
 * where they stand. */
START_TEST(test_numbers_stay)
{
    static const char *const texts[] = {
        "[1,-1,0,0.1,1.5,1e+100,9007199254740993,-9223372036854775808]",
        "[18446744073709551616,-9223372036854775809,123456789012345678901234567890]",
        "[9007199254740993.0,0.10,1.00,1e-400,1e400,1E5,1e5,-0,-0.0,1.0000000000000000000001]",
        "{\"a\":{\"b\":[1e400,\"1e400\",\"\\\"1e400\",true,null]},\"1e400\":-0}",
        "1e400",
    };
    json_error_t problem;

    for (size_t i = 0; i < HW_COUNT(texts); i++) {
        HW_AUTO_JSON json_t *value =
            hw_json_load(texts[i], strlen(texts[i]), JSON_DECODE_ANY, &problem);

        ck_assert_msg(value != NULL, "%s: %s", texts[i], problem.text);
        HW_AUTO_FREE char *text = hw_json_text(value, false);

        ck_assert_str_eq(text, texts[i]);
        ck_assert_uint_eq((size_t)problem.position, strlen(texts[i]));
    }
    static const char *const wrong[] = {"[1e400,\n 1e500, 1e600, oops]", "[1e400, 01]",
                                        "[1e400, \"\\u0000\"]", "[1e400", "[1e400,-]"};
    for (size_t i = 0; i < HW_COUNT(wrong); i++)
        ck_assert_ptr_null(hw_json_load(wrong[i], strlen(wrong[i]), 0, &problem));
    ck_assert_ptr_null(hw_json_load(wrong[0], strlen(wrong[0]), 0, &problem));
    ck_assert_int_eq(problem.line, 2);
    ck_assert_int_eq(problem.column, 19);
}
END_TEST

START_TEST(test_numbers_as_decimals)
{
    static const char *const same[][2] = {
        {"100", "1e2"},
        {"0.0", "-0"},
        {"1.50", "15e-1"},
        {"9007199254740993.0", "9007199254740993"},
    };
    static const char *const integers[][2] = {
        {"1.0", "1"},
        {"1e2", "100"},
        {"-0.0", "0"},
        {"120e-1", "12"},
        {"9223372036854775807.0", "9223372036854775807"},
        {"1.5", NULL},
        {"1e400", NULL},
        {"9223372036854775808", NULL},
        {"1e-400", NULL},
        {"1.00000000000000000001", NULL},
    };

    for (size_t i = 0; i < HW_COUNT(same); i++) {
        HW_AUTO_JSON json_t *a =
            hw_json_load(same[i][0], strlen(same[i][0]), JSON_DECODE_ANY, NULL);
        HW_AUTO_JSON json_t *b =
            hw_json_load(same[i][1], strlen(same[i][1]), JSON_DECODE_ANY, NULL);
        HW_AUTO_JSON json_t *other = json_real(0.3);

        ck_assert_msg(hw_json_same_number(a, b), "%s", same[i][0]);
        ck_assert(!hw_json_same_number(a, other));
    }
    for (size_t i = 0; i < HW_COUNT(integers); i++) {
        HW_AUTO_JSON json_t *number =
            hw_json_load(integers[i][0], strlen(integers[i][0]), JSON_DECODE_ANY, NULL);
        HW_AUTO_FREE char *integer = hw_json_integer(number);

        ck_assert(hw_json_is_number(number) && !hw_json_is_string(number));
        if (integers[i][1] == NULL)
            ck_assert_msg(integer == NULL, "%s: %s", integers[i][0], integer);
        else
            ck_assert_str_eq(integer, integers[i][1]);
    }
}
END_TEST

TEST_MAIN("json", 10, test_parse_and_unpack, test_parse_refuses, test_hints,
          test_error_names_line_and_column, test_only_the_given_length_counts, test_unpack_refuses,
          test_numbers_stay, test_numbers_as_decimals)
