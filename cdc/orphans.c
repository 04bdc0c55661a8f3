#include "cdc/orphans.h"

#include <stdlib.h>

#include "base/memory.h"
#include "cdc/slot.h"

const char cdc_orphans_sql[] =
    "SELECT s.slot_name, coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()\n"
    "           ELSE pg_current_wal_insert_lsn() END - s.restart_lsn, 0)::bigint AS retained\n"
    "FROM pg_replication_slots s\n"
    "WHERE s.plugin = 'wal2json' AND s.database = current_database()\n"
    "  AND NOT s.temporary AND NOT s.active\n"
    "  AND s.slot_name NOT IN ($1::text, $1::text || '_archive')\n"
    "  AND NOT EXISTS (SELECT FROM pg_replication_slots o\n"
    "                  WHERE o.active AND s.slot_name = o.slot_name || '_archive')\n"
    "ORDER BY s.slot_name";

struct cdc_orphan cdc_orphan_at(const PGresult *result, int row)
{
    return (struct cdc_orphan){.slot = PQgetvalue(result, row, 0),
                               .retained = strtoll(PQgetvalue(result, row, 1), NULL, 10)};
}

/* A slot's name holds nothing that would have to be quoted: [a-z0-9_]. */
char *cdc_orphan_drop_sql(const char *slot)
{
    return hw_sprintf("SELECT pg_drop_replication_slot('%s')", slot);
}

char *cdc_orphan_text(const struct cdc_orphan *orphan)
{
    HW_AUTO_FREE char *drop = cdc_orphan_drop_sql(orphan->slot);

    return hw_sprintf("nobody streams from the slot \"%s\", which holds back %s of WAL: start the "
                      "reconciler that has it as --slot, or drop it: %s",
                      orphan->slot, CDC_BYTES(orphan->retained), drop);
}
