/*
 * Commands of the operator: run without a shell, in a process group of their own, with nothing on
 * stdin, for a bounded time; the end of what they write is kept for the report.
 */
#ifndef AGENT_DAEMON_COMMAND_H
#define AGENT_DAEMON_COMMAND_H

#include <stdbool.h>

#include "common/loop.h"
#include "common/status.h"

#define AGENT_COMMAND_TAIL  1024 /* bytes kept of stdout and stderr together */
#define AGENT_COMMAND_GRACE 2000 /* ms from SIGTERM to SIGKILL */

struct agent_command_spec {
    char *const *argv; /* argv[0] is looked up in PATH */
    char *const *env;
    int64_t timeout_ms; /* then SIGTERM to the group, and SIGKILL after the grace */
    const char *record; /* file that names the process while it runs, see agent_command_reap */
};

/* error: "" when the command exited with 0, else one sentence and the tail of its output. */
typedef void agent_command_fn(void *arg, const char *error);

struct agent_command;

/* Starts a command; done is called once, later, from the loop, and *command is gone then. The
 * strings are used only during this call. HW_ENOENT, HW_EDENIED, HW_EIO: it could not be started.
 */
enum hw_status agent_command_start(struct hw_loop *loop, const struct agent_command_spec *spec,
                                   agent_command_fn *done, void *arg,
                                   struct agent_command **command, struct hw_error *err) HW_CHECKED;

/* Ends a command now, waiting for it at most the grace; done is not called. NULL is fine. */
void agent_command_end(struct agent_command *command);

/*
 * Waits for children that nobody in this process started and that have ended: as process 1 of a
 * container the agent inherits what its commands leave behind. running: the command of which this
 * is not true, or NULL. For SIGCHLD, and after a command: its end may have hidden others.
 */
void agent_orphans_reap(const struct agent_command *running);

/*
 * Ends what a killed agent left running, as the record at path names it. A process is recognised by
 * its start time and the machine's boot, so that no stranger with the same id is ever hit. Returns
 * whether there was one; waits for it at most the grace.
 */
bool agent_command_reap(const char *path);

#endif
