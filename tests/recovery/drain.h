/*
 * The drain with kills: a reconciler comes back to a log full of transactions of one row, is killed
 * three times on its way through them, and at four fifths nats-server is killed and started again,
 * with more than ten of its files of 4 MiB in the bucket. All must arrive without a hand, each
 * once.
 */
#ifndef RECOVERY_DRAIN_H
#define RECOVERY_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct drain_options {
    uint64_t seed;
    int transactions; /* 50 MB of entries in any case; 0: 16000 */
    bool verbose;
    const char *failure_dir;
};

/* A line about it; true: it passed. */
bool drain_run(const struct drain_options *options);

#endif
