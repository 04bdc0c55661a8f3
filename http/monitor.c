#include "http/monitor.h"

#include <dlfcn.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/metrics.h"

enum {
    CONNECTIONS_MAX = 64,
    HEADERS_MAX = 16 << 10, /* request line and header fields */
    DROPPED_MAX = 1 << 20,  /* bytes of a body that are read and dropped: no request takes one */
    DEADLINE_MS = 10000,
    CHECK_TEXT_MAX = 1024,
};

/*
 * libmicrohttpd, which is loaded when there is something to serve: see monitor.h.
 */
#define LIBRARY "libmicrohttpd.so.12"
#define FUNCTIONS(X)                                                                               \
    X(add_response_header)                                                                         \
    X(create_response_from_buffer)                                                                 \
    X(destroy_response)                                                                            \
    X(get_connection_info)                                                                         \
    X(get_daemon_info)                                                                             \
    X(get_timeout)                                                                                 \
    X(lookup_connection_value)                                                                     \
    X(queue_response)                                                                              \
    X(quiesce_daemon)                                                                              \
    X(run)                                                                                         \
    X(start_daemon)                                                                                \
    X(stop_daemon)

#define MEMBER(name) __typeof__(MHD_##name) *(name);
static struct {
    FUNCTIONS(MEMBER)
} http;

static enum hw_status load_library(struct hw_error *err)
{
    static const struct {
        const char *name;
        void **function;
    } wanted[] = {
#define WANTED(name) {"MHD_" #name, (void **)&http.name},
        FUNCTIONS(WANTED)};
    void *const library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); /* for good */

    if (library == NULL)
        return hw_fail(err, HW_EIO, "loading " LIBRARY ", which serves HTTP: %s", dlerror());
    for (size_t i = 0; i < HW_COUNT(wanted); i++) {
        *wanted[i].function = dlsym(library, wanted[i].name);
        if (*wanted[i].function == NULL)
            return hw_fail(err, HW_EIO, LIBRARY " has no %s", wanted[i].name);
    }
    return HW_OK;
}

struct connection {
    struct hw_timer deadline;
    int fd;
    bool begun;
    size_t dropped;
};

struct hw_monitor {
    struct hw_loop *loop;
    struct hw_monitor_source source;
    struct MHD_Daemon *daemon;
    struct hw_io *io;
    struct hw_timer run_again;
    bool place_freed;
    char name[HW_ADDRESS_MAX];
};

struct hw_checks {
    struct hw_buf json; /* the members of the array */
    bool failed;
};

/* ---- the pages ---- */

struct page {
    const char *path, *media_type;
    unsigned (*write)(const struct hw_monitor *monitor, struct hw_buf *out); /* gives the status */
};

static unsigned write_health(const struct hw_monitor *monitor, struct hw_buf *out)
{
    (void)monitor;
    hw_buf_puts(out, "{\"status\":\"ok\"}");
    return MHD_HTTP_OK;
}

void hw_check(struct hw_checks *checks, const char *name, bool ok, const char *fmt, ...)
{
    struct hw_buf *json = &checks->json;
    char text[CHECK_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    hw_buf_puts(json, json->len > 0 ? ",{\"name\":" : "{\"name\":");
    hw_buf_json_string(json, name, strlen(name));
    hw_buf_printf(json, ",\"ok\":%s,\"text\":", ok ? "true" : "false");
    hw_buf_json_string(json, text, strlen(text));
    hw_buf_putc(json, '}');
    checks->failed |= !ok;
}

static unsigned write_ready(const struct hw_monitor *monitor, struct hw_buf *out)
{
    struct hw_checks checks = {0};

    monitor->source.check(monitor->source.arg, &checks);
    hw_buf_printf(out, "{\"ready\":%s,\"checks\":[%s]}", checks.failed ? "false" : "true",
                  hw_buf_str(&checks.json));
    hw_buf_free(&checks.json);
    return checks.failed ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
}

static unsigned write_metrics(const struct hw_monitor *monitor, struct hw_buf *out)
{
    monitor->source.metrics(monitor->source.arg, out);
    return MHD_HTTP_OK;
}

static const struct page pages[] = {
    {"/healthz", "application/json", write_health},
    {"/readyz", "application/json", write_ready},
    {"/metrics", HW_METRICS_MEDIA_TYPE, write_metrics},
};

/* ---- requests ---- */

static enum MHD_Result answer(struct hw_monitor *monitor, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version)
{
    const char *host = http.lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    const char *media_type = "text/plain; charset=utf-8", *allow = NULL;
    const struct page *page = NULL;
    struct hw_buf body = {0};
    unsigned status;
    struct MHD_Response *response;
    enum MHD_Result queued;

    for (size_t i = 0; i < HW_COUNT(pages); i++)
        if (strcmp(url, pages[i].path) == 0)
            page = &pages[i];
    if (host == NULL && strcmp(version, MHD_HTTP_VERSION_1_1) == 0) {
        status = MHD_HTTP_BAD_REQUEST;
        hw_buf_puts(&body, "Host: is missing\n");
    } else if (host != NULL && !hw_address_is_local_host(host)) {
        status = MHD_HTTP_MISDIRECTED_REQUEST;
        hw_buf_puts(&body, "Host: is not a name of this loopback service\n");
    } else if (page == NULL) {
        status = MHD_HTTP_NOT_FOUND;
        hw_buf_puts(&body, "There are /healthz, /readyz and /metrics\n");
    } else if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
               strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        allow = "GET, HEAD";
        hw_buf_puts(&body, "Only GET and HEAD\n");
    } else {
        media_type = page->media_type;
        status = page->write(monitor, &body);
    }
    response = http.create_response_from_buffer(body.len, body.data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        hw_buf_free(&body);
        return MHD_NO;
    }
    http.add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, media_type);
    http.add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    http.add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (allow != NULL)
        http.add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    queued = http.queue_response(c, status, response);
    http.destroy_response(response);
    return queued;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *c, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **context)
{
    struct connection *connection =
        http.get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

    (void)data;
    (void)context;
    if (!connection->begun) {
        connection->begun = true;
        return MHD_YES;
    }
    /* The body is read to its end, so that no reset for the rest of it overtakes the answer. */
    if (*size > 0) {
        connection->dropped += *size;
        *size = 0;
        return connection->dropped <= DROPPED_MAX ? MHD_YES : MHD_NO;
    }
    return answer(arg, c, url, method, version);
}

/* ---- connections ---- */

static void on_deadline(void *arg)
{
    const struct connection *connection = arg;

    shutdown(connection->fd, SHUT_RDWR); /* the HTTP library sees the end and cleans up */
}

static void on_connection(void *arg, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct hw_monitor *monitor = arg;
    struct connection *connection = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        connection = hw_alloc(sizeof(*connection));
        connection->fd = http.get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        hw_timer_start(monitor->loop, &connection->deadline, DEADLINE_MS, on_deadline, connection);
        *context = connection;
    } else if (connection != NULL) {
        hw_timer_stop(&connection->deadline);
        free(connection);
        *context = NULL;
        monitor->place_freed = true;
    }
}

/* ---- running ---- */

static void run(struct hw_monitor *monitor);

static void on_ready(void *arg, short revents)
{
    (void)revents;
    run(arg);
}

static void on_run_again(void *arg)
{
    run(arg);
}

static void run(struct hw_monitor *monitor)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    monitor->place_freed = false;
    http.run(monitor->daemon);
    if (http.get_timeout(monitor->daemon, &wait_ms) != MHD_YES)
        wait_ms = UINT64_MAX;
    /* When all places were taken, the library looks at the queue again in its next run only. */
    if (monitor->place_freed)
        wait_ms = 0;
    if (wait_ms != UINT64_MAX)
        hw_timer_start(monitor->loop, &monitor->run_again, (int64_t)wait_ms, on_run_again, monitor);
    else
        hw_timer_stop(&monitor->run_again);
}

/* ---- starting and stopping ---- */

enum hw_status hw_monitor_address(const char *listen, struct hw_address *address,
                                  struct hw_error *err)
{
    struct hw_address parsed;
    const enum hw_status status = hw_address_parse(listen, &parsed, err);

    if (status != HW_OK)
        return status;
    if (!hw_address_is_loopback(&parsed))
        return hw_fail(err, HW_EDENIED,
                       "%s: is not a loopback address. Whoever reaches the port may read all that "
                       "is there: listen on 127.0.0.1 or [::1], and let a proxy that authenticates "
                       "face the network",
                       listen);
    *address = parsed;
    return HW_OK;
}

enum hw_status hw_monitor_start(struct hw_loop *loop, const char *listen,
                                const struct hw_monitor_source *source, struct hw_monitor **out,
                                struct hw_error *err)
{
    struct hw_monitor *monitor;
    struct hw_address address;
    int listen_fd = -1;
    enum hw_status status;

    if (listen == NULL || *listen == '\0') {
        *out = NULL;
        return HW_OK;
    }
    status = hw_monitor_address(listen, &address, err);
    if (status == HW_OK)
        status = load_library(err);
    if (status == HW_OK)
        status = hw_address_listen(&address, &listen_fd, err);
    if (status != HW_OK)
        return status;
    monitor = hw_alloc(sizeof(*monitor));
    monitor->loop = loop;
    monitor->source = *source;
    hw_address_format_bound(listen_fd, monitor->name);
    /* The library's log is off: mistakes of clients are no news. */
    monitor->daemon = http.start_daemon(
        MHD_USE_EPOLL, 0, NULL, NULL, on_access, monitor, MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADERS_MAX, MHD_OPTION_NOTIFY_CONNECTION, on_connection, monitor, MHD_OPTION_END);
    if (monitor->daemon == NULL) {
        hw_fail(err, HW_EIO, "starting the HTTP server on %s", monitor->name);
        close(listen_fd);
        free(monitor);
        return HW_EIO;
    }
    monitor->io =
        hw_io_add(loop, http.get_daemon_info(monitor->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                  POLLIN, on_ready, monitor);
    run(monitor);
    *out = monitor;
    return HW_OK;
}

const char *hw_monitor_name(const struct hw_monitor *monitor)
{
    return monitor != NULL ? monitor->name : "";
}

void hw_monitor_stop(struct hw_monitor *monitor)
{
    if (monitor == NULL)
        return;
    hw_io_remove(monitor->io);
    /* Listening ends first, so that a client that sees its connection end finds the port free. */
    const int fd = http.quiesce_daemon(monitor->daemon);
    if (fd >= 0)
        close(fd);
    http.stop_daemon(monitor->daemon); /* tells on_connection of each */
    hw_timer_stop(&monitor->run_again);
    free(monitor);
}
