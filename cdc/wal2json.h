/*
 * Decodes what PostgreSQL's output plug-in wal2json writes in its format version 2: one JSON object
 * a record, with the options that cdc/pg_source.c asks for (include-xids, include-lsn,
 * include-timestamp, include-types off). Records are
 *
 *     B, C        begin and commit: xid, timestamp, lsn, nextlsn (the end of the commit record)
 *     I, U, D, T  row changes and truncation: schema, table, columns, identity
 *     M           a logical message: transactional, prefix, content
 *
 * Values keep every digit: integers are int64, and any other number (the plug-in prints numeric and
 * float without quotes, and a double would round them) is a string with the server's own digits.
 * The plug-in writes null for NaN and the infinities. An UPDATE lacks the columns whose large value
 * (TOAST) it did not touch. A message's content ends at its first NUL byte.
 *
 * It reads the JSON itself and uses no library for it: to build a tree for each change took half of
 * the time that the reconciler spent on a change.
 */
#ifndef CDC_WAL2JSON_H
#define CDC_WAL2JSON_H

#include "cdc/source.h"

struct cdc_record {
    char action;                      /* one of BIUDTMC */
    uint32_t xid;                     /* 0 for a message outside of transactions */
    hw_lsn lsn;                       /* of the change; of B and C: start of the commit record */
    hw_lsn next_lsn;                  /* B and C only: end of the commit record */
    char committed_at[40];            /* B and C only; as in struct cdc_transaction */
    struct cdc_change change;         /* all but B and C */
    struct cdc_row columns, identity; /* change points to them; the record owns their arrays */
};

/*
 * Decodes one record of len bytes, with one more behind them, that the server sent at position at
 * (for messages only). The text is changed: what change and rows point to is in it. On success the
 * caller ends with cdc_record_free, before the text goes. HW_EPROTO for anything that is not
 * exactly such a record; the message holds a few bytes of it, never a whole document.
 */
enum hw_status cdc_record_decode(char *text, size_t len, hw_lsn at, struct cdc_record *record,
                                 struct hw_error *err) HW_CHECKED;
void cdc_record_free(struct cdc_record *record);

#endif
