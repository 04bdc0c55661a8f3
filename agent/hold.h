/*
 * A maintenance hold: while the file "hold" is in the state directory, new configuration waits. It
 * is JSON, {"since": RFC 3339, "reason": text}, made and removed by whom it suits, the agent itself
 * or a command next to it; one that cannot be read holds all the same.
 */
#ifndef HW_AGENT_HOLD_H
#define HW_AGENT_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/document.h"
#include "common/status.h"

#define AGENT_REASON_MAX 512

struct agent_hold {
    bool set;
    char since[AGENT_TIME_MAX];
    char reason[AGENT_REASON_MAX]; /* UTF-8 */
    int64_t waiting;               /* revision that waits for the release; 0: none */
};

/* Is there a hold in dir? waiting is 0. */
void agent_hold_read(const char *dir, struct agent_hold *hold);

/* Makes one; an older one keeps its time. From any thread and process. */
enum hw_status agent_hold_set(const char *dir, const char *reason, struct hw_error *err) HW_CHECKED;

/* Ends it; none is fine. */
enum hw_status agent_hold_end(const char *dir, struct hw_error *err) HW_CHECKED;

#endif
