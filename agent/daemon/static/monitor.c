/* In place of http/monitor.c in the static agent: what libmicrohttpd stands on has no static
 * libraries in Debian. */
#include "http/monitor.h"

void hw_check(struct hw_checks *checks, const char *name, bool ok, const char *fmt, ...)
{
    (void)checks;
    (void)name;
    (void)ok;
    (void)fmt;
}

enum hw_status hw_monitor_address(const char *listen, struct hw_address *address,
                                  struct hw_error *err)
{
    (void)address;
    return hw_fail(err, HW_EINVAL, "%s: this static build has no HTTP; the dynamic one has",
                   listen);
}

enum hw_status hw_monitor_start(struct hw_loop *loop, const char *listen,
                                const struct hw_monitor_source *source, struct hw_monitor **monitor,
                                struct hw_error *err)
{
    struct hw_address address;

    (void)loop;
    (void)source;
    *monitor = NULL;
    return listen == NULL || *listen == '\0' ? HW_OK : hw_monitor_address(listen, &address, err);
}

const char *hw_monitor_name(const struct hw_monitor *monitor)
{
    (void)monitor;
    return "";
}

void hw_monitor_stop(struct hw_monitor *monitor)
{
    (void)monitor;
}
