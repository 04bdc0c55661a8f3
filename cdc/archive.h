/*
 * The archive slot, "<slot>_archive": a second replication slot that follows the first one at a
 * distance and keeps the log in between. What the first one has confirmed, and PostgreSQL would
 * have forgotten, can be streamed again from a temporary copy of it (cdc_slot_copy_sql).
 *
 * It is made as a copy of the slot, so that it reaches back as far as the slot does, and is moved
 * forward by size and by age. The reconciler that leads looks after it; if two did so at once, they
 * would only hinder each other.
 *
 * Which position belonged to which time is kept in memory only. After a restart nothing counts as
 * older than the restart, so age moves the archive again only after keep_ms. The bound by size
 * always holds, with two limits: the server keeps what it needs in order to decode (transactions
 * that were open then, and the log since its last checkpoint), and the archive never goes beyond
 * what the slot itself has confirmed.
 */
#ifndef CDC_ARCHIVE_H
#define CDC_ARCHIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/lsn.h"
#include "common/status.h"

struct cdc_archive;

struct cdc_archive_options {
    const char *slot;   /* the one that is followed; cdc_slot_check_name accepts it */
    int64_t keep_bytes; /* of log; 0: no archive slot, and one that is there is dropped */
    int64_t keep_ms;    /* what is older than that may go; 0: age does not matter */
    int64_t check_ms;   /* between two looks; 0: 30000 */
};

struct cdc_archive_state {
    bool exists;
    hw_lsn from;        /* what was committed behind it can be streamed again */
    int64_t held_bytes; /* of log, from the first that it needs to the end */
};

struct cdc_archive_events {
    /* It was made, moved or dropped. May be NULL. */
    void (*changed)(void *arg, const struct cdc_archive_state *state);
    /* Something is wrong with it: it is lost (HW_ELIMIT; it is made anew), there is no room, no
     * connection, … Tried again at the next look; the same trouble is told once, until it is over.
     * HW_ENOENT: there is no slot to follow. */
    void (*trouble)(void *arg, const struct hw_error *err);
    void *arg;
};

/* Opens a connection of its own; strings are copied. Fails for a wrong conninfo or name only. */
enum hw_status cdc_archive_start(struct hw_loop *loop, const char *conninfo,
                                 const struct cdc_archive_options *options,
                                 const struct cdc_archive_events *events,
                                 struct cdc_archive **archive, struct hw_error *err) HW_CHECKED;

/* At any time, from its own events as well. The slot stays as it is. NULL is fine. */
void cdc_archive_stop(struct cdc_archive *archive);

#endif
