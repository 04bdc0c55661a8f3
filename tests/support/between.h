/*
 * What stands between a program and its server on a real network: a proxy on loopback, a process of
 * its own, that can freeze. The kernel then still accepts connections and acknowledges bytes, and
 * nothing is ever answered. It can also be aimed at another server, as an address that moves.
 */
#ifndef TEST_BETWEEN_H
#define TEST_BETWEEN_H

#include <stdbool.h>
#include <sys/types.h>

struct test_between {
    pid_t pid;
    int port; /* of 127.0.0.1; stays the same */
};

void test_between_start(struct test_between *between, int target); /* a port of 127.0.0.1 */
void test_between_freeze(const struct test_between *between);
void test_between_thaw(const struct test_between *between);
/* Freezes the connections that there are; new ones are served. */
void test_between_freeze_old(const struct test_between *between);
/* New connections lead to another server; old ones stay, or are cut. */
void test_between_aim(struct test_between *between, int target, bool cut);
void test_between_stop(struct test_between *between);

#endif
