/*
 * Replication slots, and the conditions for streaming from one. Programs that run on the loop
 * (hw_db_run) and commands that may block (hw_db_exec) use the same statements and the same
 * judgement.
 */
#ifndef CDC_SLOT_H
#define CDC_SLOT_H

#include <stdbool.h>

#include "base/lsn.h"
#include "base/status.h"
#include "pg/database.h"

/* ---- one row that says everything about server and slot ---- */
struct cdc_server {
    int version;        /* 150020 */
    uint64_t system_id; /* identifies the cluster; a restored copy keeps it */
    uint32_t timeline;  /* grows with every promotion and point-in-time recovery */
    hw_lsn current;     /* pg_current_wal_insert_lsn() */
    bool in_recovery;
    char wal_level[16];
    bool plugin_allowed; /* output_plugin_libraries admits wal2json, or the server does not know
                          * it, or this role may not read it (pg_read_all_settings) */
    bool may_replicate;  /* the role has REPLICATION or is a superuser */
    bool encoding_utf8;
    char user[64];
    char database[64]; /* the one that this connection is to */
    /* the slot */
    bool slot_exists;
    char slot_plugin[64];
    bool slot_temporary;
    bool slot_active;
    int slot_active_pid;       /* 0 when not active */
    char slot_application[64]; /* the application that streams from it; "": none, or hidden */
    char slot_database[64];    /* "" without slot */
    hw_lsn slot_confirmed;     /* confirmed_flush_lsn */
    hw_lsn slot_restart;       /* restart_lsn */
    /* reserved, extended, unreserved, lost; "" without slot; CDC_REMOVED: see cdc_server_probe */
    char slot_wal_status[16];
    int64_t slot_safe_wal_size; /* bytes; -1: no limit */
    bool slot_same_database;
    bool slot_failover; /* standbys keep a copy of it (PostgreSQL 17) */
    /* Its stream waits until standbys have the log (synchronized_standby_slots). */
    bool slot_waits;
    char standbys[256]; /* those of that setting that are away; or all that it names; or "" */
    /* the archive slot (cdc/archive.h), which remembers what the slot has confirmed already */
    bool archive_exists;
    bool archive_same;           /* of wal2json, in this database, not temporary */
    hw_lsn archive_confirmed;    /* a copy can stream transactions that were committed behind it */
    hw_lsn archive_restart;      /* where the WAL that it holds begins */
    char archive_wal_status[16]; /* as slot_wal_status; "" without archive slot */
    int free_slots;              /* max_replication_slots minus used */
    int free_senders;            /* max_wal_senders minus used */
    char missing_tables[256]; /* of the tables asked for, comma-separated; "" when all are there */
    char keyless_tables[256]; /* those without a replica identity: wal2json leaves out their UPDATEs
                               * and DELETEs without an error */
    char unlogged_tables[256]; /* those whose changes are not in the log */
    /* Another text when one of the tables was altered, or made anew, in between. */
    char tables_altered[128];
};

/* As a slot's wal_status: files that the slot needs were removed from pg_wal, which the server
 * finds out only when it reads them. */
#define CDC_REMOVED "removed"
bool cdc_wal_is_gone(const char *wal_status); /* lost or removed: the slot is of no use any more */

/* The statement, for values {slot, comma-separated tables}; and the reading of its one row. */
extern const char cdc_server_sql[];
enum hw_status cdc_server_read(const PGresult *result, struct cdc_server *server,
                               struct hw_error *err) HW_CHECKED;

/* Reads from temporary copies of slot and archive slot where their log begins, and sets their
 * wal_status to CDC_REMOVED where it is not there. Takes a free slot, and a few seconds at most;
 * what cannot be found out stays as it is. Blocks. */
void cdc_server_probe(PGconn *conn, const char *slot, struct cdc_server *server);

/*
 * Finds the first thing that keeps streaming from working, and says what to do about it. With
 * need_slot false a missing slot is fine (it is going to be created). HW_ENOENT only for a missing
 * slot, HW_ECONFLICT for one that another process streams from, HW_ELIMIT for one that has lost its
 * WAL, HW_EDENIED for a privilege or the plug-in, HW_EUNAVAIL for a standby or when all slots or
 * senders are taken, HW_EINVAL for the rest.
 */
enum hw_status cdc_server_check(const struct cdc_server *server, const char *slot, bool need_slot,
                                struct hw_error *err) HW_CHECKED;

/* Of these checks, the one of the tables: does the stream bring all that is written there? */
enum hw_status cdc_tables_check(const struct cdc_server *server, struct hw_error *err) HW_CHECKED;

/* Called with a line for every check (name, ok, what was found and what to do), for people. A slot
 * in use is ok here: its text says by whom. */
typedef void cdc_check_fn(void *arg, const char *name, bool ok, const char *text);
void cdc_server_report(const struct cdc_server *server, const char *slot, bool need_slot,
                       cdc_check_fn *fn, void *arg);

/* Judges the archive slot alone: can a copy of it stream what was committed behind from (or
 * HW_LSN_NONE: whatever it holds)? HW_ENOENT: it is missing; HW_ELIMIT: it does not reach back, or
 * has lost its WAL; HW_EINVAL: it is somebody else's slot. */
enum hw_status cdc_archive_check(const struct cdc_server *server, const char *slot, hw_lsn from,
                                 struct hw_error *err) HW_CHECKED;

/* Writes a number of bytes for people, such as "12.3 MiB", into out, and returns out. */
const char *cdc_pretty_bytes(int64_t bytes, char out[static 32]);
#define CDC_BYTES(n) cdc_pretty_bytes((n), (char[32]){0})

/* From this version on, standbys can keep copies of logical slots. */
#define CDC_KNOWS_FAILOVER 170000

/* Creates the slot with wal2json, where the server (cdc_server's version) knows that as one that
 * standbys keep a copy of; values {slot}. One row: lsn, the consistent point. */
const char *cdc_slot_create_sql(int version);

/* The command, for a replication connection, that has standbys keep a copy of the slot; malloc'ed.
 * NULL: the server does not know that. Nobody may stream from the slot meanwhile. */
char *cdc_slot_failover_command(int version, const char *slot);

/* The statement that makes a temporary slot on the connection that runs it; malloc'ed. The name
 * must be one that cdc_slot_check_name accepts. For struct cdc_pg_options' prepare. */
char *cdc_slot_temporary_sql(const char *slot);

/*
 * The statement that makes, on the connection that runs it, a temporary copy of the archive slot,
 * which stands where the archive slot stands; malloc'ed. Several copies may be read at once, and
 * reading one takes nothing from the archive. For struct cdc_pg_options' prepare, with start at or
 * behind archive_confirmed: a start before it would be moved forward by the server without a word,
 * so the caller checks.
 */
char *cdc_slot_copy_sql(const char *archive, const char *temporary);

/* "<slot>_archive"; malloc'ed. */
char *cdc_archive_name(const char *slot);

/* [a-z0-9_], 1 to 55 of them: what PostgreSQL accepts, with room for the archive slot's name. */
#define CDC_SLOT_NAME_MAX 55
enum hw_status cdc_slot_check_name(const char *slot, struct hw_error *err) HW_CHECKED;

/*
 * Why the server refused to make, start, copy or move a slot. PostgreSQL uses one SQLSTATE for
 * several of these; they are told apart by names that no language translates.
 */
enum cdc_refusal {
    CDC_REFUSED_OTHERWISE, /* 55000 among them: what it means, the slot's row tells */
    CDC_LOG_REMOVED, /* 58P01 that names a file of the log: what the slot still needs was removed */
    CDC_NO_PLUGIN,   /* 58P01 otherwise, a library is not there; or it is not allowed */
    CDC_NO_RIGHT,    /* class 28, 42501 */
    CDC_SLOT_IN_USE, /* 55006 that names the slot */
    CDC_NO_SLOT,     /* 42704 that names the slot */
};

/* err is the server's error. Adds advice to it where the server's own text has none. */
enum cdc_refusal cdc_slot_judge(const char *sqlstate, const char *slot, struct hw_error *err);

#endif
