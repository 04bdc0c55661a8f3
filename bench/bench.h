/*
 * The benchmark: what Headwater takes for its work, beside what the servers under it take for the
 * part that nobody can do without, measured in the same run. docs/performance.md tells more.
 *
 * A group of measurements is one file: it opens its own servers, measures runs times, and adds its
 * figures. What goes wrong ends the program with a message.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>

#include "bench/figures.h"
#include "bench/plots.h"

struct bench {
    bool quick; /* smaller sizes */
    int runs;
    int sustained_s; /* of the sustained load; 0: as long as usual */
    struct figures figures;
    struct plots plots;
};

/* The size of a measurement: of a full or of a quick run. */
#define BENCH_SIZE(bench, full, small) ((bench)->quick ? (small) : (full))

void bench_drain(struct bench *bench);     /* changes that wait in the log, into NATS */
void bench_latency(struct bench *bench);   /* one commit on an idle system */
void bench_api(struct bench *bench);       /* small requests of HTTP */
void bench_fleet(struct bench *bench);     /* one change of all nodes; and all reports */
void bench_blob(struct bench *bench);      /* one large document */
void bench_replay(struct bench *bench);    /* changes out of the archive, once more */
void bench_growth(struct bench *bench);    /* the same change for more and more nodes */
void bench_agents(struct bench *bench);    /* from SQL to thousands of simulated agents, and back */
void bench_sustained(struct bench *bench); /* the same load for minutes; once, not runs times */

#endif
