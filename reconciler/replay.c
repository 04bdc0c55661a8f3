#include "reconciler/replay.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/points.h"
#include "cdc/pg_source.h"
#include "common/log.h"
#include "reconciler/claim.h"
#include "reconciler/stream.h"

/* Ends the command, which was carried out or cannot be. It stays where the recovery made this
 * replay: the stream then brings the command again. */
static void obey(struct rec_reconciler *rec)
{
    if (rec->recovery.way == REC_REPLAY)
        return;
    rec->obeyed_at = rec->ordered_at;
    rec->ordered.command = REC_COMMAND_NONE;
}

static void finish(struct rec_reconciler *rec)
{
    rec->feed = NULL;
    cdc_source_close(HW_TAKE(rec->replay));
    rec_apply_rollback(rec->apply);
    rec_apply_progress(rec->apply, rec->recovery.way == REC_REPLAY ? rec->replay_end : HW_LSN_NONE);
    rec->counts.replays++;
    obey(rec);
    hw_log_info("replayed from the log", HW_S("slot", rec->archive_slot),
                HW_L("lsn", rec->replay_end));
    reconciler_happen(rec, RECONCILER_REPLAYED);
}

/* ---- the copy's stream ---- */

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    (void)err;
    if (tx->lsn > rec->replay_end)
        finish(rec);
    else /* not measured: it was committed long ago */
        rec_apply_begin(rec->apply, (struct hw_fence){rec->recovery.epoch, tx->lsn}, 0);
    return HW_OK;
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;
    struct rec_commands none = {0}; /* commands were carried out when the stream brought them */

    return rec_change_take(rec->apply, tx, change, &none, err);
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    (void)err;
    rec->counts.transactions++;
    rec_apply_commit(rec->apply);
    HW_POINT("mid-replay");
    /* The server may forget the transaction at once, because the copy of the slot is dropped at the
     * end. The confirmation makes pg_replication_slots show how far the replay is. */
    cdc_source_confirm(rec->replay, tx->lsn);
    if (tx->lsn >= rec->replay_end)
        finish(rec);
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    struct rec_reconciler *rec = arg;

    if (position >= rec->replay_end)
        finish(rec);
}

static void on_failed(void *arg, const struct hw_error *err)
{
    struct rec_reconciler *rec = arg;

    if (rec->replay->log_removed)
        rec_survey_distrust(rec->survey, true);
    reconciler_fail(rec, err);
}

/* ---- the start of it ---- */

static void open_copy(struct rec_reconciler *rec, hw_lsn start)
{
    HW_AUTO_FREE char *temporary =
        hw_sprintf("%.40s_replay_%08x", rec->config.slot, (unsigned)random());
    HW_AUTO_FREE char *prepare = cdc_slot_copy_sql(rec->archive_slot, temporary);
    const struct cdc_pg_options options = {
        .conninfo = rec->config.database,
        .slot = temporary,
        .start = start,
        .tables = REC_TABLES,
        .application_name = "headwater-reconciler: replay",
        .prepare = prepare,
    };
    const struct cdc_handler handler = {.begin = on_begin,
                                        .change = on_change,
                                        .commit = on_commit,
                                        .progress = on_progress,
                                        .silent = reconciler_stream_quiet,
                                        .failed = on_failed,
                                        .arg = rec};
    struct hw_error err;

    if (cdc_pg_open(rec->loop, &options, &handler, &rec->replay, &err) != HW_OK)
        reconciler_fail(rec, &err);
    else
        rec->feed = rec->replay;
}

void reconciler_replay(struct rec_reconciler *rec)
{
    const bool ordered = rec->recovery.way != REC_REPLAY;
    const hw_lsn start = ordered ? rec->ordered.from : rec->checkpoint.fence.lsn;

    rec->replay_end = ordered ? rec->checkpoint.fence.lsn : rec->server.slot_confirmed;
    if (ordered && rec->ordered.to != HW_LSN_NONE && rec->ordered.to < rec->replay_end)
        rec->replay_end = rec->ordered.to;
    reconciler_begin_apply(rec);
    const bool reaches =
        !ordered || cdc_archive_check(&rec->server, rec->config.slot, start, NULL) == HW_OK;
    if (!reaches)
        hw_log_error("a replay was asked for that the archive slot does not reach back to; "
                     "headwater.resync() compares everything instead",
                     HW_S("slot", rec->archive_slot), HW_L("from", start),
                     HW_L("archive", rec->server.archive_confirmed));
    if (!reaches || start >= rec->replay_end) {
        obey(rec);
        reconciler_happen(rec, RECONCILER_REPLAYED);
        return;
    }
    hw_log_info("replaying from the log", HW_S("slot", rec->archive_slot), HW_L("from", start),
                HW_L("to", rec->replay_end),
                HW_S("why", ordered ? "asked for" : rec->recovery.why));
    open_copy(rec, start);
}
