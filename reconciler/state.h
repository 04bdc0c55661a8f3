/*
 * What a reconciler knows while it runs, and the states that it goes through. The files of this
 * folder each own one part of its work (claim, loading, replay, stream, checkup, drift, epoch) and
 * share this structure; reconciler.c has the table that ties their functions together.
 *
 * Everything runs on the loop's thread. Whoever notices that something happened calls
 * reconciler_happen, which looks the event up in the table, changes the state and runs the action.
 * An action may itself make the next event happen.
 */
#ifndef RECONCILER_STATE_H
#define RECONCILER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cdc/archive.h"
#include "cdc/slot.h"
#include "cdc/source.h"
#include "common/outage.h"
#include "common/pace.h"
#include "nats/kv.h"
#include "pg/database.h"
#include "reconciler/compare/comparison.h"
#include "reconciler/config.h"
#include "reconciler/counts/counts.h"
#include "reconciler/intake/fleet.h"
#include "reconciler/intake/liveness.h"
#include "reconciler/intake/proposals.h"
#include "reconciler/intake/reports.h"
#include "reconciler/leader.h"
#include "reconciler/publish/apply.h"
#include "reconciler/publish/changes.h"
#include "reconciler/publish/gone.h"
#include "reconciler/publish/hidden.h"
#include "reconciler/publish/objects.h"
#include "reconciler/publish/sink.h"
#include "reconciler/survey.h"

enum {
    RECONCILER_RETRY_FIRST_MS = 250,   /* before the first new beginning after a failure … */
    RECONCILER_RETRY_MOST_MS = 5000,   /* … and, doubled each time, before the later ones */
    RECONCILER_SILENT_LASTS_MS = 3000, /* a silent stream tells each second that it is */
};

enum reconciler_state {
    RECONCILER_WAITING,   /* for PostgreSQL and NATS, or for another try */
    RECONCILER_PREPARING, /* the survey looks at server, slot and checkpoint */
    RECONCILER_LEADING,   /* the stream is being opened, which takes the slot */
    RECONCILER_LOADING,   /* the entries and objects that stand in NATS are read */
    RECONCILER_REPLAYING, /* a copy of the archive slot is read; the stream is held */
    RECONCILER_STREAMING, /* the normal case */
    RECONCILER_STALLED,   /* NATS failed; the stream is held until it is back */
};

enum reconciler_event {
    RECONCILER_SERVERS_UP,    /* PostgreSQL and NATS can both be reached */
    RECONCILER_TAKEN,         /* another reconciler holds the slot */
    RECONCILER_PREPARED,      /* the survey ended: nothing speaks against streaming */
    RECONCILER_STARTED,       /* the stream runs: the slot is ours */
    RECONCILER_LOADED,        /* it is known what stands in NATS */
    RECONCILER_LOADED_REPLAY, /* the same, and some of the log is to be sent again */
    RECONCILER_REPLAYED,      /* that part of the log was sent again */
    RECONCILER_SINK_FAILED,   /* NATS cannot be reached, or refused a write */
    RECONCILER_LOST,          /* anything else failed, or everything must begin anew */
};

struct rec_reconciler;

struct reconciler_transition {
    enum reconciler_state from;
    enum reconciler_event event;
    enum reconciler_state to;
    void (*action)(struct rec_reconciler *rec); /* NULL: the event changes nothing */
    const char *comment;
};

/* Once a reconciler is started, all pointers are set save where a comment says otherwise. */
struct rec_reconciler {
    struct hw_loop *loop;
    struct rec_config config;
    char *reports_bucket, *archive_slot;
    const struct reconciler_transition *transitions;
    size_t transition_count;
    enum reconciler_state state;
    struct hw_timer retry;
    int64_t retry_ms;
    bool draining, stopping;

    struct hw_db *pg; /* for survey, check-ups and heartbeats; other parts have their own */
    struct hw_nats *nats;
    struct rec_sink *sink;
    struct rec_survey *survey;
    struct rec_fetch *fetch;
    struct rec_ledger ledger;
    struct rec_apply *apply;
    struct rec_counts counts;
    struct rec_fleet *fleet;
    struct rec_leader *leader;

    /* while it leads; otherwise NULL */
    struct cdc_source *source; /* the slot's stream */
    struct cdc_source *replay; /* the copy of the archive slot; NULL while nothing is replayed */
    struct cdc_source *feed;   /* the one of these two that apply takes from now; NULL: neither */
    struct cdc_archive *archive;
    struct rec_reports *reports;
    struct rec_intake *proposals;
    struct rec_liveness *liveness;
    struct hw_kv_watch *key_watch; /* while loading */
    struct rec_objects *objects;
    struct rec_gone *gone;
    struct hw_kv_probe *probe;
    struct rec_hidden *hidden; /* once the first comparison is through */
    struct hw_error unfound;   /* about a hidden key that cannot be mended */
    struct hw_error unfit;     /* about a table that the stream leaves out; checkup.c */
    struct hw_error doubt;     /* about rows that are missing in the database; drift.c */
    bool keys_loaded, objects_loaded;
    bool fences_hidden; /* entries of strangers, which carry no fence, lie over ours */
    struct hw_timer check_up, heartbeat;

    /* what the survey found */
    struct cdc_server server;
    struct rec_checkpoint checkpoint; /* as it was read from NATS */
    bool checkpoint_valid;
    struct rec_checkpoint history; /* the database's own history at that time, without a position */
    hw_lsn fork;                   /* as in struct rec_findings */
    struct rec_recovery recovery;
    struct rec_checkpoint own; /* the last one that we stored, in this lead or the one before */

    /* fences that may be newer than any of ours: epoch.c */
    struct hw_fence newest;   /* among the entries that were loaded */
    struct hw_fence reported; /* the newest that a report named, and that is not dealt with yet */
    struct hw_fence heeded;   /* the last report because of which the epoch was raised … */
    int64_t heeded_at;        /* … and when, hw_loop_now(); 0: never */
    struct hw_timer heed;
    struct hw_pace raises; /* how often the epoch was raised of late */

    /* comparisons: drift.c */
    struct rec_comparison *comparison; /* the one that runs, or NULL */
    struct hw_timer comparison_timer;
    const char *comparison_why;
    bool comparison_again; /* drift was noticed while one runs */
    struct rec_comparison_result compared;
    int64_t drift_at; /* when one last began because of drift, hw_loop_now() */
    int foreign_logged;
    struct hw_timer defend;

    /* replays: replay.c */
    hw_lsn replay_end;           /* where the replay that runs ends */
    struct rec_commands ordered; /* a replay that was asked for in SQL … */
    hw_lsn ordered_at;           /* … by the transaction that ends here */
    hw_lsn obeyed_at;            /* ordered_at of the last replay that was carried out */

    /* the stream: stream.c */
    struct rec_commands commands; /* of the transaction that is being read */
    hw_lsn committed;             /* the end of the newest transaction from the stream */
    int64_t behind_since;         /* hw_loop_now(); 0: everything that came is confirmed */
    int64_t waits_since;          /* when the server was seen to wait for standbys first */
    int64_t silent_at;            /* when the stream's server was last found silent */
    int silent_pid;               /* its backend */
    int64_t stored_at;            /* when the last checkpoint was stored, hw_loop_now() */

    struct hw_timer begin_anew;
    bool standby_told;
    bool waits;              /* when it stood back last, the bucket was to become ours by itself */
    struct hw_error trouble; /* the last one, for whoever asks whether we are ready */
    struct hw_outage halt;   /* how long that trouble has stopped the stream */
    struct hw_outage pg_outage;
    struct hw_error pg_trouble;
    char *orphans; /* the slots that nobody reads, as they were told last; or NULL */
};

void reconciler_happen(struct rec_reconciler *rec, enum reconciler_event event);

/* Something failed: logs it, once, and begins anew (RECONCILER_LOST). While it waits anyway, and
 * while it stops, this does nothing. */
void reconciler_fail(struct rec_reconciler *rec, const struct hw_error *err);
/* The same a moment later, from the loop: for callbacks of objects that a new beginning frees. */
void reconciler_fail_soon(struct rec_reconciler *rec, const struct hw_error *err);

/* The database cannot be written, or has gone: the bucket is given free for another one, and
 * whoever asks is told so. Nothing to do for one that does not lead. */
void reconciler_yield(struct rec_reconciler *rec, const char *why);

/* Does the stream stand as it should? *how says why, or why not, in a few words. */
bool reconciler_stands(const struct rec_reconciler *rec, const char **how);
/* The trouble is over: the stream goes on, and the next failure is tried again soon. */
void reconciler_forget_trouble(struct rec_reconciler *rec);
/* Tells the owner (struct rec_config's told) how the reconciler stands now. */
void reconciler_tell(struct rec_reconciler *rec);

#endif
