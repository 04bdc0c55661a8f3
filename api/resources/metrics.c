/* GET /metrics: what was counted, and what the service holds at the moment. */
#include "common/metrics.h"

#include "api/api.h"
#include "api/handlers.h"
#include "api/metrics.h"
#include "api/resources/wait.h"
#include "http/answer.h"
#include "http/server.h"
#include "pg/pool.h"

struct held {
    double requests, connections, connections_limit, bytes, bytes_limit;
    double pool_size, pool_busy, pool_down, pool_waiting, database_up, waiters;
};

#define ROW(member, name, text)                                                                    \
    {                                                                                              \
        HW_METRIC(struct held, member, "headwater_api_" name, text)                                \
    }

static const struct hw_metric held_table[] = {
    ROW(requests, "requests_in_flight", "Requests that have begun and not ended."),
    ROW(connections, "connections", "Connections of clients."),
    ROW(connections_limit, "connections_limit", "Connections that there may be."),
    ROW(bytes, "body_bytes", "Memory that bodies and large answers take."),
    ROW(bytes_limit, "body_bytes_limit", "Memory that they may take (--memory)."),
    ROW(pool_size, "pool_connections",
        "Connections to the database, up or not (--pool, and half as many)."),
    ROW(pool_busy, "pool_busy", "Those that a request uses."),
    ROW(pool_down, "pool_down", "Those that are not up."),
    ROW(pool_waiting, "pool_waiting", "Requests in line for one."),
    ROW(database_up, "database_up", "1 while the database can be asked."),
    ROW(waiters, "waiters", "Requests that wait for nodes (/v1/wait)."),
    {0},
};

void api_metrics_get(struct http_request *request)
{
    const struct api *api = api_of(request);
    const struct http_server_load server = http_server_load(api->server);
    const struct hw_pool_load pool = hw_pool_load(api->pool);
    const struct held held = {
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

    api_metrics_write(api->metrics, &out);
    hw_metrics_write(&(struct hw_metrics){held_table, &held}, &out);
    http_answer_bytes(request, HTTP_OK, out.data, out.len, HW_METRICS_MEDIA_TYPE);
}
