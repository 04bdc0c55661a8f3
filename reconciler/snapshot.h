/*
 * Resync: reading desired state from one snapshot of the database and bringing the sink to it,
 * writing only what differs. The stream goes on behind it without a gap: what the snapshot saw is
 * told by rec_snapshot_sees.
 */
#ifndef REC_SNAPSHOT_H
#define REC_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lsn.h"
#include "common/pg.h"
#include "reconciler/apply.h"
#include "reconciler/sink.h"

/*
 * The moment that was read. Every transaction that the snapshot sees ended at or before lsn, which
 * was asked for behind it. The reverse holds but for those whose commit was being finished in that
 * moment: a streamed transaction that ends at or before lsn and is not seen means: read again.
 */
struct rec_moment {
    hw_lsn lsn;
    uint64_t xmin, xmax; /* pg_snapshot (manual, "pg_snapshot Components"); 64-bit xids */
    uint64_t *running;   /* malloc'ed */
    size_t running_count;
    int64_t rev; /* newest changelog row */
    char nonce[40];
};

enum hw_status rec_moment_parse(const char *snapshot, const char *lsn, struct rec_moment *moment,
                                struct hw_error *err) HW_CHECKED;
bool rec_moment_sees(const struct rec_moment *moment, uint32_t xid);
void rec_moment_clear(struct rec_moment *moment);

struct rec_snapshot_events {
    /* All differences are handed to apply (and may still be on their way). */
    void (*done)(void *arg, size_t nodes, size_t written);
    void (*failed)(void *arg, const struct hw_error *err);
    void *arg;
};

struct rec_snapshot;

/*
 * Starts reading, over a connection of its own. Entries get the fence (epoch, moment's LSN). The
 * sink must be filled.
 */
enum hw_status rec_snapshot_start(struct hw_loop *loop, const char *conninfo,
                                  struct rec_apply *apply, struct rec_sink *sink, uint64_t epoch,
                                  const struct rec_snapshot_events *events,
                                  struct rec_snapshot **snapshot, struct hw_error *err) HW_CHECKED;
/* Back-pressure from apply. */
void rec_snapshot_pause(struct rec_snapshot *snapshot, bool pause);
/* The moment that was read, from done on; moves out of the snapshot. */
struct rec_moment rec_snapshot_take_moment(struct rec_snapshot *snapshot);
/* Also while it runs, and from its callbacks; they do not come any more. NULL is fine. */
void rec_snapshot_free(struct rec_snapshot *snapshot);

#endif
