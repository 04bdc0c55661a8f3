/* What the fleet has when all is quiet, compared with what the database wants. Each function
 * returns NULL, or a malloc'ed sentence that says what is not so. */
#ifndef RECOVERY_FLEET_H
#define RECOVERY_FLEET_H

#include <libpq-fe.h>
#include <stdbool.h>

/* The rows; an error ends the test. Caller: PQclear. */
PGresult *fleet_query(PGconn *conn, const char *sql);

/* Each object that a node is to run is in NATS, with the right bytes. */
char *fleet_objects_differ(PGconn *conn, const char *nats_url);

/* Node n<i> runs what is desired: outputs[i] is the file of its agent, and, where reports count,
 * the fleet says so, too. The last one is NULL. */
char *fleet_nodes_differ(PGconn *conn, const char *const outputs[], bool with_reports);

#endif
