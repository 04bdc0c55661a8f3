/* Work that concerns every node at once: a change, a resync into an empty NATS, and all their
 * reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"
#include "bench/usage.h"
#include "protocol/keys.h"
#include "tests/support/process.h"

/* Names of figures, by the size of the fleet. */
struct names {
    const char *change, *statement, *resync, *memory;
};

static void measure_change(struct bench *bench, struct rig *rig, const struct names *names,
                           int nodes, int run)
{
    rig_forget(rig);
    const double start = test_now();
    rig_change_fleet(rig, run + 1);
    const double committed = test_now();
    const double end = rig_wait_count(rig, nodes);

    rig_wait_caught_up(rig);
    bench_add_beside(bench, "fleet", names->change, "s", end - start,
                     committed - start + limit_publish(rig, false, nodes, nodes, rig->size),
                     "the statement, then raw publishing");
    bench_add(bench, "fleet", names->statement, "s", committed - start);
}

static void measure_resync(struct bench *bench, struct rig *rig, const struct names *names,
                           int nodes)
{
    const double limit = limit_publish(rig, false, nodes, nodes, rig->size);

    rig_stop_all(rig);
    test_nats_wipe(&rig->nats);
    const double start = rig_start_all(rig);
    rig_wait_count(rig, nodes);
    rig_wait_ready(rig);
    bench_add_beside(bench, "fleet", names->resync, "s", test_now() - start, limit,
                     "raw publishing");
    bench_add(bench, "fleet", names->memory, "MiB", usage_of(rig->reconciler.pid).peak);
}

/* ---- reports ---- */

static void publish_reports(struct rig *rig, PGresult *reports)
{
    jsOptions options;
    jsCtx *js = NULL;

    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = 4096;
    options.PublishAsync.StallWait = RIG_WAIT_S * 1000L;
    if (natsConnection_JetStream(&js, rig->nc, &options) != NATS_OK)
        test_fail("cannot use JetStream");
    for (int i = 0; i < PQntuples(reports); i++) {
        char subject[96];

        snprintf(subject, sizeof(subject),
                 "$KV.headwater" HW_BUCKET_REPORTS "." HW_KEY_REPORTED "%s",
                 PQgetvalue(reports, i, 0));
        if (js_PublishAsync(js, subject, PQgetvalue(reports, i, 1), PQgetlength(reports, i, 1),
                            NULL) != NATS_OK)
            test_fail("publishing report %d failed", i);
    }
    if (js_PublishAsyncComplete(js, NULL) != NATS_OK)
        test_fail("the reports were not acknowledged");
    jsCtx_Destroy(js);
}

static bool are_taken(struct rig *rig, int nodes, int run)
{
    HW_AUTO_FREE char *count =
        rig_sql(rig->sql, "SELECT count(*) FROM headwater.reported WHERE agent = 'bench/%d'", run);

    return strtol(count, NULL, 10) == nodes;
}

static void measure_reports(struct bench *bench, struct rig *rig, int nodes, int run)
{
    HW_AUTO_FREE char *query =
        hw_sprintf("SELECT d.node, " BENCH_REPORT "::text FROM headwater.desired AS d", run);
    PGresult *reports = PQexec(rig->sql, query);
    PGconn *listener = rig_sql_connect(rig->pg.url);
    double end;

    if (PQntuples(reports) != nodes)
        test_fail("%s%d reports", PQresultErrorMessage(reports), PQntuples(reports));
    rig_run(listener, "LISTEN headwater_reported");
    const double start = test_now();
    publish_reports(rig, reports);
    const double published = test_now();
    while (!are_taken(rig, nodes, run))
        rig_wait_notice(listener);
    end = test_now();
    PQclear(reports);
    PQfinish(listener);
    bench_add_beside(bench, "fleet", "reports of all at once, first to all in SQL", "s",
                     end - start, published - start + limit_take_reports(rig, nodes, run),
                     "publishing them, then headwater.report() alone");
}

static void measure_large(struct bench *bench)
{
    static const struct names names = {"100,000 nodes: one UPDATE, to last entry",
                                       "100,000 nodes: of that, the statement",
                                       "100,000 nodes: resync into an empty NATS",
                                       "100,000 nodes: peak memory of that reconciler"};
    const int nodes = 100000;
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, nodes);
    for (int run = 0; run < bench->runs; run++) {
        measure_change(bench, &rig, &names, nodes, run);
        measure_resync(bench, &rig, &names, nodes);
    }
    rig_close(&rig);
}

void bench_fleet(struct bench *bench)
{
    static const struct names names = {
        "one UPDATE, statement start to last entry", "of that, the statement",
        "resync into an empty NATS, start to ready", "peak memory of that reconciler"};
    const int nodes = BENCH_SIZE(bench, 10000, 2000);
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, nodes);
    for (int run = 0; run < bench->runs; run++) {
        measure_change(bench, &rig, &names, nodes, run);
        measure_reports(bench, &rig, nodes, run);
        measure_resync(bench, &rig, &names, nodes);
    }
    rig_close(&rig);
    if (!bench->quick)
        measure_large(bench);
}
