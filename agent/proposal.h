/*
 * Proposals of a node, kept in the state directory until they are decided on:
 *
 *     proposals/<ref>.json       one that waits: the value of the key cfg.proposed.<node>
 *     proposals/<ref>.decided    what became of it: one of the decisions of cfg.decided.<node>
 *
 * Whoever proposes, the agent's program or a command next to it, writes the first; the agent sends
 * it, writes the second, and removes the first when its program was told.
 */
#ifndef HW_AGENT_PROPOSAL_H
#define HW_AGENT_PROPOSAL_H

#include <stddef.h>
#include <stdint.h>

#include "agent/disk/state.h"
#include "protocol/entry.h"

#define AGENT_REF_MAX       65 /* bytes of a proposal's name, its NUL included */
#define AGENT_CONTENT_MAX   ((size_t)512 << 10)
#define AGENT_PROPOSALS_MAX 16 /* proposals that may wait, and decisions that are kept */

struct agent_proposal {
    const char *config;
    int64_t base_revision; /* of the config; 0: what the running document was made of */
    const void *data;
    size_t size;
    const char *media_type; /* NULL: the config's */
    const char *message;    /* NULL: none */
};

struct agent_decision {
    char ref[AGENT_REF_MAX];
    char config[129];
    char state[16]; /* "pending", "approved", "rejected", "conflict", "refused" */
    char reason[AGENT_ERROR_MAX];
    int64_t id;       /* in the database; 0: the database never took it */
    int64_t revision; /* the revision of the config that the approval made; 0: none */
};

/* Makes the directory of proposals. */
enum hw_status agent_proposals_open(const char *dir, struct hw_error *err) HW_CHECKED;

/* Keeps a proposal, durably. dir: of the state. node: NULL for the one that the state is of. */
enum hw_status agent_proposal_put(const char *dir, const char *node,
                                  const struct agent_proposal *proposal, char ref[AGENT_REF_MAX],
                                  struct hw_error *err) HW_CHECKED;

/* Those that wait, or whose decision the program was not told yet, oldest first; how many. */
size_t agent_proposal_list(const char *dir, char refs[AGENT_PROPOSALS_MAX][AGENT_REF_MAX]);

/* What is to be sent; malloc'ed. */
enum hw_status agent_proposal_get(const char *dir, const char *ref, char **text, size_t *len,
                                  struct hw_error *err) HW_CHECKED;
enum hw_status agent_proposal_forget(const char *dir, const char *ref,
                                     struct hw_error *err) HW_CHECKED;

/* Keeps a decision; and reads one: HW_ENOENT while there is none. */
enum hw_status agent_decision_put(const char *dir, const struct agent_decision *decision,
                                  struct hw_error *err) HW_CHECKED;
enum hw_status agent_decision_get(const char *dir, const char *ref, struct agent_decision *decision,
                                  struct hw_error *err) HW_CHECKED;

/* Finds what an entry of cfg.decided.<node> says of a proposal. HW_ENOENT: it says nothing.
 * HW_EINVAL: it is not an entry of this node. */
enum hw_status agent_decision_find(const struct hw_entry *entry, const char *node, const char *ref,
                                   struct agent_decision *decision,
                                   struct hw_error *err) HW_CHECKED;

#endif
