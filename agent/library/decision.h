/*
 * Decisions on proposals on their way to the program. The agent tells a decision until the program
 * knows it, also after a restart, so it is told to forget each one after the callback has returned.
 */
#ifndef HW_AGENT_LIBRARY_DECISION_H
#define HW_AGENT_LIBRARY_DECISION_H

#include "agent/library/handle.h"

/* agent_hooks.decided; arg is the handle. */
void library_decision_add(void *arg, const struct agent_decision *decision);

/* Gives decisions, taken out of the handle, to the program, and has the agent forget them; returns
 * how many callbacks it made. */
int library_decisions_give(struct headwater_agent *agent, struct library_decision *decisions);

void library_decisions_free(struct library_decision *decisions);

#endif
