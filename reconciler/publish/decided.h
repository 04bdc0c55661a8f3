/*
 * Rows of headwater.decided, which become the values under cfg.decided.<node>
 * (protocol/decided.h).
 */
#ifndef RECONCILER_PUBLISH_DECIDED_H
#define RECONCILER_PUBLISH_DECIDED_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"
#include "cdc/source.h"
#include "protocol/decided.h"

/* From the columns of a streamed row; the error names the column that is missing or wrong. */
enum hw_status rec_decided_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct hw_decided *row, struct hw_error *err) HW_CHECKED;

/* From row n of a result whose SELECT list is REC_DECIDED_COLUMNS: as many as REC_DESIRED_COLUMNS,
 * and of the same types, so that one cursor has both. */
#define REC_DECIDED_COLUMNS                                                                        \
    "node, NULL::bigint, NULL::text, NULL::int, NULL::text, decisions::text,"                      \
    " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
enum hw_status rec_decided_from_result(const PGresult *result, int n, struct hw_decided *row,
                                       struct hw_error *err) HW_CHECKED;

#endif
