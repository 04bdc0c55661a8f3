/*
 * Points for plots, and the plots: each is a file of points and, where gnuplot is installed, an SVG
 * of the same name. Names are borrowed and must outlive the plots, as string literals do.
 */
#ifndef BENCH_PLOTS_H
#define BENCH_PLOTS_H

#include <stdbool.h>
#include <stddef.h>

enum plot {
    PLOT_LATENCY, /* x: one value in ms; y: 1. Drawn as a cumulative distribution */
    PLOT_DRAIN,   /* x: rows a transaction; y: changes a second */
    PLOT_GROWTH,  /* x: nodes; y: ms */
    PLOT_LAG,     /* x: seconds; y: ms */
    PLOT_MEMORY,  /* x: seconds; y: MiB */
    PLOT_COUNT,
};

struct plot_line {
    enum plot plot;
    const char *name;
    double (*points)[2];
    size_t count;
};

struct plots {
    struct plot_line *lines;
    size_t count;
};

/* Where several runs have the same x, their mean is drawn. */
void plots_add(struct plots *plots, enum plot plot, const char *line, double x, double y);
void plots_free(struct plots *plots);

/* Writes the plots that have points into dir. False: there is no gnuplot, and only the points were
 * written. */
bool plots_write(const struct plots *plots, const char *dir);

#endif
