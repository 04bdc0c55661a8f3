/* Changes that were sent before, sent once more out of the archive slot. */
#include <string.h>

#include "bench/bench.h"
#include "bench/limits.h"
#include "common/memory.h"
#include "tests/support/process.h"

static int replays(struct rig *rig)
{
    static const char sign[] = "msg=\"replayed from the log\"";
    HW_AUTO_FREE char *log = test_read_file(rig->reconciler.log);
    int count = 0;

    for (const char *at = log; (at = strstr(at, sign)) != NULL; at += sizeof(sign) - 1)
        count++;
    return count;
}

void bench_replay(struct bench *bench)
{
    const int nodes = BENCH_SIZE(bench, 10000, 2000), rounds = BENCH_SIZE(bench, 10, 5);
    const long count = (long)nodes * rounds;
    struct rig rig;
    int change = 0;

    rig_open(&rig);
    rig_make_fleet(&rig, nodes);
    for (int run = 0; run < bench->runs; run++) {
        HW_AUTO_FREE char *from = rig_sql(rig.sql, "SELECT pg_current_wal_lsn()");

        for (int i = 0; i < rounds; i++)
            rig_change_fleet(&rig, ++change);
        rig_wait_caught_up(&rig);
        const double limit = limit_publish(&rig, count, nodes, rig.size);
        const int before = replays(&rig);

        rig_forget(&rig);
        const double start = test_now();
        rig_run(rig.sql, "SELECT headwater.replay('%s')", from);
        test_wait_for(replays(&rig) > before, RIG_WAIT_S);
        const double end = test_now();
        figures_add(&bench->figures,
                    (struct figure_name){"replay", "from the log, asked for to done", "changes/s",
                                         "raw publishing"},
                    (double)count / (end - start), (double)count / limit);
        figures_add(&bench->figures,
                    (struct figure_name){"replay", "entries that came of each change", "", NULL},
                    (double)rig_count(&rig) / (double)count, 0);
    }
    rig_close(&rig);
}
