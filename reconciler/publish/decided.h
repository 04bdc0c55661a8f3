/*
 * What one node is told about its proposals: a row of headwater.decided on its way to the key
 * cfg.decided.<node>.
 */
#ifndef RECONCILER_PUBLISH_DECIDED_H
#define RECONCILER_PUBLISH_DECIDED_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stdint.h>

#include "cdc/source.h"
#include "common/lsn.h"
#include "common/status.h"

#define REC_DECIDED_PREFIX "cfg.decided."

/* The node whose decisions key is of, within key; NULL: the key is another one. */
const char *rec_decided_node(const char *key);

/* Borrows every string from what it was read from. */
struct rec_decided {
    const char *node;
    const char *decisions;    /* JSON array, as PostgreSQL writes jsonb */
    const char *committed_at; /* RFC 3339; not part of the row's identity */
};

/* From the columns of a streamed row; the error names the column that is missing or wrong. */
enum hw_status rec_decided_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct rec_decided *row, struct hw_error *err) HW_CHECKED;

/* From row n of a result whose SELECT list is REC_DECIDED_COLUMNS: as many as REC_DESIRED_COLUMNS,
 * and of the same types, so that one cursor has both. */
#define REC_DECIDED_COLUMNS                                                                        \
    "node, NULL::bigint, NULL::text, NULL::int, NULL::text, decisions::text,"                      \
    " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
enum hw_status rec_decided_from_result(const PGresult *result, int n, struct rec_decided *row,
                                       struct hw_error *err) HW_CHECKED;

/* The KV value: compact JSON, malloc'ed; *size without its NUL. */
char *rec_decided_value(const struct rec_decided *row, struct hw_fence fence, size_t *size);

#endif
