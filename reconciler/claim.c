#include "reconciler/claim.h"

enum {
    RAISES = 3,       /* of the epoch, at once … */
    RAISE_MS = 60000, /* … and from then on one in this time */
};

/* Writes the checkpoint's key and waits; c is NULL for a deletion marker. */
static enum hw_status put_checkpoint(struct rec_reconciler *rec, const struct rec_checkpoint *c,
                                     struct hw_error *err)
{
    return rec_checkpoint_put(rec->nats, rec->config.bucket, c, &rec->checkpoint, err);
}

enum hw_status reconciler_claim(struct rec_reconciler *rec, struct hw_error *err)
{
    return put_checkpoint(rec, rec->checkpoint_valid ? &rec->checkpoint : NULL, err);
}

enum hw_status reconciler_claim_epoch(struct rec_reconciler *rec, struct hw_error *err)
{
    struct rec_checkpoint c = rec->history;

    if (rec->checkpoint_valid && rec->checkpoint.fence.epoch == rec->recovery.epoch)
        return HW_OK;
    if (rec->checkpoint_valid && !hw_pace_take(&rec->raises, RAISE_MS, RAISES, hw_loop_now())) {
        rec->retry_ms = 2 * hw_pace_wait(&rec->raises, RAISE_MS, RAISES, hw_loop_now());
        return hw_fail(err, HW_ESTOPPED,
                       "epoch %llu: the epoch was raised too often of late, and is raised again a "
                       "little later (%s)",
                       (unsigned long long)rec->recovery.epoch, rec->recovery.why);
    }
    c.fence.epoch = rec->recovery.epoch;
    if (put_checkpoint(rec, &c, err) != HW_OK)
        return err->status;
    rec_ledger_own(&rec->ledger, rec->checkpoint.seq);
    return HW_OK;
}

void reconciler_begin_apply(struct rec_reconciler *rec)
{
    const struct rec_checkpoint nothing = {.seq = rec->checkpoint.seq};
    struct rec_checkpoint start = rec->history;

    start.fence.epoch = rec->recovery.epoch;
    start.rev = 0; /* what is covered is known when the comparison is through */
    start.nonce[0] = '\0';
    if (rec->recovery.way == REC_REBUILD)
        rec_apply_reset(rec->apply, &nothing, &start, true);
    else
        rec_apply_reset(rec->apply, &rec->checkpoint, &rec->checkpoint, false);
}
