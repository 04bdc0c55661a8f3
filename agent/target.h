/*
 * The target: the newest document that was accepted and is neither applied nor given up. It waits
 * for its time (the splay, a pause after a failure) and for the end of a hold.
 *
 * A hold stops new configuration while data taking, or work at the node, must not be disturbed. It
 * is a file, so a command can make it while no agent runs. The agent learns of the file by inotify
 * and reads it once more at the two moments when it counts: before an attempt begins, and before
 * the node is touched. Whoever has made the file may therefore rely on it at once. A hold stops
 * attempts and healing, and never a rollback: a node that was touched is brought back.
 *
 * A node that may be neither old nor new is brought back before the target is tried. When that is
 * stuck (the command cannot be started, the output cannot be written), a newer document must not
 * wait for ever: it may be what mends the node, and the fleet must hear why it is not applied. So a
 * target that comes meanwhile is tried at once. From there on the two take turns until the node was
 * touched for the target. Then going back comes first again, since trying a document which has
 * failed already would only disturb the readers of the output.
 */
#ifndef HW_AGENT_TARGET_H
#define HW_AGENT_TARGET_H

#include "agent/core.h"

/* Tries the target, or the recovery that comes before it, in so many ms. */
void agent_target_due_in(struct agent *a, int64_t ms);

/* Tries it after a pause that grows with the failures in a row, to at most five minutes. */
void agent_target_due_later(struct agent *a);

/* Reads the hold from the disk; tells and reports it when it is another one than before. */
void agent_target_read_hold(struct agent *a);

/* Is the node held? Asks the disk. */
bool agent_target_held(struct agent *a);

/* Keeps what the running document is made of, if the newest entry said so: proposals are based on
 * it. */
void agent_target_keep_sources(struct agent *a);

/* The action of every way back to AGENT_IDLE: drops what the attempt held, and looks what is to be
 * done next. */
void agent_target_rest(struct agent *a);

#endif
