/*
 * Positions. An LSN is a byte offset in PostgreSQL's write-ahead log, written as two hexadecimal
 * halves, "16/B374D848". The position of a transaction is always the END of its commit record.
 * A fence orders what was written to NATS: by epoch (one history of the database), then by LSN.
 */
#ifndef HW_LSN_H
#define HW_LSN_H

#include <stdint.h>

#include "base/status.h"

typedef uint64_t hw_lsn;

#define HW_LSN_NONE    ((hw_lsn)0) /* PostgreSQL's InvalidXLogRecPtr */
#define HW_LSN_STR_MAX 18          /* "FFFFFFFF/FFFFFFFF" and a NUL */

/* Writes lsn into out and returns out. */
char *hw_lsn_format(hw_lsn lsn, char out[static HW_LSN_STR_MAX]);

/* For one use in an expression: HW_LSN(x) is a char * that lives as long as the block around it. */
#define HW_LSN(lsn) hw_lsn_format((lsn), (char[HW_LSN_STR_MAX]){0})

enum hw_status hw_lsn_parse(const char *text, hw_lsn *lsn, struct hw_error *err) HW_CHECKED;

struct hw_fence {
    uint64_t epoch; /* from 1; 0 only in a fence that is not set */
    hw_lsn lsn;
};

/* Less than 0, 0 or greater than 0, as a is older than b, the same, or newer. */
int hw_fence_compare(struct hw_fence a, struct hw_fence b);

#endif
