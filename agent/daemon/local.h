/* What an operator asks and tells the agent on the node itself. It goes by way of the state
 * directory and needs no NATS. */
#ifndef AGENT_DAEMON_LOCAL_H
#define AGENT_DAEMON_LOCAL_H

#include "agent/disk/output.h"
#include "agent/proposal.h"
#include "base/status.h"

/* Prints what the state directory says, for people or as JSON. node NULL: whichever node the state
 * is of. */
enum hw_status agent_local_status(const char *state_dir, const char *node,
                                  const struct agent_output *output, bool json,
                                  struct hw_error *err) HW_CHECKED;

enum hw_status agent_local_hold(const char *state_dir, const char *reason,
                                struct hw_error *err) HW_CHECKED;
/* Proposes the content of a file, and prints the proposal's name. With wait it also prints the
 * decision when it is known. node NULL: whichever node the state is of. HW_ECONFLICT: it was not
 * approved. */
enum hw_status agent_local_propose(const char *state_dir, const char *node, const char *file,
                                   const struct agent_proposal *proposal, bool wait,
                                   struct hw_error *err) HW_CHECKED;

enum hw_status agent_local_release(const char *state_dir, struct hw_error *err) HW_CHECKED;

#endif
