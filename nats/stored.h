/*
 * Single messages that a stream has stored, read by direct get (NATS ADR-31).
 *
 * What is stored is data, whatever it says. An answer of the server's that is no message (nothing
 * found, nobody there) is told by the server's own header fields: it gives every stored message
 * the sequence number, and no such answer has one. The library goes by the status line of the
 * header block instead, which whoever stored the message may have written (seen with 3.4.1).
 */
#ifndef HW_NATS_STORED_H
#define HW_NATS_STORED_H

#include "nats/connection.h"

struct hw_stored {
    natsMsg *msg;        /* owned by whoever got it: hw_stored_clear */
    const char *subject; /* under which it is stored; lives as long as msg */
    uint64_t seq;
    int64_t time_ns; /* when it was stored, by the server's clock, Unix nanoseconds */
};
void hw_stored_clear(struct hw_stored *stored);

/* Each blocks; HW_ENOENT when there is no such message, or no such stream. */

/* The last message of a subject. */
enum hw_status hw_stored_last(struct hw_nats *nats, const char *stream, const char *subject,
                              struct hw_stored *stored, struct hw_error *err) HW_CHECKED;
/* The message with a sequence number. */
enum hw_status hw_stored_at(struct hw_nats *nats, const char *stream, uint64_t seq,
                            struct hw_stored *stored, struct hw_error *err) HW_CHECKED;
/* The first message of a subject from a sequence number on. */
enum hw_status hw_stored_next(struct hw_nats *nats, const char *stream, const char *subject,
                              uint64_t seq, struct hw_stored *stored,
                              struct hw_error *err) HW_CHECKED;

/* Judges an answer to a direct get; takes msg. */
enum hw_status hw_stored_read(natsMsg *msg, struct hw_stored *stored,
                              struct hw_error *err) HW_CHECKED;

#endif
