#include "common/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double bounds[HW_HISTOGRAM_BOUNDS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800};

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

/* In a help text \ and line feed are escaped, in the value of a label the quote as well. */
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

/* "name_suffix{label="value",le="0.5"} " */
static void write_name(struct hw_buf *out, const char *name, const char *suffix,
                       const struct hw_label *labels, const char *le)
{
    char before = '{';

    hw_buf_printf(out, "%s%s", name, suffix);
    for (; labels != NULL && labels->name != NULL; labels++) {
        hw_buf_printf(out, "%c%s=\"", before, labels->name);
        write_escaped(out, labels->value, true);
        hw_buf_putc(out, '"');
        before = ',';
    }
    if (le != NULL)
        hw_buf_printf(out, "%cle=\"%s\"", before, le);
    hw_buf_puts(out, before == ',' || le != NULL ? "} " : " ");
}

static void write_histogram(struct hw_buf *out, const char *name, const struct hw_label *labels,
                            const struct hw_histogram *histogram)
{
    uint64_t count = 0;
    char le[32];

    for (size_t i = 0; i <= HW_HISTOGRAM_BOUNDS; i++) {
        count += histogram->counts[i];
        if (i < HW_HISTOGRAM_BOUNDS)
            snprintf(le, sizeof(le), "%g", bounds[i]);
        write_name(out, name, "_bucket", labels, i < HW_HISTOGRAM_BOUNDS ? le : "+Inf");
        hw_buf_printf(out, "%" PRIu64 "\n", count);
    }
    write_name(out, name, "_sum", labels, NULL);
    write_number(out, histogram->sum);
    hw_buf_putc(out, '\n');
    write_name(out, name, "_count", labels, NULL);
    hw_buf_printf(out, "%" PRIu64 "\n", count);
}

void hw_metrics_family(struct hw_buf *out, const char *name, enum hw_metric_type type,
                       const char *help)
{
    static const char *const types[] = {[HW_METRIC_COUNTER] = "counter",
                                        [HW_METRIC_GAUGE] = "gauge",
                                        [HW_METRIC_HISTOGRAM] = "histogram"};

    hw_buf_printf(out, "# HELP %s ", name);
    write_escaped(out, help, false);
    hw_buf_printf(out, "\n# TYPE %s %s\n", name, types[type]);
}

void hw_metrics_series(struct hw_buf *out, const char *name, enum hw_metric_type type,
                       const struct hw_label *labels, const void *value)
{
    if (type == HW_METRIC_HISTOGRAM) {
        write_histogram(out, name, labels, value);
        return;
    }
    write_name(out, name, "", labels, NULL);
    if (type == HW_METRIC_COUNTER)
        hw_buf_printf(out, "%" PRIu64, *(const uint64_t *)value);
    else
        write_number(out, *(const double *)value);
    hw_buf_putc(out, '\n');
}

void hw_metrics_write(const struct hw_metrics *metrics, struct hw_buf *out)
{
    const char *family = NULL;

    for (const struct hw_metric *metric = metrics->table; metric->name != NULL; metric++) {
        const struct hw_label labels[] = {{metric->label, metric->label_value}, {NULL, NULL}};

        if (family == NULL || strcmp(family, metric->name) != 0) {
            family = metric->name;
            hw_metrics_family(out, family, metric->type, metric->help);
        }
        hw_metrics_series(out, metric->name, metric->type, labels,
                          (const char *)metrics->values + metric->offset);
    }
}
