/*
 * The same load for a long time: so many single-row transactions a second. Does the lag stay
 * bounded, and does the memory of all programs stay flat?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/rig.h"
#include "bench/usage.h"
#include "common/clock.h"
#include "protocol/keys.h"
#include "tests/support/process.h"

#define RATE        2000 /* transactions a second that are asked for */
#define CONNECTIONS "8"

enum {
    NODES = 10000,
    EVERY_S = 1,
    FILLED_S = 240, /* a shorter load shows how caches fill, not what grows */
};

enum what { RECONCILER, WALSENDER, NATS, PROGRAMS };

/* Values over time. */
struct series {
    double *x, *y;
    size_t count;
};

/* What the subscriber's thread writes. */
struct watch {
    natsSubscription *sub;
    pthread_mutex_t mutex;
    double worst; /* the longest time from a commit to here, in s, since the last look */
};

/* ---- series ---- */

static void add(struct series *s, double x, double y)
{
    s->x = hw_realloc(s->x, (s->count + 1) * sizeof(*s->x));
    s->y = hw_realloc(s->y, (s->count + 1) * sizeof(*s->y));
    s->x[s->count] = x;
    s->y[s->count++] = y;
}

static void clear(struct series *s)
{
    free(s->x);
    free(s->y);
    *s = (struct series){0};
}

/* How much y grows for each unit of x, by least squares over the second half. */
static double slope(const struct series *s)
{
    const size_t first = s->count / 2;
    const double n = (double)(s->count - first);
    double x = 0, y = 0, xx = 0, xy = 0;

    for (size_t i = first; i < s->count; i++) {
        x += s->x[i] / n;
        y += s->y[i] / n;
    }
    for (size_t i = first; i < s->count; i++) {
        xx += (s->x[i] - x) * (s->x[i] - x);
        xy += (s->x[i] - x) * (s->y[i] - y);
    }
    return xx > 0 ? xy / xx : 0;
}

static double quantile(const struct series *s, double q)
{
    HW_AUTO_FREE double *copy = hw_alloc(s->count * sizeof(*copy));

    if (s->y == NULL)
        test_fail("the load was over before anything was measured");
    memcpy(copy, s->y, s->count * sizeof(*copy));
    return figures_quantile(copy, s->count, q);
}

/* ---- from a commit to a subscriber ---- */

static void on_entry(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    static const char member[] = "\"committed_at\":\"";
    struct watch *w = arg;
    const int64_t now = hw_clock_now();
    HW_AUTO_FREE char *value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    char *at = strstr(value, member);
    int64_t committed;

    (void)nc, (void)sub;
    if (at != NULL) {
        at += sizeof(member) - 1;
        at[strcspn(at, "\"")] = '\0';
        if (hw_clock_parse(at, &committed)) {
            const double took = (double)(now - committed) / 1e9;

            pthread_mutex_lock(&w->mutex);
            w->worst = took > w->worst ? took : w->worst;
            pthread_mutex_unlock(&w->mutex);
        }
    }
    natsMsg_Destroy(msg);
}

static void open_watch(struct rig *rig, struct watch *w)
{
    *w = (struct watch){.mutex = PTHREAD_MUTEX_INITIALIZER};
    if (natsConnection_Subscribe(&w->sub, rig->nc, "headwater." HW_HINT_DESIRED ">", on_entry, w) !=
            NATS_OK ||
        natsSubscription_SetPendingLimits(w->sub, -1, -1) != NATS_OK ||
        natsConnection_Flush(rig->nc) != NATS_OK)
        test_fail("cannot subscribe at %s", rig->nats.url);
}

static double take_worst(struct watch *w)
{
    pthread_mutex_lock(&w->mutex);
    const double worst = w->worst;
    w->worst = 0;
    pthread_mutex_unlock(&w->mutex);
    return worst;
}

/* ---- pgbench ---- */

static void start_pgbench(const struct rig *rig, const char *script, const char *connections,
                          int rate, int seconds, struct test_program *program)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/pgbench.sql", rig->pg.dir);
    HW_AUTO_FREE char *time = hw_sprintf("%d", seconds);
    HW_AUTO_FREE char *paced = hw_sprintf("--rate=%d", rate);
    const char *const argv[] = {"/usr/bin/env",
                                "pgbench",
                                "-n",
                                "-M",
                                "prepared",
                                "-c",
                                connections,
                                "-j",
                                "1",
                                "-T",
                                time,
                                "-f",
                                path,
                                rig->pg.url,
                                rate > 0 ? paced : NULL,
                                NULL};
    FILE *out = fopen(path, "we");

    if (out == NULL || fputs(script, out) < 0 || fclose(out) != 0)
        test_fail("cannot write %s", path);
    test_program_start(program, argv, NULL);
}

/* The transactions a second that pgbench prints at its end. */
static double end_pgbench(struct test_program *program)
{
    const int status = test_program_stop(program, 0);
    HW_AUTO_FREE char *output = test_read_file(program->log);
    const char *const at = strstr(output, "tps = ");

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || at == NULL)
        test_fail("pgbench failed:\n%s", output);
    return strtod(at + 6, NULL);
}

static double run_pgbench(const struct rig *rig, const char *script, const char *connections,
                          int seconds)
{
    struct test_program program;

    start_pgbench(rig, script, connections, 0, seconds, &program);
    test_wait_for(!test_program_running(&program), seconds + RIG_WAIT_S);
    return end_pgbench(&program);
}

/* ---- the load ---- */

static pid_t walsender(struct rig *rig)
{
    HW_AUTO_FREE char *pid = rig_sql(
        rig->sql, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'headwater'");

    if (pid == NULL)
        test_fail("nobody streams from the slot");
    return (pid_t)strtol(pid, NULL, 10);
}

static double lag_bytes(struct rig *rig)
{
    HW_AUTO_FREE char *bytes =
        rig_sql(rig->sql, "SELECT pg_current_wal_flush_lsn() - confirmed_flush_lsn "
                          "FROM pg_replication_slots WHERE slot_name = 'headwater'");

    return strtod(bytes, NULL);
}

static void say_lag(struct bench *bench, const struct series *seconds, const struct series *bytes)
{
    bench_add(bench, "sustained", "lag, worst of each second: median", "ms",
              1e3 * quantile(seconds, 0.5));
    bench_add(bench, "sustained", "lag, worst of all", "ms", 1e3 * quantile(seconds, 1));
    if (seconds->count >= FILLED_S)
        bench_add(bench, "sustained", "lag grows, each minute", "ms", 6e4 * slope(seconds));
    bench_add(bench, "sustained", "log not confirmed: median", "KiB", quantile(bytes, 0.5) / 1024);
    bench_add(bench, "sustained", "log not confirmed: most", "KiB", quantile(bytes, 1) / 1024);
}

static void say_programs(struct bench *bench, const struct series memory[PROGRAMS],
                         const double cpu[PROGRAMS], double took)
{
    static const struct {
        const char *most, *grows, *cpu;
    } names[PROGRAMS] = {
        [RECONCILER] = {"memory of the reconciler, most", "that grows, each minute, reconciler",
                        "CPU of the reconciler"},
        [WALSENDER] = {"memory of its walsender, most", "that grows, each minute, walsender",
                       "CPU of its walsender"},
        [NATS] = {"memory of nats-server, most", "that grows, each minute, nats-server",
                  "CPU of nats-server"},
    };

    for (int i = 0; i < PROGRAMS; i++) {
        bench_add(bench, "sustained", names[i].most, "MiB", quantile(&memory[i], 1));
        if (memory[i].count >= FILLED_S)
            bench_add(bench, "sustained", names[i].grows, "MiB", 60 * slope(&memory[i]));
        bench_add(bench, "sustained", names[i].cpu, "% of a core", 100 * cpu[i] / took);
    }
}

static void measure_load(struct bench *bench, struct rig *rig, int seconds)
{
    static const char *const lines[PROGRAMS] = {"reconciler", "its walsender", "nats-server"};
    const pid_t pids[PROGRAMS] = {rig->reconciler.pid, walsender(rig), rig->nats.pid};
    struct series lag = {0}, bytes = {0}, memory[PROGRAMS] = {{0}};
    double cpu[PROGRAMS];
    struct test_program load;
    struct watch watch;

    open_watch(rig, &watch);
    for (int i = 0; i < PROGRAMS; i++)
        cpu[i] = usage_of(pids[i]).cpu;
    start_pgbench(rig,
                  "\\set i random(1, 10000)\n"
                  "UPDATE headwater.desired SET revision = revision + 1 WHERE node = 'n' || :i;\n",
                  CONNECTIONS, RATE, seconds, &load);
    const double start = test_now();
    for (double next = start + EVERY_S; test_program_running(&load); next += EVERY_S) {
        while (test_now() < next)
            test_pause();
        const double now = test_now() - start;

        add(&lag, now, take_worst(&watch));
        add(&bytes, now, lag_bytes(rig));
        plots_add(&bench->plots, PLOT_LAG, "worst of each second", now, 1e3 * lag.y[lag.count - 1]);
        for (int i = 0; i < PROGRAMS; i++) {
            const struct usage usage = usage_of(pids[i]);

            add(&memory[i], now, i == WALSENDER ? usage.own : usage.resident);
            plots_add(&bench->plots, PLOT_MEMORY, lines[i], now, memory[i].y[memory[i].count - 1]);
        }
    }
    const double took = test_now() - start;
    for (int i = 0; i < PROGRAMS; i++)
        cpu[i] = usage_of(pids[i]).cpu - cpu[i];
    bench_add_beside(bench, "sustained", "single-row transactions", "transactions/s",
                     end_pgbench(&load), RATE, "asked for");
    rig_wait_caught_up(rig);
    natsSubscription_Destroy(watch.sub);
    say_lag(bench, &lag, &bytes);
    say_programs(bench, memory, cpu, took);
    clear(&lag);
    clear(&bytes);
    for (int i = 0; i < PROGRAMS; i++)
        clear(&memory[i]);
}

/* As people write: a config is changed, and the database works out the document of its node. */
static void measure_writes(struct bench *bench, struct rig *rig, int seconds)
{
    rig_run(rig->sql, "CREATE TABLE public.mark AS SELECT 1 AS n;"
                      "INSERT INTO headwater.config (name, content) SELECT 'c' || i, '{}' "
                      "FROM generate_series(1, 100) AS i;"
                      "INSERT INTO headwater.assignment (name, config, node, priority) "
                      "SELECT 'c' || i, 'c' || i, 'n' || i, 1 FROM generate_series(1, 100) AS i");
    rig_run(rig->sql, "VACUUM ANALYZE");
    rig_wait_caught_up(rig);
    const double commits = run_pgbench(rig, "UPDATE public.mark SET n = n + 1;\n", "1", seconds);
    const double writes = run_pgbench(rig,
                                      "\\set i random(1, 100)\n\\set n random(1, 1000000000)\n"
                                      "UPDATE headwater.config SET content = '{\"n\":' || :n || "
                                      "'}' WHERE name = 'c' || :i;\n",
                                      CONNECTIONS, seconds);
    rig_wait_caught_up(rig);
    bench_add_beside(bench, "sustained", "changes of a config, " CONNECTIONS " connections",
                     "transactions/s", writes, commits, "one commit after another, of one row");
}

void bench_sustained(struct bench *bench)
{
    const int seconds = bench->sustained_s > 0 ? bench->sustained_s : BENCH_SIZE(bench, 600, 20);
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, NODES);
    measure_load(bench, &rig, seconds);
    measure_writes(bench, &rig, BENCH_SIZE(bench, 10, 3));
    rig_close(&rig);
}
