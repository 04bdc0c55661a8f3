/* The numbers that a reconciler counts, and the table that shows them as metrics
 * (common/metrics.h). */
#ifndef RECONCILER_COUNTS_COUNTS_H
#define RECONCILER_COUNTS_COUNTS_H

#include "common/metrics.h"

struct rec_counts {
    uint64_t transactions; /* from the stream, also those that changed no node */
    uint64_t entries;      /* that NATS has acknowledged */
    uint64_t drift;        /* keys, objects and checkpoints that others had changed */
    uint64_t comparisons, rebuilds, replays;
    uint64_t streams;    /* times that the stream was taken up */
    uint64_t failures;   /* times that everything was begun anew because something failed */
    uint64_t slots_lost; /* times that the slot was lost or gone although a checkpoint needs it */
    uint64_t repaired;   /* entries that a comparison wrote */
    uint64_t collected;  /* objects removed because nobody needs them */
    uint64_t purged;     /* deleted nodes whose keys were purged */
    uint64_t reports_written, reports_refused;
    uint64_t reports_replaced; /* by a newer one of the node, before they were written … */
    uint64_t reports_left_out; /* … and that hid a change of its state */
    /* Times that a reader of what NATS stores began anew because something was wrong. */
    struct {
        uint64_t reports, proposals, objects, keys, comparison;
    } restarts;
    uint64_t heartbeats; /* signs of life of nodes */
    uint64_t log_lines_lost;
    struct hw_histogram published; /* from commit to acknowledgement */
    struct hw_histogram applied;   /* from commit to the report that a node is in sync */
    double postgresql_up, nats_up;
    double leading; /* 1 while the slot is ours and the stream runs */
    double epoch;
    double nodes, objects;
    double lag_seconds; /* how long ago the confirmed position was the log's end */

    /* As of the last check-up. NaN while this process does not lead, and so does not look. */
    double lag_bytes;       /* of log behind the confirmed position */
    double slot_usable;     /* 0: lost, missing or refused */
    double slot_safe_bytes; /* until it is lost; -1: no limit */
    double retained_bytes;  /* of log that the slot holds back */
    double archive_usable;
    double archive_reach_bytes, archive_retained_bytes;
    double orphan_slots; /* slots that hold log back and that nobody reads */
    double in_sync, pending, failed, unassigned, conflict,
        unknown;                              /* nodes, as the fleet view counts them */
    double pending_seconds;                   /* of the node that is pending longest */
    double unknown_nodes, unknown_nodes_full; /* names that nobody registered */
    double noisy_nodes;                       /* whose changes wait for room in the history */
    double reports_aside;                     /* nodes whose newest report the database refused */
    double doubted;                           /* keys whose rows are missing in the database */
};

extern const struct hw_metric rec_counts_table[];

/* A reader, by the name that its watch has, began anew because something was wrong. */
void rec_counts_restarted(struct rec_counts *counts, const char *reader);

/* Sets the numbers that only a leader knows to NaN. */
void rec_counts_forget(struct rec_counts *counts);

#endif
