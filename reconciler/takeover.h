/*
 * The deliberate act that gives a bucket to a database (ownership.h), whoever had it. It stores a
 * checkpoint of the next epoch that covers nothing and says whose the bucket is now. A leader
 * of another database notices that within a second and stands back; a reconciler of this database
 * goes on, and rebuilds.
 */
#ifndef REC_TAKEOVER_H
#define REC_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "nats/connection.h"

struct rec_takeover_config {
    const char *database; /* connection string, as its reconciler has it: the address counts */
    const char *nats;
    struct hw_nats_files nats_files;
    const char *bucket, *slot;
    int64_t timeout_ms; /* for both servers to be reached */
    bool json;
};

/* Prints what was done. A bucket whose leader reads this database already is left alone, which is
 * no error. Blocks. */
enum hw_status rec_takeover_run(const struct rec_takeover_config *config,
                                struct hw_error *err) HW_CHECKED;

#endif
