/*
 * A maintenance hold: while the file "hold" is in the state directory, new configuration waits. The
 * file is JSON, {"since": RFC 3339, "reason": text}. The agent makes and removes it, and so may any
 * other program on the node. A file that cannot be read holds as well. agent/target.h says what a
 * hold stops.
 */
#ifndef HW_AGENT_HOLD_H
#define HW_AGENT_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/disk/document.h"
#include "base/status.h"

#define AGENT_REASON_MAX 512

struct agent_hold {
    bool set;
    char since[AGENT_TIME_MAX];
    char reason[AGENT_REASON_MAX]; /* UTF-8 */
    int64_t waiting;               /* the revision that waits for the release; 0: none */
};

/* Reads the hold in dir; hold->waiting becomes 0. */
void agent_hold_read(const char *dir, struct agent_hold *hold);

/* Makes a hold. Where there is one already, only its reason changes. Any thread, any process. */
enum hw_status agent_hold_set(const char *dir, const char *reason, struct hw_error *err) HW_CHECKED;

/* Ends the hold; where there is none, nothing happens. */
enum hw_status agent_hold_end(const char *dir, struct hw_error *err) HW_CHECKED;

#endif
