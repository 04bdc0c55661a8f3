#include "reconciler/drift.h"

#include "base/memory.h"
#include "common/log.h"
#include "reconciler/heartbeat.h"

enum {
    DRIFT_FIRST_MS = 50,   /* from noticing drift to comparing … */
    DRIFT_AGAIN_MS = 2000, /* … when there was drift just now */
    DOUBTED_MS = 10000,    /* from finding that rows are missing to looking again */
    FOREIGN_LOGGED = 10,   /* foreign writes that are logged singly between two comparisons */
};

/* ---- comparisons ---- */

/* A heartbeat is the transaction behind the snapshot that the comparison waits for. */
static void on_comparison_begun(void *arg)
{
    reconciler_heartbeat(arg);
}

static void on_comparison_done(void *arg, const struct rec_comparison_result *result)
{
    struct rec_reconciler *rec = arg;

    rec->compared = *result;
    rec_apply_release(rec->apply, result->rev, result->nonce);
}

static void on_comparison_failed(void *arg, const struct hw_error *err)
{
    reconciler_fail(arg, err);
}

static void begin_comparison(void *arg)
{
    struct rec_reconciler *rec = arg;
    const struct rec_comparison_config config = {.loop = rec->loop,
                                                 .nats = rec->nats,
                                                 .conninfo = rec->config.database,
                                                 .bucket = rec->config.bucket,
                                                 .apply = rec->apply,
                                                 .sink = rec->sink,
                                                 .signer = rec->config.signer,
                                                 .epoch = rec->recovery.epoch,
                                                 .rewrite = rec->recovery.rewrite,
                                                 .quiet = rec->recovery.way == REC_REBUILD};
    const struct rec_comparison_events events = {.begun = on_comparison_begun,
                                                 .done = on_comparison_done,
                                                 .failed = on_comparison_failed,
                                                 .arg = rec};
    struct hw_error err;

    if (rec->state != RECONCILER_STREAMING || rec->draining)
        return;
    hw_log_debug("comparing NATS with the database", HW_S("slot", rec->config.slot),
                 HW_S("why", rec->comparison_why));
    if (rec_comparison_start(&config, &events, &rec->comparison, &err) != HW_OK)
        reconciler_fail(rec, &err);
    else if (rec_apply_paused(rec->apply))
        rec_comparison_pause(rec->comparison, true);
}

static void end_comparison(void *arg)
{
    struct rec_reconciler *rec = arg;

    rec_comparison_free(HW_TAKE(rec->comparison));
    if (rec->state != RECONCILER_STREAMING)
        return;
    if (rec->compared.doubted == 0) /* rows that are missing refer to no object */
        rec_objects_compared(rec->objects);
    if (rec->comparison_again)
        reconciler_drift_noticed(rec);
    else if (rec->compared.doubted > 0)
        reconciler_compare_within(rec, DOUBTED_MS, "rows were missing");
    else if (rec->config.compare_ms > 0)
        reconciler_compare_within(rec, rec->config.compare_ms, "the interval is over");
}

/* ---- keys that nats-server hides (nats/hidden.h) ---- */

/* One that cannot be mended stays hidden from its node; all others are served. Where one cannot be,
 * no other is tried: each try may wait for an answer. */
static void on_hidden_key(void *arg, const char *key)
{
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (rec->unfound.status != HW_OK ||
        rec_hidden_free_entry(rec->nats, rec->config.bucket, rec->sink, key, &err) == HW_OK)
        return;
    hw_log_error("a node does not find its key", HW_S("key", key), HW_E(&err));
    rec->unfound = err;
    reconciler_tell(rec);
}

static void on_hidden_searched(void *arg, size_t found)
{
    if (found > 0)
        reconciler_compare_within(arg, 0, "keys that nats-server did not find by their names");
}

static void look_for_hidden_keys(struct rec_reconciler *rec)
{
    const struct rec_hidden_events events = {
        .found = on_hidden_key, .done = on_hidden_searched, .arg = rec};
    struct hw_error err;

    if (rec->hidden == NULL &&
        rec_hidden_start(rec->nats, rec->sink, rec->config.bucket, rec->reports_bucket, &events,
                         &rec->hidden, &err) != HW_OK)
        hw_log_warn("keys are not looked for by their names", HW_E(&err));
}

/* The table is doubted, not obeyed; the stream goes on for all others. */
static void tell_doubt(struct rec_reconciler *rec)
{
    const struct rec_comparison_result *r = &rec->compared;
    const bool before = rec->doubt.status != HW_OK;

    rec->counts.doubted = (double)r->doubted;
    if (r->doubted == 0) {
        if (before)
            hw_log_info("the database has the rows again that were missing",
                        HW_S("slot", rec->config.slot));
        rec->doubt = (struct hw_error){0};
        return;
    }
    hw_fail(&rec->doubt, HW_ECORRUPT,
            "%zu keys such as %s have no row in the database, whose own records say that there "
            "should be one: they stay in NATS as they are. Rows were deleted or hidden past the "
            "triggers: SELECT headwater.recompute() makes those of desired anew",
            r->doubted, r->doubted_key);
    if (!before)
        hw_log_error("rows are missing in the database", HW_S("slot", rec->config.slot),
                     HW_E(&rec->doubt));
}

void reconciler_drift_repaired(void *arg)
{
    struct rec_reconciler *rec = arg;
    const struct rec_comparison_result *r = &rec->compared;
    const size_t differed = r->keys + r->objects;

    hw_log(differed > 0 && rec->recovery.way != REC_REBUILD ? HW_LOG_WARN : HW_LOG_INFO,
           "compared NATS with the database", HW_S("slot", rec->config.slot),
           HW_L("lsn", r->position), HW_I("epoch", (int64_t)rec->recovery.epoch),
           HW_I("rev", r->rev), HW_I("nodes", (int64_t)r->nodes),
           HW_I("repaired", (int64_t)r->keys), HW_I("removed", (int64_t)r->removed),
           HW_I("objects", (int64_t)r->objects), HW_S("why", rec->comparison_why));
    rec->counts.comparisons++;
    rec->counts.repaired += r->keys;
    if (rec->recovery.way == REC_REBUILD) {
        rec->counts.rebuilds++;
        rec->recovery.way = REC_RESUME;
        rec->recovery.rewrite = false;
    } else {
        rec->counts.drift += differed;
    }
    reconciler_forget_trouble(rec);
    tell_doubt(rec);
    reconciler_tell(rec);
    rec->foreign_logged = 0;
    look_for_hidden_keys(rec);
    /* Done from the loop, because apply may have been called by the comparison that ends here. */
    hw_timer_start(rec->loop, &rec->comparison_timer, 0, end_comparison, rec);
}

/* ---- when ---- */

void reconciler_compare_within(struct rec_reconciler *rec, int64_t ms, const char *why)
{
    if (rec->state != RECONCILER_STREAMING)
        return;
    if (rec->comparison != NULL) {
        rec->comparison_again = true;
        return;
    }
    if (hw_timer_running(&rec->comparison_timer) && rec->comparison_timer.due <= hw_loop_now() + ms)
        return;
    rec->comparison_again = false;
    rec->comparison_why = why;
    hw_timer_start(rec->loop, &rec->comparison_timer, ms, begin_comparison, rec);
}

void reconciler_drift_noticed(void *arg)
{
    struct rec_reconciler *rec = arg;
    const bool again = rec->drift_at != 0 && hw_loop_now() - rec->drift_at < DRIFT_AGAIN_MS;

    if (rec->state == RECONCILER_STREAMING && rec->comparison == NULL)
        rec->drift_at = hw_loop_now();
    reconciler_compare_within(rec, again ? DRIFT_AGAIN_MS : DRIFT_FIRST_MS, "drift");
}

/* ---- writes that are not ours ---- */

static void on_defend(void *arg)
{
    struct rec_reconciler *rec = arg;

    if (rec->state == RECONCILER_STREAMING || rec->state == RECONCILER_REPLAYING)
        rec_apply_defend_checkpoint(rec->apply);
}

void reconciler_drift_foreign(void *arg, uint64_t seq)
{
    struct rec_reconciler *rec = arg;
    struct hw_kv_entry found = {0};
    const char *key = "?";

    rec->counts.drift++;
    if (rec->foreign_logged < FOREIGN_LOGGED &&
        hw_kv_get_at(rec->nats, rec->config.bucket, seq, &found, NULL) == HW_OK)
        key = found.key;
    if (rec->foreign_logged++ < FOREIGN_LOGGED)
        hw_log_warn("someone else wrote to the bucket", HW_S("bucket", rec->config.bucket),
                    HW_S("key", key), HW_I("revision", (int64_t)seq));
    if (found.msg != NULL)
        hw_kv_entry_clear(&found);
    /* Done from the loop, because the ledger calls this, and apply has called the ledger. */
    hw_timer_start(rec->loop, &rec->defend, 0, on_defend, rec);
    reconciler_drift_noticed(rec);
}
