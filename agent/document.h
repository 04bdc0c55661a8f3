/*
 * A document: one configuration as a node gets it, without its bytes. Plain values throughout, so
 * that documents are copied by assignment.
 */
#ifndef HW_AGENT_DOCUMENT_H
#define HW_AGENT_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/lsn.h"

#define AGENT_DOCUMENT_MAX   ((size_t)16 << 20) /* bytes; the database refuses larger ones */
#define AGENT_MEDIA_TYPE_MAX 256
#define AGENT_TIME_MAX       32

struct agent_document {
    bool set;         /* false: there is none, and nothing else here means anything */
    int64_t revision; /* of this node's desired state, from 1; 0: a file that was there before us */
    struct hw_digest digest;
    size_t size;
    char media_type[AGENT_MEDIA_TYPE_MAX];
    struct hw_fence fence;
    char applied_at[AGENT_TIME_MAX]; /* RFC 3339, "" until it was applied */
};

/* The same bytes, to be read in the same way: going from one to the other changes nothing. */
bool agent_document_same(const struct agent_document *a, const struct agent_document *b);

/* The present moment as in 2026-01-31T12:00:00.123Z. */
char *agent_time_now(char out[static AGENT_TIME_MAX]);

/*
 * Makes text for a report of bytes from anywhere: UTF-8 (RFC 3629), no control characters but tab
 * and newline, '?' for what is neither, cut at a character boundary to size, its NUL included.
 */
void agent_text_clean(char *out, size_t size, const char *bytes, size_t len);

#endif
