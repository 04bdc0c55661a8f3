/*
 * The barrier: requests that wait until every node that was touched up to a position runs what it
 * should, or failed to. One database connection listens for reports; one query, for all positions
 * that anyone waits for, follows each wake-up, and a slow tick stands in for a notification lost.
 * What a waiter costs is memory and its place in that query.
 */
#ifndef API_RESOURCES_WAIT_H
#define API_RESOURCES_WAIT_H

#include <stdbool.h>

#include "common/loop.h"
#include "common/status.h"

struct api_waits;
enum hw_status api_waits_open(struct hw_loop *loop, const char *conninfo, struct api_waits **waits,
                              struct hw_error *err) HW_CHECKED;
bool api_waits_ready(const struct api_waits *waits); /* reports are listened for */
/* Why they are not, with what to do; no secret. */
const char *api_waits_trouble(const struct api_waits *waits);
int api_waits_count(const struct api_waits *waits); /* requests that wait */
void api_waits_stop(struct api_waits *waits);       /* answers everyone: shutting down */
void api_waits_free(struct api_waits *waits);       /* NULL is fine */

#endif
