/* What the reply subject of a delivered message says. */
#include <stddef.h>

#include "base/memory.h"
#include "nats/consumer.h"
#include "tests/support/suite.h"

START_TEST(test_both_forms)
{
    static const char *const replies[] = {
        "$JS.ACK.KV_b.C1.1.17.3.1700000000000000000.5",
        "$JS.ACK._.hash.KV_b.C1.1.17.3.1700000000000000000.5",
        "$JS.ACK.hub.hash.KV_b.C1.1.17.3.1700000000000000000.5.token",
    };

    for (size_t i = 0; i < HW_COUNT(replies); i++) {
        struct hw_delivered got = {0};

        ck_assert(hw_delivered_parse(replies[i], &got));
        ck_assert_uint_eq(got.seq, 17);
        ck_assert_uint_eq(got.number, 3);
        ck_assert_uint_eq(got.pending, 5);
    }
}
END_TEST

START_TEST(test_others)
{
    static const char *const replies[] = {
        NULL,
        "",
        "$JS.ACK.",
        "$KV.b.cfg.reported.n",
        "$JS.FC.KV_b.C1.x",
        "$JS.ACK.KV_b.C1.1.17.3.1700000000000000000",
        "$JS.ACK.x.KV_b.C1.1.17.3.1700000000000000000.5",
        "$JS.ACK.KV_b.C1.1.x.3.1700000000000000000.5",
        "$JS.ACK.KV_b.C1.1.17.-3.1700000000000000000.5",
        "$JS.ACK.KV_b.C1.1.17.3.1700000000000000000.",
        "$JS.ACK.KV_b.C1.1.99999999999999999999.3.1700000000000000000.5",
    };
    struct hw_delivered got = {.seq = 1, .number = 2, .pending = 3};

    for (size_t i = 0; i < HW_COUNT(replies); i++)
        ck_assert(!hw_delivered_parse(replies[i], &got));
    ck_assert_uint_eq(got.seq, 1);
    ck_assert_uint_eq(got.number, 2);
    ck_assert_uint_eq(got.pending, 3);
}
END_TEST

TEST_MAIN("common consumer", 30, test_both_forms, test_others)
