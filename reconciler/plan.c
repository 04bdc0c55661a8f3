#include "reconciler/plan.h"

#include <string.h>

/* What shows that the checkpoint is of another history of the database, or NULL. */
static const char *other_history(const struct rec_facts *f)
{
    const struct rec_checkpoint *c = f->checkpoint;

    if (c->system_id != f->server->system_id)
        return "the checkpoint is of another database cluster";
    if (c->timeline != f->server->timeline)
        return "the database is on another timeline";
    if (c->fence.lsn > f->server->current)
        return "the checkpoint is ahead of the database, which was restored";
    if (c->rev > 0 && strcmp(f->nonce, c->nonce) != 0)
        return "the database does not know the checkpoint's last change";
    return NULL;
}

/* Where NATS has lost the epoch, the nodes know it; they refuse what is older than they had. */
static uint64_t epoch_of_nodes(const struct rec_facts *f)
{
    if (f->reported.epoch == 0)
        return 1;
    return f->reported.epoch + (f->reported.lsn > f->server->current);
}

struct rec_plan rec_plan_make(const struct rec_facts *f)
{
    const struct rec_checkpoint *c = f->checkpoint;
    const char *other;

    if (!f->checkpoint_valid)
        return (struct rec_plan){REC_REBUILD, epoch_of_nodes(f), "no checkpoint in NATS"};
    other = other_history(f);
    if (other != NULL)
        return (struct rec_plan){REC_REBUILD, c->fence.epoch + 1, other};
    if (c->fence.lsn == HW_LSN_NONE)
        return (struct rec_plan){REC_REBUILD, c->fence.epoch, "a rebuild was not finished"};
    /* The checkpoint must cover what the slot was told to forget. */
    if (c->fence.lsn >= f->server->slot_confirmed)
        return (struct rec_plan){REC_RESUME, c->fence.epoch, NULL};
    if (cdc_archive_check(f->server, f->slot, c->fence.lsn, NULL) == HW_OK)
        return (struct rec_plan){
            REC_REPLAY, c->fence.epoch,
            "the slot has gone on behind the checkpoint, and the archive reaches back"};
    return (struct rec_plan){
        REC_REBUILD, c->fence.epoch,
        "the slot has gone on behind the checkpoint, and the archive does not reach back"};
}
