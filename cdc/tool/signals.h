/* The signals that end a command that runs for long, as a person gives it at a terminal. */
#ifndef CDC_TOOL_SIGNALS_H
#define CDC_TOOL_SIGNALS_H

#include "common/loop.h"

/* Calls fn for SIGINT, for SIGTERM and, when the terminal closes, for SIGHUP. Where SIGHUP was
 * ignored when the program started, as nohup(1) has it, it goes on being ignored. */
enum hw_status cdc_signals_end(struct hw_loop *loop, hw_signal_fn *fn, void *arg,
                               struct hw_error *err) HW_CHECKED;

#endif
