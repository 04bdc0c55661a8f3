/*
 * An asynchronous connection to PostgreSQL on the event loop (libpq, never blocking the loop). It
 * connects by itself, comes back by itself with growing, jittered delays, and runs one batch of
 * statements at a time, sent in one round trip (libpq's pipeline mode).
 */
#ifndef HW_PG_DATABASE_H
#define HW_PG_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "common/loop.h"
#include "common/status.h"

struct hw_db;

struct hw_db_events {
    void (*up)(void *arg); /* connected (again): session state must be set up anew */
    void (*down)(void *arg, const struct hw_error *why); /* connection lost, or an attempt failed */
    void (*notify)(void *arg, const char *channel);      /* a NOTIFY arrived; may be NULL */
    void *arg;
};

/* Starts connecting; never fails for a server that is away. conninfo: a libpq URI or string. */
enum hw_status hw_db_open(struct hw_loop *loop, const char *conninfo, const char *application_name,
                          const struct hw_db_events *events, struct hw_db **pg,
                          struct hw_error *err) HW_CHECKED;
/* A running batch's done is not called any more. NULL is fine. */
void hw_db_close(struct hw_db *pg);

bool hw_db_up(const struct hw_db *pg);
bool hw_db_idle(const struct hw_db *pg);          /* up, and no batch is running */
int hw_db_server_version(const struct hw_db *pg); /* as PQserverVersion; 0 while down */
/* "db1:5432,db2:5432/headwater": where it was told to connect, without user and password, defaults
 * and service files included; malloc'ed, NULL while down. */
char *hw_db_address(const struct hw_db *pg);

struct hw_db_query {
    const char *sql;           /* one statement, $1… */
    int count;                 /* of values */
    const char *const *values; /* text format; NULL is SQL NULL; copied before the call returns */
};

/* How a batch is made into transactions. */
enum hw_db_mode {
    HW_DB_ATOMIC,   /* all statements are one transaction: all or nothing */
    HW_DB_SEPARATE, /* every statement stands alone: for BEGIN … sent as statements, LISTEN, or a
                       position asked for after the transaction before it is committed */
};

/*
 * What came of a batch. results holds one PGresult a statement (owned by the connection, valid
 * until done returns). status is HW_OK when all succeeded. Otherwise failed is the index of the
 * statement that failed and err says why: HW_EUNAVAIL (connection lost; sent tells whether the
 * server may have committed it), HW_ECONFLICT (SQLSTATE class 40: try again), HW_EDENIED (28,
 * 42501), HW_ELIMIT (53, 54), HW_EINVAL (22, 23, and everything else; sqlstate tells more).
 */
struct hw_db_outcome {
    enum hw_status status;
    struct hw_error err;
    char sqlstate[6];
    const char *constraint;    /* of a violated constraint, or "" */
    const char *detail, *hint; /* server's, or "" */
    int failed;
    bool sent; /* false: surely nothing reached the server */
    PGresult *const *results;
    int count;
};
typedef void hw_db_done_fn(void *arg, const struct hw_db_outcome *outcome);

/*
 * Sends a batch; done is called exactly once, later, from the loop. HW_EUNAVAIL when the connection
 * is down or a batch is running (done is not called then). A batch of HW_DB_ATOMIC statements may
 * be followed by one more that stands alone behind the commit: see tail.
 */
enum hw_status hw_db_run(struct hw_db *pg, enum hw_db_mode mode, const struct hw_db_query *queries,
                         int count, const struct hw_db_query *tail, hw_db_done_fn *done, void *arg,
                         struct hw_error *err) HW_CHECKED;

/* ---- for synchronous use in one-shot commands (migrate, preflight, status) and tests ---- */

/* Blocking connect with a 10 s limit; the caller owns *conn (PQfinish). */
enum hw_status hw_db_connect(const char *conninfo, const char *application_name, PGconn **conn,
                             struct hw_error *err) HW_CHECKED;
/* PQexecParams in text format; HW_OK only for COMMAND_OK or TUPLES_OK. *result may be NULL to drop.
 */
enum hw_status hw_db_exec(PGconn *conn, const char *sql, int count, const char *const *values,
                          PGresult **result, struct hw_error *err) HW_CHECKED;
/* Sends what the server remarks (notices, and the last words of a connection that it ends) to the
 * debug log; libpq would write them to stderr. For a connection that libpq was used to make. */
void hw_db_quiet(PGconn *conn);

/* The status that an SQLSTATE stands for, see hw_db_outcome. */
enum hw_status hw_db_status_of(const char *sqlstate);
/* Fills err from a failed result, or from the connection where result is NULL. */
enum hw_status hw_db_fail(struct hw_error *err, const PGconn *conn, const PGresult *result,
                          const char *doing);

#endif
