/*
 * The comparison: compares every key and every object in NATS with one snapshot of the database,
 * while the stream goes on, and hands over what differs as repairs.
 *
 * All transactions that change configuration are in one order, that of changelog.rev: the row lock
 * that gives the next number is held to the end of each. A snapshot whose newest number is R has
 * seen those up to R and no other. So: read R; wait until everything up to it has come by the
 * stream and is acknowledged (the position is then called P); read all keys from NATS; compare them
 * with the snapshot's rows. Keys that a transaction newer than R touched are passed over: the
 * stream has brought, or brings, their state. What differs gets the fence P: newer than all that
 * the key had, older than all that comes.
 *
 *     begin ─▶ R known ─▶ (heartbeat) ─▶ position passed ─▶ keys read ─▶ rows, page by page ─▶ done
 */
#ifndef RECONCILER_COMPARE_COMPARISON_H
#define RECONCILER_COMPARE_COMPARISON_H

#include <stdbool.h>
#include <stdint.h>

#include "nats/kv.h"
#include "pg/database.h"
#include "reconciler/publish/apply.h"
#include "reconciler/publish/sink.h"

struct rec_comparison_result {
    int64_t rev; /* newest changelog row that the snapshot saw */
    char nonce[40];
    hw_lsn position; /* P */
    size_t nodes;    /* rows of desired */
    size_t keys;     /* that differed, and were handed over … */
    size_t removed;  /* … of them, those of nodes for which nothing is desired */
    size_t objects;  /* that were missing */
};

struct rec_comparison_events {
    /* R is known; a transaction behind it lets the stream pass it. */
    void (*begun)(void *arg);
    /* All differences are handed over, and may still be on their way. */
    void (*done)(void *arg, const struct rec_comparison_result *result);
    void (*failed)(void *arg, const struct hw_error *err);
    void *arg;
};

struct rec_comparison_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *conninfo, *bucket;
    struct rec_apply *apply;
    struct rec_sink *sink;
    struct hw_signer *signer; /* what has not its signature counts as different; or NULL */
    uint64_t epoch;
    bool rewrite; /* what is of an older epoch counts as different */
    bool quiet;   /* differences are expected: they are counted, and not logged one by one */
};

struct rec_comparison;

/* Starts, over a database connection of its own. The sink must be filled. */
enum hw_status rec_comparison_start(const struct rec_comparison_config *config,
                                    const struct rec_comparison_events *events,
                                    struct rec_comparison **comparison,
                                    struct hw_error *err) HW_CHECKED;
/* Everything that the stream brought up to position is acknowledged. */
void rec_comparison_moved(struct rec_comparison *comparison, hw_lsn position);
void rec_comparison_pause(struct rec_comparison *comparison,
                          bool pause); /* back-pressure from apply */
/* Also from its callbacks; they do not come any more. NULL is fine. */
void rec_comparison_free(struct rec_comparison *comparison);

#endif
