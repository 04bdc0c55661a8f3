/*
 * NATS comes back as it was before many changes. The reconciler sends them once more out of the
 * archive slot, each with its own entry.
 */
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"
#include "tests/support/process.h"

#define ARCHIVE "headwater_archive"

static bool has_replayed(struct rig *rig)
{
    HW_AUTO_FREE char *log = test_read_file(rig->reconciler.log);

    return strstr(log, "msg=\"replayed from the log\"") != NULL;
}

static void copy_tree(const char *from, const char *to)
{
    const char *const argv[] = {"/usr/bin/env", "cp", "-a", from, to, NULL};

    if (test_program_run(argv, NULL, NULL, NULL) != 0)
        test_fail("cannot copy %s to %s", from, to);
}

/* Makes the archive slot anew, so that a replay reads nothing from before. */
static void renew_archive(struct rig *rig)
{
    rig_leave_behind(rig);
    rig_stop(rig);
    test_postgres_drop_slot(&rig->pg, ARCHIVE);
    rig_start(rig);
    rig_wait_ready(rig);
    test_wait_for(test_sql_is(&rig->pg, "1",
                              "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s' "
                              "AND NOT active",
                              ARCHIVE),
                  RIG_WAIT_S);
}

static void measure(struct bench *bench, struct rig *rig, int run)
{
    const int nodes = BENCH_SIZE(bench, 10000, 2000), rounds = BENCH_SIZE(bench, 10, 5);
    const long count = (long)nodes * rounds;
    HW_AUTO_FREE char *store = hw_sprintf("%s/store", rig->nats.dir);
    HW_AUTO_FREE char *backup = hw_sprintf("%s/backup", rig->nats.dir);

    renew_archive(rig);
    rig_stop_all(rig);
    copy_tree(store, backup);
    rig_start_all(rig);
    rig_wait_ready(rig);
    for (int i = 0; i < rounds; i++)
        rig_change_fleet(rig, run * rounds + i + 1);
    rig_wait_caught_up(rig);
    const double limit = limit_publish(rig, true, count, nodes, rig->size);

    rig_stop_all(rig);
    test_remove_tree(store);
    copy_tree(backup, store);
    test_remove_tree(backup);
    const double begun = rig_start_all(rig);
    const double last = rig_wait_count(rig, count);
    const double first = rig->first;

    rig_wait_ready(rig);
    if (!has_replayed(rig))
        test_fail("the entries did not come by a replay");
    bench_add_beside(bench, "replay", "reconciler's start to all replayed", "changes/s",
                     (double)count / (last - begun), (double)count / limit, "raw publishing alone");
    bench_add_beside(bench, "replay", "first to last entry", "changes/s",
                     (double)count / (last - first), (double)count / limit, "the same");
}

void bench_replay(struct bench *bench)
{
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, BENCH_SIZE(bench, 10000, 2000));
    rig_fill_history(&rig);
    for (int run = 0; run < bench->runs; run++)
        measure(bench, &rig, run);
    rig_close(&rig);
}
