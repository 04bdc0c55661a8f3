/*
 * A connection to the database on the event loop, which it never blocks but for the resolver. It
 * connects by itself (pg/connect.h), and again after each loss, with growing, jittered delays. It
 * runs one batch of statements at a time, sent in one round trip (libpq's pipeline mode). Results
 * are libpq's PGresult.
 *
 * It notices a server that fell silent, within 20 s: while it is idle it asks something short every
 * 10 s, and a batch that is not answered for 5 s is looked after on another connection, for it may
 * be long at work. While the server takes no writes, another one, or the same one when it does
 * again, is looked for; the connection moves there when it is found.
 *
 * Behind a pooler it needs a session of its own, and refuses one that is shared.
 *
 * All functions are called on the loop's thread, save the synchronous ones at the end.
 */
#ifndef HW_PG_DATABASE_H
#define HW_PG_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "base/status.h"
#include "common/loop.h"
#include "pg/connect.h"

struct hw_db;

/* What the owner is told. Any of them may be NULL; each may close the connection. */
struct hw_db_events {
    void (*up)(void *arg); /* connected, perhaps again: the session must be set up anew */
    /* The connection was lost, or an attempt to make one failed; a running batch is done before. */
    void (*down)(void *arg, const struct hw_error *why);
    void (*notify)(void *arg, const char *channel); /* a notification arrived */
    /* While up: the server takes no writes any more, for this reason, or (NULL) it does again. */
    void (*writes)(void *arg, const char *refusal);
    void *arg;
};

/* Starts connecting; a server that is away is no failure. conninfo: a libpq URI or string.
 * HW_EINVAL: it is neither. */
enum hw_status hw_db_open(struct hw_loop *loop, const char *conninfo, const char *application_name,
                          const struct hw_db_events *events, struct hw_db **db,
                          struct hw_error *err) HW_CHECKED;
/* The done of a running batch is not called any more. NULL is fine. */
void hw_db_close(struct hw_db *db);

/* Where a connection was lost or refused, tries again now: the server is known to be there. */
void hw_db_hurry(struct hw_db *db);

bool hw_db_up(const struct hw_db *db);            /* connected */
bool hw_db_idle(const struct hw_db *db);          /* up, and no batch is running */
int hw_db_server_version(const struct hw_db *db); /* as PQserverVersion; 0 while down */
int hw_db_backend(
    const struct hw_db *db); /* the process that serves it, as it says; 0 while down */
/* Why the server takes no writes, for a sentence ("it is a standby"). NULL: it takes them, as far
 * as it has said, or the connection is down. */
const char *hw_db_refuses_writes(const struct hw_db *db);
/* What was wrong with the hosts that were tried in vain before this connection was made, or NULL.
 */
const char *hw_db_passed_over(const struct hw_db *db);
/* "db1:5432,db2:5432/headwater": where it was told to connect, by the string, libpq's defaults and
 * service files, without user and password. malloc'ed; NULL while down. */
char *hw_db_address(const struct hw_db *db);

struct hw_db_query {
    const char *sql;           /* one statement, $1… */
    int count;                 /* of values */
    const char *const *values; /* text format; NULL is SQL NULL; copied before the call returns */
};

/* How the statements of a batch become transactions. */
enum hw_db_mode {
    HW_DB_ATOMIC, /* all of them are one transaction: all or nothing */
    /* Each stands alone, and the next one runs also when it failed: for LISTEN, and for questions
     * that are independent of each other. */
    HW_DB_SEPARATE,
};

/*
 * What came of a batch. results holds one PGresult for each statement; the connection owns them,
 * and they are valid until done returns. status is HW_OK when all statements succeeded. Otherwise
 * failed is the index of the first that did not, and err says why, by its SQLSTATE:
 *
 *     HW_EUNAVAIL   the connection was lost; sent tells whether the server may have committed
 *     HW_ECONFLICT  class 40, and 55P03: the same may succeed when it is tried again
 *     HW_ECONFLICT  classes 08 and 57P where the connection lives on
 *     HW_EDENIED    class 28, and 42501
 *     HW_ELIMIT     classes 53 and 54
 *     HW_ETIMEOUT   57014
 *     HW_EINVAL     all others
 */
struct hw_db_outcome {
    enum hw_status status;
    struct hw_error err;
    char sqlstate[6];
    const char *constraint;    /* the name of the one that was violated, or "" */
    const char *detail, *hint; /* the server's, or "" */
    int failed;                /* -1: none */
    bool sent;                 /* false: nothing reached the server */
    bool committed;            /* an HW_DB_ATOMIC batch was, and what failed is its tail */
    PGresult *const *results;
    int count;
};
typedef void hw_db_done_fn(void *arg, const struct hw_db_outcome *outcome);

/* Did the server refuse the query because row level security would hide rows from it
 * (HW_CONNECT_SESSION)? result: a failed one. */
bool hw_db_hides(const PGresult *result);
#define HW_DB_HIDES_ADVICE                                                                         \
    "Row level security hides rows of this table from the role, and what is hidden would look as " \
    "if it were not there: ALTER TABLE … DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS"

/*
 * Sends a batch; done is called exactly once, later, from the loop. HW_EUNAVAIL: the connection is
 * down or another batch is running; done is not called then. tail may be NULL; otherwise it is one
 * more statement, which stands alone behind the commit of an HW_DB_ATOMIC batch, for example to ask
 * for the position behind it. Its result is the last one, NULL where the connection was
 * lost before it came.
 */
enum hw_status hw_db_run(struct hw_db *db, enum hw_db_mode mode, const struct hw_db_query *queries,
                         int count, const struct hw_db_query *tail, hw_db_done_fn *done, void *arg,
                         struct hw_error *err) HW_CHECKED;

/* ---- for synchronous use in one-shot commands (migrate, preflight, status) and tests ---- */

/* Connects as pg/connect.h has it, and blocks meanwhile; the caller owns *conn (PQfinish).
 * HW_EUNAVAIL: nobody answers there, or the server is starting or stopping; otherwise what the
 * server's refusal stands for. */
enum hw_status hw_db_connect(const char *conninfo, const char *application_name, PGconn **conn,
                             struct hw_error *err) HW_CHECKED;
/* A connection that speaks the replication protocol, and plain statements alone: to a server that
 * takes writes. */
enum hw_status hw_db_connect_replication(const char *conninfo, const char *application_name,
                                         PGconn **conn, struct hw_error *err) HW_CHECKED;
/* One statement with its values as text. result may be NULL: then it is dropped. */
enum hw_status hw_db_exec(PGconn *conn, const char *sql, int count, const char *const *values,
                          PGresult **result, struct hw_error *err) HW_CHECKED;
/* Fills err from a failed result, or from the connection where result is NULL. */
enum hw_status hw_db_fail(struct hw_error *err, const PGconn *conn, const PGresult *result,
                          const char *doing);

#endif
