/*
 * The handle of the library: one agent with its loop and thread, and what is on its way between
 * that thread and the program's.
 *
 * Two threads meet here. The agent's thread runs the loop and nothing else runs there. The
 * program's thread (of its own choice, or one that the library keeps) runs the callbacks, in
 * headwater_agent_dispatch. What goes from the agent to the program is put into the lists below
 * under the lock, and an eventfd wakes the program. What goes from the program to the agent is
 * posted to the loop (hw_loop_post). A callback is never called with the lock held, so it may call
 * every function of the library.
 */
#ifndef HW_AGENT_LIBRARY_HANDLE_H
#define HW_AGENT_LIBRARY_HANDLE_H

#include <pthread.h>
#include <stdbool.h>

#include "agent/agent.h"
#include "agent/library/headwater_agent.h"

struct library_line;
struct library_decision;
struct library_call;

struct headwater_agent {
    struct headwater_agent_options options; /* the strings belong to it */
    struct agent_options core_options;
    struct agent *core; /* only the agent's thread uses it, and the loop */
    struct hw_loop *loop;
    pthread_t thread;
    bool thread_runs;

    pthread_t caller; /* runs the callbacks, if the program wants that */
    bool caller_runs;
    int fd;      /* an eventfd: there is something to dispatch */
    int quit_fd; /* an eventfd: the caller's thread is to end */

    pthread_mutex_t lock; /* guards what follows */
    struct library_line *lines, **lines_end;
    size_t line_count, lines_lost;
    struct library_decision *decisions, **decisions_end;
    struct library_decision *known; /* the program knows them: the agent is to forget them */
    bool changed;
    struct headwater_agent_status status;
    struct library_call *call; /* to be made */
    bool pending;              /* a call was made and is not answered */
    bool calling;              /* its callback has not returned */
    char answer[HEADWATER_AGENT_ERROR_MAX];
    enum headwater_agent_result result;
    struct library_call
        *out; /* the call that was made last: the program may still read its texts */
};

/* Makes the program's descriptor readable. Any thread. */
void library_wake(const struct headwater_agent *agent);

#endif
