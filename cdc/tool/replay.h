/*
 * headwater-cdc replay: finds a range of the log that the archive slot still holds, says what is in
 * it, or has the reconciler send it once more and follows that.
 */
#ifndef CDC_TOOL_REPLAY_H
#define CDC_TOOL_REPLAY_H

#include <stdbool.h>

#include "base/status.h"

struct cdc_replay_options {
    const char *conninfo;
    const char *slot;   /* the reconciler's; its archive slot is read */
    const char *tables; /* that count, schema.table, separated by commas */
    /*
     * An LSN, or a time in a form that PostgreSQL's timestamptz takes. From a position: what ends
     * behind it; from a time: what was committed then or later. To a position or a time: what was
     * committed up to it, or NULL: everything. Configuration commits in the order of its times, one
     * transaction after the other; where the clock was set back, the first time that fits counts.
     */
    const char *from, *to;
    bool dry_run; /* reads and tells only */
    bool json;    /* what is told on standard output; progress goes to standard error */
};

/*
 * HW_OK when the range was read and told, or was sent once more. HW_EINVAL for a range that makes
 * no sense, HW_ENOENT without archive slot, HW_ELIMIT when it does not reach back, HW_EUNAVAIL when
 * no reconciler leads, HW_ESTOPPED after a signal; the message says what becomes of the command.
 */
enum hw_status cdc_replay_run(const struct cdc_replay_options *options,
                              struct hw_error *err) HW_CHECKED;

#endif
