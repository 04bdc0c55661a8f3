/*
 * How a stream is taken up: what the checkpoint, the database and its slots say together. Nothing
 * here asks anyone anything.
 */
#ifndef REC_RECOVERY_H
#define REC_RECOVERY_H

#include <stdbool.h>

#include "cdc/slot.h"
#include "reconciler/publish/checkpoint.h"

enum rec_way {
    REC_RESUME,  /* behind the checkpoint */
    REC_REPLAY,  /* the checkpoint is older than the slot: what lies between comes from the archive
                  */
    REC_REBUILD, /* no checkpoint says what stands in NATS: it is withheld until a comparison is
                  * through
                  */
};

struct rec_facts {
    const struct rec_checkpoint *checkpoint;
    bool checkpoint_valid;
    const struct cdc_server *server; /* its slot is there */
    const char *slot;
    const char *nonce;        /* of the checkpoint's rev in the database's changelog, or "" */
    struct hw_fence reported; /* the newest that a node is known to have accepted; epoch 0: none, or
                                 nobody asked: the checkpoint knows the epoch */
};

struct rec_recovery {
    enum rec_way way;
    uint64_t epoch;
    const char *why; /* unless it is to resume */
    bool rewrite;    /* a rebuild that also replaces what is right but of an older epoch: nodes may
                        refuse it */
};

struct rec_recovery rec_recovery_choose(const struct rec_facts *facts);

#endif
