#include "protocol/desired.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "protocol/keys.h"

const char *hw_desired_node(const char *key)
{
    return hw_key_node(key, HW_KEY_DESIRED);
}

/* ---- writing ---- */

static void add_string(struct hw_buf *text, const char *before, const char *s)
{
    hw_buf_puts(text, before);
    hw_buf_json_string(text, s, strlen(s));
}

char *hw_desired_write(const struct hw_desired *d, struct hw_fence fence, size_t *size)
{
    struct hw_buf text = {0};

    hw_buf_reserve(&text, 384 + strlen(d->node) + strlen(d->sources));
    add_string(&text, "{\"node\":", d->node);
    hw_buf_printf(&text, ",\"revision\":%" PRId64, d->revision);
    add_string(&text, ",\"digest\":", d->digest);
    hw_buf_printf(&text, ",\"size\":%" PRId64, d->size);
    add_string(&text, ",\"media_type\":", d->media_type);
    add_string(&text, ",\"object\":", d->digest + strlen("sha256:"));
    hw_buf_printf(&text, ",\"epoch\":%" PRIu64 ",\"lsn\":\"%s\"", fence.epoch, HW_LSN(fence.lsn));
    add_string(&text, ",\"committed_at\":", d->committed_at);
    hw_buf_printf(&text, ",\"sources\":%s}", d->sources);
    *size = text.len;
    return text.data;
}

/* ---- reading ---- */

static enum hw_status read_fence(json_int_t epoch, const char *lsn, struct hw_fence *fence,
                                 struct hw_error *err)
{
    if (epoch < 1)
        return hw_fail(err, HW_EINVAL, "epoch %lld: must be at least 1", (long long)epoch);
    fence->epoch = (uint64_t)epoch;
    return hw_lsn_parse(lsn, &fence->lsn, err);
}

static enum hw_status read_members(json_t *root, struct hw_desired_value *v, struct hw_error *err)
{
    struct hw_desired *const d = &v->desired;
    json_int_t revision, bytes, epoch;
    char hex[HW_DIGEST_HEX_MAX];
    const char *object, *lsn;

    if (hw_json_unpack(root, err, "{ss sI ss sI ss ss sI ss s?o *}", "node", &d->node, "revision",
                       &revision, "digest", &d->digest, "size", &bytes, "media_type",
                       &d->media_type, "object", &object, "epoch", &epoch, "lsn", &lsn, "sources",
                       &v->sources) != HW_OK ||
        read_fence(epoch, lsn, &v->fence, err) != HW_OK ||
        hw_digest_parse(d->digest, &v->digest, err) != HW_OK)
        return HW_EINVAL;
    if (revision < 1)
        return hw_fail(err, HW_EINVAL, "revision %lld: must be at least 1", (long long)revision);
    if (bytes < 0)
        return hw_fail(err, HW_EINVAL, "size %lld: must be at least 0", (long long)bytes);
    if (strcmp(object, hw_digest_hex(&v->digest, hex)) != 0)
        return hw_fail(err, HW_EINVAL, "the object \"%.80s\" is not named by the digest %s", object,
                       d->digest);
    d->revision = revision;
    d->size = bytes;
    return HW_OK;
}

enum hw_status hw_desired_read(const char *text, size_t size, struct hw_desired_value *out,
                               struct hw_error *err)
{
    struct hw_desired_value value = {0};

    if (hw_json_parse_object(text, size, &value.root, err) != HW_OK)
        return HW_EINVAL;
    if (read_members(value.root, &value, err) != HW_OK) {
        hw_desired_clear(&value);
        return HW_EINVAL;
    }
    *out = value;
    return HW_OK;
}

void hw_desired_clear(struct hw_desired_value *value)
{
    json_decref(value->root);
    *value = (struct hw_desired_value){0};
}

/* ---- signing ---- */

struct hw_statement hw_desired_statement(const char *node, struct hw_fence fence,
                                         const struct hw_desired *desired)
{
    struct hw_statement statement = {.node = node, .fence = fence};

    if (desired != NULL) {
        statement.digest = desired->digest;
        statement.revision = desired->revision;
        statement.size = desired->size;
        statement.media_type = desired->media_type;
    }
    return statement;
}
