/*
 * The checkpoint says how much of the database's log stands in NATS: everything that was committed
 * up to lsn. It is kept in NATS itself (key cfg.checkpoint, in the bucket of the entries), so that
 * when NATS is lost or put back, the checkpoint is lost or put back with the entries that it
 * covers. One with the LSN 0/0 covers nothing: a rebuild was begun, in this epoch and for this
 * history.
 */
#ifndef RECONCILER_PUBLISH_CHECKPOINT_H
#define RECONCILER_PUBLISH_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lsn.h"
#include "nats/kv.h"
#include "protocol/keys.h"
#include "protocol/leader.h"

struct rec_checkpoint {
    struct hw_fence fence;
    uint64_t system_id; /* of the database cluster */
    uint32_t timeline;
    int64_t rev;    /* of the newest changelog row that is covered; 0: none */
    char nonce[40]; /* that row's; "" with rev 0 */
    char slot[64];  /* the slot that its writer streams from; "" in checkpoints of older versions */
    /* hosts, ports and database as the writer was configured; "" in those of older versions */
    char address[HW_LEADER_ADDRESS_MAX];
    bool taken_over; /* a person gave the bucket to this database, and nobody has led it since */
    /* These are not part of the value. */
    uint64_t seq; /* the next write to its key must expect this: its own, as last known; 0: none */
    uint64_t hidden; /* its own, where the server does not find the key by its name; else 0 */
};

char *rec_checkpoint_value(const struct rec_checkpoint *c); /* JSON, malloc'ed */

/* Is what was read the one that was written, in the same place? Not where either is none. */
bool rec_checkpoint_is(const struct rec_checkpoint *read, const struct rec_checkpoint *written);

/* Reads the key. HW_ENOENT when there is none (c->seq is set to that of a delete marker, or 0);
 * HW_ECORRUPT when its value is not a checkpoint (c->seq is set too). Blocks. */
enum hw_status rec_checkpoint_read(struct hw_nats *nats, const char *bucket,
                                   struct rec_checkpoint *c, struct hw_error *err) HW_CHECKED;

/* Makes a hidden key writable again (nats/hidden.h), before it is written: its older entries go,
 * the newest stays. Nothing to do for any other. Blocks. */
enum hw_status rec_checkpoint_free_key(struct hw_nats *nats, const char *bucket,
                                       const struct rec_checkpoint *c,
                                       struct hw_error *err) HW_CHECKED;

/* Writes the key and waits: c, or a deletion marker where it is NULL. standing is what was read
 * there, and gets the new entry's number. A write to a hidden key is made sure of. Blocks. */
enum hw_status rec_checkpoint_put(struct hw_nats *nats, const char *bucket,
                                  const struct rec_checkpoint *c, struct rec_checkpoint *standing,
                                  struct hw_error *err) HW_CHECKED;

#endif
