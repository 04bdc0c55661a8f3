/*
 * The recovery: how a new leader takes the stream up. That follows from the checkpoint, the
 * database and its slots together. The survey gathers these facts; the choice is a function of them
 * alone.
 *
 * An epoch stands for one history of the database. Where the checkpoint is of another history (the
 * database was restored, or a standby that lacked the newest changes was promoted), the epoch is
 * raised, so that what the database commits from now on counts as newer than what it forgot.
 */
#ifndef REC_RECOVERY_H
#define REC_RECOVERY_H

#include <stdbool.h>

#include "cdc/slot.h"
#include "reconciler/publish/checkpoint.h"

enum rec_way {
    REC_RESUME, /* behind the checkpoint */
    /* The checkpoint is older than the slot: the log between the two comes from the archive slot.
     */
    REC_REPLAY,
    /* No checkpoint says what stands in NATS: everything is compared with the database, and no
     * checkpoint is stored until that is done. */
    REC_REBUILD,
};

struct rec_facts {
    const struct rec_checkpoint *checkpoint;
    bool checkpoint_valid;
    const struct cdc_server *server; /* the slot exists there */
    const char *slot;
    const char *other_history; /* why the checkpoint is of one (ownership.h); NULL: it is ours */
    /* Where the database's timeline left that of the checkpoint; HW_LSN_NONE: it is the same one,
     * or does not come from there. */
    hw_lsn fork;
    /* The newest fence that a node is known to have accepted. Epoch 0: none is known, or it was not
     * asked for, because the checkpoint knows the epoch. */
    struct hw_fence reported;
};

struct rec_recovery {
    enum rec_way way;
    uint64_t epoch;
    const char *why; /* NULL with REC_RESUME */
    /* For a rebuild: entries of an older epoch are written anew even where they are right
     * otherwise, because nodes may refuse them. */
    bool rewrite;
};

struct rec_recovery rec_recovery_choose(const struct rec_facts *facts);

#endif
