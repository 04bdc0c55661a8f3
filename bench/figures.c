#include "bench/figures.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "tests/support/process.h"

static struct figure *figure_of(struct figures *figures, const struct figure_name *name)
{
    struct figure *figure;

    for (size_t i = 0; i < figures->count; i++) {
        figure = &figures->list[i];
        if (strcmp(figure->name.group, name->group) == 0 &&
            strcmp(figure->name.what, name->what) == 0)
            return figure;
    }
    figures->list = hw_realloc(figures->list, (figures->count + 1) * sizeof(*figures->list));
    figure = &figures->list[figures->count++];
    *figure = (struct figure){.name = *name};
    return figure;
}

void figures_add(struct figures *figures, struct figure_name name, double ours, double limit)
{
    struct figure *figure = figure_of(figures, &name);

    if (figure->runs == FIGURES_RUNS_MAX)
        test_fail("%s, %s: more than %d runs", name.group, name.what, FIGURES_RUNS_MAX);
    figure->ours[figure->runs] = ours;
    figure->limit[figure->runs] = limit;
    figure->runs++;
    fprintf(stderr, "%s, %s: %.4g %s", name.group, name.what, ours, name.unit);
    if (name.limit != NULL)
        fprintf(stderr, " (limit %.4g)", limit);
    fputc('\n', stderr);
}

void figures_free(struct figures *figures)
{
    free(HW_TAKE(figures->list));
    figures->count = 0;
}

/* ---- statistics ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double figures_quantile(double *values, size_t count, double q)
{
    const double at = q * (double)(count - 1);
    const size_t below = (size_t)at;

    qsort(values, count, sizeof(*values), compare);
    if (below + 1 >= count)
        return values[count - 1];
    return values[below] + (at - (double)below) * (values[below + 1] - values[below]);
}

static double quantile_of(const double *values, int count, double q)
{
    double copy[FIGURES_RUNS_MAX];

    memcpy(copy, values, (size_t)count * sizeof(*copy));
    return figures_quantile(copy, (size_t)count, q);
}

struct summary {
    double ours, least, most, limit, ratio;
};

static struct summary summary_of(const struct figure *figure)
{
    struct summary s = {
        .ours = quantile_of(figure->ours, figure->runs, 0.5),
        .least = quantile_of(figure->ours, figure->runs, 0),
        .most = quantile_of(figure->ours, figure->runs, 1),
    };

    if (figure->name.limit != NULL) {
        s.limit = quantile_of(figure->limit, figure->runs, 0.5);
        s.ratio = s.limit > 0 ? s.ours / s.limit : 0;
    }
    return s;
}

/* ---- output ---- */

/* Four digits, and no exponent. */
static const char *number(double value, char out[static 32])
{
    const int digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;

    snprintf(out, 32, "%.*f", digits, value);
    return out;
}

/* One row of the table; text as printf's format for its seven columns. */
static void print_rows(const struct figures *figures, FILE *out, const char *separator,
                       const char *end, bool aligned)
{
    const int widths[] = {aligned ? 8 : 0,  aligned ? 44 : 0, aligned ? 24 : 0,
                          aligned ? 20 : 0, aligned ? 10 : 0, aligned ? 6 : 0};

    for (size_t i = 0; i < figures->count; i++) {
        const struct figure *figure = &figures->list[i];
        const struct summary s = summary_of(figure);
        const bool limited = figure->name.limit != NULL;
        char ours[32], least[32], most[32], limit[32], ratio[32];
        HW_AUTO_FREE char *value = hw_sprintf("%s %s", number(s.ours, ours), figure->name.unit);
        HW_AUTO_FREE char *range =
            hw_sprintf("%s–%s", number(s.least, least), number(s.most, most));

        fprintf(out, "%s%-*s%s%-*s%s%-*s%s%-*s%s%-*s%s%-*s%s%s%s\n", aligned ? "" : "| ", widths[0],
                figure->name.group, separator, widths[1], figure->name.what, separator, widths[2],
                value, separator, widths[3], range, separator, widths[4],
                limited ? number(s.limit, limit) : "", separator, widths[5],
                limited ? number(s.ratio, ratio) : "", separator, limited ? figure->name.limit : "",
                end);
    }
}

void figures_print(const struct figures *figures, FILE *out)
{
    fprintf(out, "%-8s  %-44s  %-24s  %-18s  %-10s  %-6s  %s\n", "group", "what", "ours (median)",
            "runs", "limit", "ratio", "the limit is");
    print_rows(figures, out, "  ", "", true);
}

void figures_markdown(const struct figures *figures, const struct figures_fact *facts, FILE *out)
{
    for (; facts->name != NULL; facts++)
        fprintf(out, "- %s: %s\n", facts->name, facts->value);
    fputs("\n| group | what | ours (median) | runs | limit | ratio | the limit is |\n"
          "| --- | --- | --- | --- | --- | --- | --- |\n",
          out);
    print_rows(figures, out, " | ", " |", false);
}

static json_t *runs_json(const double *values, int count)
{
    json_t *array = json_array();

    for (int i = 0; i < count; i++)
        json_array_append_new(array, json_real(values[i]));
    return array;
}

static json_t *figure_json(const struct figure *figure)
{
    const struct summary s = summary_of(figure);
    json_t *row = json_pack("{s:s, s:s, s:s, s:f, s:o}", "group", figure->name.group, "what",
                            figure->name.what, "unit", figure->name.unit, "median", s.ours, "runs",
                            runs_json(figure->ours, figure->runs));

    if (figure->name.limit != NULL)
        json_object_update_new(
            row, json_pack("{s:s, s:f, s:o, s:f}", "limit_is", figure->name.limit, "limit", s.limit,
                           "limit_runs", runs_json(figure->limit, figure->runs), "ratio", s.ratio));
    return row;
}

void figures_json(const struct figures *figures, const struct figures_fact *facts, FILE *out)
{
    HW_AUTO_JSON json_t *root = json_object();
    json_t *rows = json_array();

    for (; facts->name != NULL; facts++)
        json_object_set_new(root, facts->name, json_string(facts->value));
    for (size_t i = 0; i < figures->count; i++)
        json_array_append_new(rows, figure_json(&figures->list[i]));
    json_object_set_new(root, "figures", rows);
    json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    fputc('\n', out);
}
