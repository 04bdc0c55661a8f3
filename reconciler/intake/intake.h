/*
 * The intake: messages of nodes go from a NATS bucket into the database, in batches. There are two
 * kinds, reports and proposals, each with an intake of its own.
 *
 * A watch brings the newest message under <prefix><node> of each node, whenever it changes. It
 * waits until the database is free, and a newer one of the same node takes its place, save where
 * that would hide something: a message that says how the node stands, otherwise than the one before
 * it did, is written by itself, whatever comes after it. A batch has one message of a node at most.
 * It goes to the database as one statement, and is forgotten when the database has answered. When
 * the database refuses the batch, whatever the SQLSTATE, and does so again, the messages are sent
 * one at a time. One that is refused alone, because it cannot be read, or because somebody's
 * trigger or constraint is against it, is set aside: it is named in a warning, counted, and tried
 * again, alone, after 1 s, 2 s, … 5 minutes; a newer one of the node takes its place at once. The
 * others go in.
 *
 * A node may send what it likes, as often as it likes, so all of that is bounded. Of one node,
 * waiting_most messages wait, and they are written at a pace; beyond either, a newer message takes
 * the place of the last one even if it says something else, which is counted. The newest message
 * always arrives. Beyond 32 MiB of all nodes, messages are left in the bucket, and the watch begins
 * again when there is room.
 *
 * The newest message is not lost when this process is killed, for the bucket keeps that of each
 * node, and the next watch begins with them. Nothing counts twice either, for the database passes
 * over a report that is not newer than the one it has, and over a proposal that it knows.
 *
 * Every intake has a database connection of its own, and so have the signs of life (liveness.h).
 * A statement with a new proposal waits for the writers' lock, which a person may hold for as long
 * as a transaction is left open, and a batch of 1000 reports may take a second. On one connection,
 * each would hold up the others: reports would stop because somebody has not committed, and nodes
 * would not be heard while the reports of a fleet come in.
 */
#ifndef RECONCILER_INTAKE_INTAKE_H
#define RECONCILER_INTAKE_INTAKE_H

#include "base/buf.h"
#include "base/digest.h"
#include "common/loop.h"
#include "nats/kv.h"
#include "pg/database.h"

struct rec_intake;

struct rec_item {
    char *text; /* as config.read gave it */
    size_t size;
    struct hw_digest standing; /* the same */
    bool is_change;     /* it says something else of how the node stands than the one before */
    uint64_t seq;       /* of its entry … */
    int64_t created_ns; /* … and the identity of the stream that counts it */
    struct rec_item *next;
};

/* How often messages of one node are written: so many at once, and then one in each_ms. */
struct rec_intake_pace {
    int64_t each_ms;
    int64_t most;    /* of those that say the same of how the node stands */
    int64_t changes; /* of the others; more than most, so that those leave some to these */
};

struct rec_intake_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *database; /* conninfo; the strings and arg are borrowed until the end */
    const char *bucket;
    const char *prefix;
    const char *what; /* "reports", for logs and the name of the connection */
    const char *sql;  /* $1: a JSON array of items */
    size_t batch_most;
    size_t waiting_most; /* messages of one node; 1: the newest alone */
    struct rec_intake_pace pace;
    uint64_t *replaced; /* counts messages whose place a newer one took, or NULL … */
    uint64_t *left_out; /* … and those of them that said something else of how the node stood */
    double *aside;      /* the nodes whose newest message was refused, or NULL */

    /* Looks at the stream each time that the watch (re)starts. May block. NULL: the intake looks by
     * itself, and waits where the bucket is missing. */
    enum hw_status (*identify)(void *arg, struct hw_kv_stream *stream, struct hw_error *err);
    /* Makes the text, malloc'ed, that is handed over for an entry that is no deletion. NULL: the
     * entry is passed over, and read has logged why. *standing, which is zero: of how the node
     * stands. */
    char *(*read)(void *arg, const char *node, const struct hw_kv_entry *entry,
                  struct hw_digest *standing);
    /* Is there something to ask the database before the next batch? If so, it is being asked, over
     * pg, and the owner calls rec_intake_write when that has ended. NULL: never. */
    bool (*first)(void *arg, struct hw_db *pg);
    /* May a batch be written? After false, the owner calls rec_intake_write when it may. pg is
     * idle. NULL: always. */
    bool (*ready)(void *arg, struct hw_db *pg);
    /* Adds the item to the batch, as JSON. NULL: its text is JSON. */
    void (*add)(void *arg, const struct rec_item *item, struct hw_buf *json);
    void (*answered)(void *arg, const PGresult *result);
    /* Does row n of that result refuse the n-th message of the batch? NULL: none does. */
    bool (*refused)(const PGresult *result, int n);
    void *arg;
};

enum hw_status rec_intake_start(const struct rec_intake_config *config, struct rec_intake **intake,
                                struct hw_error *err) HW_CHECKED;
void rec_intake_write(struct rec_intake *intake); /* writes what waits, if anything does */
/* The same a second later, after a failure. */
void rec_intake_write_later(struct rec_intake *intake);
/* Does what nodes send go into the database? *why: why not, borrowed until the loop turns. */
bool rec_intake_works(const struct rec_intake *intake, const char **why);
void rec_intake_stop(struct rec_intake *intake); /* NULL is fine */

#endif
