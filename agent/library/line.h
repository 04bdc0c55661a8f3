/*
 * Lines of the agent's log on their way to the program. At most a thousand wait; later ones are
 * counted and not kept, so that a program that does not dispatch does not fill its memory.
 */
#ifndef HW_AGENT_LIBRARY_LINE_H
#define HW_AGENT_LIBRARY_LINE_H

#include "agent/library/handle.h"

/* agent_hooks.told; arg is the handle. */
void library_line_add(void *arg, enum hw_log_level level, const char *what,
                      const struct agent_document *document, const char *detail);

/* Gives lines, taken out of the handle, and the number of those that were lost to the program, and
 * frees them; returns how many callbacks it made. */
int library_lines_give(struct headwater_agent *agent, struct library_line *lines, size_t lost);

#endif
