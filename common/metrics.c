#include "common/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double bounds[HW_HISTOGRAM_BOUNDS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

void hw_histogram_observe(struct hw_histogram *histogram, double seconds)
{
    size_t i = 0;

    if (!(seconds > 0))
        seconds = 0;
    while (i < HW_HISTOGRAM_BOUNDS && seconds > bounds[i])
        i++;
    histogram->counts[i]++;
    histogram->sum += seconds;
}

/* Help escapes \ and line feed, label values also the quote. */
static void write_escaped(struct hw_buf *out, const char *text, bool quoted)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\\' || (quoted && *p == '"'))
            hw_buf_putc(out, '\\');
        if (*p == '\n')
            hw_buf_puts(out, "\\n");
        else
            hw_buf_putc(out, *p);
    }
}

/* The shortest text that reads as the same number. */
static void write_number(struct hw_buf *out, double value)
{
    char text[32];

    if (isnan(value) || isinf(value)) {
        hw_buf_puts(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    hw_buf_puts(out, text);
}

static void write_series(struct hw_buf *out, const struct hw_metric *metric, const char *suffix,
                         const char *le)
{
    hw_buf_printf(out, "%s%s", metric->name, suffix);
    if (metric->label != NULL || le != NULL)
        hw_buf_putc(out, '{');
    if (metric->label != NULL) {
        hw_buf_printf(out, "%s=\"", metric->label);
        write_escaped(out, metric->label_value, true);
        hw_buf_putc(out, '"');
    }
    if (le != NULL)
        hw_buf_printf(out, "%sle=\"%s\"", metric->label != NULL ? "," : "", le);
    if (metric->label != NULL || le != NULL)
        hw_buf_putc(out, '}');
    hw_buf_putc(out, ' ');
}

static void write_histogram(struct hw_buf *out, const struct hw_metric *metric,
                            const struct hw_histogram *histogram)
{
    uint64_t count = 0;
    char le[32];

    for (size_t i = 0; i <= HW_HISTOGRAM_BOUNDS; i++) {
        count += histogram->counts[i];
        if (i < HW_HISTOGRAM_BOUNDS)
            snprintf(le, sizeof(le), "%g", bounds[i]);
        write_series(out, metric, "_bucket", i < HW_HISTOGRAM_BOUNDS ? le : "+Inf");
        hw_buf_printf(out, "%" PRIu64 "\n", count);
    }
    write_series(out, metric, "_sum", NULL);
    write_number(out, histogram->sum);
    hw_buf_putc(out, '\n');
    write_series(out, metric, "_count", NULL);
    hw_buf_printf(out, "%" PRIu64 "\n", count);
}

void hw_metrics_write(const struct hw_metrics *metrics, struct hw_buf *out)
{
    static const char *const types[] = {[HW_METRIC_COUNTER] = "counter",
                                        [HW_METRIC_GAUGE] = "gauge",
                                        [HW_METRIC_HISTOGRAM] = "histogram"};
    const char *family = NULL;

    for (const struct hw_metric *metric = metrics->table; metric->name != NULL; metric++) {
        const void *value = (const char *)metrics->values + metric->offset;

        if (family == NULL || strcmp(family, metric->name) != 0) {
            family = metric->name;
            hw_buf_printf(out, "# HELP %s ", family);
            write_escaped(out, metric->help, false);
            hw_buf_printf(out, "\n# TYPE %s %s\n", family, types[metric->type]);
        }
        switch (metric->type) {
        case HW_METRIC_COUNTER:
            write_series(out, metric, "", NULL);
            hw_buf_printf(out, "%" PRIu64 "\n", *(const uint64_t *)value);
            break;
        case HW_METRIC_GAUGE:
            write_series(out, metric, "", NULL);
            write_number(out, *(const double *)value);
            hw_buf_putc(out, '\n');
            break;
        case HW_METRIC_HISTOGRAM:
            write_histogram(out, metric, value);
            break;
        }
    }
}
