#include "reconciler/counts/counts.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

#define ROW(member, name, text)                                                                    \
    {                                                                                              \
        HW_METRIC(struct rec_counts, member, "headwater_reconciler_" name, text)                   \
    }

#define LABELLED(member, name, key, value, text)                                                   \
    {                                                                                              \
        HW_METRIC(struct rec_counts, member, "headwater_reconciler_" name, text),                  \
            .label = (key), .label_value = (value)                                                 \
    }
#define REPORTS(what, text) LABELLED(reports_##what, "reports_total", "result", #what, text)
#define READER(what, text)  LABELLED(restarts.what, "reader_restarts_total", "reader", #what, text)
#define FLEET(what, text)   LABELLED(what, "fleet_nodes", "state", #what, text)

const struct hw_metric rec_counts_table[] = {
    ROW(transactions, "transactions_total", "Transactions taken from the stream."),
    ROW(entries, "entries_total", "Entries of nodes that NATS has acknowledged."),
    ROW(published, "publish_seconds",
        "From the commit of a change to the acknowledgement of its entry by NATS."),
    ROW(applied, "apply_seconds",
        "From the change of a node's desired state to the report that it runs it."),
    REPORTS(written, "Reports of nodes: written, refused, or replaced by a newer one before."),
    REPORTS(refused, ""),
    REPORTS(replaced, ""),
    ROW(reports_left_out, "report_changes_left_out_total",
        "Changes of state that a newer report hid before they were written."),
    READER(reports, "Times that a reader of what NATS stores began anew: something was wrong."),
    READER(proposals, ""),
    READER(objects, ""),
    READER(keys, ""),
    READER(comparison, ""),
    ROW(heartbeats, "heartbeats_total", "Signs of life of nodes that were heard."),
    ROW(drift, "drift_total", "Keys and objects that someone else had changed in NATS."),
    ROW(comparisons, "comparisons_total",
        "Comparisons of NATS with the database that came to their end."),
    ROW(rebuilds, "rebuilds_total", "Those that had no checkpoint to go on from."),
    ROW(replays, "replays_total", "Replays from the write-ahead log that came to their end."),
    ROW(streams, "streams_total", "Times that the stream was taken up."),
    ROW(failures, "failures_total", "Times that it began anew because something had failed."),
    ROW(slots_lost, "slots_lost_total", "Times that the replication slot was lost or gone."),
    ROW(repaired, "repaired_entries_total", "Entries that a comparison wrote."),
    ROW(collected, "collected_objects_total", "Objects removed because nothing refers to them."),
    ROW(purged, "purged_nodes_total", "Deleted nodes whose keys were purged from NATS."),
    ROW(log_lines_lost, "log_lines_lost_total", "Lines of the log that nobody got."),
    ROW(postgresql_up, "postgresql_up", "1 while PostgreSQL is connected."),
    ROW(nats_up, "nats_up", "1 while NATS is connected."),
    ROW(leading, "leading", "1 while this process streams, 0 while it stands by or waits."),
    ROW(epoch, "epoch", "The epoch of the entries that are written."),
    ROW(nodes, "nodes", "Nodes that have, or had, a key in NATS."),
    ROW(objects, "objects", "Objects in NATS."),
    ROW(lag_bytes, "lag_bytes", "Write-ahead log that is not confirmed yet."),
    ROW(lag_seconds, "lag_seconds", "Time since the newest confirmed position was the log's end."),
    ROW(slot_usable, "slot_usable", "0 when the replication slot is lost or missing."),
    ROW(slot_safe_bytes, "slot_safe_bytes", "Log until the slot is lost; -1 without a limit."),
    ROW(retained_bytes, "retained_bytes", "Log that the slot holds back."),
    ROW(archive_usable, "archive_usable", "0 when the archive slot is lost or missing."),
    ROW(archive_reach_bytes, "archive_reach_bytes", "Log that can be replayed from it."),
    ROW(archive_retained_bytes, "archive_retained_bytes", "Log that it holds back."),
    ROW(orphan_slots, "orphan_slots", "Slots of wal2json that hold log back, and nobody reads."),
    FLEET(in_sync, "Nodes by state, as the view fleet has it; of the leader alone."),
    FLEET(pending, ""),
    FLEET(failed, ""),
    FLEET(unassigned, ""),
    FLEET(conflict, ""),
    FLEET(unknown, ""),
    ROW(pending_seconds, "pending_oldest_seconds",
        "Age of the oldest change that a pending node has not applied."),
    ROW(unknown_nodes, "unknown_nodes", "Names that are alive and that nobody registered."),
    ROW(unknown_nodes_full, "unknown_nodes_full", "1 while the list of them has no place left."),
    ROW(noisy_nodes, "noisy_nodes", "Nodes that report more changes than the history takes."),
    ROW(reports_aside, "reports_set_aside", "Nodes whose newest report the database refuses."),
    ROW(doubted, "rows_missing", "Keys that have no row in the database, and should have one."),
    {0},
};

void rec_counts_restarted(struct rec_counts *c, const char *reader)
{
    const struct {
        const char *reader;
        uint64_t *count;
    } all[] = {{"reports", &c->restarts.reports},
               {"proposals", &c->restarts.proposals},
               {"objects", &c->restarts.objects},
               {"keys", &c->restarts.keys},
               {"comparison", &c->restarts.comparison}};

    for (size_t i = 0; i < HW_COUNT(all); i++)
        if (strcmp(reader, all[i].reader) == 0)
            ++*all[i].count;
}

void rec_counts_forget(struct rec_counts *c)
{
    double *const places[] = {&c->lag_bytes,
                              &c->slot_usable,
                              &c->slot_safe_bytes,
                              &c->retained_bytes,
                              &c->archive_usable,
                              &c->archive_reach_bytes,
                              &c->archive_retained_bytes,
                              &c->orphan_slots,
                              &c->in_sync,
                              &c->pending,
                              &c->failed,
                              &c->unassigned,
                              &c->conflict,
                              &c->unknown,
                              &c->pending_seconds,
                              &c->unknown_nodes,
                              &c->unknown_nodes_full,
                              &c->noisy_nodes,
                              &c->reports_aside,
                              &c->doubted};

    for (size_t i = 0; i < HW_COUNT(places); i++)
        *places[i] = (double)NAN;
}
