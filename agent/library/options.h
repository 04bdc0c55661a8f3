/* The options of a program, checked, copied, and made those of the agent. */
#ifndef HW_AGENT_LIBRARY_OPTIONS_H
#define HW_AGENT_LIBRARY_OPTIONS_H

#include "agent/agent.h"
#include "agent/library/headwater_agent.h"
#include "base/status.h"

/* HW_EINVAL says what is wrong with them. A program that was built with an older header has a
 * smaller size, and the members behind it are not looked at. */
enum hw_status library_options_check(const struct headwater_agent_options *options,
                                     struct hw_error *err) HW_CHECKED;

/* Copies checked options with their strings, and fills in the presets of two strings. */
void library_options_copy(struct headwater_agent_options *to,
                          const struct headwater_agent_options *from);
void library_options_clear(struct headwater_agent_options *options);

/* As the agent takes them; the strings are borrowed from options. */
struct agent_options library_options_core(const struct headwater_agent_options *options);

#endif
