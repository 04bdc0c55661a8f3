/*
 * The reported value: what a node says of itself under cfg.reported.<node>, built of its state and
 * of nothing else, so that it never says more than the disk does.
 */
#ifndef HW_AGENT_REPORT_H
#define HW_AGENT_REPORT_H

#include "agent/state.h"
#include "common/json.h"

/* What the report calls the state: applied, failed, rejected. */
const char *agent_report_state(const struct agent_state *state);

/* The report without its time of reporting; NULL while there is nothing to say. heartbeat_ms:
 * between signs of life; 0: there are none. Caller: json_decref. */
json_t *agent_report_build(const struct agent_state *state, const char *node, const char *boot_id,
                           int64_t heartbeat_ms);

/* The value to publish now; malloc'ed. */
char *agent_report_text(const json_t *report);

/* Does a published value say the same, its time of reporting aside? */
bool agent_report_matches(const json_t *report, const char *value, size_t size);

#endif
