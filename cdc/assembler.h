/*
 * The assembler makes transactions of records. It checks that they come as BEGIN, changes, COMMIT,
 * that all records of a transaction carry its xid, that BEGIN and COMMIT name the same position,
 * and that positions grow. It passes over transactions that the consumer has already. It keeps
 * nothing of a transaction but its head, so a transaction may be of any size.
 */
#ifndef CDC_ASSEMBLER_H
#define CDC_ASSEMBLER_H

#include "cdc/source.h"

struct cdc_assembler {
    struct cdc_handler handler;
    hw_lsn start;              /* transactions that end at or before it are passed over, whole */
    hw_lsn received;           /* end of the last transaction that came whole; HW_LSN_NONE before */
    bool open;                 /* between a BEGIN and its COMMIT */
    bool passing;              /* the open one is passed over */
    struct cdc_transaction tx; /* the open one */
};

/*
 * Takes one message of the stream: len bytes that the server sent at position at (the message's
 * dataStart); the text is changed. The last thing that it does is to call one function of the
 * handler, or none, and to return that function's status. HW_EPROTO: the stream broke its rules.
 * After a failure the stream cannot go on.
 */
enum hw_status cdc_assembler_take(struct cdc_assembler *assembler, hw_lsn at, char *text,
                                  size_t len, struct hw_error *err) HW_CHECKED;

#endif
