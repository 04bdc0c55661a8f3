#include "reconciler/heartbeat.h"

#include "common/log.h"

enum {
    RETRY_MS = 100, /* the connection was busy */
};

static void on_heartbeat(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;

    if (outcome->status != HW_OK)
        hw_log_warn("a heartbeat failed", HW_S("slot", rec->config.slot), HW_E(&outcome->err));
}

static void beat(void *arg)
{
    static const struct hw_db_query query = {.sql = "SELECT headwater.heartbeat()"};
    struct rec_reconciler *rec = arg;
    struct hw_error err;

    if (rec->state != RECONCILER_STREAMING)
        return;
    if (hw_db_run(rec->pg, HW_DB_SEPARATE, &query, 1, NULL, on_heartbeat, rec, &err) != HW_OK)
        hw_timer_start(rec->loop, &rec->heartbeat, RETRY_MS, beat, rec);
    else if (rec->config.heartbeat_ms > 0)
        hw_timer_start(rec->loop, &rec->heartbeat, rec->config.heartbeat_ms, beat, rec);
}

void reconciler_heartbeat(struct rec_reconciler *rec)
{
    hw_timer_start(rec->loop, &rec->heartbeat, 0, beat, rec);
}
