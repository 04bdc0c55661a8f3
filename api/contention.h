/*
 * Who holds what requests wait for. While a request has been at the database for a second, the
 * database is asked each second which transaction is in its way, so that a request which gives up
 * can name it. The question goes by the listener's connection, which no request uses.
 */
#ifndef API_CONTENTION_H
#define API_CONTENTION_H

#include "api/listener.h"
#include "common/loop.h"
#include "pg/pool.h"

struct api_contention;

/* All are borrowed. Before the loop runs. */
struct api_contention *api_contention_new(struct hw_loop *loop, struct hw_pool *pool,
                                          struct api_listener *listener);
void api_contention_free(struct api_contention *contention); /* NULL is fine */

/* A request was submitted to the pool. */
void api_contention_watch(struct api_contention *contention);

/* "The application "psql" (role alice, backend 4711) holds the lock" and what can be done; NULL:
 * nobody was found, or nothing waits for long. The log tells of each holder once. Valid until the
 * loop runs on. */
const char *api_contention_holder(struct api_contention *contention);

#endif
