/*
 * Orphans are slots of wal2json in this database that nobody streams from and that are not ours.
 * Each holds log back, until the disk is full or max_slot_wal_keep_size gives the slot up.
 * Temporary slots do not count, nor do the archive slots of slots that are streamed from.
 */
#ifndef CDC_ORPHANS_H
#define CDC_ORPHANS_H

#include <libpq-fe.h>
#include <stdint.h>

/* Lists the orphans, a row each. Its one parameter is the name of our slot, which is no orphan, and
 * neither is its archive slot. */
extern const char cdc_orphans_sql[];

struct cdc_orphan {
    const char *slot; /* borrowed from the result */
    int64_t retained; /* bytes of log that it holds back */
};
struct cdc_orphan cdc_orphan_at(const PGresult *result, int row);

/* The statement that drops the orphan, and a sentence for people that contains it; malloc'ed. */
char *cdc_orphan_drop_sql(const char *slot);
char *cdc_orphan_text(const struct cdc_orphan *orphan);

#endif
