/*
 * A TCP proxy on loopback that can misbehave: cut its connections, hold bytes back for a time, or
 * swallow everything as a network does that has gone away. A thread of its own runs it.
 */
#ifndef RECOVERY_PROXY_H
#define RECOVERY_PROXY_H

#include <stdbool.h>

struct proxy;

/* Listens on a free port and connects to target, a port of 127.0.0.1. */
struct proxy *proxy_start(int target);
void proxy_stop(struct proxy *proxy);
int proxy_port(const struct proxy *proxy);

/* Ends all connections, with a reset or in order. */
void proxy_cut(struct proxy *proxy, bool reset);
/* For the given time, every piece of data waits delay_ms before it goes on. */
void proxy_delay(struct proxy *proxy, int delay_ms, double seconds);
/* For the given time nothing is accepted, read or written; connections stay open. */
void proxy_blackhole(struct proxy *proxy, double seconds);
/* Ends what the two above began. */
void proxy_heal(struct proxy *proxy);

#endif
