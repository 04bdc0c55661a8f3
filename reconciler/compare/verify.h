/*
 * Verify is the comparison for people: it compares what stands in NATS with the database by
 * SHA-256, tells every difference, and writes nothing anywhere.
 *
 * One read-only snapshot of the database gives the newest change R and all rows of desired and
 * decided. When the checkpoint in NATS covers R, every key and every object must be as the snapshot
 * has it. The system may go on changing meanwhile, so a key may also be as a change after R made
 * it. Such changes of desired are looked up in headwater.desired_history; decided has no history,
 * so its row is read again.
 */
#ifndef RECONCILER_COMPARE_VERIFY_H
#define RECONCILER_COMPARE_VERIFY_H

#include <stdbool.h>

#include "base/status.h"
#include "reconciler/compare/verify_config.h"

/*
 * Prints the differences and a summary to standard output; *equal: there are none. Fails when it
 * could not be compared (with json, that is printed, too). SIGINT and SIGTERM end it with
 * HW_ESTOPPED; it takes over these signals.
 */
enum hw_status rec_verify_run(const struct rec_verify_config *config, bool *equal,
                              struct hw_error *err) HW_CHECKED;

#endif
