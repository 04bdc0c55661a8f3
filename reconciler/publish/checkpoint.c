#include "reconciler/publish/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/memory.h"
#include "common/number.h"

char *rec_checkpoint_value(const struct rec_checkpoint *c)
{
    /* Written as a string: a system identifier has 64 bits, and most readers of JSON numbers
     * keep 53. */
    return hw_sprintf(
        "{\"epoch\":%" PRIu64 ",\"lsn\":\"%s\",\"system_id\":\"%" PRIu64 "\",\"timeline\":%" PRIu32
        ",\"rev\":%" PRId64 ",\"nonce\":\"%s\",\"slot\":\"%s\"}",
        c->fence.epoch, HW_LSN(c->fence.lsn), c->system_id, c->timeline, c->rev, c->nonce, c->slot);
}

static enum hw_status parse(const struct hw_kv_entry *entry, struct rec_checkpoint *c,
                            struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    const char *lsn, *system_id, *nonce, *slot = "";
    json_int_t epoch, timeline, rev;

    if (hw_json_parse_object(entry->value, entry->size, &root, err) != HW_OK ||
        hw_json_unpack(root, err, "{s:I, s:s, s:s, s:I, s:I, s:s, s?s}", "epoch", &epoch, "lsn",
                       &lsn, "system_id", &system_id, "timeline", &timeline, "rev", &rev, "nonce",
                       &nonce, "slot", &slot) != HW_OK ||
        hw_lsn_parse(lsn, &c->fence.lsn, err) != HW_OK)
        return err->status;
    if (epoch < 1 || timeline < 1 || timeline > UINT32_MAX || rev < 0)
        return hw_fail(err, HW_ECORRUPT, "epoch, timeline or rev is out of range");
    if (strlen(nonce) >= sizeof(c->nonce) || strspn(nonce, "0123456789abcdef-") != strlen(nonce))
        return hw_fail(err, HW_ECORRUPT, "the nonce is no UUID");
    if (strlen(slot) >= sizeof(c->slot) ||
        strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(slot))
        return hw_fail(err, HW_ECORRUPT, "the slot has a name that none has");
    c->fence.epoch = (uint64_t)epoch;
    if (!hw_number_parse(system_id, &c->system_id))
        return hw_fail(err, HW_ECORRUPT, "the system identifier is no number of 64 bits");
    c->timeline = (uint32_t)timeline;
    c->rev = rev;
    snprintf(c->nonce, sizeof(c->nonce), "%s", nonce);
    snprintf(c->slot, sizeof(c->slot), "%s", slot);
    return HW_OK;
}

enum hw_status rec_checkpoint_read(struct hw_nats *nats, const char *bucket,
                                   struct rec_checkpoint *c, struct hw_error *err)
{
    struct rec_checkpoint found = {0};
    struct hw_kv_entry entry = {0};
    enum hw_status status;

    status = hw_kv_get(nats, bucket, HW_KEY_CHECKPOINT, &entry, err);
    if (status == HW_ENOENT)
        *c = found;
    if (status != HW_OK)
        return status;
    found.seq = entry.seq;
    if (entry.deleted)
        status = hw_fail(err, HW_ENOENT, "the checkpoint was deleted");
    else if (parse(&entry, &found, err) != HW_OK) {
        err->status = HW_ECORRUPT;
        status = hw_fail_in(err, "key %s is no checkpoint", HW_KEY_CHECKPOINT);
    }
    hw_kv_entry_clear(&entry);
    *c = found;
    return status;
}
