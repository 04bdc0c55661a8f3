#include "protocol/proposal.h"

#include <limits.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/utf8.h"

enum { MEDIA_TYPE_MOST = 255 };

/* ---- writing ---- */

static void add_string(struct hw_buf *text, const char *before, const char *s, size_t len)
{
    hw_buf_puts(text, before);
    hw_buf_json_string(text, s, len);
}

/* Adds the content as text where it is text, and where its escapes take no more room than base64
 * would. */
static void add_content(struct hw_buf *text, const struct hw_proposal *p)
{
    const char *const data = p->data != NULL ? p->data : "";
    const size_t before = text->len, limit = 4 * ((p->size + 2) / 3) + 64;

    if (hw_utf8_valid(data, p->size, NULL) && memchr(data, '\0', p->size) == NULL) {
        add_string(text, ",\"encoding\":\"utf-8\",\"content\":", data, p->size);
        if (text->len - before <= limit)
            return;
        text->len = before;
    }
    HW_AUTO_FREE char *encoded = hw_base64_encode(data, p->size);
    add_string(text, ",\"encoding\":\"base64\",\"content\":", encoded, strlen(encoded));
}

char *hw_proposal_write(const struct hw_proposal *p, size_t *size)
{
    struct hw_buf text = {0};

    add_string(&text, "{\"node\":", p->node, strlen(p->node));
    add_string(&text, ",\"ref\":", p->ref, strlen(p->ref));
    add_string(&text, ",\"config\":", p->config, strlen(p->config));
    hw_buf_printf(&text, ",\"base_revision\":%lld", (long long)p->base_revision);
    if (p->media_type != NULL)
        add_string(&text, ",\"media_type\":", p->media_type, strlen(p->media_type));
    if (p->message != NULL)
        add_string(&text, ",\"message\":", p->message, strlen(p->message));
    add_content(&text, p);
    hw_buf_putc(&text, '}');
    *size = text.len;
    return text.data;
}

/* ---- reading ---- */

bool hw_proposal_ref_valid(const char *ref)
{
    return strlen(ref) <= HW_PROPOSAL_REF_MOST && strchr(ref, '.') == NULL &&
           hw_name_is_dotted(ref);
}

static enum hw_status check(const char *node, json_t *root, struct hw_error *err)
{
    const char *name, *ref, *config, *content, *encoding = "utf-8";
    const char *media_type = NULL, *message = NULL;
    json_int_t base;

    if (hw_json_unpack(root, err, "{s:s, s:s, s:s, s:I, s:s, s?s, s?s, s?s}", "node", &name, "ref",
                       &ref, "config", &config, "base_revision", &base, "content", &content,
                       "encoding", &encoding, "media_type", &media_type, "message",
                       &message) != HW_OK)
        return HW_EINVAL;
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is of node \"%.130s\"", name);
    if (!hw_proposal_ref_valid(ref))
        return hw_fail(err, HW_EINVAL, "ref is not 1 to %d letters, digits, - and _",
                       HW_PROPOSAL_REF_MOST);
    if (!hw_name_valid(config))
        return hw_fail(err, HW_EINVAL, "config is not a name");
    if (base < 1 || base > INT_MAX)
        return hw_fail(err, HW_EINVAL, "base_revision is not a revision");
    if (media_type != NULL && strlen(media_type) > MEDIA_TYPE_MOST)
        return hw_fail(err, HW_EINVAL, "media_type is longer than %d characters", MEDIA_TYPE_MOST);
    if (strcmp(encoding, "utf-8") != 0 && strcmp(encoding, "base64") != 0)
        return hw_fail(err, HW_EINVAL, "encoding is neither utf-8 nor base64");
    return HW_OK;
}

/* Members that are not known are left out. */
static json_t *known_members(const json_t *root)
{
    static const char *const names[] = {"node",    "ref",      "config",     "base_revision",
                                        "content", "encoding", "media_type", "message"};
    json_t *members = json_pack("{s:s}", "encoding", "utf-8");

    for (size_t i = 0; i < HW_COUNT(names); i++)
        if (json_object_get(root, names[i]) != NULL)
            json_object_set(members, names[i], json_object_get(root, names[i]));
    return members;
}

enum hw_status hw_proposal_read(const char *node, const char *value, size_t size, json_t **members,
                                char **ref, struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    enum hw_status status;

    *ref = NULL;
    if (size > HW_PROPOSAL_VALUE_MOST)
        return hw_fail(err, HW_ELIMIT, "%zu bytes, more than the %zu a proposal may have", size,
                       HW_PROPOSAL_VALUE_MOST);
    status = hw_json_parse_object(value, size, &root, err);
    if (status != HW_OK)
        return status;
    const char *said = json_string_value(json_object_get(root, "ref"));
    if (said != NULL && hw_proposal_ref_valid(said))
        *ref = hw_strdup(said);
    status = check(node, root, err);
    if (status == HW_OK)
        *members = known_members(root);
    return status;
}
