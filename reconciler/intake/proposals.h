/*
 * What nodes propose under cfg.proposed.<node>, in the bucket of the reports, goes into
 * headwater.proposal, each proposal once. What becomes of it comes back by the stream, as does the
 * answer to one that is malformed.
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
 * What headwater.propose() is given of what stands under the key of node: JSON with the members of
 * the proposal, or with "problem" why there is none. malloc'ed.
 */
char *rec_proposal_read(const char *node, const char *value, size_t size);

#endif
