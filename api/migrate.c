#include "api/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/digest.h"
#include "base/memory.h"
#include "common/loop.h"
#include "pg/database.h"

/* The key of the advisory lock that one migration holds: "headwatr" in ASCII. */
#define MIGRATION_LOCK "7522523055178020978"

const char api_migrate_applied_sql[] =
    "SELECT version, name, checksum FROM headwater.migration ORDER BY version";

int api_migrate_version(void)
{
    return api_migrations[api_migrations_count - 1].version;
}

static char *checksum(const struct api_migration *m, char hex[static HW_DIGEST_HEX_MAX])
{
    struct hw_digest digest;

    hw_digest_of(m->sql, m->size, &digest);
    return hw_digest_hex(&digest, hex);
}

/* The row of version in applied, or -1. */
static int find_applied(const PGresult *applied, int version)
{
    for (int i = 0; i < PQntuples(applied); i++)
        if (strtol(PQgetvalue(applied, i, 0), NULL, 10) == version)
            return i;
    return -1;
}

/* *applied: version, name, checksum of what is there; no rows where nothing is. */
static enum hw_status read_applied(PGconn *conn, PGresult **applied, struct hw_error *err)
{
    PGresult *there;
    enum hw_status status = hw_db_exec(
        conn, "SELECT to_regclass('headwater.migration') IS NOT NULL", 0, NULL, &there, err);
    bool exists;

    if (status != HW_OK)
        return status;
    exists = strcmp(PQgetvalue(there, 0, 0), "t") == 0;
    PQclear(there);
    return hw_db_exec(conn, exists ? api_migrate_applied_sql : "SELECT 0, '', NULL WHERE false", 0,
                      NULL, applied, err);
}

/* The migrations were numbered anew before the first release. A database of the old numbering is
 * known by its names, and goes beyond our last number, so this is asked before anything else. */
static enum hw_status verify_names(const PGresult *applied, struct hw_error *err)
{
    for (size_t i = 0; i < api_migrations_count; i++) {
        const struct api_migration *m = &api_migrations[i];
        const int row = find_applied(applied, m->version);

        if (row >= 0 && strcmp(PQgetvalue(applied, row, 1), m->name) != 0)
            return hw_fail(
                err, HW_ECONFLICT,
                "the database is from before the first release, when the migrations were numbered "
                "otherwise (migration %d is \"%s\" there and \"%s\" here): write its configuration "
                "to files with headwater export, migrate a new, empty database, and apply them "
                "there",
                m->version, PQgetvalue(applied, row, 1), m->name);
    }
    return HW_OK;
}

enum hw_status api_migrate_check(const PGresult *applied, struct hw_error *err)
{
    const int rows = PQntuples(applied), expected = api_migrate_version();
    const long version = rows > 0 ? strtol(PQgetvalue(applied, rows - 1, 0), NULL, 10) : 0;
    const enum hw_status status = verify_names(applied, err);

    if (status != HW_OK || version == expected)
        return status;
    return hw_fail(err, HW_ECONFLICT,
                   "the database's schema is at version %ld, this program works with %d: %s",
                   version, expected,
                   version < expected ? "run headwater-api migrate as its owner or a superuser"
                                      : "use a newer headwater-api");
}

/* Is what is there a part of what this program has? */
static enum hw_status verify(const PGresult *applied, struct hw_error *err)
{
    const enum hw_status status = verify_names(applied, err);

    if (status != HW_OK)
        return status;
    for (int i = 0; i < PQntuples(applied); i++) {
        const long version = strtol(PQgetvalue(applied, i, 0), NULL, 10);

        if (version > api_migrate_version())
            return hw_fail(err, HW_ECONFLICT,
                           "the database has migration %ld (%s), this program knows %d at most: "
                           "use a newer headwater-api",
                           version, PQgetvalue(applied, i, 1), api_migrate_version());
    }
    for (size_t i = 0; i < api_migrations_count; i++) {
        const struct api_migration *m = &api_migrations[i];
        const int row = find_applied(applied, m->version);
        char hex[HW_DIGEST_HEX_MAX];

        if (row < 0 || PQgetisnull(applied, row, 2))
            continue;
        if (strcmp(PQgetvalue(applied, row, 2), checksum(m, hex)) != 0)
            return hw_fail(
                err, HW_ECONFLICT,
                "migration %d (%s) was applied with other contents (sha256 %s) than this "
                "program has (sha256 %s): use the headwater-api that migrated this "
                "database, or a newer release",
                m->version, m->name, PQgetvalue(applied, row, 2), hex);
    }
    return HW_OK;
}

static enum hw_status record_checksum(PGconn *conn, const struct api_migration *m,
                                      struct hw_error *err)
{
    char hex[HW_DIGEST_HEX_MAX], version[16];
    const char *const values[] = {version, checksum(m, hex)};

    snprintf(version, sizeof(version), "%d", m->version);
    return hw_db_exec(conn,
                      "UPDATE headwater.migration SET checksum = $2 "
                      "WHERE version = $1::int AND checksum IS NULL",
                      2, values, NULL, err);
}

static enum hw_status apply(PGconn *conn, const struct api_migration *m, struct hw_error *err)
{
    PGresult *result = PQexec(conn, m->sql);
    const ExecStatusType done = PQresultStatus(result);
    enum hw_status status = HW_OK;

    if (done != PGRES_COMMAND_OK && done != PGRES_TUPLES_OK) {
        char doing[160];

        snprintf(doing, sizeof(doing), "migration %d (%s)", m->version, m->name);
        status = hw_db_fail(err, conn, result, doing);
        PQclear(PQexec(conn, "ROLLBACK"));
    }
    PQclear(result);
    if (status != HW_OK)
        return status;
    printf("%04d_%s applied\n", m->version, m->name);
    fflush(stdout);
    return record_checksum(conn, m, err);
}

/* Does the database have this function of ours already? */
static enum hw_status has_function(PGconn *conn, const char *signature, bool *has,
                                   struct hw_error *err)
{
    PGresult *result;
    const enum hw_status status =
        hw_db_exec(conn, "SELECT to_regprocedure($1) IS NOT NULL", 1, &signature, &result, err);

    if (status != HW_OK)
        return status;
    *has = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return HW_OK;
}

/* Puts right what a dump, a restore or a hand has left otherwise than the migrations made it; or
 * lists it. */
static enum hw_status mend(PGconn *conn, bool dry_run, struct hw_error *err)
{
    PGresult *found;
    bool has;
    enum hw_status status = has_function(conn, "headwater.mend()", &has, err);

    if (status != HW_OK || !has)
        return status;
    status = hw_db_exec(conn,
                        dry_run ? "SELECT object, problem, mend, NULL FROM headwater.defects()"
                                : "SELECT object, problem, mend, error FROM headwater.mend()",
                        0, NULL, &found, err);
    if (status != HW_OK)
        return hw_fail_in(err, "looking for defects");
    for (int i = 0; i < PQntuples(found); i++) {
        const char *const object = PQgetvalue(found, i, 0), *const problem =
                                                                PQgetvalue(found, i, 1);
        const char *const statement = PQgetvalue(found, i, 2);

        if (dry_run)
            printf("defect: %s: %s%s%s\n", object, problem, *statement != '\0' ? "; " : "",
                   statement);
        else if (PQgetisnull(found, i, 3))
            printf("mended: %s: %s\n", object, problem);
        else
            fprintf(stderr, "not mended: %s: %s (%s)%s%s\n", object, problem,
                    PQgetvalue(found, i, 3), *statement != '\0' ? "; " : "", statement);
    }
    PQclear(found);
    return HW_OK;
}

/* What the roles may do now is what the migrations gave them. */
static enum hw_status note_granted(PGconn *conn, struct hw_error *err)
{
    bool has;
    const enum hw_status status = has_function(conn, "headwater.note_granted()", &has, err);

    if (status != HW_OK || !has)
        return status;
    return hw_db_exec(conn, "SELECT headwater.note_granted()", 0, NULL, NULL, err);
}

static enum hw_status apply_pending(PGconn *conn, bool dry_run, struct hw_error *err)
{
    PGresult *applied = NULL;
    enum hw_status status = read_applied(conn, &applied, err);
    size_t pending = 0;

    if (status == HW_OK)
        status = verify(applied, err);
    if (status == HW_OK)
        status = mend(conn, dry_run, err);
    for (size_t i = 0; i < api_migrations_count && status == HW_OK; i++) {
        const struct api_migration *m = &api_migrations[i];
        const int row = find_applied(applied, m->version);

        if (row < 0)
            pending++;
        if (row < 0 && dry_run)
            printf("%04d_%s pending\n", m->version, m->name);
        else if (row < 0)
            status = apply(conn, m, err);
        else if (PQgetisnull(applied, row, 2) && !dry_run)
            status = record_checksum(conn, m, err); /* psql applied it */
    }
    if (status == HW_OK && pending == 0)
        printf("nothing to do: the schema is at version %d\n", api_migrate_version());
    else if (status == HW_OK && !dry_run)
        status = note_granted(conn, err);
    PQclear(applied);
    return status;
}

/* WARNINGs are for the operator, NOTICEs about what exists already are not. */
static void on_notice(void *arg, const PGresult *notice)
{
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);

    (void)arg;
    if (severity != NULL && strcmp(severity, "WARNING") == 0)
        fputs(PQresultErrorMessage(notice), stderr);
}

static enum hw_status connect_within(const char *conninfo, int64_t wait_ms, PGconn **conn,
                                     struct hw_error *err)
{
    const struct timespec pause = {.tv_nsec = 200000000};
    const int64_t until = hw_loop_now() + wait_ms;
    enum hw_status status;

    /* A server that answers and refuses us (a wrong password, no such database) will do so again.
     */
    while ((status = hw_db_connect(conninfo, "headwater-api migrate", conn, err)) == HW_EUNAVAIL &&
           hw_loop_now() < until)
        nanosleep(&pause, NULL);
    return status;
}

enum hw_status api_migrate(const char *conninfo, bool dry_run, int64_t wait_ms,
                           struct hw_error *err)
{
    PGconn *conn;
    enum hw_status status = connect_within(conninfo, wait_ms, &conn, err);

    if (status != HW_OK)
        return status;
    PQsetNoticeReceiver(conn, on_notice, NULL);
    status = hw_db_exec(conn, "SELECT pg_advisory_lock(" MIGRATION_LOCK ")", 0, NULL, NULL, err);
    if (status == HW_OK)
        status = apply_pending(conn, dry_run, err);
    PQfinish(conn); /* which frees the lock */
    return status;
}
