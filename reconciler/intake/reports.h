/*
 * Reports of nodes: the value under cfg.reported.<node> goes into headwater.reported, as intake.h
 * describes. A value that is no report (garbage, or another node's name in it) is logged and passed
 * over.
 */
#ifndef RECONCILER_INTAKE_REPORTS_H
#define RECONCILER_INTAKE_REPORTS_H

#include "base/lsn.h"
#include "common/loop.h"
#include "nats/kv.h"
#include "pg/database.h"
#include "reconciler/counts/counts.h"

struct rec_reports;

/* Called with the newest fence that a report names: the node has had an entry with it. */
typedef void rec_reports_fence_fn(void *arg, struct hw_fence fence);

/* Starts watching bucket, which is borrowed, and made where it is missing, and writing over a
 * connection of its own. */
enum hw_status rec_reports_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                 const char *bucket, int replicas, struct rec_counts *counts,
                                 rec_reports_fence_fn *fence, void *arg,
                                 struct rec_reports **reports, struct hw_error *err) HW_CHECKED;
/* As rec_intake_works. */
bool rec_reports_work(const struct rec_reports *reports, const char **why);
void rec_reports_stop(struct rec_reports *reports); /* NULL is fine */

#endif
