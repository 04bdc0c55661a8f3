#include "reconciler/compare/compare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "common/points.h"

enum {
    LOGGED_MOST = 20, /* differences that are logged one by one */
};

static const char begin_sql[] = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
static const char moment_sql[] =
    "SELECT pg_current_wal_insert_lsn()::text,"
    " coalesce((SELECT max(rev) FROM headwater.changelog), 0),"
    " coalesce((SELECT nonce::text FROM headwater.changelog ORDER BY rev DESC LIMIT 1), '')";
static const char cursor_sql[] = "DECLARE node_rows NO SCROLL CURSOR FOR " REC_SINK_ROWS;
static const char page_sql[] = "FETCH 1000 FROM node_rows";
static const char commit_sql[] = "COMMIT";

struct rec_audit {
    struct rec_audit_config config;
    struct rec_audit_events events;
    struct rec_audit_result result;
    struct hw_db *pg;
    struct hw_kv_watch *watch; /* while keys are read */
    struct hw_timer next;      /* goes on from the loop */
    uint64_t number;
    hw_lsn behind; /* the snapshot sees nothing that ends behind it; HW_LSN_NONE: not known yet */
    bool passed;   /* the stream is behind it, and all is acknowledged */
    bool listed;   /* every key was read */
    bool running;  /* a statement is on its way */
    bool paused;
    bool exhausted; /* every page was read */
};

static void go_on(void *arg);

static void soon(struct rec_audit *audit)
{
    hw_timer_start(audit->config.loop, &audit->next, 0, go_on, audit);
}

static void fail(struct rec_audit *audit, const struct hw_error *why)
{
    struct hw_error err = *why;

    hw_fail_in(&err, "comparing NATS with the database");
    hw_timer_stop(&audit->next);
    audit->events.failed(audit->events.arg, &err);
}

/* ---- statements ---- */

/* True when the caller may go on: the statement succeeded. */
static bool arrived(struct rec_audit *audit, const struct hw_db_outcome *outcome)
{
    audit->running = false;
    if (outcome->status == HW_OK)
        return true;
    fail(audit, &outcome->err);
    return false;
}

static void run(struct rec_audit *audit, const struct hw_db_query *queries, int count,
                hw_db_done_fn *done)
{
    struct hw_error err;

    if (hw_db_run(audit->pg, HW_DB_SEPARATE, queries, count, NULL, done, audit, &err) != HW_OK)
        fail(audit, &err);
    else
        audit->running = true;
}

/* ---- the moment ---- */

static void on_begun(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_audit *audit = arg;
    const PGresult *moment;
    struct hw_error err;

    if (!arrived(audit, outcome))
        return;
    moment = outcome->results[1];
    if (hw_lsn_parse(PQgetvalue(moment, 0, 0), &audit->behind, &err) != HW_OK) {
        fail(audit, &err);
        return;
    }
    audit->result.rev = strtoll(PQgetvalue(moment, 0, 1), NULL, 10);
    snprintf(audit->result.nonce, sizeof(audit->result.nonce), "%s", PQgetvalue(moment, 0, 2));
    audit->events.begun(audit->events.arg);
    rec_audit_moved(audit, rec_apply_position(audit->config.apply));
}

/* Strictly behind: a repair's fence is then newer than that of the last transaction seen. */
void rec_audit_moved(struct rec_audit *audit, hw_lsn position)
{
    if (audit->behind == HW_LSN_NONE || audit->passed || position <= audit->behind)
        return;
    audit->passed = true;
    audit->result.position = position;
    soon(audit);
}

/* ---- keys ---- */

static bool touched(const struct rec_audit *audit, const struct rec_entry *entry)
{
    return rec_apply_touched(audit->config.apply, entry, audit->result.rev);
}

static void on_key(void *arg, struct hw_kv_entry *found)
{
    struct rec_audit *audit = arg;
    struct rec_entry *entry;

    if (!rec_sink_has_key(found->key))
        return;
    entry = rec_sink_entry(audit->config.sink, found->key);
    entry->audit = audit->number;
    if (touched(audit, entry) || entry->in_flight != NULL)
        return;
    entry->seq = found->seq;
    entry->deleted = found->deleted;
    if (found->fenced)
        entry->fence = found->fence; /* otherwise a stranger's, over the one that we know */
    entry->missigned = !rec_signature_stands(audit->config.signer, found);
    entry->hash = found->fenced && !found->deleted ? rec_sink_hash_of_entry(found) : 0;
}

/* Keys that are gone altogether were purged. */
static void forget_purged(struct rec_audit *audit)
{
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(audit->config.sink, &at)) != NULL) {
        if (entry->audit == audit->number || touched(audit, entry) || entry->in_flight != NULL)
            continue;
        entry->seq = 0;
        entry->deleted = true;
        entry->missigned = false;
        entry->hash = 0;
    }
}

static void on_listed(void *arg)
{
    struct rec_audit *audit = arg;

    hw_kv_watch_stop(HW_TAKE(audit->watch));
    forget_purged(audit);
    audit->listed = true;
    soon(audit);
}

static void on_list_failed(void *arg, const struct hw_error *why)
{
    fail(arg, why);
}

static void list_keys(struct rec_audit *audit)
{
    const struct hw_kv_watch_events events = {
        .entry = on_key, .caught_up = on_listed, .restarting = on_list_failed, .arg = audit};
    struct hw_error err;

    if (hw_kv_watch_start(audit->config.nats, audit->config.bucket, REC_SINK_KEYS, HW_DELIVER_LAST,
                          &events, &audit->watch, &err) != HW_OK)
        fail(audit, &err);
}

/* ---- rows ---- */

static void tell(struct rec_audit *audit, const char *key, const char *what)
{
    if (!audit->config.quiet && audit->result.keys < LOGGED_MOST)
        hw_log_warn("repairing an entry that is not what the database says", HW_S("key", key),
                    HW_S("found", what));
    audit->result.keys++;
}

static struct rec_tx *new_repair(const struct rec_audit *audit)
{
    return rec_apply_repair(audit->config.apply, (struct hw_fence){.epoch = audit->config.epoch,
                                                                   .lsn = audit->result.position});
}

/* To be written anew though it says what it should. */
static bool outdated(const struct rec_audit *audit, const struct rec_entry *entry)
{
    return entry->seq != 0 && (entry->missigned ||
                               (audit->config.rewrite && entry->fence.epoch < audit->config.epoch));
}

/* Is the entry of a row what the row says? */
static bool stands(struct rec_audit *audit, const char *prefix, const char *node, uint64_t hash)
{
    HW_AUTO_FREE char *key = hw_sprintf("%s%s", prefix, node);
    struct rec_entry *entry = rec_sink_entry(audit->config.sink, key);
    const bool nothing = entry->seq == 0 || entry->deleted;

    entry->seen = audit->number;
    if (touched(audit, entry) || (!nothing && !outdated(audit, entry) && entry->hash == hash))
        return true;
    tell(audit, key,
         nothing               ? "nothing"
         : entry->hash != hash ? "something else"
         : entry->missigned    ? "not our signature"
                               : "an older epoch");
    return false;
}

static void compare_desired(struct rec_audit *audit, struct rec_tx *repair,
                            const struct rec_desired *row)
{
    const char *hex = row->digest + strlen("sha256:");

    audit->result.nodes++;
    audit->result.objects += !rec_sink_object(audit->config.sink, hex)->there;
    rec_apply_repair_object(repair, hex, (size_t)row->size);
    if (!stands(audit, REC_DESIRED_PREFIX, row->node, rec_desired_hash(row)))
        rec_apply_repair_set(repair, row);
}

static void compare_decided(struct rec_audit *audit, struct rec_tx *repair,
                            const struct rec_decided *row)
{
    if (!stands(audit, REC_DECIDED_PREFIX, row->node, rec_decided_hash(row)))
        rec_apply_repair_tell(repair, row);
}

/* Keys of nodes that the snapshot did not have. */
static void remove_unseen(struct rec_audit *audit, struct rec_tx *repair)
{
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(audit->config.sink, &at)) != NULL) {
        if (entry->seen == audit->number || touched(audit, entry) ||
            (entry->deleted && !outdated(audit, entry)))
            continue;
        tell(audit, entry->key,
             entry->deleted ? "not our signature on its deletion"
                            : "an entry where there is to be none");
        audit->result.removed++;
        rec_apply_repair_remove(repair, entry);
    }
}

static void on_page(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_audit *audit = arg;
    struct rec_tx *repair;
    const PGresult *page;
    struct hw_error err = {0};

    if (!arrived(audit, outcome))
        return;
    page = outcome->results[0];
    repair = new_repair(audit);
    for (int i = 0; i < PQntuples(page) && err.status == HW_OK; i++) {
        struct rec_desired desired;
        struct rec_decided decided;

        if (rec_sink_is_decided(page, i)) {
            if (rec_decided_from_result(page, i, &decided, &err) == HW_OK)
                compare_decided(audit, repair, &decided);
        } else if (rec_desired_from_result(page, i, &desired, &err) == HW_OK) {
            compare_desired(audit, repair, &desired);
        }
    }
    audit->exhausted = PQntuples(page) == 0;
    if (audit->exhausted)
        remove_unseen(audit, repair);
    rec_apply_repair_commit(repair);
    HW_POINT("mid-snapshot");
    if (err.status != HW_OK)
        fail(audit, &err);
    else
        soon(audit);
}

static void on_end(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_audit *audit = arg;

    if (arrived(audit, outcome))
        audit->events.done(audit->events.arg, &audit->result);
}

static void go_on(void *arg)
{
    struct rec_audit *audit = arg;

    if (audit->running || audit->paused || !audit->passed || audit->watch != NULL)
        return;
    if (!audit->listed)
        list_keys(audit);
    else if (!audit->exhausted)
        run(audit, &(struct hw_db_query){.sql = page_sql}, 1, on_page);
    else
        run(audit, &(struct hw_db_query){.sql = commit_sql}, 1, on_end);
}

/* ---- life ---- */

static void on_up(void *arg)
{
    static const struct hw_db_query begin[] = {
        {.sql = begin_sql}, {.sql = moment_sql}, {.sql = cursor_sql}};

    run(arg, begin, HW_COUNT(begin), on_begun);
}

static void on_down(void *arg, const struct hw_error *why)
{
    fail(arg, why);
}

enum hw_status rec_audit_start(const struct rec_audit_config *config,
                               const struct rec_audit_events *events, struct rec_audit **out,
                               struct hw_error *err)
{
    struct rec_audit *audit = hw_alloc(sizeof(*audit));
    const struct hw_db_events pg_events = {.up = on_up, .down = on_down, .arg = audit};
    enum hw_status status;

    audit->config = *config;
    audit->events = *events;
    status = hw_db_open(config->loop, config->conninfo, "headwater-reconciler: audit", &pg_events,
                        &audit->pg, err);
    if (status != HW_OK) {
        free(audit);
        return status;
    }
    audit->number = rec_sink_begin_audit(config->sink);
    *out = audit;
    return HW_OK;
}

void rec_audit_pause(struct rec_audit *audit, bool pause)
{
    audit->paused = pause;
    if (!pause)
        soon(audit);
}

void rec_audit_free(struct rec_audit *audit)
{
    if (audit == NULL)
        return;
    hw_timer_stop(&audit->next);
    hw_kv_watch_stop(audit->watch);
    hw_db_close(audit->pg);
    free(audit);
}
