#include "reconciler/state.h"

#include "base/memory.h"
#include "common/log.h"
#include "common/unlisted.h"

static const char *state_name(enum reconciler_state state)
{
    static const char *const names[] = {"waiting",   "preparing", "leading", "loading",
                                        "replaying", "streaming", "stalled"};

    return names[state];
}

static const char *event_name(enum reconciler_event event)
{
    static const char *const names[] = {"servers-up", "taken",       "prepared",
                                        "started",    "loaded",      "loaded-replay",
                                        "replayed",   "sink-failed", "lost"};

    return names[event];
}

void reconciler_happen(struct rec_reconciler *rec, enum reconciler_event event)
{
    if (rec->stopping)
        return;
    for (size_t i = 0; i < rec->transition_count; i++) {
        const struct reconciler_transition *t = &rec->transitions[i];

        if (t->from != rec->state || t->event != event)
            continue;
        if (t->action == NULL)
            return;
        hw_log_debug(t->comment, HW_S("slot", rec->config.slot));
        rec->state = t->to;
        t->action(rec);
        reconciler_tell(rec);
        return;
    }
    hw_unlisted_event("reconciler", state_name(rec->state), event_name(event));
}

/* ---- failures ---- */

void reconciler_fail(struct rec_reconciler *rec, const struct hw_error *err)
{
    if (rec->stopping || rec->state == RECONCILER_WAITING)
        return;
    rec->trouble = *err;
    rec_leader_failed(rec->leader, err);
    /* The loss of a server is told by its connection. */
    const bool told = err->status == HW_EUNAVAIL && (!hw_db_up(rec->pg) || !hw_nats_up(rec->nats));
    if (!told && hw_outage_goes_on(&rec->halt, err->message, hw_loop_now()))
        hw_log_warn("cannot go on, starting again", HW_S("slot", rec->config.slot),
                    HW_I("lasts_s", hw_outage_age(&rec->halt, hw_loop_now()) / 1000), HW_E(err));
    rec->counts.failures++;
    reconciler_happen(rec, RECONCILER_LOST);
}

void reconciler_yield(struct rec_reconciler *rec, const char *why)
{
    if (rec_leader_yield(rec->leader, why))
        hw_log_warn("yielding: another database's reconciler may have the bucket",
                    HW_S("slot", rec->config.slot), HW_S("bucket", rec->config.bucket),
                    HW_S("why", why));
}

static void on_begin_anew(void *arg)
{
    struct rec_reconciler *rec = arg;

    reconciler_fail(rec, &rec->trouble);
}

void reconciler_fail_soon(struct rec_reconciler *rec, const struct hw_error *err)
{
    rec->trouble = *err;
    hw_timer_start(rec->loop, &rec->begin_anew, 0, on_begin_anew, rec);
}

void reconciler_forget_trouble(struct rec_reconciler *rec)
{
    int64_t lasted;

    rec->retry_ms = RECONCILER_RETRY_FIRST_MS;
    rec->trouble = (struct hw_error){0};
    (void)hw_outage_ends(&rec->halt, hw_loop_now(), &lasted);
}

/* ---- how it stands ---- */

bool reconciler_stands(const struct rec_reconciler *rec, const char **how)
{
    if (rec->trouble.status != HW_OK) {
        *how = rec->trouble.message;
        return false;
    }
    if (rec->state != RECONCILER_STREAMING) {
        *how = rec->standby_told ? "standing by: another reconciler leads" : "not streaming yet";
        return rec->standby_told;
    }
    if (rec->silent_at != 0 && hw_loop_now() - rec->silent_at < RECONCILER_SILENT_LASTS_MS) {
        *how = "the server's sender says nothing: it reads a large transaction of other tables, or "
               "it is frozen (pg_stat_replication)";
        return false;
    }
    if (rec->server.slot_waits) {
        *how = "the server holds changes back until its standbys have them "
               "(synchronized_standby_slots; headwater-cdc status names them)";
        return false;
    }
    if (rec->unfound.status != HW_OK) {
        *how = rec->unfound.message;
        return false;
    }
    if (rec->unfit.status != HW_OK) {
        *how = rec->unfit.message;
        return false;
    }
    if (rec->doubt.status != HW_OK) {
        *how = rec->doubt.message;
        return false;
    }
    *how = rec->recovery.way == REC_REBUILD ? "rebuilding what stands in NATS" : "streaming";
    return rec->recovery.way != REC_REBUILD;
}

void reconciler_tell(struct rec_reconciler *rec)
{
    const char *how;
    const bool ready = reconciler_stands(rec, &how);

    if (rec->config.told == NULL || rec->stopping)
        return;
    if (!hw_db_up(rec->pg) || !hw_nats_up(rec->nats)) {
        const bool nats = hw_db_up(rec->pg);
        const char *const why = nats ? hw_nats_why_away(rec->nats) : rec->pg_trouble.message;
        HW_AUTO_FREE char *said =
            hw_sprintf("%s cannot be reached%s%s", nats ? "NATS" : "PostgreSQL",
                       *why != '\0' ? ": " : "", why);

        rec->config.told(rec->config.arg, false, said);
        return;
    }
    if (hw_db_refuses_writes(rec->pg) != NULL) {
        HW_AUTO_FREE char *said =
            hw_sprintf("PostgreSQL takes no writes: %s", hw_db_refuses_writes(rec->pg));

        rec->config.told(rec->config.arg, false, said);
        return;
    }
    rec->config.told(rec->config.arg, ready, how);
}
