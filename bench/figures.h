/*
 * Figures and their limits, of several runs, and the table, the JSON and the Markdown that are made
 * of them. Names and texts are borrowed and must outlive the figures, as string literals do.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stddef.h>
#include <stdio.h>

enum { FIGURES_RUNS_MAX = 32 };

struct figure_name {
    const char *group, *what;
    const char *unit;  /* with a slash ("changes/s"): more is better; otherwise less */
    const char *limit; /* what the limit is, or NULL: there is none */
};

struct figure {
    struct figure_name name;
    double ours[FIGURES_RUNS_MAX], limit[FIGURES_RUNS_MAX];
    int runs;
};

struct figures {
    struct figure *list;
    size_t count;
};

/* Adds one run of a figure; its first run makes its row. limit counts only where name says what it
 * is. */
void figures_add(struct figures *figures, struct figure_name name, double ours, double limit);
void figures_free(struct figures *figures);

/* The quantile q, from 0 to 1, of at least one value. Sorts the values. */
double figures_quantile(double *values, size_t count, double q);

/* Where and how it was measured: names and values, ended by a NULL. */
struct figures_fact {
    const char *name;
    char *value;
};

void figures_print(const struct figures *figures, FILE *out);
void figures_markdown(const struct figures *figures, const struct figures_fact *facts, FILE *out);
void figures_json(const struct figures *figures, const struct figures_fact *facts, FILE *out);

#endif
