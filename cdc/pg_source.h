/*
 * The source of changes for PostgreSQL: a streaming-replication client of its own (the protocol is
 * in PostgreSQL's manual, "Streaming Replication Protocol" and "Logical Streaming Replication"),
 * decoding wal2json format version 2.
 *
 * It connects without blocking the loop, sends START_REPLICATION, answers keepalives, and sends
 * feedback every status interval, soon after the consumer has stored something, and whenever the
 * server asks, whether or not the consumer has paused it. It confirms the position up to which the
 * consumer has stored everything, and no other. On an idle database no transaction moves that
 * position, so progress tells the consumer of the log's end, which it can store and confirm as
 * well.
 *
 * A server that is shut down (in its "fast" mode) waits for its streams until they have confirmed
 * everything. So a consumer that cannot store what it was given must close the source when the
 * server shuts down. It notices that by the end of its other connections to the server.
 *
 * libpq keeps the memory of the largest change that it has read, as long as the connection lives.
 */
#ifndef CDC_PG_SOURCE_H
#define CDC_PG_SOURCE_H

#include "cdc/source.h"

struct cdc_pg_options {
    const char *conninfo; /* as for SQL; replication=database is added here */
    const char *slot;
    hw_lsn start;       /* stored position: the first transaction delivered ends behind it */
    const char *tables; /* for wal2json's add-tables: "headwater.desired,headwater.blob" */
    const char *message_prefix;   /* logical messages to deliver, or NULL for none */
    int64_t status_interval_ms;   /* 0: 1000 */
    bool read_only;               /* never confirm anything (for looking on) */
    const char *application_name; /* in pg_stat_replication, or NULL: "headwater" */
    /* An SQL statement to run on the connection first, or NULL: makes a temporary slot, which lives
     * as long as the connection (cdc_slot_temporary_sql). */
    const char *prepare;
};

/*
 * Starts connecting (pg/connect.h); the strings are copied. Everything else is told to the handler.
 * failed gives HW_ECONFLICT when another process streams from the slot (SQLSTATE 55006),
 * HW_ENOENT when there is no such slot, HW_ELIMIT when the log that it needs was removed,
 * HW_EDENIED when login, privilege or plug-in is refused, HW_EPROTO for a broken stream,
 * HW_EUNAVAIL otherwise.
 */
enum hw_status cdc_pg_open(struct hw_loop *loop, const struct cdc_pg_options *options,
                           const struct cdc_handler *handler, struct cdc_source **source,
                           struct hw_error *err) HW_CHECKED;

#endif
