#include "protocol/decided.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "protocol/keys.h"

const char *hw_decided_node(const char *key)
{
    return hw_key_node(key, HW_KEY_DECIDED);
}

char *hw_decided_write(const struct hw_decided *d, struct hw_fence fence, size_t *size)
{
    struct hw_buf text = {0};

    hw_buf_puts(&text, "{\"node\":");
    hw_buf_json_string(&text, d->node, strlen(d->node));
    hw_buf_printf(&text, ",\"epoch\":%" PRIu64 ",\"lsn\":\"%s\",\"committed_at\":", fence.epoch,
                  HW_LSN(fence.lsn));
    hw_buf_json_string(&text, d->committed_at, strlen(d->committed_at));
    hw_buf_printf(&text, ",\"decisions\":%s}", d->decisions);
    *size = text.len;
    return text.data;
}

enum hw_status hw_decided_read(const char *text, size_t size, struct hw_decided_value *out,
                               struct hw_error *err)
{
    struct hw_decided_value value = {0};
    json_int_t epoch;
    const char *lsn;
    hw_lsn position;

    if (hw_json_parse_object(text, size, &value.root, err) != HW_OK)
        return HW_EINVAL;
    if (hw_json_unpack(value.root, err, "{ss so *}", "node", &value.node, "decisions",
                       &value.decisions) != HW_OK) {
        hw_decided_clear(&value);
        return HW_EINVAL;
    }
    if (hw_json_unpack(value.root, NULL, "{sI ss *}", "epoch", &epoch, "lsn", &lsn) == HW_OK &&
        epoch >= 1 && hw_lsn_parse(lsn, &position, NULL) == HW_OK)
        value.fence = (struct hw_fence){.epoch = (uint64_t)epoch, .lsn = position};
    *out = value;
    return HW_OK;
}

void hw_decided_clear(struct hw_decided_value *value)
{
    json_decref(value->root);
    *value = (struct hw_decided_value){0};
}

enum hw_status hw_decision_read(json_t *object, struct hw_decision *out, struct hw_error *err)
{
    struct hw_decision d = {0};
    json_t *config, *revision;
    json_int_t id;

    if (hw_json_unpack(object, err, "{ss sI ss so so ss *}", "ref", &d.ref, "id", &id, "state",
                       &d.state, "config", &config, "revision", &revision, "reason",
                       &d.reason) != HW_OK)
        return HW_EINVAL;
    d.id = id;
    d.config = json_is_string(config) ? json_string_value(config) : "";
    d.revision = json_integer_value(revision);
    *out = d;
    return HW_OK;
}

enum hw_status hw_decided_find(const struct hw_decided_value *value, const char *ref,
                               struct hw_decision *decision, struct hw_error *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(value->decisions, i, item) {
        const char *name = json_string_value(json_object_get(item, "ref"));

        if (name != NULL && strcmp(name, ref) == 0)
            return hw_decision_read(item, decision, err);
    }
    return hw_fail(err, HW_ENOENT, "nothing is said of %s", ref);
}
