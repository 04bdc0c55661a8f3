/*
 * The one way to the database for handlers: a batch of statements, sent in one round trip, that is
 * one transaction. A write is committed before its answer is made; the answer tells the position of
 * the commit (Headwater-LSN) and the change that it made, if any (Headwater-Change). A write that
 * failed because other writers got in its way is tried again. Every failure is answered here, so a
 * handler's done is called after success only.
 *
 * With ?dry_run=true, a write ends in a ROLLBACK, and its success is answered with the changes that
 * it would make for nodes (docs/http.md). With an Idempotency-Key, the answer is kept in the same
 * transaction; so done is called before the commit, and must answer at once.
 */
#ifndef API_TRANSACTION_H
#define API_TRANSACTION_H

#include <libpq-fe.h>

#include "http/request.h"

struct api_transaction;

/* results[i] belongs to the i-th statement that was added, and is freed when done returns. arg is
 * the one that was given to run. */
typedef void api_transaction_done_fn(struct http_request *request, const void *arg,
                                     PGresult *const *results);

struct api_transaction *api_transaction_read(struct http_request *request);
/* With the author and ?message= for the change log. */
struct api_transaction *api_transaction_write(struct http_request *request);

/* It takes no lock that writers of configuration take turns at, so it goes the way of reads and
 * waits for none of them. */
void api_transaction_without_lock(struct api_transaction *tx);

/* The values are count C strings (NULL: SQL NULL), which live until the request is answered. */
void api_transaction_add(struct api_transaction *tx, const char *sql, int count, ...);

/* Sends the statements. Later done is called, or the request is answered with a problem. tx is
 * taken over. */
void api_transaction_run(struct api_transaction *tx, api_transaction_done_fn *done,
                         const void *arg);

#endif
