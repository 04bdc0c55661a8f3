#include "reconciler/loading.h"

#include "base/memory.h"
#include "common/log.h"
#include "reconciler/claim.h"
#include "reconciler/drift.h"
#include "reconciler/epoch.h"

/* ---- the end of it ---- */

static void conclude(struct rec_reconciler *rec)
{
    const bool ordered = rec->ordered.command == REC_COMMAND_REPLAY;

    if (rec->recovery.way == REC_REPLAY || (rec->recovery.way == REC_RESUME && ordered))
        reconciler_happen(rec, RECONCILER_LOADED_REPLAY);
    else
        reconciler_happen(rec, RECONCILER_LOADED);
}

static void on_end_known(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err = outcome->err;
    hw_lsn end = HW_LSN_NONE;

    if (rec->state != RECONCILER_LOADING)
        return;
    if (outcome->status != HW_OK ||
        hw_lsn_parse(PQgetvalue(outcome->results[0], 0, 0), &end, &err) != HW_OK) {
        reconciler_fail(rec, &err);
        return;
    }
    reconciler_epoch_of_log(rec, end);
    conclude(rec);
}

/*
 * Entries of the recovery's epoch cannot be ahead of the database's log: no transaction could be
 * written over them. Where the survey's answer says that they are, the log's end is asked for once
 * more, for the one who led before us may have gone on since the survey.
 */
static void all_read(struct rec_reconciler *rec)
{
    static const struct hw_db_query query = {.sql = "SELECT pg_current_wal_insert_lsn()::text"};
    struct hw_error err;

    if (!rec->keys_loaded || !rec->objects_loaded || rec->state != RECONCILER_LOADING)
        return;
    reconciler_epoch_of_checkpoint(rec);
    if (rec->newest.epoch != rec->recovery.epoch || rec->newest.lsn <= rec->server.current)
        conclude(rec);
    else if (hw_db_run(rec->pg, HW_DB_SEPARATE, &query, 1, NULL, on_end_known, rec, &err) != HW_OK)
        reconciler_fail(rec, &err);
}

/* ---- keys ---- */

static void on_load_failed(void *arg, const struct hw_error *why)
{
    reconciler_fail(arg, why);
}

static void on_key(void *arg, struct hw_kv_entry *stored)
{
    const struct hw_entry found = hw_entry_of(stored);
    struct rec_reconciler *rec = arg;
    struct rec_entry *entry;

    if (!rec_sink_has_key(found.key))
        return;
    entry = rec_sink_entry(rec->sink, found.key);
    rec_entry_read(entry, &found);
    rec->fences_hidden |= !found.fenced;
    if (hw_fence_compare(entry->fence, rec->newest) > 0)
        rec->newest = entry->fence;
}

static void on_keys_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    rec->keys_loaded = true;
    all_read(rec);
}

static void read_keys(struct rec_reconciler *rec, enum hw_deliver deliver,
                      void (*caught_up)(void *rec))
{
    const struct hw_kv_watch_events events = {.entry = on_key,
                                              .caught_up = caught_up,
                                              .restarting = on_load_failed,
                                              .arg = rec,
                                              .of = "keys"};
    struct hw_error err;

    if (hw_kv_watch_start(rec->nats, rec->config.bucket, HW_KEYS_OF_NODES, deliver, &events,
                          &rec->key_watch, &err) != HW_OK)
        reconciler_fail(rec, &err);
}

/* The entry of a stranger hides the fence of ours below it. Without that fence a transaction that
 * was published already would be published once more. So all that is kept of each key is read. */
static void on_last_entries_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (!rec->fences_hidden) {
        on_keys_loaded(rec);
        return;
    }
    hw_kv_watch_stop(HW_TAKE(rec->key_watch));
    read_keys(rec, HW_DELIVER_ALL, on_keys_loaded);
}

/* ---- objects ---- */

static void on_objects_loaded(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec->objects_loaded = true;
    all_read(rec);
}

static void start_objects(struct rec_reconciler *rec)
{
    const struct rec_objects_config config = {.loop = rec->loop,
                                              .nats = rec->nats,
                                              .bucket = rec->config.bucket,
                                              .sink = rec->sink,
                                              .counts = &rec->counts,
                                              .grace_ms = rec->config.gc_grace_ms};
    const struct rec_objects_events events = {.loaded = on_objects_loaded,
                                              .drift = reconciler_drift_noticed,
                                              .lost = on_load_failed,
                                              .arg = rec};

    rec->objects = rec_objects_start(&config, &events);
}

/* ---- nodes that are gone ---- */

static void start_gone(struct rec_reconciler *rec)
{
    const struct rec_gone_config config = {.loop = rec->loop,
                                           .nats = rec->nats,
                                           .bucket = rec->config.bucket,
                                           .reports = rec->reports_bucket,
                                           .sink = rec->sink,
                                           .apply = rec->apply,
                                           .counts = &rec->counts,
                                           .grace_ms = rec->config.purge_after_ms,
                                           .anew = rec->recovery.way != REC_RESUME};

    rec->gone = rec_gone_start(&config);
}

/* ---- the start of it ---- */

static enum hw_status start_intake(struct rec_reconciler *rec, struct hw_error *err)
{
    enum hw_status status = rec_reports_start(
        rec->loop, rec->nats, rec->config.database, rec->reports_bucket, (int)rec->config.replicas,
        &rec->counts, reconciler_epoch_reported, rec, &rec->reports, err);

    if (status == HW_OK)
        status = rec_proposals_start(rec->loop, rec->nats, rec->config.database,
                                     rec->reports_bucket, &rec->proposals, err);
    if (status == HW_OK)
        status = rec_liveness_start(rec->loop, rec->nats, rec->config.database, rec->config.bucket,
                                    &rec->counts, &rec->liveness, err);
    return status;
}

void reconciler_load(struct rec_reconciler *rec)
{
    struct hw_error err;
    enum hw_status status;

    cdc_source_pause(rec->source, true);
    hw_log_info("leading", HW_S("slot", rec->config.slot));
    if (rec_leader_begin(rec->leader, &err) != HW_OK) {
        reconciler_fail(rec, &err);
        return;
    }
    /* The leader before us may have moved the checkpoint while we waited for the slot. */
    status = reconciler_claim(rec, &err);
    if (status == HW_ECONFLICT) {
        reconciler_happen(rec, RECONCILER_LOST);
        return;
    }
    if (status != HW_OK) {
        reconciler_fail(rec, &err);
        return;
    }
    rec_ledger_open(&rec->ledger, rec->checkpoint.seq);
    rec->keys_loaded = rec->objects_loaded = rec->fences_hidden = false;
    rec->newest = (struct hw_fence){0};
    start_objects(rec);
    start_gone(rec);
    if (start_intake(rec, &err) != HW_OK)
        reconciler_fail(rec, &err);
    else
        read_keys(rec, HW_DELIVER_LAST, on_last_entries_loaded);
}
