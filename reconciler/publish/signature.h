/* Signatures of desired entries: made when they are written, and checked where they stand. */
#ifndef RECONCILER_PUBLISH_SIGNATURE_H
#define RECONCILER_PUBLISH_SIGNATURE_H

#include <stdbool.h>

#include "protocol/entry.h"
#include "protocol/statement.h"
#include "reconciler/publish/desired.h"

/* The value of the signature's header for an entry of node; row is NULL for a delete marker.
 * malloc'ed; NULL where there is no signer. */
char *rec_signature(struct hw_signer *signer, const char *node, const struct hw_desired *row,
                    struct hw_fence fence);

/* Does the entry carry the signature that the signer gives it? True without a signer, and for an
 * entry that is not one of desired state. */
bool rec_signature_stands(struct hw_signer *signer, const struct hw_entry *entry);

/* Is the entry signed with one of these keys? HW_EINVAL: no, and the error says why. */
enum hw_status rec_signature_check(const struct hw_trust *trust, const struct hw_entry *entry,
                                   struct hw_error *err) HW_CHECKED;

#endif
