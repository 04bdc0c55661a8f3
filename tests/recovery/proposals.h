/*
 * Nodes propose, and operators decide (tests/recovery/workload.h has these). A proposal is kept in
 * the state directory of an agent, as the command "propose" does it; from then on it must be
 * decided once, whatever breaks, and the agent must hear what was decided.
 */
#ifndef RECOVERY_PROPOSALS_H
#define RECOVERY_PROPOSALS_H

#include "tests/recovery/chance.h"
#include "tests/recovery/checker.h"
#include "tests/recovery/wal.h"

struct proposals;

struct proposals *proposals_new(uint64_t seed);
void proposals_free(struct proposals *proposals);

/* Now and then proposes something for the node whose agent has this state directory. */
void proposals_tick(struct proposals *proposals, const char *node, const char *state_dir);

/* Rejects whatever waits. NULL when the agents know what was decided about each proposal, and the
 * rows about it agree; otherwise a malloc'ed sentence that says what is not so. */
char *proposals_unsettled(struct proposals *proposals, const struct test_postgres *pg);

int proposals_count(const struct proposals *proposals);

/*
 * The rules: proposals_read takes a change of headwater.proposal from the log. A proposal is taken
 * once for each name that its node gave it (again only when the node was deleted with all of its
 * proposals), and leaves the state "pending" once. proposals_judge: each approval made one revision
 * of its config, with the proposed content; what a node is told is what its proposals say; and what
 * an agent has kept is what the log says.
 */
void proposals_read(struct proposals *proposals, struct checker *checker,
                    const struct wal_change *change);
void proposals_judge(struct proposals *proposals, struct checker *checker,
                     const struct test_postgres *pg);

#endif
