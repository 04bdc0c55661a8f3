#include "reconciler/counts.h"

#define ROW(member, name, text)                                                                    \
    {                                                                                              \
        HW_METRIC(struct rec_counts, member, "headwater_reconciler_" name, text)                   \
    }

const struct hw_metric rec_counts_table[] = {
    ROW(transactions, "transactions_total", "Transactions taken from the stream."),
    ROW(drift, "drift_total", "Keys and objects that someone else had changed in NATS."),
    ROW(audits, "audits_total", "Comparisons of NATS with the database that came to their end."),
    ROW(rebuilds, "rebuilds_total", "Those that had no checkpoint to go on from."),
    ROW(replays, "replays_total", "Replays from the write-ahead log that came to their end."),
    ROW(repaired, "repaired_entries_total", "Entries that a comparison wrote."),
    ROW(collected, "collected_objects_total", "Objects removed because nothing refers to them."),
    ROW(leading, "leading", "1 while this process streams, 0 while it stands by or waits."),
    ROW(epoch, "epoch", "The epoch of the entries that are written."),
    ROW(nodes, "nodes", "Nodes that have, or had, a key in NATS."),
    ROW(objects, "objects", "Objects in NATS."),
    ROW(lag_bytes, "lag_bytes", "Write-ahead log that is not confirmed yet."),
    ROW(lag_seconds, "lag_seconds", "Time since the newest confirmed position was the log's end."),
    ROW(slot_usable, "slot_usable", "0 when the replication slot is lost or missing."),
    ROW(slot_safe_bytes, "slot_safe_bytes", "Log until the slot is lost; -1 without a limit."),
    ROW(retained_bytes, "retained_bytes", "Log that the slot holds back."),
    {0},
};
