/*
 * A call of the agent's to the program (validate, apply, health), and its answer. One call is out
 * at a time. The callback answers by its result, or says HEADWATER_AGENT_PENDING; then
 * headwater_agent_finish answers, from any thread, and perhaps before the callback has returned.
 * The answer goes to the agent only when both are done, because the callback reads the document.
 */
#ifndef HW_AGENT_LIBRARY_CALL_H
#define HW_AGENT_LIBRARY_CALL_H

#include "agent/library/handle.h"

/* agent_hooks.call; arg is the handle. */
void library_call_add(void *arg, const struct agent_call *call);

/* Makes a call, which is out already: runs its callback. */
void library_call_make(struct headwater_agent *agent, struct library_call *call);

void library_call_free(struct library_call *call); /* NULL is fine */

#endif
