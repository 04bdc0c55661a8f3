#include "reconciler/publish/decided.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/memory.h"
#include "nats/kv.h"

const char *rec_decided_node(const char *key)
{
    const size_t prefix = strlen(REC_DECIDED_PREFIX);

    return strncmp(key, REC_DECIDED_PREFIX, prefix) == 0 ? key + prefix : NULL;
}

static enum hw_status check(const struct rec_decided *row, struct hw_error *err)
{
    if (!hw_kv_key_valid(row->node))
        return hw_fail(err, HW_EPROTO, "decided row of node \"%.140s\": not a legal name",
                       row->node);
    return HW_OK;
}

enum hw_status rec_decided_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct rec_decided *row, struct hw_error *err)
{
    struct rec_decided r = {.committed_at = committed_at};

    if (cdc_row_string(columns, "node", &r.node, err) != HW_OK ||
        cdc_row_string(columns, "decisions", &r.decisions, err) != HW_OK)
        return hw_fail_in(err, "a streamed row of headwater.decided");
    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}

enum hw_status rec_decided_from_result(const PGresult *result, int n, struct rec_decided *row,
                                       struct hw_error *err)
{
    const struct rec_decided r = {
        .node = PQgetvalue(result, n, 0),
        .decisions = PQgetvalue(result, n, 5),
        .committed_at = PQgetvalue(result, n, 6),
    };

    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}

char *rec_decided_value(const struct rec_decided *row, struct hw_fence fence, size_t *size)
{
    struct hw_buf text = {0};

    hw_buf_puts(&text, "{\"node\":");
    hw_buf_json_string(&text, row->node, strlen(row->node));
    hw_buf_printf(&text, ",\"epoch\":%" PRIu64 ",\"lsn\":\"%s\",\"committed_at\":", fence.epoch,
                  HW_LSN(fence.lsn));
    hw_buf_json_string(&text, row->committed_at, strlen(row->committed_at));
    hw_buf_printf(&text, ",\"decisions\":%s}", row->decisions);
    *size = text.len;
    return text.data;
}
