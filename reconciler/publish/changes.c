#include "reconciler/publish/changes.h"

#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "common/log.h"
#include "reconciler/publish/blob.h"

/* A change of a table with one row for each node. *gone: there is no new row, because this one or
 * all of them were deleted. */
static enum hw_status take_removal(struct rec_apply *apply, const struct cdc_transaction *tx,
                                   const struct cdc_change *change, const char *prefix,
                                   struct rec_commands *commands, bool *gone, struct hw_error *err)
{
    const char *node;

    *gone = change->action != CDC_INSERT && change->action != CDC_UPDATE;
    if (change->action == CDC_DELETE) {
        if (cdc_row_string(change->identity, "node", &node, err) != HW_OK)
            return hw_fail_in(err, "a row deleted from headwater.%s", change->table);
        HW_AUTO_FREE char *key = hw_sprintf("%s%s", prefix, node);

        rec_apply_remove(apply, key);
    } else if (*gone) {
        /* A trigger refuses TRUNCATE. Where somebody removed the trigger, no row says which nodes
         * there were. */
        hw_log_warn("a table was truncated: comparing everything", HW_S("table", change->table),
                    HW_I("xid", tx->xid));
        commands->command = REC_COMMAND_RESYNC;
    }
    return HW_OK;
}

static enum hw_status take_desired(struct rec_apply *apply, const struct cdc_transaction *tx,
                                   const struct cdc_change *change, struct rec_commands *commands,
                                   struct hw_error *err)
{
    struct hw_desired row;
    bool gone;

    if (take_removal(apply, tx, change, HW_KEY_DESIRED, commands, &gone, err) != HW_OK)
        return err->status;
    if (gone)
        return HW_OK;
    if (rec_desired_from_columns(change->columns, tx->committed_at, &row, err) != HW_OK)
        return err->status;
    rec_apply_set(apply, &row);
    return HW_OK;
}

static enum hw_status take_decided(struct rec_apply *apply, const struct cdc_transaction *tx,
                                   const struct cdc_change *change, struct rec_commands *commands,
                                   struct hw_error *err)
{
    struct hw_decided row;
    bool gone;

    if (take_removal(apply, tx, change, HW_KEY_DECIDED, commands, &gone, err) != HW_OK)
        return err->status;
    if (gone)
        return HW_OK;
    if (rec_decided_from_columns(change->columns, tx->committed_at, &row, err) != HW_OK)
        return err->status;
    rec_apply_tell(apply, &row);
    return HW_OK;
}

static enum hw_status take_blob(struct rec_apply *apply, const struct cdc_change *change,
                                struct hw_error *err)
{
    const char *digest, *encoding, *content;
    struct rec_blob blob;
    enum hw_status status;

    if (change->action != CDC_INSERT)
        return HW_OK;
    status = cdc_row_string(change->columns, "digest", &digest, err);
    if (status == HW_OK)
        status = cdc_row_string(change->columns, "encoding", &encoding, err);
    if (status == HW_OK)
        status = cdc_row_string(change->columns, "content", &content, err);
    if (status == HW_OK && strncmp(digest, "sha256:", 7) != 0)
        status = hw_fail(err, HW_EPROTO, "the digest is no SHA-256");
    if (status != HW_OK)
        return hw_fail_in(err, "a streamed row of headwater.blob");
    status = rec_blob_decode(encoding, content, strlen(content), &blob, err);
    if (status != HW_OK)
        return status;
    status = rec_apply_blob(apply, digest + 7, blob.data, blob.size, err);
    rec_blob_clear(&blob);
    return status;
}

static enum hw_status take_changelog(struct rec_apply *apply, const struct cdc_change *change,
                                     struct hw_error *err)
{
    const char *nonce;
    int64_t rev;

    if (change->action != CDC_INSERT)
        return HW_OK;
    if (cdc_row_integer(change->columns, "rev", &rev, err) != HW_OK ||
        cdc_row_string(change->columns, "nonce", &nonce, err) != HW_OK)
        return hw_fail_in(err, "a streamed row of headwater.changelog");
    rec_apply_changelog(apply, rev, nonce);
    return HW_OK;
}

/* A message that cannot be understood is logged and passed over: it must not stop the stream. */
static void take_message(const struct cdc_change *change, struct rec_commands *commands)
{
    HW_AUTO_JSON json_t *root = NULL;
    const char *command, *from, *to = NULL;
    struct rec_commands c = {0};
    struct hw_error err;

    if (hw_json_parse_object(change->content, change->content_len, &root, &err) != HW_OK ||
        hw_json_unpack(root, &err, "{s:s}", "command", &command) != HW_OK) {
        hw_log_warn("passing over a message that is no command", HW_E(&err));
        return;
    }
    if (strcmp(command, "resync") == 0) {
        commands->command = REC_COMMAND_RESYNC;
    } else if (strcmp(command, "replay") == 0) {
        c.command = REC_COMMAND_REPLAY;
        if (hw_json_unpack(root, &err, "{s:s, s?s*}", "from", &from, "to", &to) != HW_OK &&
            hw_json_unpack(root, &err, "{s:s, s:n}", "from", &from, "to") != HW_OK)
            hw_log_warn("passing over a command that is incomplete", HW_E(&err));
        else if (hw_lsn_parse(from, &c.from, &err) != HW_OK ||
                 (to != NULL && hw_lsn_parse(to, &c.to, &err) != HW_OK))
            hw_log_warn("passing over a command with a bad position", HW_E(&err));
        else
            *commands = c;
    }
}

enum hw_status rec_change_take(struct rec_apply *apply, const struct cdc_transaction *tx,
                               const struct cdc_change *change, struct rec_commands *commands,
                               struct hw_error *err)
{
    if (change->action == CDC_MESSAGE) {
        take_message(change, commands);
        return HW_OK;
    }
    if (strcmp(change->table, "desired") == 0)
        return take_desired(apply, tx, change, commands, err);
    if (strcmp(change->table, "decided") == 0)
        return take_decided(apply, tx, change, commands, err);
    if (strcmp(change->table, "blob") == 0)
        return take_blob(apply, change, err);
    if (strcmp(change->table, "changelog") == 0)
        return take_changelog(apply, change, err);
    return HW_OK;
}
