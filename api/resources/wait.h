/*
 * The barrier: requests that wait until every node that was touched up to a position runs what it
 * should, or failed to. One query on the listener's connection, about all positions that anyone
 * waits for, follows each notification of a report; a slow tick stands in for one that was lost.
 * What a waiter costs is memory and its place in that query.
 */
#ifndef API_RESOURCES_WAIT_H
#define API_RESOURCES_WAIT_H

#include "api/listener.h"
#include "common/loop.h"

struct api_waits;
struct api_waits *api_waits_new(struct hw_loop *loop, struct api_listener *listener);
int api_waits_count(const struct api_waits *waits); /* requests that wait */
void api_waits_stop(struct api_waits *waits);       /* answers everyone: shutting down */
void api_waits_free(struct api_waits *waits);       /* NULL is fine */

#endif
