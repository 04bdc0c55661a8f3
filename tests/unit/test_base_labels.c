/* Labels as people write them. What they may mean to a selector is in test_api. */
#include "base/json.h"
#include "base/labels.h"
#include "base/memory.h"
#include "tests/support/suite.h"

START_TEST(test_strings)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"", "{}"},
        {"site=north,slot=3,on=true", "{\"site\":\"north\",\"slot\":\"3\",\"on\":\"true\"}"},
        {"slot=\"3\",note=\"a,b\"", "{\"slot\":\"3\",\"note\":\"a,b\"}"},
        {"{\"slot\":3}", "{\"slot\":3}"},
        {"a=1,b=2,c=3,d=4,e=5,f=6,g=7",
         "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"d\":\"4\",\"e\":\"5\",\"f\":\"6\",\"g\":\"7\"}"},
    };
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_JSON json_t *labels = NULL;

        ck_assert_msg(hw_labels_parse(cases[i].text, &labels, &err) == HW_OK, "%s: %s",
                      cases[i].text, err.message);
        HW_AUTO_FREE char *json = hw_json_dump(labels);
        ck_assert_str_eq(json, cases[i].json);
    }
}
END_TEST

START_TEST(test_refusals)
{
    static const char *const bad[] = {"north", "a=1,a=2", "=a", "{", "[]", "a=\xff", "a!=1"};
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        json_t *labels = NULL;

        ck_assert_int_eq(hw_labels_parse(bad[i], &labels, &err), HW_EINVAL);
        ck_assert_ptr_null(labels);
    }
}
END_TEST

TEST_MAIN("labels", 10, test_strings, test_refusals)
