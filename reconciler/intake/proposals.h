/*
 * Proposals of nodes: the value under cfg.proposed.<node>, in the bucket of the reports, goes into
 * headwater.proposal, each proposal once. The decision about it is a row of headwater.decided and
 * comes back by the stream, and so does the answer to a malformed one.
 */
#ifndef RECONCILER_INTAKE_PROPOSALS_H
#define RECONCILER_INTAKE_PROPOSALS_H

#include "reconciler/intake/intake.h"

/* Starts watching bucket, which is borrowed, once it is there, and writing over a connection of its
 * own. rec_intake_stop ends it. */
enum hw_status rec_proposals_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                   const char *bucket, struct rec_intake **proposals,
                                   struct hw_error *err) HW_CHECKED;

/*
 * Makes the item for headwater.propose() of the value under the key of node: JSON with the members
 * of the proposal, or with a member "problem" that says why it is no proposal. malloc'ed.
 */
char *rec_proposal_read(const char *node, const char *value, size_t size);

#endif
