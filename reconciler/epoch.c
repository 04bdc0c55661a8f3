#include "reconciler/epoch.h"

#include "common/log.h"
#include "common/warning.h"

enum {
    EPOCHS_MOST = 1000,     /* a report whose epoch is further ahead of ours is passed over */
    HEED_EVERY_MS = 600000, /* between two times that a report raises the epoch */
};

static void raise_epoch(struct rec_reconciler *rec, uint64_t epoch, const char *why)
{
    rec->recovery = (struct rec_recovery){REC_REBUILD, epoch, why, false};
}

void reconciler_epoch_of_checkpoint(struct rec_reconciler *rec)
{
    /* The checkpoint was lost, or an older one was put back. */
    if (rec->newest.epoch > rec->recovery.epoch)
        raise_epoch(rec, rec->newest.epoch, "entries are newer than the checkpoint's epoch");
    /* Written before the promotion, of changes that it lost, and no checkpoint knew them yet. */
    else if (rec->fork != HW_LSN_NONE && rec->newest.epoch == rec->recovery.epoch &&
             rec->newest.lsn > rec->fork)
        raise_epoch(rec, rec->recovery.epoch + 1,
                    "entries are of log that was lost when the database was promoted");
}

void reconciler_epoch_of_log(struct rec_reconciler *rec, hw_lsn end)
{
    if (rec->newest.lsn > end)
        raise_epoch(rec, rec->recovery.epoch + 1,
                    "entries are ahead of the database, which was restored");
}

/*
 * NATS and the database were both lost, and the database came back from a backup: nothing that we
 * can read knows the epochs and positions that there were since. Nodes do, and refuse what is
 * older. The epoch is raised above what they name. But a node may say anything, so this is done
 * once in ten minutes at most, and not for any number.
 */
void reconciler_epoch_heed(struct rec_reconciler *rec)
{
    const struct hw_fence *reported = &rec->reported;
    struct hw_error err;

    if (rec->state != RECONCILER_STREAMING || rec->draining || reported->epoch == 0)
        return;
    const hw_lsn position = rec_apply_position(rec->apply);
    hw_lsn newest = rec->committed > rec->server.current ? rec->committed : rec->server.current;
    if (position > newest)
        newest = position;
    if (hw_fence_compare(*reported, (struct hw_fence){rec->recovery.epoch, newest}) <= 0) {
        rec->reported = (struct hw_fence){0};
        return;
    }
    if (reported->epoch > rec->recovery.epoch + EPOCHS_MOST) {
        hw_warn_about("", "a report names an epoch that cannot be: passed over",
                      HW_I("epoch", (int64_t)reported->epoch), HW_L("lsn", reported->lsn));
        rec->reported = (struct hw_fence){0};
        return;
    }
    if (rec->heeded_at != 0 && hw_loop_now() - rec->heeded_at < HEED_EVERY_MS)
        return;
    rec->heeded_at = hw_loop_now();
    rec->heeded = *reported;
    hw_fail(&err, HW_ESTOPPED,
            "a node reports an entry of epoch %llu, %s, which the database's log does not know: it "
            "was restored, and nodes refuse what is older",
            (unsigned long long)reported->epoch, HW_LSN(reported->lsn));
    reconciler_fail(rec, &err);
}

static void on_heed(void *arg)
{
    reconciler_epoch_heed(arg);
}

void reconciler_epoch_reported(void *arg, struct hw_fence fence)
{
    struct rec_reconciler *rec = arg;

    if (hw_fence_compare(fence, rec->reported) <= 0)
        return;
    rec->reported = fence;
    hw_timer_start(rec->loop, &rec->heed, 0, on_heed, rec);
}
