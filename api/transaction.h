/*
 * The one way to the database for handlers: a batch of statements, sent in one round trip, that is
 * one transaction. A write is committed before the answer is made, tells its position
 * (Headwater-LSN), and is tried again when other writers got in its way. Whatever goes wrong is
 * answered here, so a handler's done sees success alone.
 *
 * With ?dry_run=true, a write ends in a ROLLBACK, and its success is answered with what it would
 * change for nodes (docs/http.md). With an Idempotency-Key, its answer is kept in the same
 * transaction, so done is called before the commit, and must answer at once.
 */
#ifndef API_TRANSACTION_H
#define API_TRANSACTION_H

#include <libpq-fe.h>

#include "http/request.h"

struct api_transaction;

/* results[i] belongs to the i-th statement added; gone when done returns. arg: as given to run. */
typedef void api_transaction_done_fn(struct http_request *request, const void *arg,
                                     PGresult *const *results);

struct api_transaction *api_transaction_read(struct http_request *request);
/* The author and ?message= go along, for the change log. */
struct api_transaction *api_transaction_write(struct http_request *request);

/* The values are count C strings (NULL: SQL NULL), which live until the request is answered. */
void api_transaction_add(struct api_transaction *tx, const char *sql, int count, ...);

/* Sends it; done is called later, or the request is answered with a problem. tx is freed. */
void api_transaction_run(struct api_transaction *tx, api_transaction_done_fn *done,
                         const void *arg);

#endif
