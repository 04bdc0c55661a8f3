/*
 * The reconciler keeps NATS equal to what was committed in PostgreSQL. One of them leads, the one
 * that holds the replication slot; the others stand by. A leader decides how to go on (behind the
 * checkpoint, behind a replay, or by a comparison of everything), and then follows the log.
 */
#ifndef RECONCILER_RECONCILER_H
#define RECONCILER_RECONCILER_H

#include <stdint.h>

#include "base/status.h"
#include "common/loop.h"
#include "http/monitor.h"
#include "reconciler/config.h"

struct rec_reconciler;

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **reconciler,
                                    struct hw_error *err) HW_CHECKED;
/* Compares everything with the database now, if it leads. One that begins to lead does so anyway.
 */
/* Reads the files for NATS again; a connection is made anew with those that have changed. */
void rec_reconciler_reload(struct rec_reconciler *rec);
void rec_reconciler_resync(struct rec_reconciler *reconciler);
/* Finishes what is under way (at most timeout_ms), running the loop. */
void rec_reconciler_drain(struct rec_reconciler *reconciler, int64_t timeout_ms);
/* For the monitor: a leader that streams from a checkpoint and a standby are ready. */
void rec_reconciler_check(void *reconciler, struct hw_checks *checks);
void rec_reconciler_metrics(void *reconciler, struct hw_buf *out);
void rec_reconciler_stop(struct rec_reconciler *reconciler); /* NULL is fine */

#endif
