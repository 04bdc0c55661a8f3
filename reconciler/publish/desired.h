/*
 * One node's desired state: a row of headwater.desired on its way to the key cfg.desired.<node>.
 */
#ifndef RECONCILER_PUBLISH_DESIRED_H
#define RECONCILER_PUBLISH_DESIRED_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "cdc/source.h"
#include "common/lsn.h"
#include "common/status.h"

#define REC_DESIRED_PREFIX "cfg.desired."

/* The node whose desired state key is of, within key; NULL: the key is another one. */
const char *rec_desired_node(const char *key);

/* Borrows every string from what it was read from. */
struct rec_desired {
    const char *node;
    int64_t revision;
    const char *digest; /* "sha256:<64 hex>" */
    int64_t size;
    const char *media_type;
    const char *sources;      /* JSON array, as PostgreSQL writes jsonb */
    const char *committed_at; /* RFC 3339; not part of the row's identity */
};

/* From the columns of a streamed row; the error names the column that is missing or wrong. */
enum hw_status rec_desired_from_columns(const struct cdc_row *columns, const char *committed_at,
                                        struct rec_desired *row, struct hw_error *err) HW_CHECKED;

/* From row n of a result whose SELECT list is REC_DESIRED_COLUMNS. */
#define REC_DESIRED_COLUMNS                                                                        \
    "node, revision, digest, size, media_type, sources::text,"                                     \
    " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
enum hw_status rec_desired_from_result(const PGresult *result, int n, struct rec_desired *row,
                                       struct hw_error *err) HW_CHECKED;

/* The KV value: compact JSON, malloc'ed; *size without its NUL. */
char *rec_desired_value(const struct rec_desired *row, struct hw_fence fence, size_t *size);

#endif
