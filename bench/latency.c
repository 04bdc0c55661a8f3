/*
 * One commit at a time on an idle system, from its acknowledgement: until a subscriber has the
 * entry, and until a node runs it and SQL knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"
#include "tests/support/process.h"

enum {
    NODES = 100,
    DOCUMENT = 4096, /* bytes of the document of the node with an agent */
    PAD = DOCUMENT - 30,
};

static int changes; /* every change is another document */

/* Changes the document of one node. It has 40 bytes, and pad more. */
static void change_node(struct rig *rig, const char *node, int pad)
{
    rig_run(rig->sql,
            "UPDATE headwater.config SET content = '{\"change\":%d,\"pad\":\"' || repeat('x', %d) "
            "|| '\"}' WHERE name = '%s'",
            1000000 + changes++, pad, node);
}

static void change_small(struct rig *rig, int i)
{
    (void)i;
    change_node(rig, "n1", 0);
}

/* An entry that came before its commit was acknowledged is drawn as 0.01 ms. */
static void plot(struct bench *bench, const char *line, const double *values, int count)
{
    for (int i = 0; i < count; i++)
        plots_add(&bench->plots, PLOT_LATENCY, line, values[i] > 1e-5 ? 1e3 * values[i] : 0.01, 1);
}

static void assign(struct rig *rig, const char *node)
{
    rig_run(rig->sql,
            "INSERT INTO headwater.config (name, content) VALUES ('%s', '{}');"
            "INSERT INTO headwater.assignment (name, config, node, priority) "
            "VALUES ('%s', '%s', '%s', 1)",
            node, node, node, node);
}

/* ---- commit to entry ---- */

static void measure_entries(struct bench *bench, struct rig *rig, int count)
{
    HW_AUTO_FREE double *ours = hw_alloc((size_t)count * sizeof(*ours));
    HW_AUTO_FREE double *statement = hw_alloc((size_t)count * sizeof(*statement));
    HW_AUTO_FREE double *receive = hw_alloc((size_t)count * sizeof(*receive));
    HW_AUTO_FREE double *publish = hw_alloc((size_t)count * sizeof(*publish));
    const double quantiles[] = {0.5, 0.99};
    static const char *const names[] = {"commit to entry, p50", "commit to entry, p99"};

    for (int i = 0; i < count; i++) {
        rig_forget(rig);
        const double start = test_now();
        change_small(rig, i);
        const double committed = test_now();
        const double came = rig_wait_count(rig, 1);

        statement[i] = committed - start;
        ours[i] = came > committed ? came - committed : 0;
    }
    rig_wait_caught_up(rig);
    rig_stop(rig); /* it would take its part of the cores, and read the same log */
    limit_receive_each(rig, change_small, receive, count);
    limit_publish_each(rig, rig->size, publish, count);
    rig_start(rig);
    rig_wait_ready(rig);
    plot(bench, "commit to entry", ours, count);
    plot(bench, "limit: commit to frame received", receive, count);
    plot(bench, "limit: publish to subscriber", publish, count);
    for (int i = 0; i < 2; i++)
        bench_add_beside(bench, "latency", names[i], "ms",
                         1e3 * figures_quantile(ours, (size_t)count, quantiles[i]),
                         1e3 * (figures_quantile(receive, (size_t)count, quantiles[i]) +
                                figures_quantile(publish, (size_t)count, quantiles[i])),
                         "commit to frame, and publish to subscriber: the sum");
    bench_add(bench, "latency", "the statement itself, p50", "ms",
              1e3 * figures_quantile(statement, (size_t)count, 0.5));
}

/* ---- commit to SQL ---- */

struct node {
    struct test_program agent;
    char *dir;
    PGconn *listener;
};

static bool has_applied(struct rig *rig)
{
    HW_AUTO_FREE char *state =
        rig_sql(rig->sql, "SELECT state FROM headwater.fleet WHERE node = 'n2'");

    return strcmp(state, "in_sync") == 0;
}

static void open_node(struct rig *rig, struct node *node)
{
    node->dir = test_temp_dir();
    HW_AUTO_FREE char *output = hw_sprintf("%s/config.json", node->dir);

    node->listener = rig_sql_connect(rig->pg.url);
    rig_run(node->listener, "LISTEN headwater_reported");
    rig_start_agent(rig, &node->agent, "n2", output, node->dir);
    test_wait_for(has_applied(rig), RIG_WAIT_S);
}

static void close_node(struct node *node)
{
    rig_stop_agent(&node->agent);
    PQfinish(node->listener);
    free(node->dir);
}

static void measure_reports(struct bench *bench, struct rig *rig, int count)
{
    HW_AUTO_FREE double *ours = hw_alloc((size_t)count * sizeof(*ours));
    HW_AUTO_FREE double *file = hw_alloc((size_t)count * sizeof(*file));
    HW_AUTO_FREE double *commit = hw_alloc((size_t)count * sizeof(*commit));
    HW_AUTO_FREE double *entry = hw_alloc((size_t)count * sizeof(*entry));
    const double quantiles[] = {0.5, 0.99};
    static const char *const names[] = {"commit to applied, in SQL, 4 KiB, p50",
                                        "commit to applied, in SQL, 4 KiB, p99"};
    struct node node = {0};

    change_node(rig, "n2", PAD);
    open_node(rig, &node);
    for (int i = 0; i < count; i++) {
        rig_forget(rig);
        change_node(rig, "n2", PAD);
        const double committed = test_now();

        do
            ours[i] = rig_wait_notice(node.listener) - committed;
        while (!has_applied(rig));
        const double came = rig_wait_count(rig, 1);
        entry[i] = came > committed ? came - committed : 0;
    }
    close_node(&node);
    rig_run(rig->sql, "CREATE TABLE IF NOT EXISTS public.mark (n int)");
    for (int i = 0; i < count; i++) {
        file[i] = limit_file(DOCUMENT);
        const double start = test_now();
        rig_run(rig->sql, "INSERT INTO public.mark VALUES (1)");
        commit[i] = test_now() - start;
    }
    plot(bench, "commit to applied, in SQL, 4 KiB", ours, count);
    for (int i = 0; i < 2; i++)
        bench_add_beside(bench, "latency", names[i], "ms",
                         1e3 * figures_quantile(ours, (size_t)count, quantiles[i]),
                         1e3 * (figures_quantile(entry, (size_t)count, quantiles[i]) +
                                figures_quantile(file, (size_t)count, quantiles[i]) +
                                figures_quantile(commit, (size_t)count, quantiles[i])),
                         "our commit to entry, a durable file, a commit: the sum");
}

void bench_latency(struct bench *bench)
{
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, NODES);
    assign(&rig, "n1");
    assign(&rig, "n2");
    rig_wait_caught_up(&rig);
    for (int run = 0; run < bench->runs; run++) {
        measure_entries(bench, &rig, BENCH_SIZE(bench, 2000, 200));
        measure_reports(bench, &rig, BENCH_SIZE(bench, 500, 50));
    }
    rig_close(&rig);
}
