#include "reconciler/compare/comparison.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/points.h"
#include "common/log.h"
#include "reconciler/publish/content.h"

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

struct rec_comparison {
    struct rec_comparison_config config;
    struct rec_comparison_events events;
    struct rec_comparison_result result;
    struct hw_db *pg;
    struct hw_kv_watch *watch; /* while keys are read */
    struct hw_timer next;      /* goes on from the loop */
    uint64_t number;
    hw_lsn behind; /* all that the snapshot sees ends before it; HW_LSN_NONE: not known yet */
    bool passed;   /* the stream has passed that position, and all is acknowledged */
    bool listed;   /* every key was read */
    bool running;  /* a statement is on its way */
    bool paused;
    bool exhausted; /* every page was read */
};

static void go_on(void *arg);

static void soon(struct rec_comparison *comparison)
{
    hw_timer_start(comparison->config.loop, &comparison->next, 0, go_on, comparison);
}

static void fail(struct rec_comparison *comparison, const struct hw_error *why)
{
    struct hw_error err = *why;

    hw_fail_in(&err, "comparing NATS with the database");
    hw_timer_stop(&comparison->next);
    comparison->events.failed(comparison->events.arg, &err);
}

/* ---- statements ---- */

/* True when the caller may go on: the statement succeeded. */
static bool arrived(struct rec_comparison *comparison, const struct hw_db_outcome *outcome)
{
    comparison->running = false;
    if (outcome->status == HW_OK)
        return true;
    fail(comparison, &outcome->err);
    return false;
}

static void run(struct rec_comparison *comparison, const struct hw_db_query *queries, int count,
                hw_db_done_fn *done)
{
    struct hw_error err;

    if (hw_db_run(comparison->pg, HW_DB_SEPARATE, queries, count, NULL, done, comparison, &err) !=
        HW_OK)
        fail(comparison, &err);
    else
        comparison->running = true;
}

/* ---- the moment ---- */

static void on_begun(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_comparison *comparison = arg;
    const PGresult *moment;
    struct hw_error err;

    if (!arrived(comparison, outcome))
        return;
    moment = outcome->results[1];
    if (hw_lsn_parse(PQgetvalue(moment, 0, 0), &comparison->behind, &err) != HW_OK) {
        fail(comparison, &err);
        return;
    }
    comparison->result.rev = strtoll(PQgetvalue(moment, 0, 1), NULL, 10);
    snprintf(comparison->result.nonce, sizeof(comparison->result.nonce), "%s",
             PQgetvalue(moment, 0, 2));
    comparison->events.begun(comparison->events.arg);
    rec_comparison_moved(comparison, rec_apply_position(comparison->config.apply));
}

/* position must be greater, not equal: a repair's fence is then newer than the fence of the last
 * transaction that the snapshot sees. */
void rec_comparison_moved(struct rec_comparison *comparison, hw_lsn position)
{
    if (comparison->behind == HW_LSN_NONE || comparison->passed || position <= comparison->behind)
        return;
    comparison->passed = true;
    comparison->result.position = position;
    soon(comparison);
}

/* ---- keys ---- */

static bool touched(const struct rec_comparison *comparison, const struct rec_entry *entry)
{
    return rec_apply_touched(comparison->config.apply, entry, comparison->result.rev);
}

static void on_key(void *arg, struct hw_kv_entry *stored)
{
    const struct hw_entry found = hw_entry_of(stored);
    struct rec_comparison *comparison = arg;
    struct rec_entry *entry;

    if (!rec_sink_has_key(found.key))
        return;
    entry = rec_sink_entry(comparison->config.sink, found.key);
    rec_entry_listed(entry, comparison->number);
    if (!touched(comparison, entry) && entry->in_flight == NULL)
        rec_entry_compare(entry, &found, comparison->config.signer);
}

/* Keys that the list did not have were purged. */
static void forget_purged(struct rec_comparison *comparison)
{
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(comparison->config.sink, &at)) != NULL) {
        if (entry->listed != comparison->number && !touched(comparison, entry) &&
            entry->in_flight == NULL)
            rec_entry_purged(entry);
    }
}

static void on_listed(void *arg)
{
    struct rec_comparison *comparison = arg;

    hw_kv_watch_stop(HW_TAKE(comparison->watch));
    forget_purged(comparison);
    comparison->listed = true;
    soon(comparison);
}

static void on_list_failed(void *arg, const struct hw_error *why)
{
    fail(arg, why);
}

static void list_keys(struct rec_comparison *comparison)
{
    const struct hw_kv_watch_events events = {.entry = on_key,
                                              .caught_up = on_listed,
                                              .restarting = on_list_failed,
                                              .arg = comparison,
                                              .of = "comparison"};
    struct hw_error err;

    if (hw_kv_watch_start(comparison->config.nats, comparison->config.bucket, HW_KEYS_OF_NODES,
                          HW_DELIVER_LAST, &events, &comparison->watch, &err) != HW_OK)
        fail(comparison, &err);
}

/* ---- rows ---- */

static void tell(struct rec_comparison *comparison, const char *key, const char *what)
{
    if (!comparison->config.quiet && comparison->result.keys < LOGGED_MOST)
        hw_log_warn("repairing an entry that is not what the database says", HW_S("key", key),
                    HW_S("found", what));
    comparison->result.keys++;
}

static struct rec_tx *new_repair(const struct rec_comparison *comparison)
{
    return rec_apply_repair(
        comparison->config.apply,
        (struct hw_fence){.epoch = comparison->config.epoch, .lsn = comparison->result.position});
}

/* Is an entry to be written anew though it says what it should? */
static bool outdated(const struct rec_comparison *comparison, const struct rec_entry *entry)
{
    return entry->seq != 0 &&
           (entry->missigned || entry->hidden ||
            (comparison->config.rewrite && entry->fence.epoch < comparison->config.epoch));
}

/* Does the entry of a row stand as the row says? content: of the row. */
static bool stands(struct rec_comparison *comparison, const char *prefix, const char *node,
                   const struct hw_digest *content)
{
    HW_AUTO_FREE char *key = hw_sprintf("%s%s", prefix, node);
    struct rec_entry *entry = rec_sink_entry(comparison->config.sink, key);
    const bool nothing = entry->seq == 0 || entry->deleted;

    rec_entry_seen(entry, comparison->number);
    if (touched(comparison, entry))
        return true;
    const bool equal = entry->known && hw_digest_equal(&entry->content, content);
    if (!nothing && equal && !outdated(comparison, entry))
        return true;
    tell(comparison, key,
         nothing            ? "nothing"
         : !equal           ? "something else"
         : entry->hidden    ? "an entry that the server does not find by its name"
         : entry->missigned ? "not our signature"
                            : "an older epoch");
    return false;
}

static void compare_desired(struct rec_comparison *comparison, struct rec_tx *repair,
                            const struct hw_desired *row)
{
    const char *hex = row->digest + strlen("sha256:");
    struct hw_digest content;

    comparison->result.nodes++;
    comparison->result.objects += !rec_sink_object(comparison->config.sink, hex)->there;
    rec_apply_repair_object(repair, hex, (size_t)row->size);
    rec_content_of_desired(row, &content);
    if (!stands(comparison, HW_KEY_DESIRED, row->node, &content))
        rec_apply_repair_set(repair, row);
}

static void compare_decided(struct rec_comparison *comparison, struct rec_tx *repair,
                            const struct hw_decided *row)
{
    struct hw_digest content;

    rec_content_of_decided(row, &content);
    if (!stands(comparison, HW_KEY_DECIDED, row->node, &content))
        rec_apply_repair_tell(repair, row);
}

/* Keys of nodes that the snapshot did not have. */
static void remove_unseen(struct rec_comparison *comparison, struct rec_tx *repair)
{
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(comparison->config.sink, &at)) != NULL) {
        if (entry->seen == comparison->number || touched(comparison, entry) ||
            (entry->deleted && !outdated(comparison, entry)))
            continue;
        tell(comparison, entry->key,
             entry->hidden    ? "a deletion that the server does not find by its name"
             : entry->deleted ? "not our signature on its deletion"
                              : "an entry where there is to be none");
        comparison->result.removed++;
        rec_apply_repair_remove(repair, entry);
    }
}

static void on_page(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_comparison *comparison = arg;
    struct rec_tx *repair;
    const PGresult *page;
    struct hw_error err = {0};

    if (!arrived(comparison, outcome))
        return;
    page = outcome->results[0];
    repair = new_repair(comparison);
    for (int i = 0; i < PQntuples(page) && err.status == HW_OK; i++) {
        struct hw_desired desired;
        struct hw_decided decided;

        if (rec_sink_is_decided(page, i)) {
            if (rec_decided_from_result(page, i, &decided, &err) == HW_OK)
                compare_decided(comparison, repair, &decided);
        } else if (rec_desired_from_result(page, i, &desired, &err) == HW_OK) {
            compare_desired(comparison, repair, &desired);
        }
    }
    comparison->exhausted = PQntuples(page) == 0;
    if (comparison->exhausted)
        remove_unseen(comparison, repair);
    rec_apply_repair_commit(repair);
    HW_POINT("mid-snapshot");
    if (err.status != HW_OK)
        fail(comparison, &err);
    else
        soon(comparison);
}

static void on_end(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_comparison *comparison = arg;

    if (arrived(comparison, outcome))
        comparison->events.done(comparison->events.arg, &comparison->result);
}

static void go_on(void *arg)
{
    struct rec_comparison *comparison = arg;

    if (comparison->running || comparison->paused || !comparison->passed ||
        comparison->watch != NULL)
        return;
    if (!comparison->listed)
        list_keys(comparison);
    else if (!comparison->exhausted)
        run(comparison, &(struct hw_db_query){.sql = page_sql}, 1, on_page);
    else
        run(comparison, &(struct hw_db_query){.sql = commit_sql}, 1, on_end);
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

enum hw_status rec_comparison_start(const struct rec_comparison_config *config,
                                    const struct rec_comparison_events *events,
                                    struct rec_comparison **out, struct hw_error *err)
{
    struct rec_comparison *comparison = hw_alloc(sizeof(*comparison));
    const struct hw_db_events pg_events = {.up = on_up, .down = on_down, .arg = comparison};
    enum hw_status status;

    comparison->config = *config;
    comparison->events = *events;
    status = hw_db_open(config->loop, config->conninfo, "headwater-reconciler: comparison",
                        &pg_events, &comparison->pg, err);
    if (status != HW_OK) {
        free(comparison);
        return status;
    }
    comparison->number = rec_sink_begin_comparison(config->sink);
    *out = comparison;
    return HW_OK;
}

void rec_comparison_pause(struct rec_comparison *comparison, bool pause)
{
    comparison->paused = pause;
    if (!pause)
        soon(comparison);
}

void rec_comparison_free(struct rec_comparison *comparison)
{
    if (comparison == NULL)
        return;
    hw_timer_stop(&comparison->next);
    hw_kv_watch_stop(comparison->watch);
    hw_db_close(comparison->pg);
    free(comparison);
}
