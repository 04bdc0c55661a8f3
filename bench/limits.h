/* The limits beside our figures: how long the servers take without us. All results are in seconds.
 */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/rig.h"

/* pg_recvlogical reads the log that waits in the reconciler's slot, up to lsn. It reads from a copy
 * of the slot, with the reconciler's options. */
double limit_drain(struct rig *rig, const char *lsn);

/* Publishes count messages of size bytes with our two headers, over so many keys, with
 * compare-and-set and 4096 in flight. They go into a stream with the settings of the bucket's and
 * with a subscriber like the rig's. lived: each key already has as many revisions as the stream
 * keeps, so that each publish drops one. */
double limit_publish(struct rig *rig, bool lived, long count, long keys, int size);

/* limit_drain and limit_publish at once, in a stream that has lived, until the slower one is done.
 */
double limit_combined(struct rig *rig, const char *lsn, long count, long keys, int size);

/* Publishes count messages one after another and fills times: how long each took until a subscriber
 * of the republished subject had it. */
void limit_publish_each(struct rig *rig, int size, double *times, int count);

/* Fills times: how long it took from the acknowledgement of each commit until its rows were
 * received from a slot. change is called for each commit, with its number, and commits. Everything
 * before must be confirmed. */
void limit_receive_each(struct rig *rig, void (*change)(struct rig *rig, int i), double *times,
                        int count);

/* Reads count desired entries of nodes n1 to n<nodes> by direct get, over so many connections and
 * one after another on each. */
double limit_get(struct rig *rig, long count, int nodes, int connections);

/* SQL that makes a node's report of a row d of headwater.desired; %d is the number of the run. */
#define BENCH_REPORT                                                                               \
    "jsonb_build_object('node', d.node, 'state', 'applied', 'running', "                           \
    "jsonb_build_object('revision', d.revision, 'digest', d.digest, 'epoch', 1, 'lsn', '0/1', "    \
    "'applied_at', '2026-01-01T00:00:00.000Z'), 'failed', NULL, 'desired_revision', d.revision, "  \
    "'agent', 'bench/%d', 'boot_id', '84f25d63-b994-48ca-8706-1bbadae15f86', 'reported_at', "      \
    "'2026-01-01T00:00:00.000Z')"

/* headwater.report() takes the reports of all nodes, in batches. Only that is measured, and it is
 * rolled back at the end. */
double limit_take_reports(struct rig *rig, int nodes, int run);

/* Writes a file of so many bytes durably: a temporary file, fsync, rename, fsync of the directory.
 */
double limit_file(size_t size);

#endif
