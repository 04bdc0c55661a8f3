/*
 * Small requests: wrk against headwater-api, and pgbench with the same SQL on the same server, over
 * as many connections.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/rig.h"
#include "tests/support/api_program.h"
#include "tests/support/process.h"

#define CONNECTIONS "8"

enum { NODES = 1000 };

/* Runs a load generator; the number that stands behind sign in what it says. */
static double run(const char *const argv[], const char *sign)
{
    HW_AUTO_FREE char *output = NULL;
    const char *at;

    if (test_program_run(argv, NULL, NULL, &output) != 0 || strstr(output, "Non-2xx") != NULL ||
        strstr(output, "Socket errors") != NULL || (at = strstr(output, sign)) == NULL)
        test_fail("%s failed:\n%s", argv[1], output);
    return strtod(at + strlen(sign), NULL);
}

/* Requests a second; all of them answered with success. */
static double wrk(int port, const char *script, int seconds)
{
    HW_AUTO_FREE char *url = hw_sprintf("http://127.0.0.1:%d", port);
    HW_AUTO_FREE char *time = hw_sprintf("%ds", seconds);

    return run((const char *const[]){"/usr/bin/env", "wrk", "-t", "1", "-c", CONNECTIONS, "-d",
                                     time, "-s", script, url, NULL},
               "Requests/sec:");
}

/* Transactions a second. headwater-api sends its statements unprepared, too. */
static double pgbench(const struct rig *rig, const char *script, int seconds)
{
    HW_AUTO_FREE char *time = hw_sprintf("%d", seconds);

    return run((const char *const[]){"/usr/bin/env", "pgbench", "-n", "-M", "extended", "-c",
                                     CONNECTIONS, "-j", "1", "-T", time, "-f", script,
                                     rig->pg.api_url, NULL},
               "tps = ");
}

void bench_api(struct bench *bench)
{
    const char *const options[] = {"--pool", CONNECTIONS, NULL};
    const int seconds = BENCH_SIZE(bench, 10, 3);
    struct test_api api;
    struct rig rig;

    rig_open(&rig);
    rig_make_fleet(&rig, NODES);
    rig_run(rig.sql, "DELETE FROM headwater.assignment"); /* a node, and no document for it */
    rig_wait_caught_up(&rig);
    test_api_start(&api, rig.pg.api_url, options);
    /* All rows are there before the first run: it changes as the others do. */
    wrk(api.port, "bench/put.lua", 2);
    pgbench(&rig, "bench/put.sql", 2);
    for (int i = 0; i < bench->runs; i++) {
        const double puts = pgbench(&rig, "bench/put.sql", seconds);
        const double gets = pgbench(&rig, "bench/get.sql", seconds);

        bench_add_beside(bench, "api", "PUT of a node, " CONNECTIONS " connections", "requests/s",
                         wrk(api.port, "bench/put.lua", seconds), puts, "pgbench, the same SQL");
        bench_add_beside(bench, "api", "GET of a node, " CONNECTIONS " connections", "requests/s",
                         wrk(api.port, "bench/get.lua", seconds), gets, "pgbench, the same SQL");
    }
    test_api_stop(&api);
    rig_close(&rig);
}
