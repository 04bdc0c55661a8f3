#include "reconciler/claim.h"

#include <stdio.h>

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
    c.fence.epoch = rec->recovery.epoch;
    if (put_checkpoint(rec, &c, err) != HW_OK)
        return err->status;
    rec_ledger_own(&rec->ledger, rec->checkpoint.seq);
    return HW_OK;
}

void reconciler_begin_apply(struct rec_reconciler *rec)
{
    const struct rec_checkpoint nothing = {.seq = rec->checkpoint.seq};
    struct rec_checkpoint start = {.fence.epoch = rec->recovery.epoch,
                                   .system_id = rec->server.system_id,
                                   .timeline = rec->server.timeline};

    snprintf(start.slot, sizeof(start.slot), "%s", rec->config.slot);
    if (rec->recovery.way == REC_REBUILD)
        rec_apply_reset(rec->apply, &nothing, &start, true);
    else
        rec_apply_reset(rec->apply, &rec->checkpoint, &rec->checkpoint, false);
}
