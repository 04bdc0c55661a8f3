#include "protocol/entry.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/number.h"
#include "protocol/statement.h"

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;

    return msg != NULL && natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

static bool read_fence(natsMsg *msg, struct hw_fence *fence)
{
    const char *lsn = header(msg, HW_HEADER_LSN);

    /* Epochs are counted by one: a huge one is forged, and must not make us overflow. */
    return lsn != NULL && hw_number_parse(header(msg, HW_HEADER_EPOCH), &fence->epoch) &&
           fence->epoch <= UINT32_MAX && hw_lsn_parse(lsn, &fence->lsn, NULL) == HW_OK;
}

struct hw_entry hw_entry_of(const struct hw_kv_entry *stored)
{
    struct hw_entry entry = {
        .seq = stored->seq,
        .deleted = stored->deleted,
        .key = stored->key,
        .value = stored->value,
        .size = stored->size,
        .signature = header(stored->msg, HW_HEADER_SIGNATURE),
    };

    entry.fenced = read_fence(stored->msg, &entry.fence);
    return entry;
}

enum hw_status hw_entry_check_fenced(const struct hw_entry *entry, struct hw_error *err)
{
    if (entry->fenced)
        return HW_OK;
    return hw_fail(err, HW_EINVAL,
                   "the headers " HW_HEADER_EPOCH " and " HW_HEADER_LSN
                   " are missing or not valid (libnats also overlooks the header that follows "
                   "one with an empty value)");
}

enum hw_status hw_entry_message(const char *bucket, const char *key, const void *value, size_t size,
                                const struct hw_fence *fence, const char *signature, natsMsg **out,
                                struct hw_error *err)
{
    natsMsg *msg = NULL;
    natsStatus s = NATS_OK;

    if (hw_kv_message(bucket, key, value, size, &msg, err) != HW_OK)
        return err->status;
    if (fence != NULL) {
        char epoch[24];

        snprintf(epoch, sizeof(epoch), "%" PRIu64, fence->epoch);
        s = natsMsgHeader_Set(msg, HW_HEADER_EPOCH, epoch);
        if (s == NATS_OK)
            s = natsMsgHeader_Set(msg, HW_HEADER_LSN, HW_LSN(fence->lsn));
    }
    if (s == NATS_OK && signature != NULL)
        s = natsMsgHeader_Set(msg, HW_HEADER_SIGNATURE, signature);
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return hw_nats_fail(err, s, 0, "building an entry for key %s", key);
    }
    *out = msg;
    return HW_OK;
}

enum hw_status hw_entry_newest_fence(struct hw_nats *nats, const char *bucket, const char *key,
                                     struct hw_fence *fence, struct hw_error *err)
{
    struct hw_kv_entry stored;
    enum hw_status status;
    uint64_t from = 1;

    *fence = (struct hw_fence){0};
    while ((status = hw_kv_get_next(nats, bucket, key, from, &stored, err)) == HW_OK) {
        const struct hw_entry entry = hw_entry_of(&stored);

        if (entry.fenced)
            *fence = entry.fence;
        from = entry.seq + 1;
        hw_kv_entry_clear(&stored);
    }
    return status == HW_ENOENT ? HW_OK : status;
}
