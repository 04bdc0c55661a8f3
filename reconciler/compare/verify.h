/*
 * Verify is the comparison for people: it holds what stands in NATS against what PostgreSQL says,
 * by SHA-256, tells every difference, and writes nothing anywhere.
 *
 * One read-only snapshot of the database gives the newest change R and all rows of desired and
 * decided. When the checkpoint in NATS covers R, every key and every object must be what the
 * snapshot says, or what a change after R made of it, which headwater.desired_history has, and for
 * what nodes are told is read again: the system may go on changing meanwhile.
 */
#ifndef RECONCILER_COMPARE_VERIFY_H
#define RECONCILER_COMPARE_VERIFY_H

#include <stdbool.h>

#include "common/status.h"
#include "reconciler/compare/verify_config.h"

/*
 * Prints the differences and a summary to standard output; *equal: there are none. Fails when it
 * could not be compared (with json, that is printed, too). SIGINT and SIGTERM end it with
 * HW_ESTOPPED; it takes over these signals.
 */
enum hw_status rec_verify_run(const struct rec_verify_config *config, bool *equal,
                              struct hw_error *err) HW_CHECKED;

#endif
