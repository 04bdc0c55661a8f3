/*
 * Rows of headwater.desired, which become the values under cfg.desired.<node>
 * (protocol/desired.h).
 */
#ifndef RECONCILER_PUBLISH_DESIRED_H
#define RECONCILER_PUBLISH_DESIRED_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"
#include "cdc/source.h"
#include "protocol/desired.h"

/* From the columns of a streamed row; the error names the column that is missing or wrong. */
enum hw_status rec_desired_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct hw_desired *row, struct hw_error *err) HW_CHECKED;

/* From row n of a result whose SELECT list is REC_DESIRED_COLUMNS. */
#define REC_DESIRED_COLUMNS                                                                        \
    "node, revision, digest, size, media_type, sources::text,"                                     \
    " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
enum hw_status rec_desired_from_result(const PGresult *result, int n, struct hw_desired *row,
                                       struct hw_error *err) HW_CHECKED;

#endif
