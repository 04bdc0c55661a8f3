/*
 * A source of committed changes: the one interface between a database and its consumers.
 *
 * A source delivers transactions in commit order, each whole: begin, its changes in the order they
 * were made, commit. It owns a descriptor on the loop and calls a struct cdc_handler; it confirms
 * nothing by itself. Positions have four separate names and never share a variable:
 *
 *   received   the end of the last transaction that arrived whole
 *   stored     the position up to which the consumer has made everything durable in its sink
 *   confirmed  the position up to which the source may forget (<= stored)
 *   end        where the source's log ends, as far as it told us
 *
 * cdc/pg_source.h is the one for PostgreSQL's logical replication with wal2json.
 */
#ifndef CDC_SOURCE_H
#define CDC_SOURCE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"
#include "common/loop.h"

struct cdc_transaction {
    uint32_t xid;
    hw_lsn lsn;            /* END of the commit record: the transaction's position */
    char committed_at[40]; /* RFC 3339 UTC with microseconds: 2026-01-31T12:00:00.123456Z */
};

enum cdc_action { CDC_INSERT, CDC_UPDATE, CDC_DELETE, CDC_TRUNCATE, CDC_MESSAGE };
const char *cdc_action_name(enum cdc_action action); /* "insert" … */

enum cdc_type { CDC_NULL, CDC_FALSE, CDC_TRUE, CDC_INTEGER, CDC_STRING };
struct cdc_column {
    const char *name;
    enum cdc_type type;
    int64_t integer;  /* of CDC_INTEGER */
    const char *text; /* of CDC_STRING, NUL behind it; may hold none itself */
    size_t len;
};
struct cdc_row {
    struct cdc_column *columns; /* as the source gave them; no name twice */
    size_t count;
};

/* A column's value, borrowed from the row. HW_EPROTO, and which column, when it is missing or of
 * another type. */
enum hw_status cdc_row_string(const struct cdc_row *row, const char *name, const char **text,
                              struct hw_error *err) HW_CHECKED;
enum hw_status cdc_row_integer(const struct cdc_row *row, const char *name, int64_t *integer,
                               struct hw_error *err) HW_CHECKED;
/* The column of that name, or NULL. */
const struct cdc_column *cdc_row_find(const struct cdc_row *row, const char *name);
/* The row as an object, column name to value; the caller's. */
json_t *cdc_row_json(const struct cdc_row *row);

struct cdc_change {
    enum cdc_action action;
    const char *schema, *table;     /* NULL for a message */
    const struct cdc_row *columns;  /* new row; NULL if none */
    const struct cdc_row *identity; /* replica identity of the old row (UPDATE, DELETE) or NULL */
    const char *prefix;             /* of a logical message, else NULL */
    const char *content;            /* of a logical message, else NULL; content_len bytes */
    size_t content_len;
};

/*
 * The callbacks that a consumer gives a source. Their arguments are borrowed until they return. An
 * error that begin, change or commit returns ends the stream, and is passed on to failed. begin,
 * change and commit of one transaction come without anything in between.
 */
struct cdc_handler {
    enum hw_status (*begin)(void *arg, const struct cdc_transaction *tx, struct hw_error *err);
    enum hw_status (*change)(void *arg, const struct cdc_transaction *tx,
                             const struct cdc_change *change, struct hw_error *err);
    enum hw_status (*commit)(void *arg, const struct cdc_transaction *tx, struct hw_error *err);
    /* The stream runs: its slot is ours, and changes will follow. May be NULL. */
    void (*started)(void *arg);
    /* Called between transactions: no transaction that commits up to position is still to come. */
    void (*progress)(void *arg, hw_lsn position);
    /* The server was asked for an answer and has said nothing for ms by now; called again while
     * that lasts. pid: the backend that owes it. A server is silent while it reads a large
     * transaction of other tables, so this alone is no failure; the source may be closed from here.
     * May be NULL. */
    void (*silent)(void *arg, int pid, int64_t ms);
    /* The stream ended (not by close) and delivers nothing more: HW_EUNAVAIL, HW_EPROTO, …; the
     * source may be closed from here. */
    void (*failed)(void *arg, const struct hw_error *err);
    void *arg;
};

struct cdc_source;
struct cdc_source_ops {
    void (*pause)(struct cdc_source *source, bool paused);
    void (*confirm)(struct cdc_source *source, hw_lsn stored);
    void (*close)(struct cdc_source *source);
};
struct cdc_source {
    const struct cdc_source_ops *ops;
    bool log_removed; /* it failed because the log that the slot needs is not there any more */
};

/* Stops (or goes on) calling the handler, within the transaction if need be; the source stays alive
 * towards its database meanwhile. At most one read's worth of changes still arrives. */
static inline void cdc_source_pause(struct cdc_source *source, bool paused)
{
    source->ops->pause(source, paused);
}

/* The consumer's sink holds everything up to stored: the source may forget it. Never goes back. */
static inline void cdc_source_confirm(struct cdc_source *source, hw_lsn stored)
{
    source->ops->confirm(source, stored);
}

/* Says good-bye (a last feedback included) and frees the source. NULL is fine. */
static inline void cdc_source_close(struct cdc_source *source)
{
    if (source != NULL)
        source->ops->close(source);
}

#endif
