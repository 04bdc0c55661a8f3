/*
 * The agent's connection to NATS, and the three that talk over it: the watch of the desired entry,
 * the reporter and the proposer. It also gives signs of life.
 */
#ifndef HW_AGENT_CONNECTION_H
#define HW_AGENT_CONNECTION_H

#include "agent/core.h"

/* Begins to connect; NATS may be away. */
enum hw_status agent_connection_open(struct agent *a, struct hw_error *err) HW_CHECKED;

/* Takes part in the connection that the owner shares among agents, if it does. Call it when the
 * agent is ready for what comes. */
void agent_connection_join(struct agent *a);

/* Reads the files for NATS again; where some have changed, connects anew with them. */
void agent_connection_reload(struct agent *a);

/* Frees it; the owner closes a shared connection before. */
void agent_connection_close(struct agent *a);

#endif
