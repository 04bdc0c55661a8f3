/*
 * A TCP proxy on loopback that can misbehave: it cuts its connections, holds bytes back for a time,
 * or swallows everything, like a network that has gone away. Meanwhile the kernel still accepts
 * connections and acknowledges bytes. It can also lead to another server, as an address that moves.
 * It runs in a thread of its own.
 */
#ifndef TEST_PROXY_H
#define TEST_PROXY_H

#include <stdbool.h>

struct proxy;

/* Listens on a free port and connects to target, a port of 127.0.0.1. */
struct proxy *proxy_start(int target);
void proxy_stop(struct proxy *proxy);
int proxy_port(const struct proxy *proxy);

/* Ends all connections, with a reset or with an orderly end. */
void proxy_cut(struct proxy *proxy, bool reset);
/* For the given time, each piece of data waits delay_ms before the proxy sends it on. */
void proxy_delay(struct proxy *proxy, int delay_ms, double seconds);
/* For the given time (INFINITY: until it is healed) nothing is accepted, read or written;
 * connections stay open. */
void proxy_blackhole(struct proxy *proxy, double seconds);
/* The same for the connections that there are, and for good; new ones are served. */
void proxy_forget(struct proxy *proxy);
/* New connections lead to another port of 127.0.0.1; those that there are stay. */
void proxy_aim(struct proxy *proxy, int target);
/* Ends a delay or a black hole that is under way. */
void proxy_heal(struct proxy *proxy);

#endif
