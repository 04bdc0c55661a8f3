#include "bench/plots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

static const struct {
    const char *file, *title, *x, *y;
    const char *settings; /* further ones, of gnuplot */
    const char *style;    /* of a line, behind its data */
} table[PLOT_COUNT] = {
    [PLOT_LATENCY] = {"latency", "One commit on an idle system", "ms after its acknowledgement",
                      "part of all", "set logscale x", "using 1:2 smooth cnormal with lines lw 2"},
    [PLOT_DRAIN] = {"drain", "Changes that wait in the log, into NATS", "rows in each transaction",
                    "changes/s", "set logscale x; set yrange [0:*]",
                    "using 1:2 smooth unique with linespoints lw 2 pt 7"},
    [PLOT_GROWTH] = {"growth", "What one change costs, by the size of the fleet", "nodes", "ms",
                     "set logscale xy", "using 1:2 smooth unique with linespoints lw 2 pt 7"},
    [PLOT_LAG] = {"sustained-lag", "Sustained load: commit to subscriber", "s", "ms",
                  "set logscale y", "using 1:2 with lines"},
    [PLOT_MEMORY] = {"sustained-memory", "Sustained load: memory", "s", "MiB", "set yrange [0:*]",
                     "using 1:2 with lines lw 2"},
};

static struct plot_line *line_of(struct plots *plots, enum plot plot, const char *name)
{
    for (size_t i = 0; i < plots->count; i++)
        if (plots->lines[i].plot == plot && strcmp(plots->lines[i].name, name) == 0)
            return &plots->lines[i];
    plots->lines = hw_realloc(plots->lines, (plots->count + 1) * sizeof(*plots->lines));
    plots->lines[plots->count] = (struct plot_line){.plot = plot, .name = name};
    return &plots->lines[plots->count++];
}

void plots_add(struct plots *plots, enum plot plot, const char *name, double x, double y)
{
    struct plot_line *line = line_of(plots, plot, name);

    line->points = hw_realloc(line->points, (line->count + 1) * sizeof(*line->points));
    line->points[line->count][0] = x;
    line->points[line->count][1] = y;
    line->count++;
}

void plots_free(struct plots *plots)
{
    for (size_t i = 0; i < plots->count; i++)
        free(plots->lines[i].points);
    free(HW_TAKE(plots->lines));
    plots->count = 0;
}

static FILE *open_file(const char *path)
{
    FILE *out = fopen(path, "we");

    if (out == NULL)
        test_fail("cannot write %s", path);
    return out;
}

/* Lines are separated by two empty ones, as gnuplot's index counts them. */
static int write_points(const struct plots *plots, enum plot plot, const char *path)
{
    int lines = 0;

    for (size_t i = 0; i < plots->count; i++)
        lines += plots->lines[i].plot == plot ? 1 : 0;
    if (lines == 0)
        return 0;
    FILE *out = open_file(path);
    for (size_t i = 0; i < plots->count; i++) {
        const struct plot_line *line = &plots->lines[i];

        if (line->plot != plot)
            continue;
        fprintf(out, "# %s\n", line->name);
        for (size_t j = 0; j < line->count; j++)
            fprintf(out, "%.6g %.6g\n", line->points[j][0], line->points[j][1]);
        fputs("\n\n", out);
    }
    if (fclose(out) != 0)
        test_fail("cannot write %s", path);
    return lines;
}

static bool draw(const struct plots *plots, enum plot plot, const char *dir)
{
    HW_AUTO_FREE char *data = hw_sprintf("%s/%s.dat", dir, table[plot].file);
    HW_AUTO_FREE char *script = hw_sprintf("%s/%s.gnuplot", dir, table[plot].file);
    const char *const argv[] = {"/usr/bin/env", "gnuplot", script, NULL};
    int index = 0;

    if (write_points(plots, plot, data) == 0)
        return true;
    FILE *out = open_file(script);
    fprintf(out,
            "set terminal svg size 800,500 background 'white'\nset output '%s/%s.svg'\n"
            "set title '%s'\nset xlabel '%s'\nset ylabel '%s'\nset grid\nset key below\n%s\nplot ",
            dir, table[plot].file, table[plot].title, table[plot].x, table[plot].y,
            table[plot].settings);
    for (size_t i = 0; i < plots->count; i++)
        if (plots->lines[i].plot == plot) {
            fprintf(out, "%s'%s' index %d %s title '%s'", index > 0 ? ", " : "", data, index,
                    table[plot].style, plots->lines[i].name);
            index++;
        }
    fputc('\n', out);
    if (fclose(out) != 0)
        test_fail("cannot write %s", script);
    return test_program_run(argv, NULL, NULL, NULL) == 0;
}

bool plots_write(const struct plots *plots, const char *dir)
{
    bool drawn = true;

    for (int plot = 0; plot < PLOT_COUNT; plot++)
        drawn &= draw(plots, (enum plot)plot, dir);
    return drawn;
}
