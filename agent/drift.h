/*
 * Drift: the output is not what the state says runs, because someone else changed it. The agent
 * looks when inotify speaks, and now and then. It reports what it finds and, unless that is
 * switched off or the node is held, heals it by a recovery.
 */
#ifndef HW_AGENT_DRIFT_H
#define HW_AGENT_DRIFT_H

#include "agent/core.h"

/* Begins to watch the hold, the proposals and the output. */
void agent_drift_watch(struct agent *a);

/* Compares the output with what runs, tells and reports a difference, and sets the time of the
 * healing. */
void agent_drift_look(struct agent *a);

#endif
