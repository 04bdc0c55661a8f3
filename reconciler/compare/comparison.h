/*
 * The comparison holds every key and every object in NATS against one snapshot of the database,
 * while the stream goes on. Whatever differs is handed over to apply as a repair.
 *
 * All transactions that change configuration are in one order, that of changelog.rev, for each
 * holds the row lock that gives the next number until it ends. A snapshot whose newest number is R
 * has therefore seen the transactions up to R and no other. The comparison reads R; waits until
 * everything up to R has come by the stream and is acknowledged (that position is called P); reads
 * all keys from NATS; and compares them with the snapshot's rows. A key that a transaction newer
 * than R touched is passed over, because the stream brings its state. A repair gets the fence P,
 * which is newer than every fence that the key had, and older than every fence that comes.
 *
 * A key without a row is removed, unless the database's records (desired_history, proposal) say
 * that there should be a row: then the table is doubted, and the key stays.
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
    hw_lsn position;       /* P */
    size_t nodes;          /* rows of desired in the snapshot */
    size_t keys;           /* keys that differed, and were handed over … */
    size_t removed;        /* … and those among them for which nothing is desired */
    size_t objects;        /* objects that were missing */
    size_t doubted;        /* keys that stay although the tables have no row for them … */
    char doubted_key[192]; /* … and one of these */
};

struct rec_comparison_events {
    /* R is known. Any later transaction lets the stream pass it: have one committed. */
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
    struct hw_signer *signer; /* an entry without its signature counts as different; or NULL */
    uint64_t epoch;
    bool rewrite; /* an entry of an older epoch counts as different */
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
/* May be called from its own events, of which none comes any more. NULL is fine. */
void rec_comparison_free(struct rec_comparison *comparison);

#endif
