/*
 * Commands of the operator. A command is run without a shell, in a process group of its own, with
 * nothing on stdin, for a bounded time. The end of its output is kept for the report. What it
 * leaves running in the background may go on writing (agent/daemon/drain.h).
 */
#ifndef AGENT_DAEMON_COMMAND_H
#define AGENT_DAEMON_COMMAND_H

#include <stdbool.h>

#include "base/status.h"
#include "common/loop.h"

#define AGENT_COMMAND_TAIL  1024 /* bytes kept of stdout and stderr together */
#define AGENT_COMMAND_GRACE 2000 /* ms from SIGTERM to SIGKILL */

struct agent_command_spec {
    char *const *argv; /* argv[0] is looked up in PATH */
    char *const *env;
    int64_t timeout_ms; /* then the group gets SIGTERM, and SIGKILL after the grace */
    const char *record; /* a file that names the process while it runs; see agent_command_reap */
};

/* error: "" when the command exited with 0; otherwise a sentence and the tail of its output. */
typedef void agent_command_fn(void *arg, const char *error);

struct agent_command;

/* Starts a command. done is called once, later, from the loop, and *command is freed by then.
 * The strings are used only during this call. HW_ENOENT, HW_EDENIED, HW_EIO: it could not be
 * started. */
enum hw_status agent_command_start(struct hw_loop *loop, const struct agent_command_spec *spec,
                                   agent_command_fn *done, void *arg,
                                   struct agent_command **command, struct hw_error *err) HW_CHECKED;

/* Ends a command now, and waits for that at most the grace; done is not called. NULL is fine. */
void agent_command_end(struct agent_command *command);

/*
 * Takes the ends of children that this process has not started. An agent that is process 1 of a
 * container inherits the processes that its commands leave behind. running: the command whose end
 * must not be taken here, or NULL. Call it on SIGCHLD, and after a command, whose end may have
 * hidden others.
 */
void agent_orphans_reap(const struct agent_command *running);

/*
 * Ends the command that a killed agent left running, as the record at path names it. The process is
 * recognised by its start time and the machine's boot, so a stranger that has the same id is never
 * hit. Returns whether there was one; waits for its end at most the grace.
 */
bool agent_command_reap(const char *path);

#endif
