/* What a reconciler counts, and how it shows it: see common/metrics.h. */
#ifndef REC_COUNTS_H
#define REC_COUNTS_H

#include "common/metrics.h"

struct rec_counts {
    uint64_t transactions; /* streamed, that changed something or not */
    uint64_t drift;        /* keys, objects and checkpoints that others had changed */
    uint64_t audits, rebuilds, replays;
    uint64_t repaired;  /* entries that an audit wrote */
    uint64_t collected; /* objects removed because nobody needs them */
    double leading;     /* 1 while the slot is ours and the stream runs */
    double epoch;
    double nodes, objects;
    double lag_bytes, lag_seconds; /* between the log's end, or now, and what is confirmed */
    double slot_usable;            /* 0: lost, missing or refused */
    double slot_safe_bytes;        /* until it is lost; -1: no limit */
    double retained_bytes;         /* of log that the slot holds back */
};

extern const struct hw_metric rec_counts_table[];

#endif
