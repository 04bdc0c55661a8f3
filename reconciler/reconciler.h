/*
 * The reconciler: takes the lead by holding the slot, decides how to go on (resume from the
 * checkpoint, or read a snapshot), and then keeps NATS equal to what was committed.
 */
#ifndef REC_RECONCILER_H
#define REC_RECONCILER_H

#include <stdint.h>

#include "common/loop.h"
#include "common/status.h"
#include "http/monitor.h"
#include "nats/connection.h"
#include "protocol/statement.h"

struct rec_config {
    const char *database; /* libpq URI or connection string */
    const char *nats;
    struct hw_nats_files nats_files;
    const char *bucket; /* reports go to <bucket>_reports */
    const char *slot;
    int64_t replicas, history, window;
    int64_t archive_bytes, archive_ms; /* how much log is kept for replays; see cdc/archive.h */
    int64_t compare_ms;       /* between two comparisons; 0: only at the start and on drift */
    int64_t heartbeat_ms;     /* 0: none, but those that a comparison needs */
    int64_t gc_grace_ms;      /* 0: objects are never removed */
    bool remake_slot;         /* a lost slot is dropped and made anew */
    struct hw_signer *signer; /* of desired entries; NULL: they are not signed */
    /* How it stands, whenever that may have changed; ready as rec_reconciler_check means it. Called
     * on the loop; or NULL. */
    void (*told)(void *arg, bool ready, const char *how);
    void *arg;
};

struct rec_reconciler;

enum hw_status rec_reconciler_start(struct hw_loop *loop, const struct rec_config *config,
                                    struct rec_reconciler **reconciler,
                                    struct hw_error *err) HW_CHECKED;
/* Compares everything with the database now, if it leads: whoever begins to lead does so anyway. */
void rec_reconciler_resync(struct rec_reconciler *reconciler);
/* Finishes what is under way (at most timeout_ms), running the loop. */
void rec_reconciler_drain(struct rec_reconciler *reconciler, int64_t timeout_ms);
/* For the monitor: a leader that streams from a checkpoint and a standby are ready. */
void rec_reconciler_check(void *reconciler, struct hw_checks *checks);
void rec_reconciler_metrics(void *reconciler, struct hw_buf *out);
void rec_reconciler_stop(struct rec_reconciler *reconciler); /* NULL is fine */

#endif
