/* Does what one change costs depend on how many nodes it reaches, or on how many there are? */
#include "base/memory.h"
#include "bench/bench.h"
#include "bench/rig.h"
#include "bench/usage.h"
#include "tests/support/process.h"

enum { REPEATS = 5, SINGLES = 50, SETTLE_S = 25, IDLE_S = 60 };

static void wait_for(double seconds)
{
    for (const double until = test_now() + seconds; test_now() < until;)
        test_pause();
}

static double change_all(struct rig *rig, int nodes, int *change)
{
    double took[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        rig_forget(rig);
        const double start = test_now();
        rig_change_fleet(rig, ++*change);
        took[i] = rig_wait_count(rig, nodes) - start;
        rig_wait_caught_up(rig);
    }
    return figures_quantile(took, REPEATS, 0.5);
}

static double change_one(struct rig *rig, int *change)
{
    double took[SINGLES];

    for (int i = 0; i < SINGLES; i++) {
        rig_forget(rig);
        const double start = test_now();
        rig_run(rig->sql, "UPDATE headwater.config SET content = '{\"one\":%d}' WHERE name = 'one'",
                ++*change);
        took[i] = rig_wait_count(rig, 1) - start;
    }
    return figures_quantile(took, SINGLES, 0.5);
}

/* How much CPU the reconciler takes in a minute in which nothing happens, in ms. The minute begins
 * when two of its looks at the fleet have followed what happened before. VACUUM comes first, so
 * that no autovacuum writes to the log meanwhile. */
static double idle_cpu(struct rig *rig)
{
    rig_run(rig->sql, "VACUUM ANALYZE");
    rig_run(rig->sql, "CHECKPOINT");
    rig_wait_caught_up(rig);
    wait_for(SETTLE_S);
    const double before = usage_of(rig->reconciler.pid).cpu;

    wait_for(IDLE_S);
    return 1e3 * (usage_of(rig->reconciler.pid).cpu - before);
}

static void measure(struct bench *bench, struct rig *rig, bool idle)
{
    static const struct {
        int nodes;
        const char *total, *each, *one, *idle;
    } sizes[] = {
        {100, "one change of 100 nodes", "one change of 100 nodes, for each",
         "one node of 100 changes", "100 nodes, idle reconciler: CPU in a minute"},
        {1000, "one change of 1,000 nodes", "one change of 1,000 nodes, for each",
         "one node of 1,000 changes", NULL},
        {10000, "one change of 10,000 nodes", "one change of 10,000 nodes, for each",
         "one node of 10,000 changes", NULL},
        {100000, "one change of 100,000 nodes", "one change of 100,000 nodes, for each",
         "one node of 100,000 changes", "100,000 nodes, idle reconciler: CPU in a minute"},
    };
    int change = 0;

    rig_make_fleet(rig, sizes[0].nodes);
    rig_run(rig->sql, "INSERT INTO headwater.config (name, content) VALUES ('one', '{}');"
                      "INSERT INTO headwater.assignment (name, config, node, priority) "
                      "VALUES ('one', 'one', 'n1', 1)");
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        rig_run(rig->sql,
                "INSERT INTO headwater.node (name) SELECT 'n' || i FROM generate_series(1, %d) "
                "AS i ON CONFLICT DO NOTHING",
                sizes[i].nodes);
        rig_run(rig->sql, "VACUUM ANALYZE");
        rig_wait_caught_up(rig);
        const double all = change_all(rig, sizes[i].nodes, &change);

        bench_add(bench, "growth", sizes[i].total, "ms", 1e3 * all);
        bench_add(bench, "growth", sizes[i].each, "µs", 1e6 * all / sizes[i].nodes);
        const double one = change_one(rig, &change);
        bench_add(bench, "growth", sizes[i].one, "ms", 1e3 * one);
        plots_add(&bench->plots, PLOT_GROWTH, "all nodes change", sizes[i].nodes, 1e3 * all);
        plots_add(&bench->plots, PLOT_GROWTH, "one node changes", sizes[i].nodes, 1e3 * one);
        if (idle && sizes[i].idle != NULL)
            bench_add(bench, "growth", sizes[i].idle, "ms", idle_cpu(rig));
        if (bench->quick && sizes[i].nodes == 1000)
            break;
    }
}

/* Measures from the statement's start to the last entry. */
void bench_growth(struct bench *bench)
{
    for (int run = 0; run < bench->runs; run++) {
        struct rig rig;

        rig_open(&rig);
        measure(bench, &rig, run == 0 && !bench->quick);
        rig_close(&rig);
    }
}
