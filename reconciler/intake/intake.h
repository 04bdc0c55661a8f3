/*
 * What nodes write under <prefix><node> goes into the database: of each node the newest, in order
 * of arrival, in batches, over a connection of its own. The two kinds of it are reports and
 * proposals.
 *
 * Everything waits until the database has answered. What it cannot read (SQLSTATE class 22) is
 * found by sending one at a time, and passed over. Memory is bounded: what would be too much is
 * left in the bucket until there is room.
 */
#ifndef RECONCILER_INTAKE_INTAKE_H
#define RECONCILER_INTAKE_INTAKE_H

#include "common/buf.h"
#include "common/loop.h"
#include "nats/kv.h"
#include "pg/database.h"

struct rec_intake;

struct rec_item {
    char *node;
    char *text; /* what read gave */
    size_t size;
    uint64_t seq;       /* of its entry … */
    int64_t created_ns; /* … and the identity of the stream that counts it */
};

struct rec_intake_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *database; /* conninfo; these and the callbacks' arg are borrowed until the end */
    const char *bucket;
    const char *prefix;
    const char *what; /* "reports", for logs and the name of the connection */
    const char *sql;  /* $1: a JSON array of items */
    size_t batch_most;

    /* The stream as it is now, each time that the watch (re)starts. May block. NULL: it is looked
     * at, and waited for where it is missing. */
    enum hw_status (*identify)(void *arg, struct hw_kv_stream *stream, struct hw_error *err);
    /* Text, malloc'ed, of an entry that is no deletion; NULL where there is none to hand over,
     * which is logged. */
    char *(*read)(void *arg, const char *node, const struct hw_kv_entry *entry);
    /* May be written? If not now, rec_intake_write follows. NULL: always. pg is idle. */
    bool (*ready)(void *arg, struct hw_db *pg);
    /* Adds the item as JSON. NULL: the text is that. */
    void (*add)(void *arg, const struct rec_item *item, struct hw_buf *json);
    void (*answered)(void *arg, const PGresult *result);
    void *arg;
};

enum hw_status rec_intake_start(const struct rec_intake_config *config, struct rec_intake **intake,
                                struct hw_error *err) HW_CHECKED;
void rec_intake_write(struct rec_intake *intake); /* what waits, if anything does */
/* The same a little later, for something was in the way. */
void rec_intake_write_later(struct rec_intake *intake);
void rec_intake_stop(struct rec_intake *intake); /* NULL is fine */

#endif
