/* Publishes in flight: whatever the order in which they end, each is found once, by its message. */
#include <stdlib.h>

#include "base/memory.h"
#include "nats/flights.h"
#include "nats/mailbox.h"
#include "tests/support/suite.h"

enum { MOST = 512, ROUNDS = 20000 };

static char messages[MOST * 16]; /* addresses that stand for messages: none is looked into */
static int told[MOST];

static const natsMsg *message(int i)
{
    return (const natsMsg *)(const void *)&messages[(size_t)i * 16];
}

static void on_done(void *arg, const struct hw_ack *ack)
{
    const int i = (int)(intptr_t)arg;

    ck_assert_int_eq(ack->status, HW_ESTOPPED);
    told[i]++;
}

START_TEST(test_each_is_found_once)
{
    struct hw_flights flights;
    struct hw_flight flight;
    bool out[MOST] = {false};
    size_t count = 0;

    srandom(7);
    hw_flights_init(&flights, MOST);
    for (int round = 0; round < ROUNDS; round++) {
        const int i = (int)(random() % MOST);

        if (!out[i]) {
            hw_flights_add(&flights, (struct hw_flight){.msg = message(i), .arg = &messages[i]});
            count++;
        } else {
            ck_assert(hw_flights_take(&flights, message(i), &flight));
            ck_assert_ptr_eq(flight.arg, &messages[i]);
            count--;
        }
        out[i] = !out[i];
        ck_assert_uint_eq(flights.count, count);
        ck_assert(out[i] || !hw_flights_take(&flights, message(i), &flight));
    }
    for (int i = 0; i < MOST; i++)
        ck_assert_int_eq(hw_flights_take(&flights, message(i), &flight), out[i]);
    ck_assert_uint_eq(flights.count, 0);
    hw_flights_free(&flights);
}
END_TEST

START_TEST(test_all_end_together)
{
    struct hw_flights flights;

    hw_flights_init(&flights, MOST);
    for (int i = 0; i < MOST; i++)
        hw_flights_add(
            &flights,
            (struct hw_flight){.msg = message(i), .done = on_done, .arg = (void *)(intptr_t)i});
    hw_flights_end_all(&flights, HW_ESTOPPED);
    for (int i = 0; i < MOST; i++)
        ck_assert_int_eq(told[i], 1);
    ck_assert_uint_eq(flights.count, 0);
    hw_flights_free(&flights);
}
END_TEST

TEST_MAIN("publishes in flight", 30, test_each_is_found_once, test_all_end_together)
