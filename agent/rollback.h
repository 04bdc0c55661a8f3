/*
 * The rollback: the node is brought back to the last known good, that is the document that the
 * state calls running. While nothing runs yet it is the file that was there before the agent, and
 * where there was none, no file.
 */
#ifndef HW_AGENT_ROLLBACK_H
#define HW_AGENT_ROLLBACK_H

#include "agent/core.h"

/* The action of AGENT_ROLLING_BACK. */
void agent_rollback_begin(struct agent *a);

/* The owner's answer to the call of that phase. error: NULL or "" when all is well. */
void agent_rollback_answered(struct agent *a, const char *error, bool again);

#endif
