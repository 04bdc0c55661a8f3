/*
 * What the service counts: requests by route and kind of answer, and how long they took. To count
 * one is a few additions, without a search or an allocation. What it holds at the moment (requests,
 * connections, bodies, waiters) is asked for when somebody looks: GET /metrics.
 */
#ifndef API_METRICS_H
#define API_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "http/router.h"

struct api_metrics;

/* One place for each route of the table, and one for requests that match none. */
struct api_metrics *api_metrics_new(const struct http_route *routes);
void api_metrics_free(struct api_metrics *metrics); /* NULL is fine */

/* An answer is ready to be sent, so many nanoseconds after its request was here. route: NULL where
 * none matched. */
void api_metrics_answered(struct api_metrics *metrics, const struct http_route *route, int status,
                          int64_t took_ns);
/* A request ended without an answer: its client is gone, or was too slow. */
void api_metrics_aborted(struct api_metrics *metrics);

/* Adds all of it in the form of common/metrics.h. */
void api_metrics_write(const struct api_metrics *metrics, struct hw_buf *out);

#endif
