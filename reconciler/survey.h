/*
 * The survey before a reconciler leads: is the slot free, what does the checkpoint say, and is the
 * checkpoint of this database's history? On the way it makes the buckets and the slot where they
 * are missing. It ends with the choice of a recovery.
 */
#ifndef REC_SURVEY_H
#define REC_SURVEY_H

#include "base/lsn.h"
#include "nats/connection.h"
#include "pg/database.h"
#include "reconciler/counts/counts.h"
#include "reconciler/recovery.h"

struct rec_survey;

struct rec_survey_config {
    struct hw_db *pg;
    struct hw_nats *nats;
    const char *slot, *bucket;
    int replicas, history; /* of buckets that the survey makes */
    struct rec_counts *counts;
    bool remake_slot; /* one that is lost is dropped and made anew; otherwise that is an error */
};

struct rec_findings {
    struct cdc_server server;
    struct rec_checkpoint checkpoint; /* as read from the sink */
    bool checkpoint_valid;
    struct rec_checkpoint history; /* the database's own history now, without a position */
    struct rec_recovery recovery;
};

/* One of them ends a survey. */
struct rec_survey_events {
    void (*done)(void *arg, const struct rec_findings *found);
    /* Another reconciler holds the slot. */
    void (*taken)(void *arg, const struct cdc_server *server);
    /* A reconciler with another slot writes the bucket: nothing was made, and nothing may be. */
    void (*held)(void *arg, const struct hw_error *why);
    void (*failed)(void *arg, const struct hw_error *why);
    void *arg;
};

struct rec_survey *rec_survey_new(const struct rec_survey_config *config,
                                  const struct rec_survey_events *events);
/* reported: the newest fence that was seen in a node's report, or none. The connection must be
 * idle. Blocks while NATS is asked, which it is not for a slot in use or in another database. */
void rec_survey_begin(struct rec_survey *survey, struct hw_fence reported);
/* Reading from the slot, or from the archive slot, has shown that its log was removed: the next
 * survey takes it for lost. */
void rec_survey_distrust(struct rec_survey *survey, bool archive);
/* No event comes any more. */
void rec_survey_cancel(struct rec_survey *survey);
void rec_survey_free(struct rec_survey *survey); /* NULL is fine */

/* HW_OK also when there is none; a broken one is logged and counts as none. Blocks. */
enum hw_status rec_survey_checkpoint(struct hw_nats *nats, const char *bucket,
                                     struct rec_checkpoint *checkpoint, bool *valid,
                                     struct hw_error *err) HW_CHECKED;

#endif
