/*
 * The operator's commands as the callbacks of an agent. One validates a document, one makes the
 * node use it, one says whether the node is well. At most one of them runs at a time.
 */
#ifndef AGENT_DAEMON_RUNNER_H
#define AGENT_DAEMON_RUNNER_H

#include "agent/library/headwater_agent.h"
#include "common/loop.h"

struct agent_runner_command {
    char **argv; /* NULL: there is no such command */
    int64_t timeout_ms;
};

struct agent_runner_options {
    struct agent_runner_command validate, apply, health;
    int64_t health_within_ms; /* a health command that fails is repeated for so long */
    const char *node;
    const char
        *record; /* a file that names the command while it runs; see agent/daemon/command.h */
};

struct agent_runner;

/* Options and their strings are borrowed. */
struct agent_runner *agent_runner_new(struct hw_loop *loop,
                                      const struct agent_runner_options *options);
void agent_runner_free(struct agent_runner *runner); /* after headwater_agent_free; NULL is fine */

/* Ends the command that runs, without an answer to the agent. NULL is fine. */
void agent_runner_end(struct agent_runner *runner);

/* Takes the ends of children that were inherited; see agent_orphans_reap. */
void agent_runner_reap(const struct agent_runner *runner);

const char *agent_runner_node(const struct agent_runner *runner);

/* Sets the callbacks for which there is a command; their arg is the runner. */
void agent_runner_fill(const struct agent_runner *runner, struct headwater_agent_options *options);

/* Tells the runner which agent to answer; call it before the first dispatch. */
void agent_runner_serve(struct agent_runner *runner, struct headwater_agent *agent);

#endif
