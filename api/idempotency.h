/* Idempotency-Key: a write that is sent twice is done once. headwater.idempotency keeps the
 * answers, api/transaction.c puts them there. */
#ifndef API_IDEMPOTENCY_H
#define API_IDEMPOTENCY_H

#include "http/request.h"

/* Reads the field, and the digest of what it is the key of, into the request, whose body is whole.
 * raw_target: as it was sent. Only writes of configuration have a key, other routes ignore it.
 * False when the request was answered with the problem. */
bool api_idempotency_read(struct api_request *request, const char *raw_target);

#endif
