/*
 * A whole fleet: a change in SQL, to simulated agents that apply it, to their reports in SQL. The
 * agents are headwater-fleet, a process of its own; their files are on a tmpfs.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"
#include "bench/usage.h"
#include "tests/support/process.h"

enum {
    GETS = 3, /* an agent reads for one change: the entry, the object's description, its bytes */
    THREADS = 16, /* as many as headwater-fleet has */
    REPORT_SIZE = 512,
    POLL_MS = 20, /* between two looks at SQL */
};

static void start_agents(struct rig *rig, struct test_program *agents, int nodes)
{
    const char *const build = getenv("HW_BUILD_DIR");
    HW_AUTO_FREE char *path =
        hw_sprintf("%s/bench/headwater-fleet", build != NULL ? build : "build");
    HW_AUTO_FREE char *count = hw_sprintf("%d", nodes);
    const char *const argv[] = {path, "--nats", rig->nats.url, "--nodes", count, NULL};

    test_program_start(agents, argv, NULL);
}

static long applied(struct rig *rig, const char *digest)
{
    HW_AUTO_FREE char *count = rig_sql(
        rig->sql, "SELECT count(*) FROM headwater.reported WHERE running_digest = '%s'", digest);

    return strtol(count, NULL, 10);
}

/* Waits until SQL says that all nodes run what is desired now, and returns the time when that was
 * seen. */
static double wait_applied(struct rig *rig, struct test_program *agents, int nodes)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    const double begun = test_now(), until = test_deadline(RIG_WAIT_S);
    HW_AUTO_FREE char *digest =
        rig_sql(rig->sql, "SELECT digest FROM headwater.desired WHERE node = 'n1'");

    while (applied(rig, digest) < nodes) {
        if (test_now() > until || !test_program_running(agents)) {
            test_print_tail(rig->reconciler.log);
            test_print_tail(agents->log);
            test_fail("%ld of %d agents are known to have applied it after %.0f s",
                      applied(rig, digest), nodes, test_now() - begun);
        }
        nanosleep(&pause, NULL);
    }
    return test_now();
}

/* The limit of a change: publishing all entries, reading what each agent reads, publishing the
 * reports, and taking them in SQL. */
static double limit(struct rig *rig, int nodes, int run)
{
    return limit_publish(rig, false, nodes, nodes, rig->size) +
           limit_get(rig, (long)GETS * nodes, nodes, THREADS) +
           limit_publish(rig, false, nodes, nodes, REPORT_SIZE) +
           limit_take_reports(rig, nodes, run);
}

/* Seconds of CPU so far. */
struct cpu {
    double nats, reconciler, agents;
};

static struct cpu cpu_now(const struct rig *rig, const struct test_program *agents)
{
    return (struct cpu){usage_of(rig->nats.pid).cpu, usage_of(rig->reconciler.pid).cpu,
                        usage_of(agents->pid).cpu};
}

static void note_cpu(struct bench *bench, const struct cpu *before, const struct cpu *after)
{
    bench_add(bench, "agents", "of one change: CPU of nats-server", "s",
              after->nats - before->nats);
    bench_add(bench, "agents", "of one change: CPU of the reconciler", "s",
              after->reconciler - before->reconciler);
    bench_add(bench, "agents", "of one change: CPU of all agents", "s",
              after->agents - before->agents);
}

static void measure_change(struct bench *bench, struct rig *rig, struct test_program *agents,
                           int nodes, int run)
{
    rig_forget(rig);
    const struct cpu before = cpu_now(rig, agents);
    const double start = test_now();
    rig_change_fleet(rig, 2 * run + 1);
    const double committed = test_now();
    const double end = wait_applied(rig, agents, nodes);
    const struct cpu after = cpu_now(rig, agents);
    const double entries = rig_wait_count(rig, nodes);

    rig_wait_caught_up(rig);
    bench_add_beside(bench, "agents", "one UPDATE, until all have applied it, in SQL", "s",
                     end - start, committed - start + limit(rig, nodes, run),
                     "the statement, publishing, reading, reports: the sum");
    bench_add(bench, "agents", "of that, to the last entry", "s", entries - start);
    note_cpu(bench, &before, &after);
}

/* The documents change while NATS is away; agents have them some time after it is back. */
static void measure_restart(struct bench *bench, struct rig *rig, struct test_program *agents,
                            int nodes, int run)
{
    const double parts = limit(rig, nodes, run);

    rig_disconnect(rig);
    test_nats_stop(&rig->nats);
    rig_change_fleet(rig, 2 * run + 2);
    const double start = test_now();
    test_nats_restart(&rig->nats);
    const double started = test_now();
    const double end = wait_applied(rig, agents, nodes);

    rig_connect(rig);
    rig_wait_caught_up(rig);
    bench_add_beside(bench, "agents", "NATS comes back, until all run the newest", "s", end - start,
                     started - start + parts, "its start, publishing, reading, reports: the sum");
}

static void note_memory(struct bench *bench, const struct rig *rig,
                        const struct test_program *agents)
{
    bench_add(bench, "agents", "peak memory of nats-server", "MiB", usage_of(rig->nats.pid).peak);
    bench_add(bench, "agents", "peak memory of the reconciler", "MiB",
              usage_of(rig->reconciler.pid).peak);
    bench_add(bench, "agents", "peak memory of all agents together", "MiB",
              usage_of(agents->pid).peak);
}

void bench_agents(struct bench *bench)
{
    const int nodes = BENCH_SIZE(bench, 10000, 1000);
    struct test_program agents;
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, nodes);
    start_agents(&rig, &agents, nodes);
    wait_applied(&rig, &agents, nodes);
    for (int run = 0; run < bench->runs; run++) {
        measure_change(bench, &rig, &agents, nodes, run);
        note_memory(bench, &rig, &agents);
        measure_restart(bench, &rig, &agents, nodes, run);
    }
    kill(agents.pid, SIGTERM);
    test_wait_for(!test_program_running(&agents), RIG_WAIT_S);
    if (test_program_stop(&agents, 0) != 0)
        test_fail("headwater-fleet failed, see %s", agents.log);
    rig_close(&rig);
}
