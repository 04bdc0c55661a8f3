/*
 * The public keys that an agent believes. Their files are read when it starts, before what NATS
 * says on a new connection is judged, and when the agent is told to.
 */
#ifndef HW_AGENT_TRUST_H
#define HW_AGENT_TRUST_H

#include "agent/core.h"

/* Without --trust, nothing is read. */
enum hw_status agent_trust_open(struct agent *a, struct hw_error *err) HW_CHECKED;

/* Reads the files again. Where they cannot be read, the keys from before stay in use. */
void agent_trust_reload(struct agent *a);

#endif
