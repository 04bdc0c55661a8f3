#include "reconciler/recovery.h"

/*
 * What shows that the checkpoint is of another history of the database, or NULL. A change that the
 * database knows can be followed by log that it has lost: a position behind that means nothing.
 */
static const char *other_history(const struct rec_facts *f)
{
    const struct rec_checkpoint *c = f->checkpoint;

    if (f->other_history != NULL)
        return f->other_history;
    if (c->timeline != f->server->timeline && c->fence.lsn > f->fork)
        return "the database is on another timeline, which lacks some of the checkpoint's log";
    if (c->fence.lsn > f->server->current)
        return "the checkpoint is ahead of the database, which was restored";
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
