/*
 * The agent of one node. It learns from NATS what the node shall run, fetches it, verifies it, puts
 * it in place, and reports the outcome. It lives on an event loop and holds no global state. It
 * does not log: it tells its owner what happens, and the owner also validates, applies and checks
 * documents.
 *
 * Its guarantee: whatever is killed or unplugged at whatever moment, the output is the old document
 * or the new one, whole; the next start agrees with the disk; and a report never says more than the
 * disk does.
 */
#ifndef HW_AGENT_AGENT_H
#define HW_AGENT_AGENT_H

#include "agent/disk/document.h"
#include "agent/disk/output.h"
#include "agent/disk/state.h"
#include "agent/proposal.h"
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
    /* A connection that several agents on this loop share (a thousand of them in one process, say).
     * Its owner closes it before any of the agents. NULL: the agent has one of its own, by the two
     * members below. */
    struct hw_nats *nats;
    const char *url; /* of NATS */
    struct hw_nats_files nats_files;
    const char *nats_prefix; /* as of hw_nats_options */
    const char *node;
    const char *bucket; /* desired; the reports bucket is <bucket>_reports */
    const char *state_dir;
    const char *trust; /* files of public keys as hw_trust_open takes them, one of which must have
                          signed every entry; or NULL */
    struct agent_output output;
    int64_t poll_ms;  /* the mean time between looks at NATS, and at the output, without a hint */
    int64_t splay_ms; /* a new document waits for a random part of this */
    int64_t heartbeat_ms; /* mean time between signs of life; 0: none */
    int64_t confirm_ms; /* the agent goes back when NATS has not answered this long after applying;
                           0: never */
    bool heal;          /* an output that others changed is put right, and not only reported */
};

/* A call to the owner. The phase says what is to be done with the document: VALIDATING, APPLYING,
 * CHECKING; in ROLLING_BACK, apply the last known good again. */
struct agent_call {
    enum agent_phase phase;
    const struct agent_document *document; /* valid until the answer, as are the members below */
    const void *data;                      /* document->size bytes with a NUL behind */
    const char *file;                      /* the path of a file that holds them */
};

/* The functions of the owner. They are called on the loop. */
struct agent_hooks {
    /* Which calls the owner takes; the others count as answered well. */
    bool validates, applies, checks;
    /* The owner answers with one agent_answer, during this call or later. */
    void (*call)(void *arg, const struct agent_call *call);
    /* Something happened that an operator may want to know. document and detail may be NULL. */
    void (*told)(void *arg, enum hw_log_level level, const char *what,
                 const struct agent_document *document, const char *detail);
    /* A proposal was decided on. It is told again, also after a restart, until agent_forget. NULL:
     * nobody wants to know, and it is forgotten. */
    void (*decided)(void *arg, const struct agent_decision *decision);
    /* agent_look shows something else than before. */
    void (*changed)(void *arg);
    void *arg;
};

/*
 * Opens the state directory (HW_ECONFLICT while another agent uses it), brings the output in line
 * with it, and begins to connect. It does not fail when NATS is away. Strings are borrowed until
 * agent_close. hooks->changed is called within this call.
 */
enum hw_status agent_open(struct hw_loop *loop, const struct agent_options *options,
                          const struct agent_hooks *hooks, struct agent **agent,
                          struct hw_error *err) HW_CHECKED;

/* A call that is not answered counts as interrupted: the next start sets it right. NULL is fine. */
void agent_close(struct agent *agent);

/*
 * The answer to a call. error: "" or NULL when all is well. again: the document is not to blame (a
 * command could not be started, say), so it is tried again later. Otherwise the verdict stands
 * until a newer document is desired, a restart, or agent_retry.
 */
void agent_answer(struct agent *agent, const char *error, bool again);

/* Tries at once what has failed before. */
void agent_retry(struct agent *agent);

/* The owner knows what was decided on this proposal. */
void agent_forget(struct agent *agent, const char *ref);

/* Soon looks at the hold, the output and the proposals. */
void agent_look_around(struct agent *agent);

/* How often it happened since the agent was opened. */
struct agent_counts {
    uint64_t connected, applied, failed, gone_back, healed;
};

/* What the agent is doing. state is what it reports, with hold and drift. */
struct agent_view {
    enum agent_phase phase;
    bool connected;
    const char *why_away; /* the reason if it is not connected, as hw_nats_why_away gives it; valid
                             until the loop's next turn */
    const char *why_unread; /* agent_watch_stuck: as long valid */
    uint64_t unread;        /* reads of the desired entry that failed */
    const char
        *twin; /* another agent that reports under this node's name, or ""; valid as why_away */
    struct agent_state state;
    struct agent_counts counts;
};
void agent_look(const struct agent *agent, struct agent_view *view);

#endif
