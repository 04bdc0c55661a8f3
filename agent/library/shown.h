/* A document as the program sees it, with room for the texts that it points to. */
#ifndef HW_AGENT_LIBRARY_SHOWN_H
#define HW_AGENT_LIBRARY_SHOWN_H

#include "agent/disk/document.h"
#include "agent/library/headwater_agent.h"

struct library_shown {
    struct headwater_agent_document document;
    char digest[HW_DIGEST_STR_MAX];
    char lsn[24];
    char media_type[AGENT_MEDIA_TYPE_MAX];
};

void library_shown_set(struct library_shown *shown, const struct agent_document *document);

/* The document, pointing to its texts where they are now: until shown moves. */
const struct headwater_agent_document *library_shown_get(struct library_shown *shown);

#endif
