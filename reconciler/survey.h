/*
 * The survey before a reconciler leads: is the slot free, does anybody lead, what does the
 * checkpoint say, and whose bucket is it (ownership.h)? Where it is ours, the survey makes the slot
 * if that is missing, and ends with the choice of a recovery.
 */
#ifndef REC_SURVEY_H
#define REC_SURVEY_H

#include "base/lsn.h"
#include "nats/connection.h"
#include "pg/database.h"
#include "reconciler/counts/counts.h"
#include "reconciler/leader.h"
#include "reconciler/ownership.h"
#include "reconciler/recovery.h"

struct rec_survey;

struct rec_survey_config {
    struct hw_loop *loop;
    struct hw_db *pg;
    struct hw_nats *nats;
    struct rec_leader *leader; /* is told what the database says of itself */
    const char *database;      /* connection string */
    const char *slot, *bucket;
    int64_t take_over_ms;  /* how long nobody must have led, where ownership waits; -1: for ever */
    int replicas, history; /* of buckets that the survey makes */
    struct rec_counts *counts;
    bool remake_slot; /* one that is lost is dropped and made anew; otherwise that is an error */
};

struct rec_findings {
    struct cdc_server server;
    struct rec_checkpoint checkpoint; /* as read from the sink */
    bool checkpoint_valid;
    struct rec_checkpoint history; /* the database's own history now, without a position */
    /* Where the database's timeline left that of the checkpoint; HW_LSN_NONE: it is the same. */
    hw_lsn fork;
    struct rec_recovery recovery;
};

/* One of them ends a survey. */
struct rec_survey_events {
    void (*done)(void *arg, const struct rec_findings *found);
    /* Another reconciler holds the slot. */
    void (*taken)(void *arg, const struct cdc_server *server);
    /* The bucket is somebody else's. Nothing was made in the database. waits: it may become ours by
     * itself, when nobody has led for a while. */
    void (*stand_back)(void *arg, const struct hw_error *why, bool waits);
    void (*failed)(void *arg, const struct hw_error *why);
    void *arg;
};

struct rec_survey *rec_survey_new(const struct rec_survey_config *config,
                                  const struct rec_survey_events *events);
/* reported: the newest fence that was seen in a node's report, or none. own: the checkpoint that we
 * stored last; while that stands, nobody else can have led since, and nobody is asked. The
 * connection must be idle. Blocks while NATS is asked, which it is not for a slot in use or in
 * another database. */
void rec_survey_begin(struct rec_survey *survey, struct hw_fence reported,
                      const struct rec_checkpoint *own);
/* NATS was away, and with it the answers: a wait begins anew. */
void rec_survey_wait_anew(struct rec_survey *survey);
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
