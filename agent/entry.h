/*
 * The desired entry as the agent takes it: agent/desired.h decodes and judges it, this file acts on
 * the judgement. It makes a document the target, adopts it, refuses the entry, or records that
 * nothing is desired.
 */
#ifndef HW_AGENT_ENTRY_H
#define HW_AGENT_ENTRY_H

#include "agent/core.h"

/* The key as it is now, whether or not this agent knows the entry already. */
void agent_entry_take(struct agent *a, const struct hw_entry *entry);

/* There is no such key. A node that once had an entry goes on as before, because NATS may have lost
 * its copies. */
void agent_entry_none(struct agent *a);

#endif
