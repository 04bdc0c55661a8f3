/*
 * What NATS says went wrong, as a status and a sentence of ours. libnats has a natsStatus for what
 * happened on this side, and JetStream a number of its own for what the server refused; the number
 * says more, so it comes first.
 */
#ifndef HW_NATS_ERROR_H
#define HW_NATS_ERROR_H

#include <nats/nats.h>

#include "base/status.h"

/* Fills err from a natsStatus and an optional JetStream error code, and returns its status. fmt
 * says what was being done: "reading the stream". */
enum hw_status hw_nats_fail(struct hw_error *err, natsStatus s, jsErrCode code, const char *fmt,
                            ...) HW_PRINTF(4, 5);

/*
 * Adds trouble, the last thing that the server complained of on its own, to an error that is a
 * timeout; "" is nothing. A server does not answer a publish that it denies: the client waits in
 * vain here, and reads "permissions violation" over there. Only both together explain it.
 */
void hw_nats_fail_also(struct hw_error *err, const char *trouble);

#endif
