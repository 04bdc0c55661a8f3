#include "http/request.h"

#include <microhttpd.h>
#include <string.h>

#include "base/memory.h"

const char *http_request_variable(const struct http_request *request, const char *name)
{
    return http_router_variable(request->route, &request->target, name);
}

const char *http_request_parameter(const struct http_request *request, const char *name)
{
    return http_target_parameter(&request->target, name);
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const struct sockaddr *http_request_peer(const struct http_request *request)
{
    return MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
        ->client_addr;
}

bool http_request_is_read(const struct http_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

void http_request_on_gone(struct http_request *request, void (*gone)(void *arg), void *arg)
{
    request->gone = gone;
    request->gone_arg = arg;
    request->transport->watch(request);
}

void *http_request_keep(struct http_request *request, void *memory)
{
    request->kept = hw_realloc(request->kept, (request->kept_count + 1) * sizeof(*request->kept));
    request->kept[request->kept_count++] = memory;
    return memory;
}
