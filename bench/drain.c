/*
 * The reconciler was away, and the log is full of changes: how long until all of them are in NATS,
 * fenced, acknowledged, and confirmed to PostgreSQL? Programs that do only one half of the work,
 * and both of these at once, are the limits.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"

struct backlog {
    const char *combined, *drain, *publish, *entries; /* names of figures */
    void (*make)(struct rig *rig, int run, int nodes, int rounds);
};

/* As people change configurations: one statement changes thousands of nodes. */
static void make_statements(struct rig *rig, int run, int nodes, int rounds)
{
    (void)nodes;
    for (int i = 0; i < rounds; i++)
        rig_change_fleet(rig, run * rounds + i + 1);
}

/* Changes count rows, so many in each transaction, over all nodes in turn. Commits do not wait for
 * the disk, since making the backlog is not what is measured. */
static void make_transactions(struct rig *rig, int nodes, long count, int rows)
{
    rig_run(rig->sql, "SET synchronous_commit = off");
    rig_run(rig->sql,
            "DO $$ BEGIN FOR t IN 0..%ld - 1 LOOP UPDATE headwater.desired "
            "SET revision = revision + 1 WHERE node IN (SELECT 'n' || (t * %d + i) %% %d + 1 "
            "FROM generate_series(0, %d - 1) AS i); COMMIT; END LOOP; END $$",
            count / rows, rows, nodes, rows);
    rig_run(rig->sql, "RESET synchronous_commit");
    rig_run(rig->sql,
            "SELECT headwater.heartbeat()"); /* waits until all before it is on the disk */
}

/* The worst case for the log: a transaction a row. */
static void make_single_rows(struct rig *rig, int run, int nodes, int rounds)
{
    (void)run;
    make_transactions(rig, nodes, (long)nodes * rounds, 1);
}

/* The rate by the size of the transactions, for the plot. */
static void measure_sizes(struct bench *bench, struct rig *rig, int nodes, long count)
{
    static const int sizes[] = {1, 10, 100, 1000, 10000};

    for (size_t i = 0; i < HW_COUNT(sizes) && sizes[i] <= nodes; i++) {
        rig_stop(rig);
        make_transactions(rig, nodes, count, sizes[i]);
        HW_AUTO_FREE char *lsn = rig_sql(rig->sql, "SELECT pg_current_wal_flush_lsn()");
        const double combined = limit_combined(rig, lsn, count, nodes, rig->size);

        rig_forget(rig);
        const double start = test_now();
        rig_start(rig);
        rig_wait_count(rig, count);
        const double took = rig_wait_confirmed(rig, lsn) - start;

        rig_wait_ready(rig);
        plots_add(&bench->plots, PLOT_DRAIN, "reconciler, start to confirmed", sizes[i],
                  (double)count / took);
        plots_add(&bench->plots, PLOT_DRAIN, "limit: reading and publishing at once", sizes[i],
                  (double)count / combined);
    }
}

static void measure(struct bench *bench, struct rig *rig, const struct backlog *backlog, int run,
                    int nodes, int rounds)
{
    const long count = (long)nodes * rounds;

    rig_leave_behind(rig);
    rig_stop(rig);
    backlog->make(rig, run, nodes, rounds);
    HW_AUTO_FREE char *lsn = rig_sql(rig->sql, "SELECT pg_current_wal_flush_lsn()");
    const double drain = (double)count / limit_drain(rig, lsn);
    const double publish = (double)count / limit_publish(rig, true, count, nodes, rig->size);
    const double combined = (double)count / limit_combined(rig, lsn, count, nodes, rig->size);

    rig_forget(rig);
    const double start = test_now();
    rig_start(rig);
    const double last = rig_wait_count(rig, count);
    const double end = rig_wait_confirmed(rig, lsn);
    const double first = rig->first;

    bench_add_beside(bench, "drain", backlog->combined, "changes/s", (double)count / (end - start),
                     combined, "pg_recvlogical and raw publishing at once");
    bench_add_beside(bench, "drain", backlog->entries, "changes/s", (double)count / (last - first),
                     combined, "the same");
    bench_add_beside(bench, "drain", backlog->drain, "changes/s", (double)count / (end - start),
                     drain, "pg_recvlogical alone");
    bench_add_beside(bench, "drain", backlog->publish, "changes/s", (double)count / (end - start),
                     publish, "raw publishing alone");
    rig_wait_ready(rig);
}

void bench_drain(struct bench *bench)
{
    static const struct backlog statements = {
        "large transactions: start to confirmed", "large transactions, beside reading",
        "large transactions, beside writing", "large transactions: first to last entry",
        make_statements};
    static const struct backlog single_rows = {
        "a transaction a row: start to confirmed", "a transaction a row, beside reading",
        "a transaction a row, beside writing", "a transaction a row: first to last entry",
        make_single_rows};
    const int nodes = BENCH_SIZE(bench, 10000, 2000), rounds = BENCH_SIZE(bench, 10, 5);
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, nodes);
    rig_fill_history(&rig);
    for (int run = 0; run < bench->runs; run++) {
        measure(bench, &rig, &statements, run, nodes, rounds);
        measure(bench, &rig, &single_rows, run, nodes, rounds);
    }
    if (!bench->quick)
        measure_sizes(bench, &rig, nodes, (long)nodes * rounds);
    rig_close(&rig);
}
