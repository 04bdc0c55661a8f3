#include "reconciler/checkup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cdc/orphans.h"
#include "common/log.h"
#include "reconciler/drift.h"
#include "reconciler/epoch.h"

enum {
    CHECK_UP_MS = 10000,
};

/* The statements with which a check-up ends. */
enum { GONE, EPOCH };

/* ---- the look at slots, fleet and database ---- */

/* Logs each orphan once, when it is new, because somebody may be dealing with it already. */
static void look_at_orphans(struct rec_reconciler *rec, const PGresult *orphans)
{
    struct hw_buf names = {0};

    rec->counts.orphan_slots = PQntuples(orphans);
    for (int i = 0; i < PQntuples(orphans); i++)
        hw_buf_printf(&names, "%s ", cdc_orphan_at(orphans, i).slot);
    for (int i = 0; i < PQntuples(orphans); i++) {
        const struct cdc_orphan orphan = cdc_orphan_at(orphans, i);
        HW_AUTO_FREE char *name = hw_sprintf("%s ", orphan.slot);
        HW_AUTO_FREE char *text = cdc_orphan_text(&orphan);

        if (rec->orphans == NULL || strstr(rec->orphans, name) == NULL)
            hw_log_warn("a slot holds log back, and nobody reads it", HW_S("slot", orphan.slot),
                        HW_I("retained", orphan.retained), HW_S("advice", text));
    }
    free(rec->orphans);
    rec->orphans = hw_strdup(hw_buf_str(&names));
    hw_buf_free(&names);
}

static void count_slots(struct rec_reconciler *rec)
{
    const struct cdc_server *s = &rec->server;
    struct rec_counts *c = &rec->counts;

    c->lag_bytes = (double)(int64_t)(s->current - s->slot_confirmed);
    c->retained_bytes = (double)(int64_t)(s->current - s->slot_restart);
    c->slot_safe_bytes = (double)s->slot_safe_wal_size;
    c->slot_usable = s->slot_exists && !cdc_wal_is_gone(s->slot_wal_status);
    if (rec->config.archive_bytes == 0)
        return;
    c->archive_usable = s->archive_exists && !cdc_wal_is_gone(s->archive_wal_status);
    c->archive_reach_bytes =
        s->archive_exists ? (double)(int64_t)(s->current - s->archive_confirmed) : 0;
    c->archive_retained_bytes =
        s->archive_exists ? (double)(int64_t)(s->current - s->archive_restart) : 0;
}

/* PostgreSQL 17 sends what is committed only when the standbys have it that its setting names. */
static void look_at_standbys(struct rec_reconciler *rec, bool waited)
{
    const struct cdc_server *s = &rec->server;

    if (s->slot_waits == waited)
        return;
    rec->waits_since = hw_loop_now();
    if (s->slot_waits)
        hw_log_warn("the server holds changes back until its standbys have them "
                    "(synchronized_standby_slots)",
                    HW_S("slot", rec->config.slot), HW_S("standbys", s->standbys));
    else
        hw_log_info("the server's standbys have what is committed", HW_S("slot", rec->config.slot));
    reconciler_tell(rec);
}

/* What the stream brings was checked when it began, and somebody may have altered a table since. So
 * it is checked again, and what may be missing is compared: after each change of the catalog, and
 * again and again while the stream leaves something out. before: as of the last check-up. */
static void look_at_tables(struct rec_reconciler *rec, const char *before)
{
    const bool was_unfit = rec->unfit.status != HW_OK;

    rec->unfit = (struct hw_error){0};
    if (cdc_tables_check(&rec->server, &rec->unfit) != HW_OK && !was_unfit)
        hw_log_error("the stream leaves changes out", HW_S("slot", rec->config.slot),
                     HW_E(&rec->unfit));
    if (rec->unfit.status != HW_OK)
        reconciler_compare_within(rec, 0, "the stream leaves changes out");
    else if (strcmp(before, rec->server.tables_altered) != 0)
        reconciler_compare_within(rec, 0, "a table of the stream was altered");
    if (was_unfit && rec->unfit.status == HW_OK)
        hw_log_info("the stream leaves nothing out any more", HW_S("slot", rec->config.slot));
    if (was_unfit || rec->unfit.status != HW_OK)
        reconciler_tell(rec);
}

/* ---- what a check-up writes ---- */

static void on_noted(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;

    if (rec->gone == NULL)
        return;
    if (outcome->status == HW_OK || outcome->failed != GONE)
        rec_gone_take(rec->gone, outcome->results[GONE]);
    if (outcome->status != HW_OK && outcome->status != HW_EUNAVAIL)
        hw_log_warn(outcome->failed == GONE ? "deleted nodes cannot be looked for"
                                            : "the epoch cannot be noted in the database",
                    HW_E(&outcome->err));
}

/* Deleted nodes are looked for, and the epoch is noted: what nodes report is held against it, for
 * in a lost history a revision of the same number was another one. */
static void note(struct rec_reconciler *rec)
{
    if (rec->state != RECONCILER_STREAMING)
        return;

    HW_AUTO_FREE char *epoch = hw_sprintf("%" PRIu64, rec->recovery.epoch);
    const char *const values[] = {rec->config.slot, epoch};
    const struct hw_db_query queries[] = {
        [GONE] = rec_gone_query(rec->gone),
        [EPOCH] = {.sql = "SELECT headwater.begin_epoch($1, $2)",
                   .count = HW_COUNT(values),
                   .values = values},
    };

    (void)!hw_db_run(rec->pg, HW_DB_SEPARATE, queries, HW_COUNT(queries), NULL, on_noted, rec,
                     NULL);
}

/* ---- the check-up ---- */

static void on_checked_up(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reconciler *rec = arg;
    const bool waited = rec->server.slot_waits;
    struct hw_error err;
    char altered[sizeof(rec->server.tables_altered)];

    memcpy(altered, rec->server.tables_altered, sizeof(altered));

    if ((rec->state != RECONCILER_STREAMING && rec->state != RECONCILER_STALLED) ||
        outcome->status != HW_OK ||
        cdc_server_read(outcome->results[0], &rec->server, &err) != HW_OK)
        return; /* the loss of the connection is told by the connection */
    count_slots(rec);
    look_at_standbys(rec, waited);
    look_at_tables(rec, altered);
    rec_fleet_take(rec->fleet, outcome->results[1], &rec->counts);
    rec_leader_take(rec->leader, outcome->results[2]);
    rec_leader_server(rec->leader, &rec->server);
    look_at_orphans(rec, outcome->results[3]);
    if (strcmp(rec->server.slot_wal_status, "unreserved") == 0)
        hw_log_warn("the slot is about to lose the log that it needs: raise "
                    "max_slot_wal_keep_size, or see what holds the stream up",
                    HW_S("slot", rec->config.slot), HW_I("lag", (int64_t)rec->counts.lag_bytes));
    reconciler_epoch_heed(rec);
    note(rec);
}

static void check_up(void *arg)
{
    struct rec_reconciler *rec = arg;
    const char *const values[] = {rec->config.slot, REC_TABLES};
    const struct hw_db_query queries[] = {{.sql = cdc_server_sql, .count = 2, .values = values},
                                          rec_fleet_query(rec->fleet),
                                          rec_leader_query(),
                                          {.sql = cdc_orphans_sql, .count = 1, .values = values}};

    /* Also while NATS is away: the slot's lag then grows all the more. */
    if (rec->state != RECONCILER_STREAMING && rec->state != RECONCILER_STALLED)
        return;
    hw_timer_start(rec->loop, &rec->check_up, CHECK_UP_MS, check_up, rec);
    /* Where the connection is busy, the next check-up asks. */
    (void)!hw_db_run(rec->pg, HW_DB_SEPARATE, queries, HW_COUNT(queries), NULL, on_checked_up, rec,
                     NULL);
}

void reconciler_checkup_start(struct rec_reconciler *rec)
{
    hw_timer_start(rec->loop, &rec->check_up, 0, check_up, rec);
}
