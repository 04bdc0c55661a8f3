/* Who failed how often: counted by address, for a minute, in bounded memory. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "api/access/throttle.h"
#include "base/memory.h"
#include "tests/support/suite.h"

static struct api_throttle throttle;

static int64_t fail_at(const char *address, int64_t now)
{
    struct sockaddr_storage peer = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&peer;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer;

    peer.ss_family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
    ck_assert_int_eq(
        inet_pton(peer.ss_family, address,
                  peer.ss_family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr),
        1);
    return api_throttle_failed(&throttle, (const struct sockaddr *)&peer, now);
}

/* Fails as often as is allowed, once a millisecond. */
static void exhaust(const char *address, int64_t now)
{
    for (int i = 0; i < API_THROTTLE_MOST; i++)
        ck_assert_int_eq(fail_at(address, now + i), 0);
}

START_TEST(test_window)
{
    exhaust("192.0.2.1", 1000);
    ck_assert_int_eq(fail_at("192.0.2.1", 1100), API_THROTTLE_MS - 100);
    ck_assert_int_eq(fail_at("192.0.2.2", 1100), 0);
    ck_assert_int_eq(fail_at("192.0.2.1", 1000 + API_THROTTLE_MS - 1), 1);
    /* Trying again and again makes it no longer; then all begins anew. */
    exhaust("192.0.2.1", 1000 + API_THROTTLE_MS);
    ck_assert_int_gt(fail_at("192.0.2.1", 1100 + API_THROTTLE_MS), 0);
}
END_TEST

START_TEST(test_networks)
{
    for (int i = 0; i < API_THROTTLE_MOST; i++) {
        HW_AUTO_FREE char *address = hw_sprintf("2001:db8:0:1:%x::%x", i, i);

        ck_assert_int_eq(fail_at(address, 0), 0);
    }
    ck_assert_int_gt(fail_at("2001:db8:0:1:ffff::1", 0), 0);
    ck_assert_int_eq(fail_at("2001:db8:0:2::1", 0), 0);

    exhaust("::ffff:192.0.2.1", 0);
    ck_assert_int_gt(fail_at("::ffff:192.0.2.1", 100), 0);
    ck_assert_int_eq(fail_at("::ffff:192.0.2.2", 100), 0);
}
END_TEST

/* However many there are, the one that just failed too often is known. */
START_TEST(test_bounded)
{
    enum { ADDRESSES = 8 * API_THROTTLE_SETS * API_THROTTLE_WAYS };

    for (int i = 0; i < ADDRESSES; i++) {
        HW_AUTO_FREE char *address = hw_sprintf("10.%d.%d.7", i / 256, i % 256);

        exhaust(address, i);
        ck_assert_int_gt(fail_at(address, i + API_THROTTLE_MOST), 0);
    }
    ck_assert_int_eq(fail_at("10.0.0.7", ADDRESSES), 0); /* forgotten, before its time */
}
END_TEST

TEST_MAIN("api throttle", 30, test_window, test_networks, test_bounded)
