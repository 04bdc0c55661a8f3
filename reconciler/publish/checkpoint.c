#include "reconciler/publish/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "common/log.h"
#include "nats/hidden.h"
#include "protocol/entry.h"

char *rec_checkpoint_value(const struct rec_checkpoint *c)
{
    /* Written as a string: a system identifier has 64 bits, and most readers of JSON numbers
     * keep 53. */
    HW_AUTO_FREE char *system_id = hw_sprintf("%" PRIu64, c->system_id);
    HW_AUTO_JSON json_t *value = json_pack(
        "{s:I, s:s, s:s, s:I, s:I, s:s, s:s, s:s}", "epoch", (json_int_t)c->fence.epoch, "lsn",
        HW_LSN(c->fence.lsn), "system_id", system_id, "timeline", (json_int_t)c->timeline, "rev",
        (json_int_t)c->rev, "nonce", c->nonce, "slot", c->slot, "address", c->address);

    if (c->taken_over)
        json_object_set_new(value, "taken_over", json_true());
    return hw_json_dump(value);
}

bool rec_checkpoint_is(const struct rec_checkpoint *read, const struct rec_checkpoint *written)
{
    return read->seq != 0 && read->seq == written->seq &&
           hw_fence_compare(read->fence, written->fence) == 0 && read->rev == written->rev &&
           read->system_id == written->system_id && strcmp(read->nonce, written->nonce) == 0 &&
           strcmp(read->address, written->address) == 0;
}

static enum hw_status parse(const struct hw_kv_entry *entry, struct rec_checkpoint *c,
                            struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    const char *lsn, *system_id, *nonce, *slot = "", *address = "";
    json_int_t epoch, timeline, rev;
    int taken_over = 0;

    if (hw_json_parse_object(entry->value, entry->size, &root, err) != HW_OK ||
        hw_json_unpack(root, err, "{s:I, s:s, s:s, s:I, s:I, s:s, s?s, s?s, s?b}", "epoch", &epoch,
                       "lsn", &lsn, "system_id", &system_id, "timeline", &timeline, "rev", &rev,
                       "nonce", &nonce, "slot", &slot, "address", &address, "taken_over",
                       &taken_over) != HW_OK ||
        hw_lsn_parse(lsn, &c->fence.lsn, err) != HW_OK)
        return err->status;
    if (epoch < 1 || timeline < 1 || timeline > UINT32_MAX || rev < 0)
        return hw_fail(err, HW_ECORRUPT, "epoch, timeline or rev is out of range");
    if (strlen(nonce) >= sizeof(c->nonce) || strspn(nonce, "0123456789abcdef-") != strlen(nonce))
        return hw_fail(err, HW_ECORRUPT, "the nonce is no UUID");
    if (strlen(slot) >= sizeof(c->slot) ||
        strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(slot))
        return hw_fail(err, HW_ECORRUPT, "the slot has a name that none has");
    if (strlen(address) >= sizeof(c->address))
        return hw_fail(err, HW_ECORRUPT, "the address is longer than any that is written");
    c->fence.epoch = (uint64_t)epoch;
    if (!hw_number_parse(system_id, &c->system_id))
        return hw_fail(err, HW_ECORRUPT, "the system identifier is no number of 64 bits");
    c->timeline = (uint32_t)timeline;
    c->rev = rev;
    snprintf(c->nonce, sizeof(c->nonce), "%s", nonce);
    snprintf(c->slot, sizeof(c->slot), "%s", slot);
    snprintf(c->address, sizeof(c->address), "%s", address);
    c->taken_over = taken_over;
    return HW_OK;
}

/* The last entry of the key, also where the server does not find it by its name. */
static enum hw_status get(struct hw_nats *nats, const char *bucket, struct hw_kv_entry *entry,
                          uint64_t *hidden, struct hw_error *err)
{
    enum hw_status status = hw_kv_get(nats, bucket, HW_KEY_CHECKPOINT, entry, err);

    *hidden = 0;
    if (status == HW_ENOENT)
        status = hw_hidden_find(nats, bucket, HW_KEY_CHECKPOINT, hidden, err);
    if (status == HW_OK && *hidden != 0)
        status = hw_kv_get_at(nats, bucket, *hidden, entry, err);
    return status;
}

enum hw_status rec_checkpoint_read(struct hw_nats *nats, const char *bucket,
                                   struct rec_checkpoint *c, struct hw_error *err)
{
    struct rec_checkpoint found = {0};
    struct hw_kv_entry entry = {0};
    enum hw_status status;

    status = get(nats, bucket, &entry, &found.hidden, err);
    if (status == HW_ENOENT)
        *c = (struct rec_checkpoint){0};
    if (status != HW_OK)
        return status;
    found.seq = found.hidden != 0 ? HW_SEQ_NONE : entry.seq;
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

enum hw_status rec_checkpoint_free_key(struct hw_nats *nats, const char *bucket,
                                       const struct rec_checkpoint *c, struct hw_error *err)
{
    if (c->hidden == 0)
        return HW_OK;
    if (hw_hidden_purge(nats, bucket, HW_KEY_CHECKPOINT, c->hidden, err) != HW_OK)
        return err->status;
    hw_log_warn("nats-server does not find the checkpoint by its name, as after it was killed: the "
                "older entries of the key were purged, so that it can be written again",
                HW_S("bucket", bucket), HW_S("key", HW_KEY_CHECKPOINT),
                HW_I("revision", (int64_t)c->hidden), HW_L("lsn", c->fence.lsn));
    return HW_OK;
}

static enum hw_status put(struct hw_nats *nats, const char *bucket, const struct rec_checkpoint *c,
                          uint64_t expected, uint64_t *seq, struct hw_error *err)
{
    HW_AUTO_FREE char *value = c != NULL ? rec_checkpoint_value(c) : NULL;
    natsMsg *msg = NULL;

    if (hw_entry_message(bucket, HW_KEY_CHECKPOINT, value, value != NULL ? strlen(value) : 0,
                         c != NULL ? &c->fence : NULL, NULL, &msg, err) != HW_OK)
        return err->status;
    return hw_nats_publish_wait(nats, msg, expected, seq, err);
}

enum hw_status rec_checkpoint_put(struct hw_nats *nats, const char *bucket,
                                  const struct rec_checkpoint *c, struct rec_checkpoint *standing,
                                  struct hw_error *err)
{
    uint64_t seq = 0;
    bool kept = false;
    enum hw_status status = put(nats, bucket, c, standing->seq, &seq, err);

    if (status == HW_OK && standing->hidden != 0) {
        status = hw_hidden_kept(nats, bucket, HW_KEY_CHECKPOINT, seq, &kept, err);
        /* Then the newest of the old entries has to go, too. The checkpoint is missing for a
         * moment: whoever looks for it now compares everything, and entries have fences of their
         * own. */
        if (status == HW_OK && !kept) {
            status = hw_hidden_purge(nats, bucket, HW_KEY_CHECKPOINT, 0, err);
            if (status == HW_OK)
                status = put(nats, bucket, c, HW_SEQ_NONE, &seq, err);
            if (status == HW_OK)
                status = hw_hidden_kept(nats, bucket, HW_KEY_CHECKPOINT, seq, &kept, err);
            if (status == HW_OK && !kept)
                status = hw_hidden_fail(err, bucket, HW_KEY_CHECKPOINT,
                                        "it acknowledges what is written there, and does not keep "
                                        "it, though the key was purged");
        }
    }
    if (status != HW_OK)
        return status;
    standing->seq = seq;
    standing->hidden = 0;
    return HW_OK;
}
