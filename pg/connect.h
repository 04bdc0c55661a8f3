/*
 * The way from a connection string to a connection. Every connection of every program is made here,
 * so that all of them agree about which server is meant and when it counts as gone.
 *
 * libpq can try several hosts by itself, but while it is polled from a loop it applies no
 * connect_timeout: a host that accepts and never answers would hold it for ever. So each address of
 * each host is tried alone, for CONNECT_MS at most (connect_timeout in the string says otherwise).
 *
 * The server that is wanted is one that takes writes. One that does not (a standby, or
 * default_transaction_read_only) is taken where no other is found, for it can be read. Who names
 * target_session_attrs in the string has it as libpq's manual says.
 *
 * What the string, its service and the environment leave open is set so that a host which vanished
 * is noticed within HW_CONNECT_GONE_MS: tcp_user_timeout, and keepalives.
 */
#ifndef HW_PG_CONNECT_H
#define HW_PG_CONNECT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "common/loop.h"

/* Milliseconds. A host that vanished is noticed after the last at the latest, a connection that is
 * idle included. */
enum { HW_CONNECT_MS = 5000, HW_CONNECT_GONE_MS = 20000 };

/*
 * What every session of ours has, an SQL expression without a subject. Where a table has row level
 * security that holds for our role, a row that is hidden would look like one that is not there;
 * with row_security off, such a question is an error. A pooler refuses it as an option of the
 * connection, and would hand it on to others in a session that is shared, so it is set when the
 * session is known to be our own (pg/database.c). A connection that streams has it as an option.
 */
#define HW_CONNECT_SESSION "pg_catalog.set_config('row_security', 'off', false)"

/* ---- what a connection string says ---- */

struct hw_route;

struct hw_route_options {
    const char *conninfo; /* a libpq URI or string */
    const char *application_name;
    const char *session; /* "-c NAME=VALUE …", behind the string's own options; or NULL */
    bool replication;    /* a connection that streams; only to a server that takes writes */
};

/* HW_EINVAL: it can never work (hw_conninfo_check). */
enum hw_status hw_route_new(const struct hw_route_options *options, struct hw_route **route,
                            struct hw_error *err) HW_CHECKED;
void hw_route_free(struct hw_route *route); /* NULL is fine */

/* "db1:5432,db2:5432/headwater": where it leads, by the string, libpq's defaults and service files,
 * without user and password; malloc'ed. conn: a connection that was made by it. */
char *hw_route_address(const struct hw_route *route, const PGconn *conn);

/* Is a server that takes writes wanted, or did somebody ask for another kind? */
bool hw_route_wants_writes(const struct hw_route *route);

/* ---- one attempt, on the loop ---- */

struct hw_attempt;

struct hw_attempt_end {
    PGconn *conn;        /* yours; NULL: no connection was made, and err says why */
    struct hw_error err; /* with what to do; HW_EUNAVAIL, or what a server's refusal stands for */
    bool answered;       /* some server answered, be it with a refusal */
    const char *passed_over; /* what was wrong with addresses that were tried before; "": nothing */
};
/* Called once, from the loop; the attempt is over. */
typedef void hw_attempt_fn(void *arg, const struct hw_attempt_end *end);

/* The route must live as long as the attempt. only_writes: a server that takes none is no success.
 * beside: NULL, or a connection whose server alone is tried, whatever it takes. */
struct hw_attempt *hw_attempt_start(struct hw_loop *loop, const struct hw_route *route,
                                    bool only_writes, const PGconn *beside, hw_attempt_fn *fn,
                                    void *arg);
void hw_attempt_cancel(struct hw_attempt *attempt); /* NULL is fine */

/* ---- what is known of a connection ---- */

/* Why its server takes no writes, in words, or NULL: it takes them, as far as the server has said
 * by itself (PostgreSQL reports it with each answer; a pooler may not). */
const char *hw_connect_refuses_writes(const PGconn *conn);

/* ---- words ---- */

/* The status that an SQLSTATE stands for, see hw_db_outcome. */
enum hw_status hw_db_status_of(const char *sqlstate);
/* Fills err with libpq's words, which may be several lines, as one. */
enum hw_status hw_libpq_fail(struct hw_error *err, enum hw_status status, const char *doing,
                             const char *text);
/* Sends the server's remarks (notices, and its last words when it ends a connection) to the debug
 * log; libpq would write them to stderr. For a connection that was made with libpq directly. */
void hw_db_quiet(PGconn *conn);

#endif
