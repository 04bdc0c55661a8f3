/*
 * Ownership: whose bucket it is. A bucket belongs to one history of one database, and the
 * checkpoint in it says which. A reconciler that comes first asks whether somebody leads, then
 * looks at the checkpoint, and does what the table in ownership.c says. The survey gathers the
 * facts; the judgement is a function of them alone.
 *
 * Why so careful? Two databases that are copies of each other (a promoted standby and the old
 * primary that came back, a restored backup for staging) each think that they are the truth. If
 * both wrote to one bucket, every node would go back and forth between them.
 */
#ifndef REC_OWNERSHIP_H
#define REC_OWNERSHIP_H

#include <stdbool.h>

#include "protocol/leader.h"
#include "reconciler/publish/checkpoint.h"

enum rec_claim {
    REC_GO_ON,      /* the bucket is this database's: as the checkpoint says */
    REC_NEW_EPOCH,  /* it becomes this history's, in the next epoch */
    REC_STAND_BACK, /* it is somebody else's now: ask again later */
    /* The database is behind the one that had the bucket: nothing but take-over changes that. */
    REC_STAND_BACK_FOR_GOOD,
};

struct rec_ownership_facts {
    const struct rec_checkpoint *checkpoint;
    bool checkpoint_valid;
    bool known; /* the checkpoint's (rev, nonce) is in this database's changelog, or it has none */
    const struct hw_leader_database *database; /* this reconciler's */
    const char *slot;                          /* its slot */
    bool slot_is_read;              /* the checkpoint's slot, which is not ours, is read by somebody
                                     * on our server now */
    const struct hw_leader *leader; /* who answered that it leads; NULL: nobody did */
};

struct rec_ownership {
    enum rec_claim claim;
    /* Only when nobody has led for a while (--take-over-after); until then, stand back. */
    bool waits;
    const char *why; /* half a sentence for people; NULL: nothing is to be said */
};

struct rec_ownership rec_ownership_judge(const struct rec_ownership_facts *facts);

#endif
