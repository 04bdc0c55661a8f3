/*
 * The confirmation of a new document (--confirm-within): a configuration that cuts the node off
 * from NATS could not be replaced from afar. So a document counts as confirmed when NATS has taken
 * the report that it runs. Without that in time, the agent goes back to what ran before.
 */
#ifndef HW_AGENT_CONFIRMATION_H
#define HW_AGENT_CONFIRMATION_H

#include "agent/core.h"

/* Begins to wait, or goes on after a restart, if the state says that what runs is unconfirmed. */
void agent_confirmation_await(struct agent *a);

/* NATS has the report of the state as it is: what runs is confirmed. */
void agent_confirmation_reached(struct agent *a);

#endif
