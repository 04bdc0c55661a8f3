/*
 * A question asked aside: one statement on a connection of its own, to the server that another
 * connection leads to. That is how a connection is looked at that does not answer.
 */
#ifndef HW_PG_ASIDE_H
#define HW_PG_ASIDE_H

#include "pg/connect.h"

struct hw_aside;

/* result: valid until the function returns; NULL: there is none, and answered says whether the
 * server said anything at all, be it a refusal. Called once, from the loop; then all is over. */
typedef void hw_aside_fn(void *arg, const PGresult *result, bool answered);

/* The route must live as long; sql and value ($1, or NULL) are copied. A command for a replication
 * connection has no value. beside: as of hw_attempt_start. */
struct hw_aside *hw_aside_ask(struct hw_loop *loop, const struct hw_route *route,
                              const PGconn *beside, const char *sql, const char *value,
                              hw_aside_fn *fn, void *arg);
void hw_aside_cancel(struct hw_aside *aside); /* NULL is fine */

#endif
