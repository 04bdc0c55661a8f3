#include "reconciler/compare/comparison.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/points.h"
#include "common/log.h"
#include "protocol/keys.h"
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

/* Of the nodes in $1, for which desired has no row, and of those in $2, for which decided has none:
 * the keys of those of which the database's own records say that there should be one. */
static const char doubted_sql[] =
    "SELECT '" HW_KEY_DESIRED "' || n.name FROM unnest($1::text[]) AS n (name)"
    " WHERE (SELECT h.digest FROM headwater.desired_history AS h"
    "  WHERE h.node = n.name ORDER BY h.id DESC LIMIT 1) IS NOT NULL"
    " UNION ALL SELECT '" HW_KEY_DECIDED "' || n.name FROM unnest($2::text[]) AS n (name)"
    " WHERE EXISTS (SELECT FROM headwater.node AS e WHERE e.name = n.name)"
    "  AND EXISTS (SELECT FROM headwater.proposal AS p WHERE p.node = n.name)";

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
    bool judged;    /* and so was what the database says of keys without a row */
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

/* Is it the key of a node that the snapshot did not have? */
static bool is_unseen(const struct rec_comparison *comparison, const struct rec_entry *entry)
{
    return entry->seen != comparison->number && !touched(comparison, entry) &&
           (!entry->deleted || outdated(comparison, entry));
}

static void remove_unseen(struct rec_comparison *comparison)
{
    struct rec_tx *const repair = new_repair(comparison);
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(comparison->config.sink, &at)) != NULL) {
        if (!is_unseen(comparison, entry))
            continue;
        tell(comparison, entry->key,
             entry->hidden    ? "a deletion that the server does not find by its name"
             : entry->deleted ? "not our signature on its deletion"
                              : "an entry where there is to be none");
        comparison->result.removed++;
        rec_apply_repair_remove(repair, entry);
    }
    rec_apply_repair_commit(repair);
    comparison->judged = true;
}

/* That a table shows no row is no order to remove a key: rows that somebody deleted past the
 * triggers or that are hidden look the same. A node that is to have nothing leaves a row in the
 * history that says so; while its newest row says something else, the key stays as it is. */
static void on_doubted(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_comparison *comparison = arg;
    const PGresult *keys;

    if (!arrived(comparison, outcome))
        return;
    keys = outcome->results[0];
    comparison->result.doubted = (size_t)PQntuples(keys);
    for (int i = 0; i < PQntuples(keys); i++)
        rec_entry_seen(rec_sink_entry(comparison->config.sink, PQgetvalue(keys, i, 0)),
                       comparison->number);
    if (PQntuples(keys) > 0)
        snprintf(comparison->result.doubted_key, sizeof(comparison->result.doubted_key), "%s",
                 PQgetvalue(keys, 0, 0));
    remove_unseen(comparison);
    soon(comparison);
}

/* Names of nodes are written without quotes: they have no character that an array's text form
 * needs them for. SQL never had a node whose name is not legal. */
static void add_name(struct hw_buf *array, const char *name)
{
    if (hw_name_is_dotted(name))
        hw_buf_printf(array, "%s%s", array->len > 1 ? "," : "", name);
}

static void judge_unseen(struct rec_comparison *comparison)
{
    struct hw_buf desired = {0}, decided = {0};
    const struct rec_entry *entry;
    size_t at = 0;

    hw_buf_putc(&desired, '{');
    hw_buf_putc(&decided, '{');
    while ((entry = rec_sink_next(comparison->config.sink, &at)) != NULL) {
        const char *const node = hw_key_node(entry->key, HW_KEY_DESIRED);
        const char *const told = hw_key_node(entry->key, HW_KEY_DECIDED);

        if (entry->deleted || !is_unseen(comparison, entry))
            continue;
        if (node != NULL)
            add_name(&desired, node);
        else if (told != NULL)
            add_name(&decided, told);
    }
    const bool any = desired.len + decided.len > 2;
    hw_buf_putc(&desired, '}');
    hw_buf_putc(&decided, '}');
    const char *const values[] = {desired.data, decided.data};
    const struct hw_db_query query = {.sql = doubted_sql, .count = 2, .values = values};
    if (any) {
        run(comparison, &query, 1, on_doubted);
    } else {
        remove_unseen(comparison);
        soon(comparison);
    }
    hw_buf_free(&desired);
    hw_buf_free(&decided);
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
    else if (!comparison->judged)
        judge_unseen(comparison);
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
