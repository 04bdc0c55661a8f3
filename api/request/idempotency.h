/* Idempotency-Key: a write that a client sends twice is done once. The table headwater.idempotency
 * keeps the answers, which api/transaction.c writes there. */
#ifndef API_REQUEST_IDEMPOTENCY_H
#define API_REQUEST_IDEMPOTENCY_H

#include <stdbool.h>

#include "http/request.h"

/*
 * Reads the field, and the digest of what it is the key of, into the request, whose body is whole.
 * Only writes of configuration have a key; other routes ignore the field. False when the request
 * was answered with the problem.
 */
bool api_idempotency_read(struct http_request *request);

#endif
