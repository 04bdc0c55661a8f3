/*
 * Timelines. Each promotion of a standby begins a new one, at some position of the old one's log.
 * What the old server committed behind that position is not in the new one's history.
 */
#ifndef CDC_TIMELINE_H
#define CDC_TIMELINE_H

#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"

/* The position at which the history that is on timeline now has left timeline then; HW_LSN_NONE:
 * it never was there. Asks the server, whose timeline is now; blocks as hw_db_connect does. The
 * role needs REPLICATION. */
enum hw_status cdc_timeline_fork(const char *conninfo, uint32_t now, uint32_t then, hw_lsn *fork,
                                 struct hw_error *err) HW_CHECKED;

/* Reads it from the text of a timeline's history file: lines of a timeline, the position where it
 * was left, and words for people. */
hw_lsn cdc_timeline_find(const char *history, uint32_t then);

#endif
