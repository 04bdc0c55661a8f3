/*
 * Replication slots and what must be true before streaming: the same statements and the same
 * judgement for the programs that run on the loop (hw_pg_run) and for commands that may block
 * (hw_pg_exec).
 */
#ifndef CDC_SLOT_H
#define CDC_SLOT_H

#include <stdbool.h>

#include "common/lsn.h"
#include "common/pg.h"
#include "common/status.h"

/* ---- one row that says everything about server and slot ---- */
struct cdc_server {
    int version;              /* 150020 */
    uint64_t system_id;       /* identifies the cluster; a restored copy keeps it */
    uint32_t timeline;        /* grows with every promotion and point-in-time recovery */
    hw_lsn current;           /* pg_current_wal_insert_lsn() */
    bool in_recovery;
    char wal_level[16];
    bool plugin_allowed;      /* output_plugin_libraries admits wal2json, or is unknown here */
    bool may_replicate;       /* the role has REPLICATION or is a superuser */
    bool encoding_utf8;
    char user[64];
    /* the slot */
    bool slot_exists;
    char slot_plugin[64];
    bool slot_temporary;
    bool slot_active;
    int slot_active_pid;      /* 0 when not active */
    hw_lsn slot_confirmed;    /* confirmed_flush_lsn */
    hw_lsn slot_restart;      /* restart_lsn */
    char slot_wal_status[16]; /* reserved, extended, unreserved, lost; "" without slot */
    int64_t slot_safe_wal_size; /* bytes; -1: no limit */
    bool slot_same_database;
    int free_slots;           /* max_replication_slots minus used */
    int free_senders;         /* max_wal_senders minus used */
    char missing_tables[256]; /* of the tables asked for, comma-separated; "" when all are there */
};

/* The statement, for values {slot, comma-separated tables}; and the reading of its one row. */
extern const char cdc_server_sql[];
enum hw_status cdc_server_read(const PGresult *result, struct cdc_server *server,
                               struct hw_error *err) HW_CHECKED;

/*
 * Judges: the first thing that keeps streaming from working, with what to do about it. With
 * need_slot false a missing slot is fine (it is going to be created).
 */
enum hw_status cdc_server_check(const struct cdc_server *server, const char *slot, bool need_slot,
                                struct hw_error *err) HW_CHECKED;

/* Called with a line for every check (name, ok, what was found and what to do), for people. */
typedef void cdc_check_fn(void *arg, const char *name, bool ok, const char *text);
void cdc_server_report(const struct cdc_server *server, const char *slot, bool need_slot,
                       cdc_check_fn *fn, void *arg);

/* Creates the slot with wal2json; values {slot}. One row: lsn, the consistent point. */
extern const char cdc_slot_create_sql[];

#endif
