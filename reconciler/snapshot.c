#include "reconciler/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "reconciler/blob.h"

/*
 * Statements, in their order: begin, pages, the blobs that a page misses, end. A page is held until
 * its blobs are read, then handed to apply as one transaction.
 */
static const char begin_sql[] = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
static const char moment_sql[] =
    "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text,"
    " coalesce((SELECT max(rev) FROM headwater.changelog), 0),"
    " coalesce((SELECT nonce::text FROM headwater.changelog ORDER BY rev DESC LIMIT 1), '')";
static const char cursor_sql[] = "DECLARE desired_rows NO SCROLL CURSOR FOR"
                                 " SELECT " REC_DESIRED_COLUMNS " FROM headwater.desired";
static const char page_sql[] = "FETCH 1000 FROM desired_rows";
static const char blob_sql[] = "SELECT encoding, content FROM headwater.blob WHERE digest = $1";
static const char commit_sql[] = "COMMIT";
static const char heartbeat_sql[] = "SELECT headwater.heartbeat()";

struct rec_snapshot {
    struct hw_pg *pg;
    struct rec_apply *apply;
    struct rec_sink *sink;
    uint64_t epoch;
    struct rec_snapshot_events events;
    struct rec_moment moment;
    PGresult *page;               /* rows whose blobs are being read */
    int page_at;                  /* the row that is looked at */
    char blob[HW_DIGEST_STR_MAX]; /* being asked for */
    bool running;                 /* a statement is on its way */
    bool paused;
    bool exhausted; /* every page was read */
    size_t nodes, written;
};

static void go_on(struct rec_snapshot *snapshot);

/* ---- moments ---- */

static bool parse_xid(const char **text, uint64_t *xid)
{
    char *end;

    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *xid = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0;
}

enum hw_status rec_moment_parse(const char *text, const char *lsn, struct rec_moment *out,
                                struct hw_error *err)
{
    struct rec_moment m = {0};
    const char *p = text;

    if (!parse_xid(&p, &m.xmin) || *p++ != ':' || !parse_xid(&p, &m.xmax) || *p++ != ':')
        goto wrong;
    while (*p != '\0') {
        uint64_t xid;

        if (!parse_xid(&p, &xid))
            goto wrong;
        m.running = hw_realloc(m.running, (m.running_count + 1) * sizeof(*m.running));
        m.running[m.running_count++] = xid;
        if (*p == ',')
            p++;
    }
    if (hw_lsn_parse(lsn, &m.lsn, err) != HW_OK) {
        rec_moment_clear(&m);
        return HW_EINVAL;
    }
    *out = m;
    return HW_OK;
wrong:
    rec_moment_clear(&m);
    return hw_fail(err, HW_EPROTO, "\"%.60s\" is not a pg_snapshot", text);
}

/* A streamed xid has 32 bits: it is the one of that name that lies nearest to xmax. */
bool rec_moment_sees(const struct rec_moment *moment, uint32_t xid)
{
    const int32_t distance = (int32_t)(xid - (uint32_t)moment->xmax);
    const uint64_t full = moment->xmax + (uint64_t)(int64_t)distance;

    if (full < moment->xmin)
        return true;
    if (full >= moment->xmax)
        return false;
    for (size_t i = 0; i < moment->running_count; i++)
        if (moment->running[i] == full)
            return false;
    return true;
}

void rec_moment_clear(struct rec_moment *moment)
{
    free(moment->running);
    *moment = (struct rec_moment){0};
}

/* ---- reading ---- */

static void fail(struct rec_snapshot *snapshot, struct hw_error *err)
{
    hw_fail_in(err, "reading a snapshot");
    rec_apply_rollback(snapshot->apply);
    snapshot->events.failed(snapshot->events.arg, err);
}

/* True when the caller may go on: the statement succeeded. */
static bool arrived(struct rec_snapshot *snapshot, const struct hw_pg_outcome *outcome)
{
    snapshot->running = false;
    if (outcome->status != HW_OK) {
        struct hw_error err = outcome->err;

        fail(snapshot, &err);
        return false;
    }
    return true;
}

static void run(struct rec_snapshot *snapshot, const struct hw_pg_query *queries, int count,
                hw_pg_done_fn *done)
{
    struct hw_error err;

    if (hw_pg_run(snapshot->pg, HW_PG_SEPARATE, queries, count, NULL, done, snapshot, &err) !=
        HW_OK)
        fail(snapshot, &err);
    else
        snapshot->running = true;
}

static struct hw_fence fence(const struct rec_snapshot *snapshot)
{
    return (struct hw_fence){.epoch = snapshot->epoch, .lsn = snapshot->moment.lsn};
}

static bool unchanged(const struct rec_entry *entry, const struct rec_desired *row)
{
    return entry->seq != 0 && !entry->deleted && entry->fenced &&
           entry->hash == rec_desired_hash(row);
}

/* Keys of nodes that the snapshot did not have. */
static void remove_unseen(struct rec_snapshot *snapshot)
{
    const struct rec_entry *entry;
    size_t at = 0;

    while ((entry = rec_sink_next(snapshot->sink, &at)) != NULL) {
        if (entry->seen || entry->deleted)
            continue;
        snapshot->written++;
        rec_apply_remove(snapshot->apply, entry->node);
    }
}

static void hand_over_page(struct rec_snapshot *snapshot)
{
    PGresult *page = HW_TAKE(snapshot->page);

    for (int i = 0; i < PQntuples(page); i++) {
        struct rec_desired row;
        struct rec_entry *entry;
        struct hw_error err;

        if (rec_desired_from_result(page, i, &row, &err) != HW_OK) {
            PQclear(page);
            fail(snapshot, &err);
            return;
        }
        entry = rec_sink_entry(snapshot->sink, row.node);
        entry->seen = true;
        snapshot->nodes++;
        if (!unchanged(entry, &row)) {
            snapshot->written++;
            rec_apply_set(snapshot->apply, &row);
        }
    }
    snapshot->exhausted = PQntuples(page) == 0;
    PQclear(page);
    if (snapshot->exhausted)
        remove_unseen(snapshot);
    rec_apply_commit(snapshot->apply, false);
    go_on(snapshot);
}

static void on_blob(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_snapshot *snapshot = arg;
    const PGresult *result = outcome->count > 0 ? outcome->results[0] : NULL;
    struct rec_blob blob;
    struct hw_error err;
    enum hw_status status;

    if (!arrived(snapshot, outcome))
        return;
    if (PQntuples(result) != 1) {
        hw_fail(&err, HW_EPROTO, "headwater.blob has no row for %s", snapshot->blob);
        fail(snapshot, &err);
        return;
    }
    status = rec_blob_decode(PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1),
                             (size_t)PQgetlength(result, 0, 1), &blob, &err);
    if (status == HW_OK) {
        status = rec_apply_blob(snapshot->apply, snapshot->blob + strlen("sha256:"), blob.data,
                                blob.size, &err);
        rec_blob_clear(&blob);
    }
    if (status != HW_OK) {
        fail(snapshot, &err);
        return;
    }
    snapshot->page_at++;
    go_on(snapshot);
}

/* Asks for the next blob of the page that the sink lacks; false when there is none. */
static bool ask_for_blob(struct rec_snapshot *snapshot)
{
    for (; snapshot->page_at < PQntuples(snapshot->page); snapshot->page_at++) {
        struct rec_desired row;
        struct hw_error err;

        if (rec_desired_from_result(snapshot->page, snapshot->page_at, &row, &err) != HW_OK) {
            fail(snapshot, &err);
            return true;
        }
        if (rec_sink_has_object(snapshot->sink, row.digest + strlen("sha256:")))
            continue;
        snprintf(snapshot->blob, sizeof(snapshot->blob), "%s", row.digest);
        const char *const values[] = {snapshot->blob};
        run(snapshot, &(struct hw_pg_query){.sql = blob_sql, .count = 1, .values = values}, 1,
            on_blob);
        return true;
    }
    return false;
}

static void on_page(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_snapshot *snapshot = arg;

    if (!arrived(snapshot, outcome))
        return;
    /* The result outlives this call as a copy: blobs are asked for while it is looked at. */
    snapshot->page = PQcopyResult(outcome->results[0], PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (snapshot->page == NULL)
        abort(); /* out of memory */
    snapshot->page_at = 0;
    rec_apply_begin(snapshot->apply, fence(snapshot));
    go_on(snapshot);
}

static void on_end(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_snapshot *snapshot = arg;

    if (arrived(snapshot, outcome))
        snapshot->events.done(snapshot->events.arg, snapshot->nodes, snapshot->written);
}

static void go_on(struct rec_snapshot *snapshot)
{
    if (snapshot->running || snapshot->paused)
        return;
    if (snapshot->page != NULL) {
        if (!ask_for_blob(snapshot))
            hand_over_page(snapshot);
        return;
    }
    if (!snapshot->exhausted) {
        run(snapshot, &(struct hw_pg_query){.sql = page_sql}, 1, on_page);
        return;
    }
    /* The heartbeat is the first transaction behind the moment: the checkpoint can follow it. */
    const struct hw_pg_query end[] = {{.sql = commit_sql}, {.sql = heartbeat_sql}};
    run(snapshot, end, HW_COUNT(end), on_end);
}

static void on_begun(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_snapshot *snapshot = arg;
    struct hw_error err;
    const PGresult *result;

    if (!arrived(snapshot, outcome))
        return;
    result = outcome->results[1];
    if (rec_moment_parse(PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), &snapshot->moment,
                         &err) != HW_OK) {
        fail(snapshot, &err);
        return;
    }
    snapshot->moment.rev = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    snprintf(snapshot->moment.nonce, sizeof(snapshot->moment.nonce), "%s",
             PQgetvalue(result, 0, 3));
    go_on(snapshot);
}

static void on_up(void *arg)
{
    static const struct hw_pg_query begin[] = {
        {.sql = begin_sql}, {.sql = moment_sql}, {.sql = cursor_sql}};

    run(arg, begin, HW_COUNT(begin), on_begun);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct hw_error err = *why;

    fail(arg, &err);
}

enum hw_status rec_snapshot_start(struct hw_loop *loop, const char *conninfo,
                                  struct rec_apply *apply, struct rec_sink *sink, uint64_t epoch,
                                  const struct rec_snapshot_events *events,
                                  struct rec_snapshot **out, struct hw_error *err)
{
    struct rec_snapshot *snapshot = hw_alloc(sizeof(*snapshot));
    const struct hw_pg_events pg_events = {.up = on_up, .down = on_down, .arg = snapshot};
    struct rec_entry *entry;
    enum hw_status status;
    size_t at = 0;

    *snapshot =
        (struct rec_snapshot){.apply = apply, .sink = sink, .epoch = epoch, .events = *events};
    status = hw_pg_open(loop, conninfo, "headwater-reconciler: snapshot", &pg_events, &snapshot->pg,
                        err);
    if (status != HW_OK) {
        free(snapshot);
        return status;
    }
    while ((entry = rec_sink_next(sink, &at)) != NULL)
        entry->seen = false;
    *out = snapshot;
    return HW_OK;
}

void rec_snapshot_pause(struct rec_snapshot *snapshot, bool pause)
{
    snapshot->paused = pause;
    if (!pause)
        go_on(snapshot);
}

struct rec_moment rec_snapshot_take_moment(struct rec_snapshot *snapshot)
{
    struct rec_moment moment = snapshot->moment;

    snapshot->moment.running = NULL;
    snapshot->moment.running_count = 0;
    return moment;
}

void rec_snapshot_free(struct rec_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    hw_pg_close(snapshot->pg);
    PQclear(snapshot->page);
    rec_moment_clear(&snapshot->moment);
    free(snapshot);
}
