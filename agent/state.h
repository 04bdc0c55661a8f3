/*
 * What an agent must know after a restart: which document runs, which one it may go back to, which
 * one failed and why, and whether an attempt was interrupted. agent/store.h keeps it on disk.
 */
#ifndef HW_AGENT_STATE_H
#define HW_AGENT_STATE_H

#include "agent/document.h"
#include "agent/hold.h"
#include "common/status.h"

#define AGENT_ERROR_MAX 1536

/* Where an attempt failed; the names are those of the reported value. */
enum agent_stage {
    AGENT_STAGE_FETCH,    /* the bytes could not be had */
    AGENT_STAGE_VERIFY,   /* they, or the entry, are not what they should be */
    AGENT_STAGE_VALIDATE, /* the node's own check said no */
    AGENT_STAGE_APPLY,    /* they could not be put in place, or the command refused them */
    AGENT_STAGE_HEALTH,   /* the node was not well afterwards */
};
const char *agent_stage_name(enum agent_stage stage);

/* What a node says of which nothing is desired. */
#define AGENT_NOTHING_DESIRED "nothing desired: not registered, or without an assignment"

struct agent_failure {
    bool set;
    enum agent_stage stage;
    struct agent_document document;
    char error[AGENT_ERROR_MAX]; /* UTF-8 */
    char at[AGENT_TIME_MAX];
};

/* The output was found to be something else than what runs. */
struct agent_drift {
    bool set;
    bool healed; /* it is again what it should be */
    char at[AGENT_TIME_MAX];
    char error[128];
};

struct agent_state {
    struct hw_fence fence;    /* of the newest desired entry that was accepted; epoch 0: none yet */
    int64_t desired_revision; /* what that entry asks for; 0: nothing */
    struct agent_document running;  /* the last known good: applied, and not replaced since */
    struct agent_document previous; /* what can be gone back to while nothing is running yet: the
                                       file found at the start; later, what ran before */
    struct agent_failure failed;    /* the newest document, when it did not come to run */
    struct {
        bool set;
        char error[AGENT_ERROR_MAX];
        char at[AGENT_TIME_MAX];
    } refused; /* the entry in NATS now, when it is no valid desired entry */
    struct {
        struct hw_fence fence;
        int attempts; /* begun with this fence and neither succeeded nor failed: interrupted */
        bool open;    /* the node may be neither as running says nor as the trial would have it */
    } trial;
    bool nothing;     /* NATS was asked, and nothing is desired of this node */
    bool unconfirmed; /* NATS was not reached since running was applied: it may be taken back */

    /* These two are not kept: they are looked at anew. */
    struct agent_hold hold;
    struct agent_drift drift;
};

/* Was the newest failure one of the document that runs? Then trying again means applying that
 * document again. */
bool agent_state_running_failed(const struct agent_state *state);

/* The state as JSON text and back. node NULL: of any node. */
char *agent_state_encode(const struct agent_state *state, const char *node);
enum hw_status agent_state_decode(const char *text, size_t len, const char *node,
                                  struct agent_state *state, struct hw_error *err) HW_CHECKED;

#endif
