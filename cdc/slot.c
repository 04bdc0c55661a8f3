#include "cdc/slot.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Every element stands in quotes of its own: a quoted list would be one name to the server. */
#define ALLOW_PLUGIN                                                                               \
    "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding', 'wal2json'; "         \
    "SELECT pg_reload_conf();"

/*
 * Every function and view in it may be used by an ordinary role. output_plugin_libraries is read
 * through pg_settings, which leaves out what a role may not see; current_setting would fail. The
 * control file's timeline lags behind a promotion until the next checkpoint, a WAL file's name does
 * not.
 */
const char cdc_server_sql[] =
    "WITH asked AS (\n"
    "    SELECT btrim(a) AS name, split_part(btrim(a), '.', 1) AS schema,\n"
    "           split_part(btrim(a), '.', 2) AS tab\n"
    "    FROM unnest(string_to_array($2, ',')) a WHERE btrim(a) <> ''\n"
    "), found AS (\n"
    "    SELECT a.name, c.oid,\n"
    "           c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (\n"
    "               SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS "
    "keyless,\n"
    "           c.relpersistence <> 'p' AS unlogged, c.xmin::text AS altered,\n"
    "           n.nspname || '.' || c.relname AS full_name\n"
    "    FROM asked a LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)\n"
    "      ON n.nspname = a.schema AND c.relname = a.tab AND c.relkind IN ('r', 'p')\n"
    "      OR a.schema = '*' AND c.relname = a.tab AND c.relkind IN ('r', 'p')\n"
    "      OR n.nspname = a.schema AND a.tab = '*' AND c.relkind IN ('r', 'p')\n"
    ")\n"
    "SELECT current_setting('server_version_num') AS version,\n"
    "       (SELECT system_identifier FROM pg_control_system()) AS system_id,\n"
    "       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())\n"
    "            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), "
    "8))::bit(32)::int\n"
    "       END AS timeline,\n"
    "       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()\n"
    "            ELSE pg_current_wal_insert_lsn() END AS current,\n"
    "       pg_is_in_recovery() AS in_recovery,\n"
    "       current_setting('wal_level') AS wal_level,\n"
    "       coalesce((SELECT bool_or(btrim(l) IN ('wal2json', '\"wal2json\"'))\n"
    "                 FROM pg_settings, unnest(string_to_array(setting, ',')) l\n"
    "                 WHERE name = 'output_plugin_libraries'), true) AS plugin_allowed,\n"
    "       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)\n"
    "           AS may_replicate,\n"
    "       current_setting('server_encoding') = 'UTF8' AS encoding_utf8,\n"
    "       current_user AS \"user\",\n"
    "       current_database() AS database,\n"
    "       s.slot_name IS NOT NULL AS slot_exists,\n"
    "       coalesce(s.plugin, '') AS slot_plugin,\n"
    "       coalesce(s.temporary, false) AS slot_temporary,\n"
    "       coalesce(s.active, false) AS slot_active,\n"
    "       coalesce(s.active_pid, 0) AS slot_active_pid,\n"
    "       coalesce((SELECT application_name FROM pg_stat_activity WHERE pid = s.active_pid), "
    "'')\n"
    "           AS slot_application,\n"
    "       coalesce(s.database, '') AS slot_database,\n"
    "       coalesce(s.confirmed_flush_lsn, '0/0') AS slot_confirmed,\n"
    "       coalesce(s.restart_lsn, '0/0') AS slot_restart,\n"
    "       coalesce(s.wal_status, '') AS slot_wal_status,\n"
    "       coalesce(s.safe_wal_size, -1) AS slot_safe_wal_size,\n"
    "       coalesce(s.database = current_database(), false) AS slot_same_database,\n"
    /* Columns and settings of PostgreSQL 17, in words that older ones take, too. */
    "       coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS slot_failover,\n"
    "       EXISTS (SELECT FROM pg_stat_activity WHERE pid = s.active_pid\n"
    "               AND wait_event = 'WaitForStandbyConfirmation') AS slot_waits,\n"
    "       (SELECT coalesce(string_agg(CASE WHEN NOT coalesce(p.active, false) THEN "
    "n.name || CASE WHEN p.slot_name IS NULL THEN ' (there is no such slot)' ELSE "
    "' (nobody streams from it)' END END, ', '), string_agg(n.name, ', '), '')\n"
    "        FROM (SELECT btrim(w) AS name FROM unnest(string_to_array("
    "current_setting('synchronized_standby_slots', true), ',')) AS w) AS n\n"
    "        LEFT JOIN pg_replication_slots AS p ON p.slot_name = n.name WHERE n.name <> '')\n"
    "           AS standbys,\n"
    "       current_setting('max_replication_slots')::int\n"
    "           - (SELECT count(*) FROM pg_replication_slots) AS free_slots,\n"
    "       current_setting('max_wal_senders')::int\n"
    "           - (SELECT count(*) FROM pg_stat_replication) AS free_senders,\n"
    "       (SELECT coalesce(string_agg(name, ', '), '') FROM found WHERE oid IS NULL)\n"
    "           AS missing_tables,\n"
    "       (SELECT coalesce(string_agg(full_name, ', '), '') FROM found WHERE keyless)\n"
    "           AS keyless_tables,\n"
    "       (SELECT coalesce(string_agg(full_name, ', '), '') FROM found WHERE unlogged)\n"
    "           AS unlogged_tables,\n"
    "       (SELECT coalesce(string_agg(altered, ',' ORDER BY oid), '') FROM found)\n"
    "           AS tables_altered,\n"
    "       a.slot_name IS NOT NULL AS archive_exists,\n"
    "       coalesce(a.confirmed_flush_lsn, '0/0') AS archive_confirmed,\n"
    "       coalesce(a.restart_lsn, '0/0') AS archive_restart,\n"
    "       coalesce(a.wal_status, '') AS archive_wal_status,\n"
    "       coalesce(a.plugin = 'wal2json' AND NOT a.temporary\n"
    "                AND a.database = current_database(), false) AS archive_same\n"
    "FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1::text\n"
    "     LEFT JOIN pg_replication_slots a ON a.slot_name = $1::text || '_archive'";

const char *cdc_slot_create_sql(int version)
{
    return version >= CDC_KNOWS_FAILOVER
               ? "SELECT lsn FROM pg_create_logical_replication_slot($1, 'wal2json', failover => "
                 "true)"
               : "SELECT lsn FROM pg_create_logical_replication_slot($1, 'wal2json')";
}

char *cdc_slot_failover_command(int version, const char *slot)
{
    return version >= CDC_KNOWS_FAILOVER
               ? hw_sprintf("ALTER_REPLICATION_SLOT \"%s\" ( FAILOVER true )", slot)
               : NULL;
}

/* ---- reading ---- */

struct row {
    const PGresult *result;
    bool complete; /* every column asked for so far is there, and what it should be */
};

static const char *text_of(struct row *row, const char *name)
{
    int column = PQfnumber(row->result, name);
    if (column >= 0 && !PQgetisnull(row->result, 0, column))
        return PQgetvalue(row->result, 0, column);
    row->complete = false;
    return "";
}

static bool bool_of(struct row *row, const char *name)
{
    return strcmp(text_of(row, name), "t") == 0;
}

static long long number_of(struct row *row, const char *name)
{
    return strtoll(text_of(row, name), NULL, 10);
}

static hw_lsn lsn_of(struct row *row, const char *name)
{
    hw_lsn lsn = HW_LSN_NONE;
    if (hw_lsn_parse(text_of(row, name), &lsn, NULL) != HW_OK)
        row->complete = false;
    return lsn;
}

static void copy_of(struct row *row, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s", text_of(row, name));
}

enum hw_status cdc_server_read(const PGresult *result, struct cdc_server *server,
                               struct hw_error *err)
{
    if (PQntuples(result) != 1)
        return hw_fail(err, HW_EPROTO, "the server described itself in %d rows", PQntuples(result));

    struct row row = {.result = result, .complete = true};
    struct cdc_server s = {
        .version = (int)number_of(&row, "version"),
        /* A signed number in SQL. */
        .system_id = (uint64_t)number_of(&row, "system_id"),
        .timeline = (uint32_t)number_of(&row, "timeline"),
        .current = lsn_of(&row, "current"),
        .in_recovery = bool_of(&row, "in_recovery"),
        .plugin_allowed = bool_of(&row, "plugin_allowed"),
        .may_replicate = bool_of(&row, "may_replicate"),
        .encoding_utf8 = bool_of(&row, "encoding_utf8"),
        .slot_exists = bool_of(&row, "slot_exists"),
        .slot_temporary = bool_of(&row, "slot_temporary"),
        .slot_active = bool_of(&row, "slot_active"),
        .slot_active_pid = (int)number_of(&row, "slot_active_pid"),
        .slot_confirmed = lsn_of(&row, "slot_confirmed"),
        .slot_restart = lsn_of(&row, "slot_restart"),
        .slot_safe_wal_size = number_of(&row, "slot_safe_wal_size"),
        .slot_same_database = bool_of(&row, "slot_same_database"),
        .slot_failover = bool_of(&row, "slot_failover"),
        .slot_waits = bool_of(&row, "slot_waits"),
        .archive_exists = bool_of(&row, "archive_exists"),
        .archive_confirmed = lsn_of(&row, "archive_confirmed"),
        .archive_restart = lsn_of(&row, "archive_restart"),
        .archive_same = bool_of(&row, "archive_same"),
        .free_slots = (int)number_of(&row, "free_slots"),
        .free_senders = (int)number_of(&row, "free_senders"),
    };
    copy_of(&row, "wal_level", s.wal_level, sizeof(s.wal_level));
    copy_of(&row, "user", s.user, sizeof(s.user));
    copy_of(&row, "database", s.database, sizeof(s.database));
    copy_of(&row, "slot_application", s.slot_application, sizeof(s.slot_application));
    copy_of(&row, "slot_database", s.slot_database, sizeof(s.slot_database));
    copy_of(&row, "slot_plugin", s.slot_plugin, sizeof(s.slot_plugin));
    copy_of(&row, "slot_wal_status", s.slot_wal_status, sizeof(s.slot_wal_status));
    copy_of(&row, "archive_wal_status", s.archive_wal_status, sizeof(s.archive_wal_status));
    copy_of(&row, "standbys", s.standbys, sizeof(s.standbys));
    copy_of(&row, "missing_tables", s.missing_tables, sizeof(s.missing_tables));
    copy_of(&row, "keyless_tables", s.keyless_tables, sizeof(s.keyless_tables));
    copy_of(&row, "unlogged_tables", s.unlogged_tables, sizeof(s.unlogged_tables));
    copy_of(&row, "tables_altered", s.tables_altered, sizeof(s.tables_altered));
    if (!row.complete)
        return hw_fail(err, HW_EPROTO, "the server's description of itself is incomplete");
    *server = s;
    return HW_OK;
}

/* ---- judging: one function a check, in the order in which they matter ---- */

struct finding {
    enum hw_status status;
    char text[512];
};

static void find(struct finding *f, enum hw_status status, const char *fmt, ...) HW_PRINTF(3, 4);
static void find(struct finding *f, enum hw_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->text, sizeof(f->text), fmt, args);
    va_end(args);
    f->status = status;
}

struct question {
    const struct cdc_server *server;
    const char *slot;
    bool need_slot;
};

static void check_server(const struct question *q, struct finding *f)
{
    const struct cdc_server *s = q->server;
    if (s->in_recovery)
        find(f, HW_EUNAVAIL,
             "it is a standby in recovery; connect to the primary (with several hosts in the URL, "
             "target_session_attrs=read-write finds it)");
    else
        find(f, HW_OK, "PostgreSQL %d.%d, system %" PRIu64 ", timeline %" PRIu32 ", WAL at %s",
             s->version / 10000, s->version % 10000, s->system_id, s->timeline, HW_LSN(s->current));
}

static void check_wal_level(const struct question *q, struct finding *f)
{
    const char *level = q->server->wal_level;
    if (strcmp(level, "logical") == 0)
        find(f, HW_OK, "logical");
    else
        find(
            f, HW_EINVAL,
            "it is \"%s\", and changes can be decoded from \"logical\" only. As a superuser: ALTER "
            "SYSTEM SET wal_level = 'logical'; then restart PostgreSQL",
            level);
}

static void check_encoding(const struct question *q, struct finding *f)
{
    if (q->server->encoding_utf8)
        find(f, HW_OK, "UTF8");
    else
        find(f, HW_EINVAL,
             "the database is not encoded in UTF8. Make a new one: CREATE DATABASE … ENCODING "
             "'UTF8' TEMPLATE template0");
}

static void check_role(const struct question *q, struct finding *f)
{
    const char *user = q->server->user;
    if (q->server->may_replicate)
        find(f, HW_OK, "%s may replicate", user);
    else
        find(f, HW_EDENIED,
             "the role %s may not replicate. As a superuser: ALTER ROLE \"%s\" REPLICATION", user,
             user);
}

static void check_plugin(const struct question *q, struct finding *f)
{
    if (q->server->plugin_allowed)
        find(f, HW_OK, "output_plugin_libraries does not refuse wal2json");
    else
        find(f, HW_EDENIED,
             "output_plugin_libraries does not list wal2json. As a superuser: " ALLOW_PLUGIN
             " (keep what else the list holds)");
}

static void check_tables(const struct question *q, struct finding *f)
{
    const struct cdc_server *s = q->server;
    if (s->missing_tables[0] != '\0')
        find(f, HW_EINVAL,
             "not in this database: %s. Is it the right database, and are its migrations applied "
             "(headwater-api migrate)?",
             s->missing_tables);
    else if (s->keyless_tables[0] != '\0')
        find(f, HW_EINVAL,
             "no replica identity: %s; their UPDATEs and DELETEs would be left out silently. Give "
             "them a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
             s->keyless_tables);
    else if (s->unlogged_tables[0] != '\0')
        find(f, HW_EINVAL,
             "unlogged: %s; what is written there is not in the log, so it would be left out "
             "silently. ALTER TABLE … SET LOGGED",
             s->unlogged_tables);
    else
        find(f, HW_OK, "all there, logged, each with a replica identity");
}

static void check_slot(const struct question *q, struct finding *f)
{
    const struct cdc_server *s = q->server;
    const char *slot = q->slot;
    if (!s->slot_exists && !q->need_slot)
        find(f, HW_OK, "there is no slot \"%s\" yet; the reconciler makes it when it starts", slot);
    else if (!s->slot_exists)
        find(f, HW_ENOENT,
             "there is no slot \"%s\". The reconciler makes it when it starts; by hand: SELECT "
             "pg_create_logical_replication_slot('%s', 'wal2json'%s)",
             slot, slot, s->version >= CDC_KNOWS_FAILOVER ? ", failover => true" : "");
    else if (strcmp(s->slot_plugin, "wal2json") != 0)
        find(f, HW_EINVAL,
             "the slot \"%s\" belongs to the plug-in \"%s\", not to wal2json; choose another name "
             "with --slot",
             slot, s->slot_plugin);
    else if (!s->slot_same_database)
        find(f, HW_EINVAL,
             "the slot \"%s\" belongs to the database \"%s\" of this server, and --database names "
             "\"%s\": correct --database (HEADWATER_DATABASE_URL), or, for a Headwater of its own, "
             "choose another --slot and another --bucket",
             slot, s->slot_database, s->database);
    else if (s->slot_temporary)
        find(f, HW_EINVAL,
             "the slot \"%s\" is temporary and belongs to the session with PID %d; choose another "
             "name with --slot",
             slot, s->slot_active_pid);
    else if (strcmp(s->slot_wal_status, "lost") == 0)
        find(f, HW_ELIMIT,
             "the slot \"%s\" has lost WAL that it still needed (max_slot_wal_keep_size): the "
             "reconciler makes it anew when it starts, and compares everything",
             slot);
    else if (strcmp(s->slot_wal_status, CDC_REMOVED) == 0)
        find(f, HW_ELIMIT,
             "WAL that the slot \"%s\" still needs, from %s on, was removed from pg_wal: the "
             "reconciler makes the slot anew when it starts, and compares everything",
             slot, HW_LSN(s->slot_restart));
    else if (s->slot_active)
        find(f, HW_ECONFLICT, "the process with PID %d%s%s%s streams from the slot \"%s\" now",
             s->slot_active_pid, s->slot_application[0] != '\0' ? " (" : "", s->slot_application,
             s->slot_application[0] != '\0' ? ")" : "", slot);
    else if (strcmp(s->slot_wal_status, "unreserved") == 0)
        find(f, HW_OK,
             "\"%s\" is about to lose the WAL that it needs: start the reconciler now, or raise "
             "max_slot_wal_keep_size",
             slot);
    else
        find(f, HW_OK, "\"%s\" is ready, confirmed up to %s", slot, HW_LSN(s->slot_confirmed));
}

static void check_room(const struct question *q, struct finding *f)
{
    const struct cdc_server *s = q->server;
    if (!s->slot_exists && s->free_slots < 1)
        find(f, HW_EUNAVAIL,
             "no replication slot is free. Drop one that nobody uses (pg_replication_slots), or as "
             "a superuser raise max_replication_slots and restart PostgreSQL");
    else if (!s->slot_active && s->free_senders < 1)
        find(f, HW_EUNAVAIL,
             "no WAL sender is free. See pg_stat_replication, or as a superuser raise "
             "max_wal_senders and restart PostgreSQL");
    else
        find(f, HW_OK, "%d slots and %d WAL senders free", s->free_slots, s->free_senders);
}

static const struct {
    const char *name;
    void (*check)(const struct question *q, struct finding *f);
} checks[] = {
    {"server", check_server}, {"wal_level", check_wal_level}, {"encoding", check_encoding},
    {"role", check_role},     {"plug-in", check_plugin},      {"tables", check_tables},
    {"room", check_room},     {"slot", check_slot},
};

enum hw_status cdc_server_check(const struct cdc_server *server, const char *slot, bool need_slot,
                                struct hw_error *err)
{
    const struct question q = {server, slot, need_slot};
    for (size_t i = 0; i < HW_COUNT(checks); i++) {
        struct finding f;
        checks[i].check(&q, &f);
        if (f.status != HW_OK)
            return hw_fail(err, f.status, "%s: %s", checks[i].name, f.text);
    }
    return HW_OK;
}

enum hw_status cdc_tables_check(const struct cdc_server *server, struct hw_error *err)
{
    struct finding f;

    check_tables(&(struct question){.server = server}, &f);
    return f.status == HW_OK ? HW_OK : hw_fail(err, f.status, "tables: %s", f.text);
}

void cdc_server_report(const struct cdc_server *server, const char *slot, bool need_slot,
                       cdc_check_fn *fn, void *arg)
{
    const struct question q = {server, slot, need_slot};
    for (size_t i = 0; i < HW_COUNT(checks); i++) {
        struct finding f;
        checks[i].check(&q, &f);
        fn(arg, checks[i].name, f.status == HW_OK || f.status == HW_ECONFLICT, f.text);
    }
}

enum hw_status cdc_archive_check(const struct cdc_server *s, const char *slot, hw_lsn from,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *archive = cdc_archive_name(slot);
    if (!s->archive_exists)
        return hw_fail(err, HW_ENOENT,
                       "there is no archive slot %s: the reconciler that leads makes it, unless it "
                       "is told to keep none; headwater.resync() compares everything instead",
                       archive);
    if (!s->archive_same)
        return hw_fail(err, HW_EINVAL,
                       "the slot %s is temporary, or belongs to another plug-in or database: it is "
                       "no archive slot",
                       archive);
    if (cdc_wal_is_gone(s->archive_wal_status))
        return hw_fail(err, HW_ELIMIT,
                       "the archive slot %s has lost its WAL (%s): the reconciler that leads makes "
                       "it anew; headwater.resync() compares everything instead",
                       archive,
                       strcmp(s->archive_wal_status, CDC_REMOVED) == 0
                           ? "it was removed from pg_wal"
                           : "max_slot_wal_keep_size");
    if (from != HW_LSN_NONE && from < s->archive_confirmed)
        return hw_fail(err, HW_ELIMIT,
                       "%s: the archive slot %s reaches back to %s only; headwater.resync() "
                       "compares everything instead",
                       HW_LSN(from), archive, HW_LSN(s->archive_confirmed));
    return HW_OK;
}

const char *cdc_pretty_bytes(int64_t bytes, char out[static 32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while ((value >= 1024 || value <= -1024) && unit + 1 < HW_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

/* ---- making slots ---- */

enum hw_status cdc_slot_check_name(const char *slot, struct hw_error *err)
{
    size_t len = strlen(slot);
    if (len < 1 || len > CDC_SLOT_NAME_MAX ||
        strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != len)
        return hw_fail(err, HW_EINVAL,
                       "slot \"%.80s\": a name is 1 to %d lower-case letters, digits and _", slot,
                       CDC_SLOT_NAME_MAX);
    return HW_OK;
}

char *cdc_archive_name(const char *slot)
{
    return hw_sprintf("%s_archive", slot);
}

char *cdc_slot_temporary_sql(const char *slot)
{
    return hw_sprintf("SELECT pg_create_logical_replication_slot('%s', 'wal2json', true)", slot);
}

char *cdc_slot_copy_sql(const char *archive, const char *temporary)
{
    return hw_sprintf("SELECT pg_copy_logical_replication_slot('%s', '%s', true)", archive,
                      temporary);
}

/* A file of the log is named by 24 hexadecimal digits. */
static bool names_log_file(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (const char *p = text; (p += strcspn(p, digits), *p != '\0'); p += strspn(p, digits))
        if (strspn(p, digits) == 24)
            return true;
    return false;
}

enum cdc_refusal cdc_slot_judge(const char *sqlstate, const char *slot, struct hw_error *err)
{
    const bool names_slot = strstr(err->message, slot) != NULL;
    const bool is_file = strcmp(sqlstate, "58P01") == 0; /* undefined_file */
    enum cdc_refusal refusal = CDC_REFUSED_OTHERWISE;
    const char *advice = NULL;

    if (is_file && names_log_file(err->message)) {
        refusal = CDC_LOG_REMOVED;
        advice = "The log that the slot still needs was removed from pg_wal";
    } else if (is_file) {
        refusal = CDC_NO_PLUGIN;
        advice = "the plug-in is not installed on the database's host: install Debian's "
                 "postgresql-15-wal2json (or that of the server's major version)";
    } else if (strstr(err->message, "output_plugin_libraries") != NULL) {
        refusal = CDC_NO_PLUGIN;
        advice = "as a superuser: " ALLOW_PLUGIN;
    } else if (strncmp(sqlstate, "28", 2) == 0 || strcmp(sqlstate, "42501") == 0) {
        refusal = CDC_NO_RIGHT;
    } else if (strcmp(sqlstate, "55006") == 0 && names_slot) { /* object_in_use */
        refusal = CDC_SLOT_IN_USE;
    } else if (strcmp(sqlstate, "42704") == 0 && names_slot) { /* undefined_object */
        refusal = CDC_NO_SLOT;
    } else if (strcmp(sqlstate, "53400") == 0) { /* configuration_limit_exceeded */
        advice = "see pg_replication_slots for one that nobody uses";
    }
    if (advice != NULL) {
        HW_AUTO_FREE char *message = hw_strdup(err->message);
        (void)hw_fail(err, err->status, "%s. %s", message, advice);
    }
    return refusal;
}

bool cdc_wal_is_gone(const char *wal_status)
{
    return strcmp(wal_status, "lost") == 0 || strcmp(wal_status, CDC_REMOVED) == 0;
}

/* Is the log that the slot begins with not there? */
static bool lacks_log(PGconn *conn, const char *slot)
{
    HW_AUTO_FREE char *temporary = hw_sprintf("headwater_probe_%d", PQbackendPID(conn));
    HW_AUTO_FREE char *copy = cdc_slot_copy_sql(slot, temporary);
    const char *const values[] = {temporary};
    struct hw_error why;

    if (hw_db_exec(conn, copy, 0, NULL, NULL, &why) != HW_OK)
        return false;
    /* It reads until there is a change, but not for long: what is missing is missing at the
     * beginning. */
    PQclear(PQexec(conn, "SET statement_timeout = '3s'"));
    PGresult *result = PQexecParams(conn,
                                    "SELECT count(*) FROM pg_logical_slot_peek_changes($1, NULL, "
                                    "1, 'format-version', '2')",
                                    1, NULL, values, NULL, NULL, 0);
    const char *const sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool lacks = false;
    if (sqlstate != NULL) {
        (void)hw_db_fail(&why, conn, result, "reading the log");
        lacks = cdc_slot_judge(sqlstate, temporary, &why) == CDC_LOG_REMOVED;
    }
    PQclear(result);
    PQclear(PQexec(conn, "RESET statement_timeout"));
    PQclear(
        PQexecParams(conn, "SELECT pg_drop_replication_slot($1)", 1, NULL, values, NULL, NULL, 0));
    return lacks;
}

void cdc_server_probe(PGconn *conn, const char *slot, struct cdc_server *s)
{
    HW_AUTO_FREE char *archive = cdc_archive_name(slot);

    if (s->slot_exists && s->slot_same_database && strcmp(s->slot_plugin, "wal2json") == 0 &&
        !cdc_wal_is_gone(s->slot_wal_status) && lacks_log(conn, slot))
        snprintf(s->slot_wal_status, sizeof(s->slot_wal_status), CDC_REMOVED);
    if (s->archive_exists && s->archive_same && !cdc_wal_is_gone(s->archive_wal_status) &&
        lacks_log(conn, archive))
        snprintf(s->archive_wal_status, sizeof(s->archive_wal_status), CDC_REMOVED);
}
