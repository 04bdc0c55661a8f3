#include "reconciler/publish/decided.h"

#include <stdlib.h>
#include <string.h>

#include "base/names.h"

static enum hw_status check(const struct hw_decided *row, struct hw_error *err)
{
    if (!hw_name_is_dotted(row->node))
        return hw_fail(err, HW_EPROTO, "decided row of node \"%.140s\": not a legal name",
                       row->node);
    return HW_OK;
}

enum hw_status rec_decided_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct hw_decided *row, struct hw_error *err)
{
    struct hw_decided r = {.committed_at = committed_at};

    if (cdc_row_string(columns, "node", &r.node, err) != HW_OK ||
        cdc_row_string(columns, "decisions", &r.decisions, err) != HW_OK)
        return hw_fail_in(err, "a streamed row of headwater.decided");
    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}

enum hw_status rec_decided_from_result(const PGresult *result, int n, struct hw_decided *row,
                                       struct hw_error *err)
{
    const struct hw_decided r = {
        .node = PQgetvalue(result, n, 0),
        .decisions = PQgetvalue(result, n, 5),
        .committed_at = PQgetvalue(result, n, 6),
    };

    if (check(&r, err) != HW_OK)
        return err->status;
    *row = r;
    return HW_OK;
}
