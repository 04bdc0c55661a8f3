#include "reconciler/intake/reports.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/warning.h"
#include "protocol/keys.h"
#include "protocol/report.h"
#include "reconciler/intake/intake.h"

enum {
    BATCH_MOST = 1000,
    /* Of one node. An agent reports what has changed, so the pace is one that no agent has for
     * long; ten rows a second are nothing to the database. */
    WAITING_MOST = 16,
    PACE_EACH_MS = 100,
    PACE_MOST = 10,
    PACE_CHANGES = 30,
    SETTLE_MS = 2000,
};

struct rec_reports {
    struct hw_loop *loop;
    struct hw_nats *nats;
    struct rec_counts *counts;
    const char *bucket;
    int replicas; /* of the bucket, should it have to be made */
    rec_reports_fence_fn *fence;
    void *arg;
    struct rec_intake *intake;
    int64_t created_ns; /* of the stream … */
    uint64_t last_seq;  /* … and its last sequence when the watch began */
    int64_t
        generation_ns; /* sent to the database in place of created_ns; 0: it must be asked first */
    bool settle;       /* it is time to ask whether the history owes something */
    struct hw_timer settling;
};

/* ---- reading ---- */

static char *read_report(void *arg, const char *node, const struct hw_kv_entry *entry,
                         struct hw_digest *standing)
{
    struct rec_reports *reports = arg;
    HW_AUTO_JSON json_t *report = NULL;
    struct hw_fence fence;
    struct hw_error err;

    if (hw_report_read(node, entry->value, entry->size, &report, &fence, &err) != HW_OK) {
        reports->counts->reports_refused++;
        hw_warn_about(node, "passing over a report that is none", HW_S("node", node),
                      HW_I("revision", (int64_t)entry->seq), HW_E(&err));
        return NULL;
    }
    reports->fence(reports->arg, fence);
    hw_report_standing(report, standing);
    return hw_json_dump(report);
}

/* ---- writing ---- */

/*
 * The history takes a bounded number of changes of one node. Beyond it, a change waits until there
 * is room again, and a newer one takes its place; headwater.settle_reports() then writes what
 * waits. It is asked every two seconds while anything may wait, and names nodes of which something
 * does.
 */
static void settle(void *arg)
{
    struct rec_reports *reports = arg;

    reports->settle = true;
    rec_intake_write(reports->intake);
}

static void settle_later(struct rec_reports *reports)
{
    if (!hw_timer_running(&reports->settling))
        hw_timer_start(reports->loop, &reports->settling, SETTLE_MS, settle, reports);
}

static void on_settled(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reports *reports = arg;
    const PGresult *rows = outcome->status == HW_OK ? outcome->results[0] : NULL;

    if (rows == NULL) {
        hw_log_warn("the history of reports could not be settled, trying again",
                    HW_E(&outcome->err));
        settle_later(reports);
    } else {
        reports->counts->noisy_nodes =
            PQntuples(rows) > 0 ? strtod(PQgetvalue(rows, 0, 2), NULL) : 0;
        if (PQntuples(rows) > 0)
            settle_later(reports);
    }
    for (int i = 0; i < PQntuples(rows); i++)
        hw_warn_about(PQgetvalue(rows, i, 0), "a node reports more changes than the history takes",
                      HW_S("node", PQgetvalue(rows, i, 0)),
                      HW_S("changes", PQgetvalue(rows, i, 1)));
    rec_intake_write(reports->intake);
}

static bool ask_to_settle(void *arg, struct hw_db *pg)
{
    static const struct hw_db_query query = {
        .sql = "SELECT node, left_out, nodes FROM headwater.settle_reports()"};
    struct rec_reports *reports = arg;

    if (!reports->settle)
        return false;
    reports->settle = false;
    if (hw_db_run(pg, HW_DB_ATOMIC, &query, 1, NULL, on_settled, reports, NULL) == HW_OK)
        return true;
    settle_later(reports);
    return false;
}

/* The rows that report_sql answers. A report that is not newer, or is not of the agent that was
 * chosen for the node, counts as neither written nor refused. */
static bool is_refused(const PGresult *result, int n)
{
    const char *const reason = PQgetvalue(result, n, 2);

    return strcmp(PQgetvalue(result, n, 1), "t") != 0 &&
           strcmp(reason, "not newer than what is stored") != 0 &&
           strcmp(reason, "another agent was chosen for this node") != 0;
}

static void take_answers(void *arg, const PGresult *result)
{
    struct rec_reports *reports = arg;
    struct rec_counts *counts = reports->counts;

    settle_later(reports);
    for (int i = 0; i < PQntuples(result); i++) {
        if (strcmp(PQgetvalue(result, i, 1), "t") == 0) {
            counts->reports_written++;
            if (!PQgetisnull(result, i, 3))
                hw_histogram_observe(&counts->applied, strtod(PQgetvalue(result, i, 3), NULL));
        } else if (is_refused(result, i)) {
            counts->reports_refused++;
            hw_warn_about(
                PQgetvalue(result, i, 0), "the database refused a report; it is tried again",
                HW_S("node", PQgetvalue(result, i, 0)), HW_S("reason", PQgetvalue(result, i, 2)));
        }
    }
}

/*
 * The database takes a report only when its sequence number is newer than the one that it has of
 * the same stream, and knows a stream by its time of creation. A stream that was put back from an
 * older copy keeps that time and gives its sequence numbers a second time. So when the database
 * knows of a later number than the stream has, the stream counts as a new one, made now.
 */
static void on_known(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_reports *reports = arg;
    const PGresult *known;

    if (outcome->status != HW_OK) {
        hw_log_warn("reports cannot be written, trying again", HW_E(&outcome->err));
        rec_intake_write_later(reports->intake);
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
    rec_intake_write(reports->intake);
}

static bool generation_known(void *arg, struct hw_db *pg)
{
    static const struct hw_db_query query = {
        .sql = "SELECT (extract(epoch FROM kv_created) * 1000000)::bigint, max(kv_revision)"
               " FROM headwater.reported GROUP BY kv_created ORDER BY kv_created DESC LIMIT 1"};
    struct rec_reports *reports = arg;

    if (reports->generation_ns != 0)
        return true;
    /* When the connection is down, this is asked as soon as it is up again. */
    (void)!hw_db_run(pg, HW_DB_SEPARATE, &query, 1, NULL, on_known, reports, NULL);
    return false;
}

static void add(void *arg, const struct rec_item *item, struct hw_buf *json)
{
    const struct rec_reports *reports = arg;
    const int64_t created_ns =
        item->created_ns == reports->created_ns ? reports->generation_ns : item->created_ns;
    char created[HW_CLOCK_MAX];

    hw_buf_printf(json, "{\"kv_created\":\"%s\",\"kv_revision\":%" PRIu64 ",\"value\":",
                  hw_clock_format(created_ns, 6, created), item->seq);
    hw_buf_add(json, item->text, item->size);
    hw_buf_putc(json, '}');
}

/*
 * Writes the reports, and answers a row for each, in order. seconds is set where a report says for
 * the first time that the node runs what it should: the time since its desired state changed, both
 * ends by the database's clock. The table reported is seen as it stood before report() wrote, for
 * the statement's snapshot is older.
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

/* ---- life ---- */

/* Makes the bucket where it is gone. The stream's identity is what makes its sequences comparable.
 */
static enum hw_status identify_stream(void *arg, struct hw_kv_stream *stream, struct hw_error *err)
{
    struct rec_reports *reports = arg;
    const struct hw_kv_config config = {
        .bucket = reports->bucket,
        .description = "Headwater: what nodes report and propose",
        .history = 1,
        .value_most = HW_REPORTS_VALUE_MOST,
        .replicas = reports->replicas,
    };

    if (hw_kv_ensure(reports->nats, &config, stream, err) != HW_OK)
        return err->status;
    reports->created_ns = stream->created_ns;
    reports->last_seq = stream->last_seq;
    reports->generation_ns = 0;
    return HW_OK;
}

enum hw_status rec_reports_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                 const char *bucket, int replicas, struct rec_counts *counts,
                                 rec_reports_fence_fn *fence, void *arg, struct rec_reports **out,
                                 struct hw_error *err)
{
    struct rec_reports *reports = hw_alloc(sizeof(*reports));

    reports->loop = loop;
    reports->nats = nats;
    reports->bucket = bucket;
    const struct rec_intake_config config = {.loop = loop,
                                             .nats = nats,
                                             .database = conninfo,
                                             .bucket = reports->bucket,
                                             .prefix = HW_KEY_REPORTED,
                                             .what = "reports",
                                             .sql = report_sql,
                                             .batch_most = BATCH_MOST,
                                             .waiting_most = WAITING_MOST,
                                             .pace = {PACE_EACH_MS, PACE_MOST, PACE_CHANGES},
                                             .replaced = &counts->reports_replaced,
                                             .left_out = &counts->reports_left_out,
                                             .aside = &counts->reports_aside,
                                             .first = ask_to_settle,
                                             .identify = identify_stream,
                                             .read = read_report,
                                             .ready = generation_known,
                                             .add = add,
                                             .answered = take_answers,
                                             .refused = is_refused,
                                             .arg = reports};

    reports->replicas = replicas;
    reports->counts = counts;
    counts->reports_aside = 0;
    reports->fence = fence;
    reports->arg = arg;
    if (rec_intake_start(&config, &reports->intake, err) != HW_OK) {
        rec_reports_stop(reports);
        return err->status;
    }
    settle_later(reports);
    *out = reports;
    return HW_OK;
}

bool rec_reports_work(const struct rec_reports *reports, const char **why)
{
    return rec_intake_works(reports->intake, why);
}

void rec_reports_stop(struct rec_reports *reports)
{
    if (reports == NULL)
        return;
    hw_timer_stop(&reports->settling);
    rec_intake_stop(reports->intake);
    free(reports);
}
