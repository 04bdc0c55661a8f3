/*
 * The leader's answer to whoever asks on NATS who leads (protocol/leader.h): which database and
 * slot it reads and which bucket it writes, how far it is, and what went wrong last. The answer is
 * put together when somebody asks; nothing here waits.
 *
 * A leader that begins anew after a failure goes on answering: the bucket is still its own. One
 * whose database went away or cannot be written has yielded. It says so to whoever asks, and is in
 * nobody's way.
 */
#ifndef REC_LEADER_H
#define REC_LEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lsn.h"
#include "cdc/slot.h"
#include "nats/connection.h"
#include "pg/database.h"
#include "protocol/leader.h"
#include "reconciler/publish/checkpoint.h"

/* How the reconciler stands; what it points to is borrowed until describe is called again. */
struct rec_leading {
    const char *state; /* "loading", "replaying", "rebuilding", "streaming" or "stalled" */
    uint64_t epoch;
    const struct rec_checkpoint *stored;
    hw_lsn received;    /* end of the newest transaction from the stream; 0: none yet */
    double lag_seconds; /* as in struct rec_counts */
    size_t pending;     /* publishes that are not acknowledged */
    size_t nodes, objects;
    bool keeps_archive;
};

struct rec_leader_config {
    struct hw_nats *nats;
    struct hw_db *pg; /* the answer tells whether it is up */
    const char *bucket, *slot;
    void (*describe)(void *arg, struct rec_leading *leading);
    void *arg;
};

struct rec_leader;
struct rec_leader *rec_leader_new(const struct rec_leader_config *config);
void rec_leader_free(struct rec_leader *leader); /* before the two connections; NULL is fine */

/* It leads: questions are answered from now until end. */
enum hw_status rec_leader_begin(struct rec_leader *leader, struct hw_error *err) HW_CHECKED;
/* It led, and its database cannot be written any more. Nothing to do for one that does not lead, or
 * has yielded already. True: it has just yielded. */
bool rec_leader_yield(struct rec_leader *leader, const char *why);
void rec_leader_end(struct rec_leader *leader);
/* This process, as its answers name it. Lives as long as the leader. */
const char *rec_leader_instance(const struct rec_leader *leader);

/* Notes that something went wrong. Answers have it as the last error until another one comes. */
void rec_leader_failed(struct rec_leader *leader, const struct hw_error *err);

/* The statement that asks the database for its name and its start, and the function that takes its
 * result. */
struct hw_db_query rec_leader_query(void);
void rec_leader_take(struct rec_leader *leader, const PGresult *result);
/* Which cluster it is on. */
void rec_leader_server(struct rec_leader *leader, const struct cdc_server *server);
/* The database: whether it is there and takes writes now, the rest as it was when it was asked
 * last.
 */
const struct hw_leader_database *rec_leader_database(struct rec_leader *leader);

#endif
