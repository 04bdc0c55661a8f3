#include "reconciler/intake/proposals.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/points.h"
#include "reconciler/intake/intake.h"

enum {
    BATCH_MOST = 100,
    VALUE_MOST = 1 << 20, /* bytes of one proposal: the content in base64, and the rest */
    REF_MOST = 64,
    MEDIA_TYPE_MOST = 255,
};

/* ---- reading ---- */

static bool ref_valid(const char *ref)
{
    return *ref != '\0' && strlen(ref) <= REF_MOST && strchr(ref, '.') == NULL &&
           hw_kv_key_valid(ref);
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
        return err->status;
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is of node \"%.130s\"", name);
    if (!ref_valid(ref))
        return hw_fail(err, HW_EINVAL, "ref is not 1 to %d letters, digits, - and _", REF_MOST);
    if (!hw_kv_name_valid(config))
        return hw_fail(err, HW_EINVAL, "config is not a name");
    if (base < 1 || base > INT_MAX)
        return hw_fail(err, HW_EINVAL, "base_revision is not a revision");
    if (media_type != NULL && strlen(media_type) > MEDIA_TYPE_MOST)
        return hw_fail(err, HW_EINVAL, "media_type is longer than %d characters", MEDIA_TYPE_MOST);
    if (strcmp(encoding, "utf-8") != 0 && strcmp(encoding, "base64") != 0)
        return hw_fail(err, HW_EINVAL, "encoding is neither utf-8 nor base64");
    return HW_OK;
}

/* Without a usable ref, one is made of the bytes: the same bytes have the same ref, and are refused
 * once. */
static char *problem_of(const char *node, const char *ref, const char *value, size_t size,
                        const struct hw_error *why)
{
    const struct {
        const char *name, *value;
    } members[] = {{"{\"node\":", node}, {",\"ref\":", ref}, {",\"problem\":", why->message}};
    char own[] = "unreadable-0123456789abcdef";
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_digest digest;
    struct hw_buf text = {0};

    hw_digest_of(value, size, &digest);
    memcpy(strchr(own, '-') + 1, hw_digest_hex(&digest, hex), 16);
    for (size_t i = 0; i < HW_COUNT(members); i++) {
        const char *member = members[i].value != NULL ? members[i].value : own;

        hw_buf_puts(&text, members[i].name);
        hw_buf_json_string(&text, member, strlen(member));
    }
    hw_buf_putc(&text, '}');
    return text.data;
}

char *rec_proposal_read(const char *node, const char *value, size_t size)
{
    static const char *const members[] = {"node",    "ref",      "config",     "base_revision",
                                          "content", "encoding", "media_type", "message"};
    HW_AUTO_JSON json_t *root = NULL;
    HW_AUTO_JSON json_t *item = NULL;
    struct hw_error err;
    enum hw_status status;

    if (size > VALUE_MOST)
        status = hw_fail(&err, HW_ELIMIT, "%zu bytes, more than the %d a proposal may have", size,
                         VALUE_MOST);
    else
        status = hw_json_parse_object(value, size, &root, &err);
    if (status == HW_OK)
        status = check(node, root, &err);
    if (status != HW_OK) {
        const char *ref = json_string_value(json_object_get(root, "ref"));

        return problem_of(node, ref != NULL && ref_valid(ref) ? ref : NULL, value, size, &err);
    }
    item = json_pack("{s:s}", "encoding", "utf-8");
    for (size_t i = 0; i < HW_COUNT(members); i++)
        if (json_object_get(root, members[i]) != NULL)
            json_object_set(item, members[i], json_object_get(root, members[i]));
    return hw_json_dump(item);
}

static char *read_proposal(void *arg, const char *node, const struct hw_kv_entry *entry)
{
    (void)arg;
    return rec_proposal_read(node, entry->value, entry->size);
}

/* ---- writing ---- */

static void take_answers(void *arg, const PGresult *result)
{
    (void)arg;
    HW_POINT("proposals-written");
    for (int i = 0; i < PQntuples(result); i++) {
        const char *node = PQgetvalue(result, i, 0), *ref = PQgetvalue(result, i, 1);
        const char *state = PQgetvalue(result, i, 3);

        if (PQgetisnull(result, i, 2))
            hw_log_warn("passing over a proposal", HW_S("node", node), HW_S("ref", ref),
                        HW_S("why", strcmp(state, "unknown") == 0 ? "there is no such node"
                                                                  : "the node sends too many"));
        else
            hw_log_debug("proposal", HW_S("node", node), HW_S("ref", ref),
                         HW_S("id", PQgetvalue(result, i, 2)), HW_S("state", state));
    }
}

/* ---- life ---- */

enum hw_status rec_proposals_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                   const char *bucket, struct rec_intake **out,
                                   struct hw_error *err)
{
    const struct rec_intake_config config = {
        .loop = loop,
        .nats = nats,
        .database = conninfo,
        .bucket = bucket,
        .prefix = "cfg.proposed.",
        .what = "proposals",
        .sql = "SELECT node, ref, id, state FROM headwater.propose($1::jsonb)",
        .batch_most = BATCH_MOST,
        .read = read_proposal,
        .answered = take_answers};

    return rec_intake_start(&config, out, err);
}
