/*
 * The monitor of a program that serves nothing else: pages about its state, by HTTP on a loopback
 * address, on the program's event loop.
 *
 *     /healthz  200 while the loop turns
 *     /readyz   200 or 503: {"ready":false,"checks":[{"name":"nats","ok":false,"text":"…"}]}
 *     /metrics  common/metrics.h
 *
 * It takes GET and HEAD only. There may be 64 connections, each for one request with 16 KiB of
 * header fields, and for 10 s from its beginning to the end of the answer. Further clients wait in
 * the system's queue.
 *
 * It does not stand on http/server.h, but on libmicrohttpd directly, which it loads when it starts.
 * A program that is linked with http/server.h loads libmicrohttpd and GnuTLS in any case: measured
 * on Debian 12, that takes an idle agent without a monitor from 1.0 to 1.4 MiB of memory of its
 * own, and from 3.2 to 4.7 MiB resident.
 */
#ifndef HTTP_MONITOR_H
#define HTTP_MONITOR_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "common/loop.h"
#include "http/address.h"

/* One thing that the program depends on; the program is ready when every check is ok. The name is a
 * word for scripts; the text says in a few words how it stands. */
struct hw_checks;
void hw_check(struct hw_checks *checks, const char *name, bool ok, const char *fmt, ...)
    HW_PRINTF(4, 5);

/* Both are called on the loop's thread, for each request; they must not block. */
struct hw_monitor_source {
    void (*check)(void *arg, struct hw_checks *checks);
    /* Brings gauges up to date, and adds all with hw_metrics_write. */
    void (*metrics)(void *arg, struct hw_buf *out);
    void *arg;
};

/*
 * Parses where to listen and refuses what is not a loopback address (HW_EDENIED): there is no
 * access control. For main, to tell wrong usage from a failure; hw_monitor_start asks it too.
 */
enum hw_status hw_monitor_address(const char *listen, struct hw_address *address,
                                  struct hw_error *err) HW_CHECKED;

/* listen: "127.0.0.1:9090". Where it is NULL or "", nothing listens, and *monitor is NULL. Copies
 * *source. */
struct hw_monitor;
enum hw_status hw_monitor_start(struct hw_loop *loop, const char *listen,
                                const struct hw_monitor_source *source, struct hw_monitor **monitor,
                                struct hw_error *err) HW_CHECKED;

/* The address that it listens on, such as "127.0.0.1:45123"; "" for NULL. */
const char *hw_monitor_name(const struct hw_monitor *monitor);

/* Cuts all connections. It must not be called from within the source's functions. NULL is fine. */
void hw_monitor_stop(struct hw_monitor *monitor);

#endif
