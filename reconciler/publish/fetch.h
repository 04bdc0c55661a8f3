/*
 * Fetches documents from headwater.blob, for entries whose object NATS lacks. The rows of that
 * table never change, so they may be read at any time, whatever the stream's position.
 */
#ifndef RECONCILER_PUBLISH_FETCH_H
#define RECONCILER_PUBLISH_FETCH_H

#include <stddef.h>

#include "base/status.h"
#include "common/loop.h"

struct rec_fetch;

/* The connection is opened when something is to be fetched for the first time. */
struct rec_fetch *rec_fetch_new(struct hw_loop *loop, const char *conninfo);
void rec_fetch_free(struct rec_fetch *fetch); /* ends all fetches, as reset does; NULL is fine */

/* data is borrowed. status: HW_OK, HW_ESTOPPED after a reset, else what went wrong (in err). */
typedef void rec_fetch_fn(void *arg, enum hw_status status, const void *data, size_t size,
                          const struct hw_error *err);

/* Calls done once: later, or from rec_fetch_reset. hex: of the digest; size: of the document,
 * roughly. */
void rec_fetch_want(struct rec_fetch *fetch, const char *hex, size_t size, rec_fetch_fn *done,
                    void *arg);
void rec_fetch_reset(struct rec_fetch *fetch);

#endif
