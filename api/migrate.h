/*
 * The schema: plain SQL files, numbered, each one transaction, which travel inside the program.
 * Each records itself in headwater.migration; the runner adds the SHA-256 of its bytes.
 */
#ifndef API_MIGRATE_H
#define API_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/status.h"

struct api_migration {
    int version;
    const char *name;
    const char *sql; /* the file's bytes, and a NUL that size does not count */
    size_t size;
};

/* Ascending; made by scripts/embed-migrations. */
extern const struct api_migration api_migrations[];
extern const size_t api_migrations_count;

/* The version that this program works with: the last one's. */
int api_migrate_version(void);

/* Reads which migrations a database has. */
extern const char api_migrate_applied_sql[];

/* Does the program work with a database that answers api_migrate_applied_sql so? HW_ECONFLICT says
 * what to do. */
enum hw_status api_migrate_check(const PGresult *applied, struct hw_error *err) HW_CHECKED;

/*
 * Brings the database to api_migrate_version, one line of standard output a migration; with dry_run
 * only lists what is pending. Two at once are safe: one waits. A server that is not there yet, or
 * that is still starting, is waited for, wait_ms milliseconds at most. Nothing is applied when a
 * file is not what was applied under its number, when the database is newer, and when it has the
 * numbering from before the first release (all HW_ECONFLICT). Blocks.
 */
enum hw_status api_migrate(const char *conninfo, bool dry_run, int64_t wait_ms,
                           struct hw_error *err) HW_CHECKED;

#endif
