/*
 * What a program counts and measures, as operations read it. The values are plain members of a
 * struct of the program's, zero-initialised, which the loop's thread alone touches:
 *
 *     struct counts { uint64_t entries; double lag; struct hw_histogram apply; };
 *     static const struct hw_metric table[] = {
 *         {HW_METRIC(struct counts, entries, "headwater_x_entries_total", "Entries published.")},
 *         {HW_METRIC(struct counts, lag, "headwater_x_lag_seconds", "How far behind it is.")},
 *         {HW_METRIC(struct counts, apply, "headwater_x_apply_seconds", "Time to apply one.")},
 *         {0}};
 *     counts->entries++; hw_histogram_observe(&counts->apply, seconds);
 *     hw_metrics_write(&(struct hw_metrics){table, counts}, &text);
 *
 * Names follow Prometheus: <program>_<what>_<unit>, base units, counters end in _total.
 */
#ifndef HW_METRICS_H
#define HW_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Bounds for durations in seconds, from 1 ms to half an hour, the same for all histograms. */
enum { HW_HISTOGRAM_BOUNDS = 17 };

struct hw_histogram {
    uint64_t
        counts[HW_HISTOGRAM_BOUNDS + 1]; /* how many fell into each bucket; the last one is +Inf */
    double sum;
};

/* A duration below 0, of a clock that jumped, counts as 0, so that the sum never falls. */
void hw_histogram_observe(struct hw_histogram *histogram, double seconds);

enum hw_metric_type {
    HW_METRIC_COUNTER,   /* uint64_t */
    HW_METRIC_GAUGE,     /* double */
    HW_METRIC_HISTOGRAM, /* struct hw_histogram */
};

struct hw_metric {
    const char *name; /* NULL ends the table */
    enum hw_metric_type type;
    size_t offset; /* of the value */
    const char *help;
    /* One constant label, or NULL. Rows of one name stand together, and the help of the first one
     * counts. */
    const char *label, *label_value;
};

/* The initialiser of a row, without braces; its type comes from the member's. */
#define HW_METRIC(struct_type, member, metric_name, text)                                          \
    .name = (metric_name), .help = (text), .offset = offsetof(struct_type, member),                \
    .type = _Generic(((struct_type *)0)->member, uint64_t                                          \
                     : HW_METRIC_COUNTER, double                                                   \
                     : HW_METRIC_GAUGE, struct hw_histogram                                        \
                     : HW_METRIC_HISTOGRAM)

struct hw_metrics {
    const struct hw_metric *table;
    const void *values; /* the struct that the offsets are of */
};

/* Adds all of them in Prometheus' text exposition format, version 0.0.4. */
#define HW_METRICS_MEDIA_TYPE "text/plain; version=0.0.4; charset=utf-8"
void hw_metrics_write(const struct hw_metrics *metrics, struct hw_buf *out);

/* ---- metrics that no table can list beforehand: a family, and then its series ---- */

struct hw_label {
    const char *name, *value; /* a label without a name ends the list */
};
void hw_metrics_family(struct hw_buf *out, const char *name, enum hw_metric_type type,
                       const char *help);
/* value points to what the type says. labels may be NULL. */
void hw_metrics_series(struct hw_buf *out, const char *name, enum hw_metric_type type,
                       const struct hw_label *labels, const void *value);

#endif
