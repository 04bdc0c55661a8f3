#include "cdc/assembler.h"

#include <inttypes.h>
#include <string.h>

#include "cdc/wal2json.h"
#include "common/log.h"

static enum hw_status take_begin(struct cdc_assembler *a, const struct cdc_record *record,
                                 struct hw_error *err)
{
    if (a->open)
        return hw_fail(err, HW_EPROTO,
                       "transaction %" PRIu32 " begins before %" PRIu32 " has ended", record->xid,
                       a->tx.xid);
    if (record->next_lsn <= a->received)
        return hw_fail(err, HW_EPROTO,
                       "transaction %" PRIu32 " ends at %s, not behind the one before it, %s",
                       record->xid, HW_LSN(record->next_lsn), HW_LSN(a->received));

    a->open = true;
    a->passing = record->next_lsn <= a->start;
    a->tx.xid = record->xid;
    a->tx.lsn = record->next_lsn;
    memcpy(a->tx.committed_at, record->committed_at, sizeof(a->tx.committed_at));
    if (a->passing) {
        hw_log_debug("passing over a transaction that is stored already", HW_I("xid", a->tx.xid),
                     HW_L("lsn", a->tx.lsn), HW_L("start", a->start));
        return HW_OK;
    }
    return a->handler.begin(a->handler.arg, &a->tx, err);
}

static enum hw_status take_commit(struct cdc_assembler *a, hw_lsn at,
                                  const struct cdc_record *record, struct hw_error *err)
{
    if (record->next_lsn != a->tx.lsn || at != a->tx.lsn)
        return hw_fail(err, HW_EPROTO,
                       "transaction %" PRIu32
                       " was to end at %s, but its commit says %s, sent at %s",
                       a->tx.xid, HW_LSN(a->tx.lsn), HW_LSN(record->next_lsn), HW_LSN(at));
    a->open = false;
    a->received = a->tx.lsn;
    if (a->passing)
        return HW_OK;
    const struct cdc_transaction tx = a->tx;
    return a->handler.commit(a->handler.arg, &tx, err);
}

static enum hw_status take(struct cdc_assembler *a, hw_lsn at, const struct cdc_record *record,
                           struct hw_error *err)
{
    if (record->action == 'B')
        return take_begin(a, record, err);
    if (record->action == 'M' && record->xid == 0)
        return HW_OK; /* a message outside of transactions, which even a rollback leaves */
    if (!a->open)
        return hw_fail(err, HW_EPROTO, "record %c of transaction %" PRIu32 " at %s has no begin",
                       record->action, record->xid, HW_LSN(at));
    if (record->xid != a->tx.xid)
        return hw_fail(err, HW_EPROTO,
                       "record %c of transaction %" PRIu32
                       " at %s came within transaction %" PRIu32,
                       record->action, record->xid, HW_LSN(at), a->tx.xid);
    if (record->action == 'C')
        return take_commit(a, at, record, err);
    if (a->passing)
        return HW_OK;
    return a->handler.change(a->handler.arg, &a->tx, &record->change, err);
}

enum hw_status cdc_assembler_take(struct cdc_assembler *a, hw_lsn at, char *text, size_t len,
                                  struct hw_error *err)
{
    struct cdc_record record;
    enum hw_status st = cdc_record_decode(text, len, at, &record, err);
    if (st != HW_OK)
        return a->open ? hw_fail_in(err, "in transaction %" PRIu32 " that ends at %s", a->tx.xid,
                                    HW_LSN(a->tx.lsn))
                       : st;
    st = take(a, at, &record, err);
    cdc_record_free(&record);
    return st;
}
