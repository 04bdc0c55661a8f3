/*
 * Loading reads all that stands in NATS, once, when a reconciler begins to lead. Of every key it
 * learns the sequence number, which the next write must name, and the fence, which tells whether a
 * transaction has been published already. The stream is held meanwhile. It ends with
 * RECONCILER_LOADED or RECONCILER_LOADED_REPLAY.
 */
#ifndef RECONCILER_LOADING_H
#define RECONCILER_LOADING_H

#include "reconciler/state.h"

/* The action of loading: claims the bucket, reads it, and starts the intake of reports, proposals
 * and signs of life. */
void reconciler_load(struct rec_reconciler *rec);

#endif
