#include "reconciler/publish/signature.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/memory.h"

char *rec_signature(struct hw_signer *signer, const char *node, const struct rec_desired *row,
                    struct hw_fence fence)
{
    struct hw_statement statement = {.node = node, .fence = fence};

    if (signer == NULL)
        return NULL;
    if (row != NULL) {
        statement.digest = row->digest;
        statement.revision = row->revision;
        statement.size = row->size;
        statement.media_type = row->media_type;
    }
    return hw_signer_sign(signer, &statement);
}

/* What the entry says, by its key, its headers and its value, which *root holds. */
static enum hw_status read_statement(const struct hw_kv_entry *entry,
                                     struct hw_statement *statement, json_t **root,
                                     struct hw_error *err)
{
    struct hw_statement s = {.node = rec_desired_node(entry->key), .fence = entry->fence};
    json_int_t revision, size;

    if (!entry->fenced)
        return hw_fail(err, HW_EINVAL, "the headers have no fence");
    if (!entry->deleted) {
        if (hw_json_parse_object(entry->value, entry->size, root, err) != HW_OK ||
            hw_json_unpack(*root, err, "{s:s, s:I, s:s, s:I, s:s}", "node", &s.node, "revision",
                           &revision, "digest", &s.digest, "size", &size, "media_type",
                           &s.media_type) != HW_OK)
            return err != NULL ? err->status : HW_EINVAL;
        s.revision = revision;
        s.size = size;
    }
    *statement = s;
    return HW_OK;
}

bool rec_signature_stands(struct hw_signer *signer, const struct hw_kv_entry *entry)
{
    HW_AUTO_JSON json_t *root = NULL;
    struct hw_statement statement;

    if (signer == NULL || rec_desired_node(entry->key) == NULL)
        return true;
    if (entry->signature == NULL || read_statement(entry, &statement, &root, NULL) != HW_OK)
        return false;
    /* It is deterministic, and quicker made than checked. */
    HW_AUTO_FREE char *right = hw_signer_sign(signer, &statement);
    return strcmp(entry->signature, right) == 0;
}

enum hw_status rec_signature_check(const struct hw_trust *trust, const struct hw_kv_entry *entry,
                                   struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    struct hw_statement statement;
    const enum hw_status status = read_statement(entry, &statement, &root, err);

    return status == HW_OK ? hw_trust_check(trust, &statement, entry->signature, err) : status;
}
