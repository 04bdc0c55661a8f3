/*
 * An attempt: one try to make the target the running document, stage by stage.
 *
 *     fetch      the bytes come from NATS, or from a copy that is there already
 *     verify     their size and SHA-256 must be those of the desired entry
 *     validate   the owner says whether the node may use them; nothing was touched so far
 *     apply      the state says on disk that the node is about to be touched (the trial is open);
 *                then the output is replaced, and the owner puts it to use
 *     check      the owner says whether the node is well with it
 *
 * Only after the check does the state say that the document runs, in one write that also closes the
 * trial. What fails before "apply" has touched nothing. What fails from there on is followed by a
 * rollback (agent/rollback.h). A process that is killed in between leaves an open trial on disk,
 * and the next start begins with the rollback.
 */
#ifndef HW_AGENT_ATTEMPT_H
#define HW_AGENT_ATTEMPT_H

#include "agent/core.h"

/* The number of interrupted attempts after which a document is given up. A document that makes the
 * whole machine restart would otherwise be applied for ever. */
#define AGENT_ATTEMPTS_MAX 3

/* The actions of the phases, in their order. */
void agent_attempt_fetch(struct agent *a);
void agent_attempt_verify(struct agent *a);
void agent_attempt_validate(struct agent *a);
void agent_attempt_apply(struct agent *a);
void agent_attempt_check(struct agent *a);

/* The owner's answer to the call of one of these phases. error: NULL or "" when all is well. */
void agent_attempt_answered(struct agent *a, const char *error, bool again);

/* The end of an attempt that succeeded: what runs is reported. */
void agent_attempt_settle(struct agent *a);

/* The end of an attempt that did not succeed, and of a recovery: the outcome is recorded and
 * reported, and it is decided what comes next. */
void agent_attempt_conclude(struct agent *a);

#endif
