/*
 * What an agent must know after a restart: which document runs, which one it may go back to, which
 * one failed and why, and whether an attempt was interrupted. agent/disk/store.h keeps it on disk.
 */
#ifndef HW_AGENT_STATE_H
#define HW_AGENT_STATE_H

#include "agent/disk/document.h"
#include "agent/disk/hold.h"
#include "base/status.h"

#define AGENT_ERROR_MAX 1536

/* The stage at which an attempt failed; their names are those in the report. */
enum agent_stage {
    AGENT_STAGE_FETCH,    /* the bytes could not be fetched */
    AGENT_STAGE_VERIFY,   /* the bytes, or the entry, are not what they should be */
    AGENT_STAGE_VALIDATE, /* the node's own check said no */
    AGENT_STAGE_APPLY,    /* the bytes could not be put in place, or the command refused them */
    AGENT_STAGE_HEALTH,   /* the node was not well afterwards */
};
const char *agent_stage_name(enum agent_stage stage);

/* The message of a node that has nothing desired. */
#define AGENT_NOTHING_DESIRED "nothing desired: not registered, or without an assignment"

struct agent_failure {
    bool set;
    enum agent_stage stage;
    struct agent_document document;
    char error[AGENT_ERROR_MAX]; /* UTF-8 */
    char at[AGENT_TIME_MAX];
};

/* The output was found to differ from what runs. */
struct agent_drift {
    bool set;
    bool healed; /* it has been put right */
    char at[AGENT_TIME_MAX];
    char error[128];
};

struct agent_state {
    struct hw_fence fence;    /* of the newest desired entry that was accepted; epoch 0: none yet */
    int64_t desired_revision; /* what that entry asks for; 0: nothing */
    struct agent_document running;  /* the last known good: applied, and not replaced since */
    struct agent_document previous; /* the document to go back to while nothing runs: a file that
                                       was found at the start. Later: the one that ran before */
    struct agent_failure failed;    /* the newest document, if it failed */
    struct {
        bool set;
        char error[AGENT_ERROR_MAX];
        char at[AGENT_TIME_MAX];
    } refused; /* the entry that is in NATS now, if it is not valid */
    struct {
        struct hw_fence fence;
        int attempts; /* attempts with this fence that were begun and neither succeeded nor failed
                       */
        bool open; /* an attempt is under way: the node may have the old document or the new one */
    } trial;
    bool nothing;     /* NATS was asked, and nothing is desired of this node */
    bool unconfirmed; /* NATS was not reached since running was applied, so it may be taken back */

    /* These two are not kept on disk: they are looked at anew. */
    struct agent_hold hold;
    struct agent_drift drift;
};

/* Was the newest failure one of the document that runs? Then to try again means to apply that
 * document again. */
bool agent_state_running_failed(const struct agent_state *state);

/* The state as JSON text and back. node NULL: of any node. */
char *agent_state_encode(const struct agent_state *state, const char *node);
enum hw_status agent_state_decode(const char *text, size_t len, const char *node,
                                  struct agent_state *state, struct hw_error *err) HW_CHECKED;

#endif
