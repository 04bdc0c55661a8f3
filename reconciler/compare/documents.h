/* The documents of the snapshot, held against the objects in NATS: each is read whole, and its
 * bytes must have the digest that is its name. */
#ifndef RECONCILER_COMPARE_DOCUMENTS_H
#define RECONCILER_COMPARE_DOCUMENTS_H

#include "reconciler/compare/differences.h"
#include "reconciler/compare/session.h"
#include "reconciler/compare/snapshot.h"

enum hw_status rec_documents_check(struct rec_snapshot *snapshot, struct rec_session *session,
                                   struct rec_differences *differences,
                                   struct hw_error *err) HW_CHECKED;

#endif
