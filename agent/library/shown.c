#include "agent/library/shown.h"

#include <stdio.h>

void library_shown_set(struct library_shown *shown, const struct agent_document *document)
{
    hw_digest_format(&document->digest, shown->digest);
    snprintf(shown->lsn, sizeof(shown->lsn), "%s", HW_LSN(document->fence.lsn));
    snprintf(shown->media_type, sizeof(shown->media_type), "%s", document->media_type);
    shown->document = (struct headwater_agent_document){
        .revision = document->revision, .epoch = document->fence.epoch, .size = document->size};
}

const struct headwater_agent_document *library_shown_get(struct library_shown *shown)
{
    shown->document.digest = shown->digest;
    shown->document.lsn = shown->lsn;
    shown->document.media_type = shown->media_type;
    return &shown->document;
}
