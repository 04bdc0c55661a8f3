/* What the servers alone take: the limits that our figures stand beside. Seconds, all of them. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/rig.h"

/* pg_recvlogical reads what waits in the reconciler's slot, up to lsn, from a copy of the slot and
 * with the reconciler's options. */
double limit_drain(struct rig *rig, const char *lsn);

/* A window of 4096 publishes with compare-and-set: count messages of so many bytes and our two
 * headers, over so many keys, into a stream with the settings of the bucket's, and with a
 * subscriber like the rig's. lived: each key has all the revisions that are kept already, so that
 * each publish drops one. */
double limit_publish(struct rig *rig, bool lived, long count, long keys, int size);

/* Both at once, in a stream that has lived: until the slower of them is done. */
double limit_combined(struct rig *rig, const char *lsn, long count, long keys, int size);

/* One synchronous publish after another, each until a subscriber of the republished subject has it:
 * fills times. */
void limit_publish_each(struct rig *rig, int size, double *times, int count);

/* From the acknowledgement of each commit until its rows were received from a slot, filling times;
 * change is called for each, with its number, and commits. All before must be confirmed. */
void limit_receive_each(struct rig *rig, void (*change)(struct rig *rig, int i), double *times,
                        int count);

/* Desired entries read by direct get, one after another on each of so many connections. Nodes are
 * n1 to n<nodes>. */
double limit_get(struct rig *rig, long count, int nodes, int connections);

/* What a node says, as SQL makes it of a row d of headwater.desired; %d is the number of the run.
 */
#define BENCH_REPORT                                                                               \
    "jsonb_build_object('node', d.node, 'state', 'applied', 'running', "                           \
    "jsonb_build_object('revision', d.revision, 'digest', d.digest, 'epoch', 1, 'lsn', '0/1', "    \
    "'applied_at', '2026-01-01T00:00:00.000Z'), 'failed', NULL, 'desired_revision', d.revision, "  \
    "'agent', 'bench/%d', 'boot_id', '84f25d63-b994-48ca-8706-1bbadae15f86', 'reported_at', "      \
    "'2026-01-01T00:00:00.000Z')"

/* headwater.report() takes the reports of all nodes, in batches, and nothing else. Undone at the
 * end. */
double limit_take_reports(struct rig *rig, int nodes, int run);

/* Writes a file of so many bytes, durably: a temporary one, fsync, rename, fsync of the directory.
 */
double limit_file(size_t size);

#endif
