/*
 * How a program that serves nothing else shows its state to operations: HTTP on a loopback
 * address, on the program's event loop.
 *
 *     /healthz  200 while the loop turns
 *     /readyz   200 or 503: {"ready":false,"checks":[{"name":"nats","ok":false,"text":"…"}]}
 *     /metrics  common/metrics.h
 *
 * GET and HEAD only. Bounded: 64 connections, 16 KiB of header fields, one request a connection,
 * and 10 s from its begin to the end of the answer. Whoever waits for a place waits in the
 * system's queue.
 */
#ifndef HTTP_MONITOR_H
#define HTTP_MONITOR_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/status.h"
#include "http/address.h"

/* What a program depends on; it is ready when every check is ok. The name is a word for scripts,
 * the text says in a few words how it stands. */
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

/* listen: "127.0.0.1:9090"; NULL or "": nothing listens, and *monitor is NULL. Copies *source. */
struct hw_monitor;
enum hw_status hw_monitor_start(struct hw_loop *loop, const char *listen,
                                const struct hw_monitor_source *source, struct hw_monitor **monitor,
                                struct hw_error *err) HW_CHECKED;

/* "127.0.0.1:45123": what it listens on; "" for NULL. */
const char *hw_monitor_name(const struct hw_monitor *monitor);

/* Cuts what is connected. Not from the source's functions. NULL is fine. */
void hw_monitor_stop(struct hw_monitor *monitor);

#endif
