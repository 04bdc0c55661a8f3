/*
 * Regular looks while the stream runs: heartbeats, which are transactions that let the stream pass
 * a position on an idle database, and the check-up of slots, fleet and database every ten seconds.
 */
#ifndef RECONCILER_CHECKUP_H
#define RECONCILER_CHECKUP_H

#include "reconciler/state.h"

/* Starts the check-ups; they end when the reconciler steps down. */
void reconciler_checkup_start(struct rec_reconciler *rec);

/* Sends a heartbeat at once, and from then on at the interval that the options give. */
void reconciler_heartbeat(struct rec_reconciler *rec);

#endif
