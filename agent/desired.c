#include "agent/desired.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "protocol/desired.h"

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

/* What a value alone cannot tell: it must agree with its headers, be for this node, and be of a
 * kind and a size that the node takes. */
static enum hw_status check_value(const struct hw_desired_value *value,
                                  const struct hw_entry *entry, const char *node,
                                  struct hw_error *err)
{
    const struct hw_desired *const d = &value->desired;

    if (hw_fence_compare(value->fence, entry->fence) != 0)
        return hw_fail(err, HW_EINVAL,
                       "the value says epoch %llu lsn %s, its headers say epoch %llu lsn %s",
                       (unsigned long long)value->fence.epoch, HW_LSN(value->fence.lsn),
                       (unsigned long long)entry->fence.epoch, HW_LSN(entry->fence.lsn));
    if (strcmp(d->node, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is for the node \"%.128s\"", d->node);
    if (d->size > (int64_t)AGENT_DOCUMENT_MAX)
        return hw_fail(err, HW_EINVAL, "size %lld: must be from 0 to %zu", (long long)d->size,
                       AGENT_DOCUMENT_MAX);
    if (!is_media_type(d->media_type))
        return hw_fail(err, HW_EINVAL, "the media type is empty, too long or not plain ASCII");
    return HW_OK;
}

/* desired NULL: of a deletion. */
static enum hw_status check_signature(const struct hw_entry *entry, const char *node,
                                      const struct hw_desired *desired,
                                      const struct hw_trust *trust, struct hw_error *err)
{
    const struct hw_statement statement = hw_desired_statement(node, entry->fence, desired);

    return trust != NULL ? hw_trust_check(trust, &statement, entry->signature, err) : HW_OK;
}

static void take(const struct hw_desired_value *value, struct agent_document *document)
{
    *document = (struct agent_document){.set = true,
                                        .revision = value->desired.revision,
                                        .digest = value->digest,
                                        .size = (size_t)value->desired.size,
                                        .fence = value->fence};
    snprintf(document->media_type, sizeof(document->media_type), "%s", value->desired.media_type);
}

enum hw_status agent_desired_decode(const struct hw_entry *entry, const char *node,
                                    const struct hw_trust *trust, struct agent_document *out,
                                    struct hw_error *err)
{
    struct hw_desired_value value;
    enum hw_status status = hw_entry_check_fenced(entry, err);

    if (status == HW_OK && entry->deleted) {
        status = check_signature(entry, node, NULL, trust, err);
        if (status == HW_OK)
            *out = (struct agent_document){.fence = entry->fence};
        return status;
    }
    if (status == HW_OK)
        status = hw_desired_read(entry->value, entry->size, &value, err);
    if (status != HW_OK)
        return status;
    status = check_value(&value, entry, node, err);
    if (status == HW_OK)
        status = check_signature(entry, node, &value.desired, trust, err);
    if (status == HW_OK)
        take(&value, out);
    hw_desired_clear(&value);
    return status;
}

char *agent_desired_sources(const struct hw_entry *entry)
{
    struct hw_desired_value value;

    if (hw_desired_read(entry->value, entry->size, &value, NULL) != HW_OK)
        return NULL;
    char *sources = hw_json_dump(value.sources);
    hw_desired_clear(&value);
    return sources;
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
