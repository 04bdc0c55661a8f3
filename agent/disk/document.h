/*
 * A document: one configuration as a node gets it, described without its bytes. All members are
 * plain values, so a document is copied by assignment.
 */
#ifndef HW_AGENT_DOCUMENT_H
#define HW_AGENT_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/lsn.h"

#define AGENT_DOCUMENT_MAX   ((size_t)16 << 20) /* bytes; the database refuses a larger one */
#define AGENT_MEDIA_TYPE_MAX 256
#define AGENT_TIME_MAX       32

struct agent_document {
    bool set;         /* false: there is no document, and the other members mean nothing */
    int64_t revision; /* of this node's desired state, from 1; 0: a file that was there before the
                         agent */
    struct hw_digest digest;
    size_t size;
    char media_type[AGENT_MEDIA_TYPE_MAX];
    struct hw_fence fence;
    char applied_at[AGENT_TIME_MAX]; /* RFC 3339, "" until it was applied */
};

/* Are they the same bytes with the same media type? Then nothing changes for the node when one
 * follows the other. */
bool agent_document_same(const struct agent_document *a, const struct agent_document *b);

/* Writes the present time as in 2026-01-31T12:00:00.123Z, and returns out. */
char *agent_time_now(char out[static AGENT_TIME_MAX]);

/*
 * Makes text for a report of any bytes. The text is UTF-8 (RFC 3629) without control characters
 * except tab and newline; a byte that does not fit becomes '?'. It is cut at a character boundary
 * to size, which includes its NUL.
 */
void agent_text_clean(char *out, size_t size, const char *bytes, size_t len);

#endif
