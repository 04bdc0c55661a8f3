/*
 * The benchmark: what Headwater takes for its work, beside what the servers under it take for the
 * part that nobody can do without, measured in the same run. docs/performance.md tells more.
 *
 * A group of measurements is one file. It opens its own servers, measures bench->runs times, and
 * adds its figures. An error ends the program with a message.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>

#include "bench/figures.h"
#include "bench/plots.h"

struct bench {
    bool quick; /* smaller sizes */
    int runs;
    int sustained_s; /* how long the sustained load is; 0: as long as usual */
    struct figures figures;
    struct plots plots;
};

/* The size of a measurement in a full or in a quick run. */
#define BENCH_SIZE(bench, full, small) ((bench)->quick ? (small) : (full))

/* One run of a figure without a limit, and of one beside its limit. Names are as of figures.h. */
static inline void bench_add(struct bench *bench, const char *group, const char *what,
                             const char *unit, double ours)
{
    figures_add(&bench->figures, (struct figure_name){group, what, unit, NULL}, ours, 0);
}

static inline void bench_add_beside(struct bench *bench, const char *group, const char *what,
                                    const char *unit, double ours, double limit,
                                    const char *what_limit)
{
    figures_add(&bench->figures, (struct figure_name){group, what, unit, what_limit}, ours, limit);
}

/* The groups. */
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
