/*
 * What an agent knows across restarts, and where it keeps it: the state directory.
 *
 *     state.json    the state below, replaced as a whole and durably
 *     hold          while it is there, new configuration waits; see agent/hold.h
 *     blob/<hex>    copies of the documents that the state speaks of, named by their SHA-256
 *     blob/<hex>.sources    the configs that such a document is made of, as the entry had them
 *     proposals/    what the node proposes; see agent/proposal.h
 *     lock          held by the agent that uses the directory
 *
 * Every write is durable before it returns, and is made in such an order that a state never speaks
 * of a copy that is not there: copy first, then state; state first, then removal of old copies.
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

struct agent_store;

/* Makes the directory where it is missing and locks it: HW_ECONFLICT while another agent holds it.
 * The state is empty until agent_store_load. */
enum hw_status agent_store_open(const char *dir, struct agent_store **store,
                                struct hw_error *err) HW_CHECKED;
void agent_store_close(struct agent_store *store); /* NULL is fine */

/*
 * Reads the state; none on disk is an empty one. HW_ECORRUPT: the file is damaged; it is set aside
 * as state.json.bad and the state is empty. HW_ECONFLICT: it belongs to another node.
 */
enum hw_status agent_store_load(struct agent_store *store, const char *node,
                                struct hw_error *err) HW_CHECKED;

/* The state on disk, as of the last load or save. */
const struct agent_state *agent_store_state(const struct agent_store *store);

/* Makes next the state on disk, without a write when it says the same as the last save; when that
 * fails, the old one stays the state. */
enum hw_status agent_store_save(struct agent_store *store, const struct agent_state *next,
                                struct hw_error *err) HW_CHECKED;

/* Where the copy of a document is, or would be. Caller: free. */
char *agent_store_path(const struct agent_store *store, const struct agent_document *document);

/* Is there a copy, as far as its size says? */
bool agent_store_has(const struct agent_store *store, const struct agent_document *document);

/* Keeps a copy of a document's bytes, which the caller has verified. Makes a directory that was
 * removed meanwhile. */
enum hw_status agent_store_put(struct agent_store *store, const struct agent_document *document,
                               const void *data, struct hw_error *err) HW_CHECKED;

/* Keeps what a document is made of, JSON; without a write when it is kept already. An aid: it need
 * not survive a power loss. */
enum hw_status agent_store_put_sources(struct agent_store *store,
                                       const struct agent_document *document, const char *sources,
                                       struct hw_error *err) HW_CHECKED;
/* JSON of agent_store_put_sources, of the state directory dir; malloc'ed, or NULL. */
char *agent_store_sources(const char *dir, const struct agent_document *document);

/* Gives the bytes of a kept document: HW_ENOENT, or HW_ECORRUPT when size or digest do not match.
 * *data is malloc'ed; the caller frees it. */
enum hw_status agent_store_get(struct agent_store *store, const struct agent_document *document,
                               char **data, struct hw_error *err) HW_CHECKED;

/* Removes the copies that the state does not speak of. */
void agent_store_sweep(struct agent_store *store);

/* What is on disk, for whom does not own the directory: HW_ENOENT where there is nothing. node may
 * be NULL: whichever it is of; *owner says which, the caller frees it. *running: an agent uses the
 * directory now. */
enum hw_status agent_store_peek(const char *dir, const char *node, struct agent_state *state,
                                char **owner, bool *running, struct hw_error *err) HW_CHECKED;

/* The state as text and back, for agent_store_load and _save. node NULL: any. */
char *agent_state_encode(const struct agent_state *state, const char *node);
enum hw_status agent_state_decode(const char *text, size_t len, const char *node,
                                  struct agent_state *state, struct hw_error *err) HW_CHECKED;

#endif
