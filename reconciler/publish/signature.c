#include "reconciler/publish/signature.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

char *rec_signature(struct hw_signer *signer, const char *node, const struct hw_desired *row,
                    struct hw_fence fence)
{
    const struct hw_statement statement = hw_desired_statement(node, fence, row);

    return signer != NULL ? hw_signer_sign(signer, &statement) : NULL;
}

/* What the entry says, by its key, its headers and its value, which *value holds. */
static enum hw_status read_statement(const struct hw_entry *entry, struct hw_desired_value *value,
                                     struct hw_statement *statement, struct hw_error *err)
{
    if (!entry->fenced)
        return hw_fail(err, HW_EINVAL, "the headers have no fence");
    if (entry->deleted) {
        *statement = hw_desired_statement(hw_desired_node(entry->key), entry->fence, NULL);
        return HW_OK;
    }
    if (hw_desired_read(entry->value, entry->size, value, err) != HW_OK)
        return HW_EINVAL;
    *statement = hw_desired_statement(value->desired.node, entry->fence, &value->desired);
    return HW_OK;
}

bool rec_signature_stands(struct hw_signer *signer, const struct hw_entry *entry)
{
    struct hw_desired_value value = {0};
    struct hw_statement statement;
    bool stands = false;

    if (signer == NULL || hw_desired_node(entry->key) == NULL)
        return true;
    if (entry->signature != NULL && read_statement(entry, &value, &statement, NULL) == HW_OK) {
        /* It is deterministic, and quicker made than checked. */
        HW_AUTO_FREE char *right = hw_signer_sign(signer, &statement);

        stands = strcmp(entry->signature, right) == 0;
    }
    hw_desired_clear(&value);
    return stands;
}

enum hw_status rec_signature_check(const struct hw_trust *trust, const struct hw_entry *entry,
                                   struct hw_error *err)
{
    struct hw_desired_value value = {0};
    struct hw_statement statement;
    enum hw_status status = read_statement(entry, &value, &statement, err);

    if (status == HW_OK)
        status = hw_trust_check(trust, &statement, entry->signature, err);
    hw_desired_clear(&value);
    return status;
}
