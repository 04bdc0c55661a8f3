/*
 * What an entry says, as one SHA-256: the digest of its members in canonical JSON, without its
 * fence and without committed_at, which are not part of the row that it was made of. The comparison
 * and verify hold the digest of an entry against that of its row: 32 bytes a key in place of the
 * value, and whoever can write to NATS cannot make another value with the same digest.
 *
 * desired:  node, revision, digest, size, media_type, sources
 * decided:  node, decisions
 */
#ifndef RECONCILER_PUBLISH_CONTENT_H
#define RECONCILER_PUBLISH_CONTENT_H

#include <stdbool.h>

#include "base/digest.h"
#include "base/lsn.h"
#include "protocol/entry.h"
#include "reconciler/publish/decided.h"
#include "reconciler/publish/desired.h"

void rec_content_of_desired(const struct hw_desired *row, struct hw_digest *content);
void rec_content_of_decided(const struct hw_decided *row, struct hw_digest *content);

/*
 * The same for the value of a key, which may be anything. False: it is no entry of ours (a member
 * is missing or wrong, or its fence cannot be read). *fence is what the value says; agents refuse
 * an entry whose headers say another one.
 */
bool rec_content_of_entry(const struct hw_entry *entry, struct hw_digest *content,
                          struct hw_fence *fence);

#endif
