#include "api/metrics.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "api/api.h"
#include "api/handlers.h"
#include "common/memory.h"
#include "common/metrics.h"

enum { CLASS_LAST = 5, CODE_LAST = 599 };

struct counted {
    uint64_t classes[CLASS_LAST + 1]; /* by the status's first digit */
    bool used;
    struct hw_histogram duration;
};

struct api_metrics {
    const struct api_route *routes;
    size_t count;            /* of routes */
    struct counted *counted; /* count + 1 */
    uint64_t codes[CODE_LAST + 1];
    uint64_t aborted;
};

/* ---- counting ---- */

struct api_metrics *api_metrics_new(const struct api_route *routes)
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

int64_t api_metrics_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void api_metrics_answered(struct api_metrics *metrics, const struct api_route *route, int status,
                          int64_t begun)
{
    const size_t place = route != NULL ? (size_t)(route - metrics->routes) : metrics->count;
    struct counted *counted = &metrics->counted[place];

    if (status < 100 || status > CODE_LAST)
        return;
    counted->used = true;
    counted->classes[status / 100]++;
    metrics->codes[status]++;
    hw_histogram_observe(&counted->duration, (double)(api_metrics_now() - begun) / 1e9);
}

void api_metrics_aborted(struct api_metrics *metrics)
{
    metrics->aborted++;
}

/* ---- GET /metrics ---- */

struct held {
    uint64_t aborted;
    double requests, connections, connections_limit, bytes, bytes_limit;
    double pool_size, pool_busy, pool_down, pool_waiting, database_up, waiters;
};

#define ROW(member, name, text)                                                                    \
    {                                                                                              \
        HW_METRIC(struct held, member, "headwater_api_" name, text)                                \
    }

static const struct hw_metric held_table[] = {
    ROW(aborted, "aborted_requests_total", "Requests whose client was gone before the answer."),
    ROW(requests, "requests_in_flight", "Requests that have begun and not ended."),
    ROW(connections, "connections", "Connections of clients."),
    ROW(connections_limit, "connections_limit", "Connections that there may be."),
    ROW(bytes, "body_bytes", "Memory that bodies and large answers take."),
    ROW(bytes_limit, "body_bytes_limit", "Memory that they may take (--memory)."),
    ROW(pool_size, "pool_connections", "Connections to the database, up or not (--pool)."),
    ROW(pool_busy, "pool_busy", "Those that a request uses."),
    ROW(pool_down, "pool_down", "Those that are not up."),
    ROW(pool_waiting, "pool_waiting", "Requests in line for one."),
    ROW(database_up, "database_up", "1 while the database can be asked."),
    ROW(waiters, "waiters", "Requests that wait for nodes (/v1/wait)."),
    {0},
};

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

void api_metrics_get(struct api_request *request)
{
    const struct api *api = request->api;
    const struct api_metrics *metrics = api_server_metrics(api->server);
    const struct api_server_load server = api_server_load(api->server);
    const struct hw_pool_load pool = hw_pool_load(api->pool);
    const struct held held = {
        .aborted = metrics->aborted,
        .requests = (double)server.requests,
        .connections = (double)server.connections,
        .connections_limit = (double)server.connections_limit,
        .bytes = (double)server.bytes,
        .bytes_limit = (double)server.bytes_limit,
        .pool_size = pool.size,
        .pool_busy = pool.busy,
        .pool_down = pool.size - pool.up,
        .pool_waiting = pool.waiting,
        .database_up = hw_pool_up(api->pool),
        .waiters = api_waits_count(api->waits),
    };
    struct hw_buf out = {0};

    write_requests(metrics, &out);
    write_codes(metrics, &out);
    write_durations(metrics, &out);
    hw_metrics_write(&(struct hw_metrics){held_table, &held}, &out);
    api_answer_bytes(request, MHD_HTTP_OK, out.data, out.len, HW_METRICS_MEDIA_TYPE);
}
