/*
 * Replays: a stretch of the write-ahead log is streamed once more, from a copy of the archive slot
 * (cdc/archive.h), while the slot's own stream is held. There are two causes: the checkpoint in
 * NATS is older than what the slot still has, because NATS was put back; or somebody asked for it
 * (headwater.replay() in SQL). Sending a transaction twice does no harm: each entry carries its
 * fence, and an entry that stands already is not written again.
 */
#ifndef RECONCILER_REPLAY_H
#define RECONCILER_REPLAY_H

#include "reconciler/state.h"

/* The action: begins the replay; it ends with RECONCILER_REPLAYED. */
void reconciler_replay(struct rec_reconciler *rec);

#endif
