#include "reconciler/reports.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "common/memory.h"

#define PREFIX "cfg.reported."

enum {
    BATCH_MOST = 1000,
    RETRY_MS = 1000,
    VALUE_MOST = 64 << 10, /* bytes of one report */
    HEARTBEAT_MOST_S = 86400,
};

struct report {
    char *node;
    char *value; /* JSON text; NULL: nothing waits */
    uint64_t seq;
    int64_t created_ns; /* of the stream that seq counts in */
    bool queued;
    struct report *next_queued;
};

struct rec_reports {
    struct hw_loop *loop;
    struct hw_nats *nats;
    struct rec_counts *counts;
    char *bucket;
    int replicas; /* of the bucket, should it have to be made */
    rec_reports_fence_fn *fence;
    void *arg;
    struct hw_pg *pg;
    struct hw_kv_watch *watch;
    int64_t created_ns;    /* of the stream … */
    uint64_t last_seq;     /* … and its last sequence when the watch began */
    int64_t generation_ns; /* what the database is told as created_ns; 0: it must be asked first */
    struct hw_map nodes;   /* struct report by node */
    struct report *first, *last; /* waiting, in order of arrival */
    struct report **batch;       /* being written */
    size_t batch_count;
    bool one_by_one; /* the database cannot read one of those that wait: find out which */
    struct hw_timer retry;
};

static void write_batch(void *arg);

/* ---- checking ---- */

/* Keeps the newest. */
static enum hw_status check_fence(const char *member, json_int_t epoch, const char *lsn,
                                  struct hw_fence *newest, struct hw_error *err)
{
    struct hw_fence fence = {.epoch = epoch > 0 ? (uint64_t)epoch : 0};

    if (hw_lsn_parse(lsn, &fence.lsn, err) != HW_OK)
        return hw_fail_in(err, "member \"%s\"", member);
    if (hw_fence_compare(fence, *newest) > 0)
        *newest = fence;
    return HW_OK;
}

static enum hw_status check_running(json_t *running, struct hw_fence *newest, struct hw_error *err)
{
    const char *digest, *lsn, *at;
    json_int_t revision, epoch;

    if (running == NULL || json_is_null(running))
        return HW_OK;
    if (hw_json_unpack(running, err, "{s:I, s:s, s:I, s:s, s:s}", "revision", &revision, "digest",
                       &digest, "epoch", &epoch, "lsn", &lsn, "applied_at", &at) != HW_OK)
        return hw_fail_in(err, "member \"running\"");
    return check_fence("running", epoch, lsn, newest, err);
}

/* Of an entry that the node could not read, nothing is known but that it was refused. */
static enum hw_status check_failed(json_t *failed, struct hw_fence *newest, struct hw_error *err)
{
    const char *digest, *lsn = NULL, *stage, *error, *at;
    json_int_t revision, epoch = 0;
    enum hw_status status;

    if (failed == NULL || json_is_null(failed))
        return HW_OK;
    status =
        hw_json_unpack(failed, err, "{s:s, s:s, s:s}", "stage", &stage, "error", &error, "at", &at);
    if (status == HW_OK && json_is_null(json_object_get(failed, "revision")))
        status = hw_json_unpack(failed, err, "{s:n, s:n, s:n}", "digest", "epoch", "lsn");
    else if (status == HW_OK)
        status = hw_json_unpack(failed, err, "{s:I, s:s, s:I, s:s}", "revision", &revision,
                                "digest", &digest, "epoch", &epoch, "lsn", &lsn);
    if (status != HW_OK)
        return hw_fail_in(err, "member \"failed\"");
    return lsn == NULL ? HW_OK : check_fence("failed", epoch, lsn, newest, err);
}

enum hw_status rec_report_check(const char *node, const char *value, size_t size,
                                struct hw_fence *newest, struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    json_t *running = NULL, *failed = NULL, *heartbeat = NULL;
    const char *name, *state;
    enum hw_status status;

    *newest = (struct hw_fence){0};
    if (size > VALUE_MOST)
        return hw_fail(err, HW_ELIMIT, "%zu bytes, more than the %d a report may have", size,
                       VALUE_MOST);
    status = hw_json_parse_object(value, size, &root, err);
    if (status == HW_OK)
        status =
            hw_json_unpack(root, err, "{s:s, s:s, s?o, s?o, s?o}", "node", &name, "state", &state,
                           "running", &running, "failed", &failed, "heartbeat", &heartbeat);
    if (status != HW_OK)
        return status;
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is about node \"%.130s\"", name);
    if (strcmp(state, "applied") != 0 && strcmp(state, "failed") != 0 &&
        strcmp(state, "rejected") != 0)
        return hw_fail(err, HW_EINVAL, "state \"%.40s\" is not applied, failed or rejected", state);
    if (heartbeat != NULL &&
        (!(json_number_value(heartbeat) > 0) || json_number_value(heartbeat) > HEARTBEAT_MOST_S))
        return hw_fail(err, HW_EINVAL, "member \"heartbeat\" is not a number of seconds");
    status = check_running(running, newest, err);
    return status == HW_OK ? check_failed(failed, newest, err) : status;
}

/* ---- what waits ---- */

static struct report *report_of(struct rec_reports *reports, const char *node)
{
    struct report *report = hw_map_get(&reports->nodes, node);

    if (report == NULL) {
        report = hw_alloc(sizeof(*report));
        report->node = hw_strdup(node);
        hw_map_add(&reports->nodes, report->node, report);
    }
    return report;
}

static void enqueue(struct rec_reports *reports, struct report *report)
{
    if (report->queued)
        return;
    report->queued = true;
    report->next_queued = NULL;
    if (reports->last != NULL)
        reports->last->next_queued = report;
    else
        reports->first = report;
    reports->last = report;
}

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    struct rec_reports *reports = arg;
    const char *node = entry->key + strlen(PREFIX);
    struct hw_fence fence;
    struct report *report;
    struct hw_error err;

    if (entry->deleted || strncmp(entry->key, PREFIX, strlen(PREFIX)) != 0)
        return;
    if (!hw_kv_name_valid(node)) {
        hw_log_warn("passing over a report under a key that is no node's name",
                    HW_S("key", entry->key), HW_I("revision", (int64_t)entry->seq));
        return;
    }
    if (rec_report_check(node, entry->value, entry->size, &fence, &err) != HW_OK) {
        hw_log_warn("passing over a report that is none", HW_S("node", node),
                    HW_I("revision", (int64_t)entry->seq), HW_E(&err));
        return;
    }
    report = report_of(reports, node);
    if (report->created_ns == reports->created_ns && entry->seq <= report->seq)
        return; /* written, or waiting to be: the watch began again */
    free(report->value);
    report->value = hw_strndup(entry->value, entry->size);
    report->seq = entry->seq;
    report->created_ns = reports->created_ns;
    enqueue(reports, report);
    hw_timer_start(reports->loop, &reports->retry, 0, write_batch, reports);
    reports->fence(reports->arg, fence);
}

/* ---- writing ---- */

static void put_back(struct rec_reports *reports)
{
    for (size_t i = 0; i < reports->batch_count; i++)
        if (reports->batch[i]->value != NULL)
            enqueue(reports, reports->batch[i]);
    reports->batch_count = 0;
}

/* What came meanwhile stays. */
static void forget_batch(struct rec_reports *reports)
{
    for (size_t i = 0; i < reports->batch_count; i++)
        if (!reports->batch[i]->queued)
            free(HW_TAKE(reports->batch[i]->value));
    reports->batch_count = 0;
}

/* What report_sql answers. A report that is no news is neither written nor refused. */
static void take_answers(struct rec_counts *counts, const PGresult *result)
{
    for (int i = 0; i < PQntuples(result); i++) {
        if (strcmp(PQgetvalue(result, i, 1), "t") == 0) {
            counts->reports_written++;
            if (!PQgetisnull(result, i, 3))
                hw_histogram_observe(&counts->applied, strtod(PQgetvalue(result, i, 3), NULL));
        } else if (strcmp(PQgetvalue(result, i, 2), "not newer than what is stored") != 0) {
            counts->reports_refused++;
            hw_log_warn("the database refused a report", HW_S("node", PQgetvalue(result, i, 0)),
                        HW_S("reason", PQgetvalue(result, i, 2)));
        }
    }
}

static void on_written(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_reports *reports = arg;

    /* Class 22, data exception: no attempt will ever succeed. */
    if (outcome->status != HW_OK && strncmp(outcome->sqlstate, "22", 2) == 0) {
        reports->one_by_one = true;
        if (reports->batch_count == 1) {
            hw_log_warn("the database cannot read a report", HW_S("node", reports->batch[0]->node),
                        HW_E(&outcome->err));
            forget_batch(reports);
        } else {
            put_back(reports);
        }
        write_batch(reports);
        return;
    }
    if (outcome->status != HW_OK) {
        hw_log_warn("reports could not be written, trying again",
                    HW_I("reports", (int64_t)reports->batch_count), HW_E(&outcome->err));
        put_back(reports);
        hw_timer_start(reports->loop, &reports->retry, RETRY_MS, write_batch, reports);
        return;
    }
    take_answers(reports->counts, outcome->results[0]);
    forget_batch(reports);
    write_batch(reports);
}

/*
 * A stream that was put back to an older copy keeps its time of creation and gives its sequence
 * numbers a second time. When the database knows of later ones than there are, the stream counts as
 * a new one, made now; that time stands in the database from then on.
 */
static void on_known(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_reports *reports = arg;
    const PGresult *known;

    if (outcome->status != HW_OK) {
        hw_log_warn("reports cannot be written, trying again", HW_E(&outcome->err));
        hw_timer_start(reports->loop, &reports->retry, RETRY_MS, write_batch, reports);
        return;
    }
    known = outcome->results[0];
    reports->generation_ns = reports->created_ns;
    if (PQntuples(known) == 1) {
        const int64_t newest_us = strtoll(PQgetvalue(known, 0, 0), NULL, 10);
        const uint64_t seq = strtoull(PQgetvalue(known, 0, 1), NULL, 10);
        /* The clock may have been set back. */
        const int64_t now = hw_clock_now(), next = (newest_us + 1) * 1000;
        const int64_t later = now > next ? now : next;

        if (newest_us >= reports->created_ns / 1000)
            reports->generation_ns = seq <= reports->last_seq ? newest_us * 1000 : later;
    }
    write_batch(reports);
}

static void ask_what_is_known(struct rec_reports *reports)
{
    static const struct hw_pg_query query = {
        .sql = "SELECT (extract(epoch FROM kv_created) * 1000000)::bigint, max(kv_revision)"
               " FROM headwater.reported GROUP BY kv_created ORDER BY kv_created DESC LIMIT 1"};

    /* What speaks against it now is over when the connection is up or idle again. */
    (void)!hw_pg_run(reports->pg, HW_PG_SEPARATE, &query, 1, NULL, on_known, reports, NULL);
}

/*
 * Writes the reports; a row for each, in order. Where one says for the first time that the node
 * runs what it should, seconds is the age of that: both times are the database's own. reported is
 * seen here as it stood before, for the statement's snapshot is older than what report() writes.
 */
static const char report_sql[] =
    "SELECT r.node, r.accepted, r.reason,"
    " (SELECT extract(epoch FROM clock_timestamp() - d.changed_at) FROM headwater.desired AS d"
    "  WHERE r.accepted AND d.node = r.node"
    "  AND d.revision = (i.item #>> '{value,running,revision}')::bigint"
    "  AND d.digest = i.item #>> '{value,running,digest}'"
    "  AND NOT EXISTS (SELECT FROM headwater.reported AS b WHERE b.node = d.node"
    "   AND b.running_revision = d.revision AND b.running_digest = d.digest)) AS seconds"
    " FROM headwater.report($1::jsonb) WITH ORDINALITY AS r (node, accepted, reason, position)"
    " JOIN jsonb_array_elements($1::jsonb) WITH ORDINALITY AS i (item, position)"
    " USING (position) ORDER BY position";

static void write_batch(void *arg)
{
    struct rec_reports *reports = arg;
    struct hw_buf text = {0};
    struct hw_error err;

    const size_t most = reports->one_by_one ? 1 : BATCH_MOST;

    if (reports->first == NULL)
        reports->one_by_one = false;
    if (reports->first == NULL || reports->batch_count > 0 || !hw_pg_idle(reports->pg))
        return;
    if (reports->generation_ns == 0) {
        ask_what_is_known(reports);
        return;
    }
    hw_buf_putc(&text, '[');
    while (reports->first != NULL && reports->batch_count < most) {
        struct report *report = reports->first;

        reports->first = report->next_queued;
        if (reports->first == NULL)
            reports->last = NULL;
        report->queued = false;
        hw_buf_puts(&text, reports->batch_count > 0 ? ",{\"kv_created\":" : "{\"kv_created\":");
        hw_buf_printf(&text, "\"%s\"",
                      hw_clock_format(report->created_ns == reports->created_ns
                                          ? reports->generation_ns
                                          : report->created_ns,
                                      6, (char[HW_CLOCK_MAX]){0}));
        hw_buf_printf(&text, ",\"kv_revision\":%" PRIu64 ",\"value\":%s}", report->seq,
                      report->value);
        reports->batch[reports->batch_count++] = report;
    }
    hw_buf_putc(&text, ']');
    const char *const values[] = {hw_buf_str(&text)};
    const struct hw_pg_query query = {
        .sql = report_sql,
        .count = 1,
        .values = values,
    };
    if (hw_pg_run(reports->pg, HW_PG_ATOMIC, &query, 1, NULL, on_written, reports, &err) != HW_OK)
        put_back(reports);
    hw_buf_free(&text);
}

/* ---- life ---- */

/* Makes the bucket where it is gone. The stream's identity is what makes its sequences comparable.
 */
static enum hw_status identify_stream(void *arg, struct hw_error *err)
{
    struct rec_reports *reports = arg;
    const struct hw_kv_config config = {
        .bucket = reports->bucket,
        .description = "Headwater: what nodes report and propose",
        .history = 1,
        .replicas = reports->replicas,
    };
    struct hw_kv_stream stream;

    if (hw_kv_ensure(reports->nats, &config, &stream, err) != HW_OK)
        return err->status;
    reports->created_ns = stream.created_ns;
    reports->last_seq = stream.last_seq;
    reports->generation_ns = 0;
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    struct rec_reports *reports = arg;

    hw_log_debug("caught up with reports", HW_S("bucket", reports->bucket),
                 HW_I("nodes", (int64_t)reports->nodes.count));
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    struct rec_reports *reports = arg;

    hw_log_warn("watching reports failed, trying again", HW_S("bucket", reports->bucket),
                HW_E(why));
}

static void on_pg_up(void *arg)
{
    write_batch(arg);
}

enum hw_status rec_reports_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                 const char *bucket, int replicas, struct rec_counts *counts,
                                 rec_reports_fence_fn *fence, void *arg, struct rec_reports **out,
                                 struct hw_error *err)
{
    struct rec_reports *reports = hw_alloc(sizeof(*reports));
    const struct hw_pg_events pg_events = {.up = on_pg_up, .arg = reports};
    const struct hw_kv_watch_events watch_events = {.starting = identify_stream,
                                                    .entry = on_entry,
                                                    .caught_up = on_caught_up,
                                                    .restarting = on_restarting,
                                                    .arg = reports};
    enum hw_status status;

    reports->loop = loop;
    reports->nats = nats;
    reports->bucket = hw_strdup(bucket);
    reports->replicas = replicas;
    reports->counts = counts;
    reports->fence = fence;
    reports->arg = arg;
    reports->batch = hw_alloc(BATCH_MOST * sizeof(struct report *));
    status =
        hw_pg_open(loop, conninfo, "headwater-reconciler: reports", &pg_events, &reports->pg, err);
    if (status == HW_OK)
        status = hw_kv_watch_start(nats, bucket, PREFIX ">", HW_DELIVER_LAST, &watch_events,
                                   &reports->watch, err);
    if (status != HW_OK) {
        rec_reports_stop(reports);
        return status;
    }
    *out = reports;
    return HW_OK;
}

void rec_reports_stop(struct rec_reports *reports)
{
    struct report *report;
    size_t at = 0;

    if (reports == NULL)
        return;
    hw_kv_watch_stop(reports->watch);
    hw_pg_close(reports->pg);
    hw_timer_stop(&reports->retry);
    while ((report = hw_map_next(&reports->nodes, &at)) != NULL) {
        free(report->node);
        free(report->value);
        free(report);
    }
    hw_map_clear(&reports->nodes);
    free(reports->batch);
    free(reports->bucket);
    free(reports);
}
