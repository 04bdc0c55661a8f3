#include "reconciler/recovery.h"

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

static struct rec_recovery recovery_by_checkpoint(const struct rec_facts *f)
{
    const struct rec_checkpoint *c = f->checkpoint;
    const uint64_t epoch = c->fence.epoch;
    const char *other;

    if (!f->checkpoint_valid)
        return (struct rec_recovery){REC_REBUILD, f->reported.epoch > 0 ? f->reported.epoch : 1,
                                     "no checkpoint in NATS", false};
    other = other_history(f);
    if (other != NULL)
        return (struct rec_recovery){REC_REBUILD, epoch + 1, other, false};
    if (c->fence.lsn == HW_LSN_NONE)
        return (struct rec_recovery){REC_REBUILD, epoch, "a rebuild was not finished", true};
    /* The checkpoint must cover what the slot was told to forget. */
    if (c->fence.lsn >= f->server->slot_confirmed)
        return (struct rec_recovery){REC_RESUME, epoch, NULL, false};
    if (cdc_archive_check(f->server, f->slot, c->fence.lsn, NULL) == HW_OK)
        return (struct rec_recovery){
            REC_REPLAY, epoch,
            "the slot has gone on behind the checkpoint, and the archive reaches back", false};
    return (struct rec_recovery){
        REC_REBUILD, epoch,
        "the slot has gone on behind the checkpoint, and the archive does not reach back", false};
}

struct rec_recovery rec_recovery_choose(const struct rec_facts *f)
{
    const struct rec_recovery recovery = recovery_by_checkpoint(f);

    /* Where NATS has lost the epoch, the nodes know it; they refuse what is older than they had. */
    if (hw_fence_compare(f->reported, (struct hw_fence){recovery.epoch, f->server->current}) <= 0)
        return recovery;
    return (struct rec_recovery){
        REC_REBUILD, f->reported.epoch + 1,
        "nodes have had entries that the database's log does not know: it was restored", true};
}
