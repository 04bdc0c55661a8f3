/*
 * The recovery at a start. The agent, or the whole machine, may have stopped at any instruction, so
 * the start trusts nothing but the disk, and brings the node in line with the state there:
 *
 *     the trial is open        the last attempt was interrupted: the node may have the old document
 *                              or the new one, used or not. Back to the last known good.
 *     the output differs       others changed it while no agent ran: drift, healed as always.
 *     what runs had failed     it is applied again.
 *     there is no output       the owner has just started and was told nothing: it gets what runs.
 *     none of these            the document runs already, and nothing is touched.
 *
 * Bringing back is the phase AGENT_ROLLING_BACK. Until it was tried no desired entry is taken
 * (agent_core_pause), so that a document is never judged by a state that is not true. Where it
 * cannot be done (the command cannot be started, say), it is tried again, and a newer document is
 * not kept waiting for it (agent/target.h).
 */
#ifndef HW_AGENT_RECOVERY_H
#define HW_AGENT_RECOVERY_H

#include "agent/core.h"

/* Compares node and state, and begins a recovery if one is needed. */
void agent_recovery_begin(struct agent *a);

#endif
