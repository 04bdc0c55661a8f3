#include "reconciler/ownership.h"

#include <stddef.h>
#include <string.h>

#include "base/memory.h"

/* What this database is to the one that the checkpoint names. */
enum kinship {
    SAME,   /* the same cluster on the same timeline, at the same address */
    MOVED,  /* the same, at another address: moved, or a copy of its files */
    AHEAD,  /* the same cluster on a higher timeline: a standby that was promoted */
    BEHIND, /* the same cluster on a lower timeline: the primary that was replaced */
    OTHER,  /* another cluster: upgraded, or restored from a dump */
};

/* When no leader of another database answers. */
static const struct {
    bool known; /* the checkpoint's last change is in this database's changelog */
    enum kinship kinship;
    struct rec_ownership ownership;
} table[] = {
    {true, SAME, {REC_GO_ON, false, NULL}},
    {true, MOVED, {REC_GO_ON, true, "the checkpoint was written from another address"}},
    {true, AHEAD, {REC_GO_ON, false, NULL}},
    {true, BEHIND, {REC_STAND_BACK_FOR_GOOD, false, "this server was replaced by a promotion"}},
    {true, OTHER, {REC_NEW_EPOCH, true, "the checkpoint is of another database cluster"}},
    {false,
     SAME,
     {REC_STAND_BACK_FOR_GOOD, false, "this database lacks the checkpoint's last change"}},
    {false,
     MOVED,
     {REC_STAND_BACK_FOR_GOOD, false, "this database lacks the checkpoint's last change"}},
    {false,
     AHEAD,
     {REC_NEW_EPOCH, false, "the database does not know the checkpoint's last change"}},
    {false, BEHIND, {REC_STAND_BACK_FOR_GOOD, false, "this server was replaced by a promotion"}},
    {false, OTHER, {REC_NEW_EPOCH, true, "the checkpoint is of another database cluster"}},
};

static enum kinship kinship_of(const struct rec_ownership_facts *f)
{
    const struct rec_checkpoint *c = f->checkpoint;

    if (c->system_id != f->database->system_id)
        return OTHER;
    if (c->timeline != f->database->timeline)
        return c->timeline < f->database->timeline ? AHEAD : BEHIND;
    /* Older versions wrote no address. */
    return *c->address == '\0' || strcmp(c->address, f->database->address) == 0 ? SAME : MOVED;
}

/* A person gave the bucket to the database that the checkpoint names, and no leader of that has
 * come yet. All others stand back, whatever the table says. */
static struct rec_ownership judge_taken_over(const struct rec_ownership_facts *f,
                                             enum kinship kinship)
{
    if (f->known && kinship == SAME && strcmp(f->checkpoint->slot, f->slot) == 0)
        return (struct rec_ownership){REC_GO_ON, false, NULL};
    if (f->known && kinship == MOVED && strcmp(f->checkpoint->slot, f->slot) == 0)
        return (struct rec_ownership){REC_GO_ON, true,
                                      "the bucket was taken over for another address"};
    return (struct rec_ownership){REC_STAND_BACK_FOR_GOOD, false,
                                  "the bucket was taken over for another database"};
}

static struct rec_ownership judge_checkpoint(const struct rec_ownership_facts *f)
{
    const enum kinship kinship = kinship_of(f);

    if (f->checkpoint->taken_over)
        return judge_taken_over(f, kinship);
    for (size_t i = 0; i < HW_COUNT(table); i++)
        if (table[i].known == f->known && table[i].kinship == kinship)
            return table[i].ownership;
    return (struct rec_ownership){REC_STAND_BACK_FOR_GOOD, false, "nothing fits"};
}

struct rec_ownership rec_ownership_judge(const struct rec_ownership_facts *f)
{
    const struct hw_leader *leader = f->leader;

    if (leader != NULL && !hw_leader_same_database(&leader->database, f->database))
        return (struct rec_ownership){REC_STAND_BACK, false,
                                      "a reconciler of another database leads"};
    if (leader != NULL && strcmp(leader->slot, f->slot) != 0)
        return (struct rec_ownership){REC_STAND_BACK, false,
                                      "a reconciler with another slot leads"};
    if (!f->checkpoint_valid)
        return (struct rec_ownership){REC_GO_ON, false, NULL};
    if (f->slot_is_read && f->checkpoint->system_id == f->database->system_id)
        return (struct rec_ownership){REC_STAND_BACK, false,
                                      "a reconciler with another slot leads"};
    return judge_checkpoint(f);
}
