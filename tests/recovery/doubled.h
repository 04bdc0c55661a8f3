/*
 * Two agents with one name, as after a disk was copied. A fault starts the second one; here it is
 * judged what the fleet says of them, and the second one ends.
 */
#ifndef RECOVERY_DOUBLED_H
#define RECOVERY_DOUBLED_H

#include "tests/recovery/checker.h"
#include "tests/recovery/faults.h"

/* What an agent logs, as an error, when it meets another one with its name. */
#define DOUBLED_LOGGED "another agent reports under this node's name"

/* All faults have ended. While both agents run, the fleet must say "conflict", the agents must log
 * it, and no wait may count their node as applied, though both of them applied everything; when the
 * second one has ended, all of that must be over. NULL, also where no node is doubled; otherwise a
 * malloc'ed sentence that says what is not so. */
char *doubled_unsettled(struct rig *rig);

/* The rule: no other node was ever in conflict, however often its agent was started. node: the
 * doubled one, or NULL. */
void doubled_judge(struct checker *checker, const struct test_postgres *pg, const char *node);

#endif
