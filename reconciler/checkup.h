/* A regular look while the stream runs: the check-up of slots, tables, fleet and database every ten
 * seconds. */
#ifndef RECONCILER_CHECKUP_H
#define RECONCILER_CHECKUP_H

#include "reconciler/state.h"

/* Starts the check-ups; they end when the reconciler steps down. */
void reconciler_checkup_start(struct rec_reconciler *rec);

#endif
