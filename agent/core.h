/*
 * The core of the agent: the record of one agent, and what moves it from one phase to the next.
 *
 * A phase is what the agent is doing (agent/agent.h). An event is how that ended. The table of
 * transitions, which agent/machine.c has, says for each pair of phase and event which phase follows
 * and which action begins it. An action never calls the next one: it schedules an event, and the
 * event is taken in a turn of the loop of its own. So a signal never waits for more than one call
 * to NATS.
 *
 * The other files of the agent stand on this one. Each owns some members of struct agent, as the
 * comments below say; another file changes them by its functions. The members of the attempt
 * belong to all stages.
 */
#ifndef HW_AGENT_CORE_H
#define HW_AGENT_CORE_H

#include "agent/agent.h"
#include "agent/disk/notice.h"
#include "agent/disk/store.h"
#include "agent/proposer.h"
#include "agent/reporter.h"
#include "agent/watch.h"
#include "base/names.h"
#include "protocol/statement.h"

enum agent_event {
    AGENT_EVENT_BEGIN,     /* the target is due */
    AGENT_EVENT_DONE,      /* the phase ended well */
    AGENT_EVENT_FAILED,    /* it did not; agent_core_note has said why */
    AGENT_EVENT_POSTPONED, /* it cannot be done now, and nobody is to blame */
    AGENT_EVENT_RECOVER,   /* the node is to be brought back to what is good */
    AGENT_EVENT_TAKE_BACK, /* what runs was not confirmed in time */
};

struct agent_transition {
    enum agent_phase from;
    enum agent_event event;
    enum agent_phase to;
    void (*action)(struct agent *a);
    const char *comment; /* for the log, at debug */
};

struct agent {
    struct hw_loop *loop;
    struct agent_options options;
    struct agent_hooks hooks;
    struct agent_store *store;
    char *output; /* the path by which others read the output, or NULL */
    char boot_id[40];
    char instance[HW_NAME_MOST + 1]; /* which running agent this is: drawn at the start */
    struct agent_counts counts;

    /* core.c */
    const struct agent_transition *transitions;
    size_t transition_count;
    enum agent_phase phase;
    struct hw_timer step; /* takes the event below in the next turn of the loop */
    enum agent_event next;
    struct agent_failure unsaved; /* a failure that the disk did not take: reported all the same */

    /* connection.c */
    struct hw_nats *nats;
    struct hw_nats_listener shared; /* to a connection that several agents share */
    struct agent_watch *watch;
    struct agent_reporter *reporter;
    struct agent_proposer *proposer;
    bool check_report; /* after the next look at the entry: does NATS still hold the report? */
    char *alive;       /* the subject of signs of life */
    char twin[HW_NAME_MOST + 1]; /* another agent that reports under this name, or "" */
    struct hw_timer heartbeat;

    /* target.c */
    struct agent_document target; /* the newest accepted document that is not settled yet */
    struct hw_timer due;          /* when to try it */
    int failures;                 /* of attempts in a row */
    bool untried;                 /* the node was not touched for it yet */
    bool its_turn;                /* while going back is stuck: it comes before the next try */
    char *sources;                /* of the newest entry, until they are kept, or NULL … */
    struct hw_digest sources_of;  /* … and the document that is made of them */
    struct agent_hold hold;

    /* attempt.c and rollback.c: the present attempt */
    unsigned char *data;        /* the bytes that are fetched, or loaded again, */
    struct agent_document got;  /* with the size and digest that they have */
    struct agent_document good; /* the document that is being gone back to */
    char *file;                 /* holds the bytes while the owner is called */
    struct agent_failure failure;
    bool again;      /* the failure may pass by itself: the target is kept */
    bool went_back;  /* the rollback began */
    bool touched;    /* the owner was called, or the output changed: it must apply what is good */
    bool recover;    /* the node must be brought back to what is good … */
    bool stuck;      /* … which failed when it was last tried, and may pass by itself */
    bool recovering; /* the rollback under way is such a recovery, not the end of an attempt */

    /* entry.c */
    struct hw_trust *trust;  /* NULL: whoever may write to NATS is believed */
    bool retry;              /* a document that failed before counts as new, once */
    uint64_t complained_seq; /* of the entry that was complained of already */
    int64_t told_nothing;    /* hw_loop_now(): told that nothing is desired; 0: not yet */

    /* confirmation.c */
    struct hw_timer confirm; /* runs while what was applied waits for an answer of NATS */

    /* drift.c */
    struct agent_notice *notice;
    struct agent_drift drift;
    bool overlooked;   /* a look at the disk came while a phase was under way */
    int64_t healed_at; /* hw_loop_now(); 0: never */
};

/* ---- moving ---- */

/* Takes an event now. An event that the table does not list for the phase is a mistake in the
 * agent (common/unlisted.h). */
void agent_core_take(struct agent *a, enum agent_event event);

/* Takes an event in the next turn of the loop. */
void agent_core_schedule(struct agent *a, enum agent_event event);

/* Notes what went wrong in this attempt. The stage of the first failure counts; the text of later
 * failures (of going back) is added to its text. */
void agent_core_note(struct agent *a, enum agent_stage stage, const char *fmt, ...) HW_PRINTF(3, 4);

/* Notes it and schedules AGENT_EVENT_FAILED. again: the failure may pass by itself. */
void agent_core_fail(struct agent *a, enum agent_stage stage, bool again, const char *text);

/* Has new entries wait while the agent is busy, and until a recovery was tried: a new entry is
 * judged by a state that does not change meanwhile. Only a recovery that is stuck holds nothing
 * up, so that the newest document can free the node. */
void agent_core_pause(struct agent *a);

/* Asks the owner to do what the phase says with this document. file: taken. */
void agent_core_call(struct agent *a, const struct agent_document *document, char *file);

/* The path by which the owner finds a document that is applied. Caller: free. */
char *agent_core_path(const struct agent *a, const struct agent_document *document);

/* ---- telling ---- */

void agent_core_tell(struct agent *a, enum hw_log_level level, const char *what,
                     const struct agent_document *document, const char *detail);

/* Tells the owner that agent_look shows something else. */
void agent_core_changed(struct agent *a);

/* ---- the state ---- */

/* As it is on disk. */
const struct agent_state *agent_core_state(const struct agent *a);

/* Makes next the state on disk. False: the disk did not take it; err says why. */
bool agent_core_save(struct agent *a, const struct agent_state *next, struct hw_error *err);

/* The same, and tells it where the disk did not take it. */
bool agent_core_save_or_tell(struct agent *a, const struct agent_state *next);

/* Has the report say what the state says now. */
void agent_core_report(struct agent *a);

/* Keeps a copy of what runs, taken from the output, where the store has none: the last known good
 * must be there when it is needed. */
void agent_core_keep_copy(struct agent *a);

#endif
