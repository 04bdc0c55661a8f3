/*
 * The reported value: what a node says of itself under cfg.reported.<node>. It is built of the
 * state on disk and of nothing else, so it never says more than the disk does.
 */
#ifndef HW_AGENT_REPORT_H
#define HW_AGENT_REPORT_H

#include "agent/disk/state.h"
#include "base/json.h"

/* The word of the report for a state: applied, failed or rejected. */
const char *agent_report_state(const struct agent_state *state);

/* The report without the time at which it is sent; NULL while there is nothing to say. instance: of
 * the running agent; NULL: it is not one.
 * heartbeat_ms: the time between signs of life; 0: there are none. Caller: json_decref. */
json_t *agent_report_build(const struct agent_state *state, const char *node, const char *boot_id,
                           const char *instance, int64_t heartbeat_ms);

/* The value to publish now; malloc'ed. */
char *agent_report_text(const json_t *report);

#endif
