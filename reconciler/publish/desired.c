#include "reconciler/publish/desired.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/names.h"

/* What must hold before a row may become a key and a name in NATS. */
static enum hw_status check(const struct hw_desired *row, struct hw_error *err)
{
    struct hw_digest digest;

    if (!hw_name_is_dotted(row->node))
        return hw_fail(err, HW_EPROTO, "desired row of node \"%.140s\": not a legal name",
                       row->node);
    if (hw_digest_parse(row->digest, &digest, err) != HW_OK) {
        err->status = HW_EPROTO;
        return hw_fail_in(err, "desired row of node %s", row->node);
    }
    return HW_OK;
}

enum hw_status rec_desired_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct hw_desired *row, struct hw_error *err)
{
    struct hw_desired r = {.committed_at = committed_at};

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

enum hw_status rec_desired_from_result(const PGresult *result, int n, struct hw_desired *row,
                                       struct hw_error *err)
{
    struct hw_desired r = {
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
