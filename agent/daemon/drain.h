/*
 * The drain of a command's output. A command may leave a program running in the background, with
 * the pipe to the agent as its standard output. Once nobody reads that pipe, the next word that
 * the program writes kills it by SIGPIPE, and if nobody read and the pipe stayed open, a full pipe
 * would stop it. Under a service manager neither happens. So a small process goes on reading until
 * the last writer is gone, and throws away what it reads. It is a process, because what was left in
 * the background lives on when the agent ends.
 */
#ifndef AGENT_DAEMON_DRAIN_H
#define AGENT_DAEMON_DRAIN_H

/* Takes the reading end of a pipe: closes it, after a drain was started where somebody may still
 * write. A drain is a child of this process; its end is taken by agent_orphans_reap. */
void agent_drain(int fd);

#endif
