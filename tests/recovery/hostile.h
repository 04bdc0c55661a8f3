/*
 * A node that turned bad. It has the account that is printed for a node, speaks the protocol
 * itself, where a client would put right what it means, and does at random whatever a node could
 * think of: words of the server stored as reports, headers and bodies of all kinds, subjects of
 * others for answers, floods, keys of others, and calls of JetStream. All that it writes about
 * itself is marked, so that it is noticed where it does not belong.
 */
#ifndef RECOVERY_HOSTILE_H
#define RECOVERY_HOSTILE_H

#include <stdint.h>

#include "tests/recovery/checker.h"
#include "tests/support/servers.h"

#define HOSTILE_NODE "n3"

struct hostile;

/* It rests until hostile_attack. port: of nats-server. */
struct hostile *hostile_start(int port, uint64_t seed);
void hostile_stop(struct hostile *hostile);

/* It attacks for so long, while the caller goes on. */
void hostile_attack(struct hostile *hostile, double seconds);
/* Waits until it rests, which is soon. */
void hostile_rest(struct hostile *hostile);
/* How many messages it sent. */
int hostile_sent(const struct hostile *hostile);

/* The rule: what it wrote is nobody else's. (That it wrote nothing into the bucket, the checker
 * finds by what it knows of each key.) */
void hostile_judge(struct checker *checker, const struct test_postgres *pg);

#endif
