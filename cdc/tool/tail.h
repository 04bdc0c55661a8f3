/* Looking on: transactions as JSON lines on standard output. */
#ifndef CDC_TOOL_TAIL_H
#define CDC_TOOL_TAIL_H

#include "base/lsn.h"
#include "base/status.h"

struct cdc_tail_options {
    const char *conninfo;
    const char *slot; /* NULL: a temporary slot of its own, which starts now */
    hw_lsn from;      /* with a slot: after this position; HW_LSN_NONE: from what was confirmed */
    const char *tables;
    int64_t count; /* ends after so many transactions; 0: never */
};

/*
 * Prints {"xid","lsn","committed_at","changes":[…]} for each transaction that changed one of the
 * tables, until count, SIGINT, SIGTERM or the reader's end (HW_OK), or until the stream fails.
 * Confirms nothing in a slot that it was given, so that looking on takes nothing away; its own slot
 * is confirmed as the lines are written, so that the server keeps no WAL for it. A slow reader
 * slows the stream down; memory stays bounded by the largest change.
 */
enum hw_status cdc_tail_run(const struct cdc_tail_options *options,
                            struct hw_error *err) HW_CHECKED;

#endif
