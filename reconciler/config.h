/* The options of a reconciler. Their strings are borrowed until it is stopped. */
#ifndef RECONCILER_CONFIG_H
#define RECONCILER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "nats/connection.h"
#include "protocol/statement.h"

struct rec_config {
    const char *database; /* libpq URI or connection string */
    const char *nats;
    struct hw_nats_files nats_files;
    const char *bucket; /* reports go to <bucket>_reports */
    const char *slot;
    int64_t replicas, history, window;
    int64_t archive_bytes, archive_ms; /* how much log is kept for replays: see cdc/archive.h */
    int64_t compare_ms;       /* between two comparisons; 0: only at the start and on drift */
    int64_t heartbeat_ms;     /* 0: none, but those that a comparison needs */
    int64_t gc_grace_ms;      /* 0: objects are never removed */
    int64_t purge_after_ms;   /* keys of deleted nodes; 0: never */
    int64_t take_over_ms;     /* how long nobody must have led a bucket that another database had
                               * before this one takes it; -1: it never does so by itself */
    bool remake_slot;         /* a slot that was lost is dropped and made anew */
    struct hw_signer *signer; /* signs desired entries; NULL: they are not signed */
    /* Called on the loop whenever the reconciler's standing may have changed: whether it is ready
     * (as for rec_reconciler_check), and in a few words how it stands. May be NULL. */
    void (*told)(void *arg, bool ready, const char *how);
    void *arg;
};

#endif
