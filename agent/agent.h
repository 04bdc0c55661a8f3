/*
 * The agent of one node: learns from NATS what the node shall run, gets it, verifies it, puts it in
 * place, and reports what came of it. It lives on an event loop, holds no global state, and does
 * not log: what happens is told to its owner, who also does the validating, applying and checking.
 *
 * Its guarantee: whatever is killed or unplugged at whatever moment, the output is the old document
 * or the new one, whole; the next start agrees with the disk; and a report never says more than the
 * disk does.
 */
#ifndef HW_AGENT_AGENT_H
#define HW_AGENT_AGENT_H

#include "agent/document.h"
#include "agent/output.h"
#include "agent/proposal.h"
#include "agent/state.h"
#include "common/log.h"
#include "common/loop.h"
#include "nats/connection.h"

struct agent;

enum agent_phase {
    AGENT_IDLE,
    AGENT_FETCHING,
    AGENT_VERIFYING,
    AGENT_VALIDATING,
    AGENT_APPLYING,
    AGENT_CHECKING,
    AGENT_ROLLING_BACK,
};
const char *agent_phase_name(enum agent_phase phase);

struct agent_options {
    /* A connection that agents on this loop share, a thousand of them in one process, say; it is
     * closed by its owner before any of them is. NULL: one of its own, with these two. */
    struct hw_nats *nats;
    const char *url; /* of NATS */
    struct hw_nats_files nats_files;
    const char *nats_prefix; /* as of hw_nats_options */
    const char *node;
    const char *bucket; /* desired; the reports bucket is <bucket>_reports */
    const char *state_dir;
    const char
        *trust; /* public keys, as hw_trust_open takes them: entries must be signed; or NULL */
    struct agent_output output;
    int64_t poll_ms;      /* mean time between looks at NATS, and at the output, without a hint */
    int64_t splay_ms;     /* a new document waits a random part of this */
    int64_t heartbeat_ms; /* mean time between signs of life; 0: none */
    int64_t confirm_ms;   /* go back without an answer of NATS this long after applying; 0: never */
    bool heal;            /* an output that others changed is put right, not only reported */
};

/* What the owner is asked to do with a document, by the phase: VALIDATING, APPLYING, CHECKING; or
 * ROLLING_BACK, which is to apply the last known good again. */
struct agent_call {
    enum agent_phase phase;
    const struct agent_document *document; /* this and what follows: until the answer */
    const void *data;                      /* document->size bytes, and a NUL */
    const char *file;                      /* that holds them */
};

/* What the owner does. Called on the loop. */
struct agent_hooks {
    /* Which calls it takes; the others count as answered well. */
    bool validates, applies, checks;
    /* Ends with one agent_answer, during this call or later. */
    void (*call)(void *arg, const struct agent_call *call);
    /* Something happened that an operator may want to know. document and detail may be NULL. */
    void (*told)(void *arg, enum hw_log_level level, const char *what,
                 const struct agent_document *document, const char *detail);
    /* A proposal was decided on. Told until it is forgotten with agent_forget, also after a
     * restart; NULL: nobody wants to know. */
    void (*decided)(void *arg, const struct agent_decision *decision);
    /* agent_look shows something else than before. */
    void (*changed)(void *arg);
    void *arg;
};

/*
 * Opens the state directory (HW_ECONFLICT while another agent uses it), brings the output in line
 * with it, and starts connecting; never fails for a NATS that is away. Strings are borrowed until
 * agent_close. hooks->changed comes from within.
 */
enum hw_status agent_open(struct hw_loop *loop, const struct agent_options *options,
                          const struct agent_hooks *hooks, struct agent **agent,
                          struct hw_error *err) HW_CHECKED;

/* A call that is not answered counts as interrupted: the next start sets it right. NULL is fine. */
void agent_close(struct agent *agent);

/*
 * The answer to a call. error: "" or NULL when all is well. again: the document is not to blame
 * (the command could not be started), so it is tried again later; otherwise the verdict stands
 * until something newer is desired, a restart, or agent_retry.
 */
void agent_answer(struct agent *agent, const char *error, bool again);

/* Tries again what failed, now. */
void agent_retry(struct agent *agent);

/* The owner knows what was decided on this proposal. */
void agent_forget(struct agent *agent, const char *ref);

/* Looks at the hold, the output and the proposals, soon. */
void agent_look_around(struct agent *agent);

/* How often, since it was opened. */
struct agent_counts {
    uint64_t connected, applied, failed, gone_back, healed;
};

/* What it is at. state holds what is reported, with hold and drift. */
struct agent_view {
    enum agent_phase phase;
    bool connected;
    const char
        *why_away; /* why it is not, as hw_nats_why_away has it; until the loop's next turn */
    struct agent_state state;
    struct agent_counts counts;
};
void agent_look(const struct agent *agent, struct agent_view *view);

#endif
