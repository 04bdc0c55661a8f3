/* Heartbeats: transactions that let the stream pass a position on an idle database. */
#ifndef RECONCILER_HEARTBEAT_H
#define RECONCILER_HEARTBEAT_H

#include "reconciler/state.h"

/* Sends a heartbeat at once, and from then on at the interval that the options give. */
void reconciler_heartbeat(struct rec_reconciler *rec);

#endif
