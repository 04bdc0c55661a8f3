#include "api/metrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/metrics.h"
#include "common/stderr.h"

enum { CLASS_LAST = 5, CODE_LAST = 599 };

struct counted {
    uint64_t classes[CLASS_LAST + 1]; /* by the status's first digit */
    bool used;
    struct hw_histogram duration;
};

struct api_metrics {
    const struct http_route *routes;
    size_t count;            /* of routes */
    struct counted *counted; /* count + 1 */
    uint64_t codes[CODE_LAST + 1];
    uint64_t aborted;
};

/* ---- counting ---- */

struct api_metrics *api_metrics_new(const struct http_route *routes)
{
    struct api_metrics *metrics = hw_alloc(sizeof(*metrics));

    metrics->routes = routes;
    while (routes[metrics->count].method != NULL)
        metrics->count++;
    metrics->counted = hw_alloc((metrics->count + 1) * sizeof(*metrics->counted));
    return metrics;
}

void api_metrics_free(struct api_metrics *metrics)
{
    if (metrics == NULL)
        return;
    free(metrics->counted);
    free(metrics);
}

void api_metrics_answered(struct api_metrics *metrics, const struct http_route *route, int status,
                          int64_t took_ns)
{
    const size_t place = route != NULL ? (size_t)(route - metrics->routes) : metrics->count;
    struct counted *counted = &metrics->counted[place];

    if (status < 100 || status > CODE_LAST)
        return;
    counted->used = true;
    counted->classes[status / 100]++;
    metrics->codes[status]++;
    hw_histogram_observe(&counted->duration, (double)took_ns / 1e9);
}

void api_metrics_aborted(struct api_metrics *metrics)
{
    metrics->aborted++;
}

/* ---- writing ---- */

static const char *method_of(const struct api_metrics *metrics, size_t place)
{
    return place < metrics->count ? metrics->routes[place].method : "other";
}

static const char *pattern_of(const struct api_metrics *metrics, size_t place)
{
    return place < metrics->count ? metrics->routes[place].pattern : "none";
}

static void write_requests(const struct api_metrics *metrics, struct hw_buf *out)
{
    static const char name[] = "headwater_api_requests_total";
    static const char *const classes[] = {[2] = "2xx", [3] = "3xx", [4] = "4xx", [5] = "5xx"};

    hw_metrics_family(out, name, HW_METRIC_COUNTER, "Answers by route and kind of status.");
    for (size_t i = 0; i <= metrics->count; i++)
        for (size_t class = 2; class <= CLASS_LAST; class ++) {
            const struct hw_label labels[] = {{"method", method_of(metrics, i)},
                                              {"route", pattern_of(metrics, i)},
                                              {"status", classes[class]},
                                              {NULL, NULL}};

            hw_metrics_series(out, name, HW_METRIC_COUNTER, labels,
                              &metrics->counted[i].classes[class]);
        }
}

/* Only statuses that there were: most never are. */
static void write_codes(const struct api_metrics *metrics, struct hw_buf *out)
{
    static const char name[] = "headwater_api_responses_total";
    char code[12];

    hw_metrics_family(out, name, HW_METRIC_COUNTER, "Answers by status.");
    for (int i = 0; i <= CODE_LAST; i++) {
        const struct hw_label labels[] = {{"code", code}, {NULL, NULL}};

        snprintf(code, sizeof(code), "%d", i);
        if (metrics->codes[i] > 0)
            hw_metrics_series(out, name, HW_METRIC_COUNTER, labels, &metrics->codes[i]);
    }
}

/* Only of routes that were asked for: a scrape of all would be too long to fit while memory is
 * short. */
static void write_durations(const struct api_metrics *metrics, struct hw_buf *out)
{
    static const char name[] = "headwater_api_request_duration_seconds";

    hw_metrics_family(out, name, HW_METRIC_HISTOGRAM,
                      "From the request that is here whole to its answer that is ready.");
    for (size_t i = 0; i <= metrics->count; i++) {
        const struct hw_label labels[] = {
            {"method", method_of(metrics, i)}, {"route", pattern_of(metrics, i)}, {NULL, NULL}};

        if (metrics->counted[i].used)
            hw_metrics_series(out, name, HW_METRIC_HISTOGRAM, labels,
                              &metrics->counted[i].duration);
    }
}

void api_metrics_write(const struct api_metrics *metrics, struct hw_buf *out)
{
    static const struct hw_metric table[] = {
        {HW_METRIC(struct api_metrics, aborted, "headwater_api_aborted_requests_total",
                   "Requests whose client was gone before the answer.")},
        {0},
    };
    static const char lost_name[] = "headwater_api_log_lines_lost_total";
    const uint64_t lost = hw_stderr_lost();

    write_requests(metrics, out);
    write_codes(metrics, out);
    write_durations(metrics, out);
    hw_metrics_write(&(struct hw_metrics){table, metrics}, out);
    hw_metrics_family(out, lost_name, HW_METRIC_COUNTER, "Lines of the log that nobody got.");
    hw_metrics_series(out, lost_name, HW_METRIC_COUNTER, NULL, &lost);
}
