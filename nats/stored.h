/*
 * Single messages that a stream has stored, read by direct get (NATS ADR-31): a request that any
 * server with a copy of the stream may answer, and for which no consumer has to be made. Of several
 * servers one may lag behind the others, so an answer may be older than an earlier one.
 *
 * A stored message is data, whatever it says. The server also answers when there is no message
 * (nothing found, nobody there), and the two kinds of answer must be told apart. The library goes
 * by the status line of the header block, which whoever stored the message may have written (seen
 * with 3.4.1). Here it goes by the sequence number: the server adds one to every stored message,
 * behind the fields that were stored, and to no other answer.
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

/* Each of these blocks, and returns HW_ENOENT when there is no such message or no such stream. */

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

/* Reads an answer to a direct get: a stored message, or an error. Takes msg. */
enum hw_status hw_stored_read(natsMsg *msg, struct hw_stored *stored,
                              struct hw_error *err) HW_CHECKED;

#endif
