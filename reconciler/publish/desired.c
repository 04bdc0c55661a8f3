#include "reconciler/publish/desired.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/memory.h"
#include "nats/kv.h"

const char *rec_desired_node(const char *key)
{
    const size_t prefix = strlen(REC_DESIRED_PREFIX);

    return strncmp(key, REC_DESIRED_PREFIX, prefix) == 0 ? key + prefix : NULL;
}

/* What must hold before a row may become a key and a name in NATS. */
static enum hw_status check(const struct rec_desired *row, struct hw_error *err)
{
    struct hw_digest digest;

    if (!hw_kv_key_valid(row->node))
        return hw_fail(err, HW_EPROTO, "desired row of node \"%.140s\": not a legal name",
                       row->node);
    if (hw_digest_parse(row->digest, &digest, err) != HW_OK) {
        err->status = HW_EPROTO;
        return hw_fail_in(err, "desired row of node %s", row->node);
    }
    return HW_OK;
}

enum hw_status rec_desired_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct rec_desired *row, struct hw_error *err)
{
    struct rec_desired r = {.committed_at = committed_at};

    if (cdc_row_string(columns, "node", &r.node, err) != HW_OK ||
        cdc_row_integer(columns, "revision", &r.revision, err) != HW_OK ||
        cdc_row_string(columns, "digest", &r.digest, err) != HW_OK ||
        cdc_row_integer(columns, "size", &r.size, err) != HW_OK ||
        cdc_row_string(columns, "media_type", &r.media_type, err) != HW_OK ||
        cdc_row_string(columns, "sources", &r.sources, err) != HW_OK)
        return hw_fail_in(err, "a streamed row of headwater.desired");
    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}

enum hw_status rec_desired_from_result(const PGresult *result, int n, struct rec_desired *row,
                                       struct hw_error *err)
{
    struct rec_desired r = {
        .node = PQgetvalue(result, n, 0),
        .revision = strtoll(PQgetvalue(result, n, 1), NULL, 10),
        .digest = PQgetvalue(result, n, 2),
        .size = strtoll(PQgetvalue(result, n, 3), NULL, 10),
        .media_type = PQgetvalue(result, n, 4),
        .sources = PQgetvalue(result, n, 5),
        .committed_at = PQgetvalue(result, n, 6),
    };

    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}

static void add_string(struct hw_buf *text, const char *before, const char *s)
{
    hw_buf_puts(text, before);
    hw_buf_json_string(text, s, strlen(s));
}

char *rec_desired_value(const struct rec_desired *row, struct hw_fence fence, size_t *size)
{
    struct hw_buf text = {0};

    hw_buf_reserve(&text, 384 + strlen(row->node) + strlen(row->sources));
    add_string(&text, "{\"node\":", row->node);
    hw_buf_printf(&text, ",\"revision\":%" PRId64, row->revision);
    add_string(&text, ",\"digest\":", row->digest);
    hw_buf_printf(&text, ",\"size\":%" PRId64, row->size);
    add_string(&text, ",\"media_type\":", row->media_type);
    add_string(&text, ",\"object\":", row->digest + strlen("sha256:"));
    hw_buf_printf(&text, ",\"epoch\":%" PRIu64 ",\"lsn\":\"%s\"", fence.epoch, HW_LSN(fence.lsn));
    add_string(&text, ",\"committed_at\":", row->committed_at);
    hw_buf_printf(&text, ",\"sources\":%s}", row->sources);
    *size = text.len;
    return text.data;
}
