/* What a number of JetStream's means: what passes is tried again, and what does not is not. */
#include "nats/error.h"
#include "tests/support/suite.h"

START_TEST(test_refusals)
{
    static const struct {
        jsErrCode code;
        enum hw_status status;
    } cases[] = {
        {10023, HW_EUNAVAIL}, /* insufficient resources: the storage is full */
        {10047, HW_EUNAVAIL}, /* insufficient storage resources available */
        {10054, HW_ELIMIT},   /* message size exceeds maximum allowed */
        {10071, HW_ECONFLICT}, {10037, HW_ENOENT}, {10059, HW_ENOENT}, {10003, HW_EPROTO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hw_error err = {0};

        ck_assert_int_eq(hw_nats_fail(&err, NATS_ERR, cases[i].code, "publishing"),
                         cases[i].status);
        ck_assert_int_eq(err.status, cases[i].status);
    }
}
END_TEST

TEST_MAIN("nats-error", 10, test_refusals)
