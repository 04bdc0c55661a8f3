#include "agent/desired.h"

#include <string.h>

#include "common/json.h"

/* A media type is written to a file, an environment variable and a report, so it must consist of
 * visible ASCII characters and blanks. */
static bool is_media_type(const char *text)
{
    const size_t len = strlen(text);

    if (len == 0 || len >= AGENT_MEDIA_TYPE_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return true;
}

static enum hw_status check_fence(const struct hw_kv_entry *entry, json_int_t epoch,
                                  const char *lsn, struct hw_error *err)
{
    struct hw_fence fence = {.epoch = (uint64_t)epoch};
    enum hw_status status;

    if (epoch < 1)
        return hw_fail(err, HW_EINVAL, "epoch %lld: must be at least 1", (long long)epoch);
    status = hw_lsn_parse(lsn, &fence.lsn, err);
    if (status != HW_OK)
        return status;
    if (hw_fence_compare(fence, entry->fence) != 0)
        return hw_fail(err, HW_EINVAL,
                       "the value says epoch %llu lsn %s, its headers say epoch %llu lsn %s",
                       (unsigned long long)fence.epoch, HW_LSN(fence.lsn),
                       (unsigned long long)entry->fence.epoch, HW_LSN(entry->fence.lsn));
    return HW_OK;
}

static enum hw_status check_signature(const struct hw_kv_entry *entry, const char *node,
                                      const struct agent_document *d, const struct hw_trust *trust,
                                      struct hw_error *err)
{
    char digest[HW_DIGEST_STR_MAX];
    const struct hw_statement statement = {.node = node,
                                           .fence = d->fence,
                                           .digest =
                                               d->set ? hw_digest_format(&d->digest, digest) : NULL,
                                           .revision = d->revision,
                                           .size = (int64_t)d->size,
                                           .media_type = d->media_type};

    return trust != NULL ? hw_trust_check(trust, &statement, entry->signature, err) : HW_OK;
}

enum hw_status agent_desired_decode(const struct hw_kv_entry *entry, const char *node,
                                    const struct hw_trust *trust, struct agent_document *out,
                                    struct hw_error *err)
{
    HW_AUTO_JSON json_t *value = NULL;
    const char *owner, *digest, *media_type, *object, *lsn;
    struct agent_document d = {.fence = entry->fence};
    json_int_t revision, size, epoch;
    char hex[HW_DIGEST_HEX_MAX];
    enum hw_status status;

    if (!entry->fenced)
        return hw_fail(err, HW_EINVAL,
                       "the headers " HW_HEADER_EPOCH " and " HW_HEADER_LSN
                       " are missing or not valid");
    if (entry->deleted) {
        status = check_signature(entry, node, &d, trust, err);
        if (status == HW_OK)
            *out = d;
        return status;
    }
    status = hw_json_parse_object(entry->value, entry->size, &value, err);
    if (status == HW_OK)
        status =
            hw_json_unpack(value, err, "{ss sI ss sI ss ss sI ss *}", "node", &owner, "revision",
                           &revision, "digest", &digest, "size", &size, "media_type", &media_type,
                           "object", &object, "epoch", &epoch, "lsn", &lsn);
    if (status == HW_OK)
        status = check_fence(entry, epoch, lsn, err);
    if (status == HW_OK)
        status = hw_digest_parse(digest, &d.digest, err);
    if (status != HW_OK)
        return status;
    if (strcmp(owner, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is for the node \"%.128s\"", owner);
    if (revision < 1)
        return hw_fail(err, HW_EINVAL, "revision %lld: must be at least 1", (long long)revision);
    if (size < 0 || size > (json_int_t)AGENT_DOCUMENT_MAX)
        return hw_fail(err, HW_EINVAL, "size %lld: must be from 0 to %zu", (long long)size,
                       AGENT_DOCUMENT_MAX);
    if (!is_media_type(media_type))
        return hw_fail(err, HW_EINVAL, "the media type is empty, too long or not plain ASCII");
    if (strcmp(object, hw_digest_hex(&d.digest, hex)) != 0)
        return hw_fail(err, HW_EINVAL, "the object \"%.80s\" is not named by the digest %s", object,
                       digest);
    d.set = true;
    d.revision = revision;
    d.size = (size_t)size;
    memcpy(d.media_type, media_type, strlen(media_type) + 1);
    status = check_signature(entry, node, &d, trust, err);
    if (status == HW_OK)
        *out = d;
    return status;
}

char *agent_desired_sources(const struct hw_kv_entry *entry)
{
    HW_AUTO_JSON json_t *value = NULL;

    if (hw_json_parse_object(entry->value, entry->size, &value, NULL) != HW_OK)
        return NULL;
    return hw_json_dump(json_object_get(value, "sources"));
}

enum agent_verdict agent_desired_judge(const struct agent_state *state,
                                       const struct agent_document *desired, bool again)
{
    const int order = hw_fence_compare(desired->fence, state->fence);

    if (order < 0)
        return AGENT_DESIRED_STALE;
    if (!desired->set)
        return order > 0 ? AGENT_DESIRED_NONE : AGENT_DESIRED_KNOWN;
    if (agent_document_same(desired, &state->running))
        return order > 0 ? AGENT_DESIRED_ADOPT : AGENT_DESIRED_KNOWN;
    if (order == 0 && !again && state->failed.set &&
        hw_fence_compare(desired->fence, state->failed.document.fence) == 0)
        return AGENT_DESIRED_KNOWN;
    return AGENT_DESIRED_APPLY;
}
