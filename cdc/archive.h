/*
 * The archive slot, "<slot>_archive": a second replication slot that follows the first one at a
 * distance and keeps the log in between. PostgreSQL would otherwise remove the log that the first
 * one has confirmed. With the archive slot, that log can be streamed again, from a temporary copy
 * of the archive slot (cdc_slot_copy_sql).
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

#include "base/lsn.h"
#include "base/status.h"
#include "common/loop.h"

struct cdc_archive;

struct cdc_archive_options {
    const char *slot;   /* the one that is followed; cdc_slot_check_name accepts it */
    int64_t keep_bytes; /* bytes of log; 0: there is to be no archive slot */
    int64_t keep_ms;    /* older log may be dropped; 0: age does not matter */
    int64_t check_ms;   /* between two looks; 0: 30000 */
};

struct cdc_archive_state {
    bool exists;
    hw_lsn from;        /* transactions that were committed behind it can be streamed again */
    int64_t held_bytes; /* bytes of log, from the oldest record that it needs to the end */
};

struct cdc_archive_events {
    /* The archive slot was made, moved or dropped. May be NULL. */
    void (*changed)(void *arg, const struct cdc_archive_state *state);
    /* Something is wrong with the archive slot. HW_ELIMIT: it has lost its log, and is made anew.
     * HW_ENOENT: there is no slot to follow. Anything else: there is no room for it, no connection
     * and so on. The next look tries again; the same trouble is told once, until it is over. */
    void (*trouble)(void *arg, const struct hw_error *err);
    void *arg;
};

/* Opens a connection of its own; strings are copied. Fails for a wrong conninfo or name only. */
enum hw_status cdc_archive_start(struct hw_loop *loop, const char *conninfo,
                                 const struct cdc_archive_options *options,
                                 const struct cdc_archive_events *events,
                                 struct cdc_archive **archive, struct hw_error *err) HW_CHECKED;

/* Ends the looks, and leaves the archive slot as it is. May be called at any time, also from its
 * own events. NULL is fine. */
void cdc_archive_stop(struct cdc_archive *archive);

#endif
