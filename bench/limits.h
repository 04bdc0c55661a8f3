/* What the servers alone take: the limits that our figures stand beside. Seconds, all of them. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stddef.h>

#include "bench/rig.h"

/* pg_recvlogical reads what waits in the reconciler's slot, up to lsn, from a copy of the slot and
 * with the reconciler's options. */
double limit_drain(struct rig *rig, const char *lsn);

/* A window of 4096 publishes with compare-and-set: count messages of so many bytes and our two
 * headers, over so many keys, into a stream with the settings of the bucket's, and with a
 * subscriber like the rig's. */
double limit_publish(struct rig *rig, long count, long keys, int size);

/* Both at once: until the slower of them is done. */
double limit_combined(struct rig *rig, const char *lsn, long count, long keys, int size);

/* One synchronous publish after another, each until a subscriber of the republished subject has it:
 * fills times. */
void limit_publish_each(struct rig *rig, int size, double *times, int count);

/* From the acknowledgement of each commit until its rows were received from a slot, filling times;
 * change is called for each, with its number, and commits. All before must be confirmed. */
void limit_receive_each(struct rig *rig, void (*change)(struct rig *rig, int i), double *times,
                        int count);

/* Writes a file of so many bytes, durably: a temporary one, fsync, rename, fsync of the directory.
 */
double limit_file(size_t size);

#endif
