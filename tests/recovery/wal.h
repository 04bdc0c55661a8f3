/* What was committed, as PostgreSQL's write-ahead log has it, through a slot of the harness's own,
 * which is never confirmed: each reading begins at its start. */
#ifndef RECOVERY_WAL_H
#define RECOVERY_WAL_H

#include <jansson.h>
#include <stdbool.h>

#include "base/lsn.h"
#include "tests/support/servers.h"

/* Makes the slot. */
void wal_start(const struct test_postgres *pg);

struct wal_change {
    const char *table; /* of the schema headwater */
    char action;       /* 'I', 'U' or 'D' */
    const json_t *json;
};

/* A column of the new row, or of the key of a row that was deleted; NULL where it is not there. */
const json_t *wal_column(const struct wal_change *change, const char *name);
const char *wal_text(const struct wal_change *change, const char *name);
int64_t wal_number(const struct wal_change *change, const char *name); /* 0: null */

/* Calls change for each change of the tables ("headwater.desired,…"), and commit behind those of
 * each transaction, with its position. What cannot be read ends the test. */
struct wal_reader {
    void (*change)(void *arg, const struct wal_change *change);
    void (*commit)(void *arg, hw_lsn lsn);
    void *arg;
};
void wal_read(const struct test_postgres *pg, const char *tables, const struct wal_reader *reader);

#endif
