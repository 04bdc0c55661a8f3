/*
 * libheadwater-agent: the configuration of a node, inside the program that uses it.
 *
 * An agent learns from NATS what its node shall run, fetches it, verifies its size and SHA-256,
 * asks the program to validate, apply and check it, and reports what came of it. What ran last is
 * kept on disk: a program starts with it though NATS is away, and goes back to it when something
 * newer is refused. docs/agent.md is the guide.
 *
 * Threads. The agent does its network and its disk on a thread of its own, with all signals
 * blocked. The program's callbacks run on one thread at a time, which the program chooses:
 *
 *   - its own: poll headwater_agent_fd() for reading, and call headwater_agent_dispatch(), which
 *     never waits for network or disk; or
 *   - one that the library keeps for them: headwater_agent_start_thread().
 *
 * Every other function may be called from any thread, and from callbacks, except that
 * headwater_agent_free() is not for callbacks. Any number of agents may live in one process, each
 * with a state directory of its own; they share nothing. No child process may be forked (without
 * exec) that goes on using an agent. libnats ignores SIGPIPE for the whole process.
 *
 * Versions are semantic. Structs only grow at their end; both sides know them by their size.
 */
#ifndef HEADWATER_AGENT_H
#define HEADWATER_AGENT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEADWATER_AGENT_VERSION_MAJOR 0
#define HEADWATER_AGENT_VERSION_MINOR 1
#define HEADWATER_AGENT_VERSION_PATCH 0
#define HEADWATER_AGENT_VERSION                                                                    \
    (HEADWATER_AGENT_VERSION_MAJOR * 1000000 + HEADWATER_AGENT_VERSION_MINOR * 1000 +              \
     HEADWATER_AGENT_VERSION_PATCH)

/* Of the library that is loaded: the number as above, and "0.1.0". */
int headwater_agent_version(void);
const char *headwater_agent_version_text(void);

struct headwater_agent;

/* One configuration. Valid, with all that it points to, until the callback that got it returns or,
 * when that answers HEADWATER_AGENT_PENDING, until headwater_agent_finish(). */
struct headwater_agent_document {
    int64_t revision;   /* of this node's desired state, from 1; 0: a file that was there before */
    const char *digest; /* "sha256:" and 64 hexadecimal digits */
    const char *media_type; /* such as "application/json"; "" for revision 0 */
    uint64_t epoch;         /* the fence: where in the database's history it comes from */
    const char *lsn;        /* such as "0/16B3748" */
    const void *data;       /* the bytes, a NUL behind them; NULL in log lines */
    size_t size;
    const char *file; /* where the bytes are on disk: the candidate while it is validated, the
                         output afterwards, a copy in the state directory without an output */
    int going_back;   /* it is the last known good, once more */
};

enum headwater_agent_result {
    HEADWATER_AGENT_OK = 0,
    HEADWATER_AGENT_REFUSED, /* the document is to blame: not tried again before something newer */
    HEADWATER_AGENT_UNAVAILABLE, /* the document is not to blame: tried again, with growing delays
                                  */
    HEADWATER_AGENT_PENDING,     /* the answer comes by headwater_agent_finish() */
};

enum headwater_agent_phase {
    HEADWATER_AGENT_IDLE,
    HEADWATER_AGENT_FETCHING,
    HEADWATER_AGENT_VERIFYING,
    HEADWATER_AGENT_VALIDATING,
    HEADWATER_AGENT_APPLYING,
    HEADWATER_AGENT_CHECKING,
    HEADWATER_AGENT_ROLLING_BACK,
};
const char *headwater_agent_phase_name(enum headwater_agent_phase phase); /* "rolling back" */

enum headwater_agent_level {
    HEADWATER_AGENT_LOG_ERROR,
    HEADWATER_AGENT_LOG_WARN,
    HEADWATER_AGENT_LOG_INFO,
    HEADWATER_AGENT_LOG_DEBUG,
};

#define HEADWATER_AGENT_INSTANCE_MAX 129  /* of the name of a running agent, its NUL included */
#define HEADWATER_AGENT_ERROR_MAX    1024 /* of every error text, its NUL included; UTF-8 */

struct headwater_agent_status {
    enum headwater_agent_phase phase;
    int connected;         /* to NATS */
    char state[16];        /* as reported: "applied", "failed", "rejected"; "" before anything */
    int64_t running;       /* revision; -1: nothing runs */
    int64_t desired;       /* revision that is asked for, as far as known; 0: none */
    int64_t failed;        /* revision that failed, when failed_stage is set; 0: not known */
    char failed_stage[16]; /* "fetch", "verify", "validate", "apply", "health"; "" */
    char failed_error[HEADWATER_AGENT_ERROR_MAX];
    char running_digest[80]; /* "" while nothing runs */
    int held;                /* new configuration waits for headwater_agent_release() */
    int drift;               /* the output on disk is not what runs */
    int unconfirmed;         /* what runs is taken back unless NATS can be reached */
    /* How often, since the agent was made. */
    uint64_t connects, applies, failures; /* failures: tries that failed */
    uint64_t rollbacks;  /* ways back to the last known good, recoveries at the start included */
    uint64_t heals;      /* outputs that others had changed */
    int nothing_desired; /* NATS was asked: the node is not registered, or has no assignment */
    /* Why NATS cannot be reached, with what to do; "" while it is, or before that is known. */
    char nats_error[HEADWATER_AGENT_ERROR_MAX];
    uint64_t unread; /* reads of what is desired that failed, since the agent was made */
    /* Why what is desired could not be read for a minute and more, though NATS is connected; "". */
    char unread_error[HEADWATER_AGENT_ERROR_MAX];
    /* Another agent that reports under this node's name, as the fleet calls it; "": none is known.
     */
    char conflict[HEADWATER_AGENT_INSTANCE_MAX];
};

#define HEADWATER_AGENT_REF_MAX 65 /* of the name of a proposal, its NUL included */

/* New content for one config, which people may approve. */
struct headwater_agent_proposal {
    size_t size;           /* of this struct: headwater_agent_proposal_init() sets it */
    const char *config;    /* required: its name */
    int64_t base_revision; /* of the config, which the proposal is based on; 0: the revision that
                              the running document was made of */
    const void *data;      /* the content, of at most 512 KiB */
    size_t data_size;
    const char *media_type; /* NULL: as the config has it */
    const char *message;    /* why, at most 1024 bytes of UTF-8; NULL: none */
};

static inline void headwater_agent_proposal_init(struct headwater_agent_proposal *proposal)
{
    memset(proposal, 0, sizeof(*proposal));
    proposal->size = sizeof(*proposal);
}

/* What became of a proposal. Valid until the callback that got it returns. */
struct headwater_agent_decision {
    const char *ref;    /* from headwater_agent_propose() */
    const char *config; /* "" where that could not be read */
    const char *state;  /* "approved"; "rejected", by a person; "conflict": the config went on since
                           the revision that it was based on; "refused": it broke a rule */
    const char *reason; /* "" or why */
    int64_t revision;   /* of the config, that the approval made; 0: none */
};

/*
 * What the program does. Each may be NULL. An answer other than HEADWATER_AGENT_OK may come with a
 * text in error, which goes into the report.
 */
struct headwater_agent_options {
    size_t size; /* of this struct: headwater_agent_options_init() sets it */

    /* Copied. NULL and 0 mean what is said here. */
    const char *nats_url;  /* "nats://127.0.0.1:4222"; commas between the servers of a cluster */
    const char *node;      /* required: the node's name */
    const char *bucket;    /* "headwater" */
    const char *state_dir; /* required: directory for state and copies, made where it is missing */

    /* Where the running document is put for others to read. Both NULL: only callbacks get it. */
    const char *output;     /* a file, replaced as a whole */
    const char *output_dir; /* or a directory of generations, "current" pointing to one */
    unsigned keep;          /* generations kept, the running one included; 0: 5 */
    mode_t mode;            /* of the files; 0: 0644 */
    uid_t owner;            /* (uid_t)-1, the default: not changed */
    gid_t group;            /* (gid_t)-1, the default: not changed */

    int64_t poll_ms;  /* mean time between looks without being told of a change; 0: 5 minutes */
    int64_t splay_ms; /* a new document waits a random part of this */
    int64_t confirm_within_ms; /* go back when NATS cannot be reached this long after applying;
                                  0: never */
    int report_drift_only;     /* an output that was changed is reported and left as it is */
    enum headwater_agent_level log_level; /* the least important lines that log gets */

    /* May this document be applied? It was not put anywhere yet. */
    enum headwater_agent_result (*validate)(void *arg,
                                            const struct headwater_agent_document *document,
                                            char error[HEADWATER_AGENT_ERROR_MAX]);
    /*
     * Use this document from now on. Without an output it comes also at the start, with what ran
     * last. REFUSED and UNAVAILABLE make the agent go back: apply comes with the last known good.
     */
    enum headwater_agent_result (*apply)(void *arg, const struct headwater_agent_document *document,
                                         char error[HEADWATER_AGENT_ERROR_MAX]);
    /* Is the program well with the document that was just applied? */
    enum headwater_agent_result (*health)(void *arg,
                                          const struct headwater_agent_document *document,
                                          char error[HEADWATER_AGENT_ERROR_MAX]);
    /* Something in status is different; several changes in a row may come as one. */
    void (*changed)(void *arg, const struct headwater_agent_status *status);
    /* A line for the program's log. about and detail may be NULL. */
    void (*log)(void *arg, enum headwater_agent_level level, const char *message,
                const struct headwater_agent_document *about, const char *detail);
    void *arg;

    /* Copied, like the other texts: files for TLS and for who the agent is in NATS. NULL: none. */
    const char *nats_ca;    /* authorities, PEM, and no others; asks for TLS, as tls:// does */
    const char *nats_cert;  /* certificate of the agent, PEM, with nats_key */
    const char *nats_key;   /* its private key, PEM */
    const char *nats_creds; /* credentials file (JWT and seed), or */
    const char *nats_nkey;  /* nkey seed of the user */

    int64_t heartbeat_ms; /* mean time between signs of life; 0: 30 s; negative: none */
    /* Copied: files of Ed25519 public keys, PEM, ':' between them. Nothing is applied that is not
     * signed with one of them. NULL: whoever may write to NATS is believed. */
    const char *trust;
    /* Copied: what the node's account maps JetStream's API to, for leaf nodes; NULL: nothing. */
    const char *nats_prefix;

    /* A proposal was decided on. It comes once more when the program ended before this returned. */
    void (*decided)(void *arg, const struct headwater_agent_decision *decision);
};

static inline void headwater_agent_options_init(struct headwater_agent_options *options)
{
    memset(options, 0, sizeof(*options));
    options->size = sizeof(*options);
    options->owner = (uid_t)-1;
    options->group = (gid_t)-1;
    options->log_level = HEADWATER_AGENT_LOG_INFO;
}

/*
 * Makes an agent and starts its work; callbacks wait until they are dispatched. Returns 0, or -1
 * with the reason in error: an option is wrong, or the state directory cannot be used (another
 * agent uses it, it belongs to another node). A NATS that is away is no reason to fail.
 */
int headwater_agent_new(const struct headwater_agent_options *options,
                        struct headwater_agent **agent, char error[HEADWATER_AGENT_ERROR_MAX]);

/*
 * Ends it: no callback runs any more when this returns. It waits for a callback that runs on the
 * library's thread, and for a call to NATS that is under way (2 s at most). A document that is
 * being applied counts as interrupted: the next start sets that right. NULL is fine.
 */
void headwater_agent_free(struct headwater_agent *agent);

/* Readable when there is something to dispatch. The agent's: do not read, write or close it. */
int headwater_agent_fd(const struct headwater_agent *agent);

/* Runs the callbacks that are due, and returns how many there were. Not from callbacks, and on one
 * thread at a time; never together with headwater_agent_start_thread(). */
int headwater_agent_dispatch(struct headwater_agent *agent);

/* Has a thread of the library run the callbacks from now on. 0, or -1 with errno set. */
int headwater_agent_start_thread(struct headwater_agent *agent);

/* Answers a callback that said HEADWATER_AGENT_PENDING, also before it has returned. error may be
 * NULL. An answer that nobody waits for is passed over. */
void headwater_agent_finish(struct headwater_agent *agent, enum headwater_agent_result result,
                            const char *error);

/* Tries again what failed, now, and reads the files again by which the agent proves who it is and
 * knows whom to trust: where one has changed, it is used from now on. Before each connection that
 * happens by itself. */
void headwater_agent_retry(struct headwater_agent *agent);

/*
 * Hold: while data taking is on, new configuration waits, and the report says so. What is being
 * applied already goes on, and so does going back. It is kept on disk, and outlives the process.
 * reason (NULL: "") goes into the report. 0, or -1 with the reason in error.
 */
int headwater_agent_hold(struct headwater_agent *agent, const char *reason,
                         char error[HEADWATER_AGENT_ERROR_MAX]);
int headwater_agent_release(struct headwater_agent *agent, char error[HEADWATER_AGENT_ERROR_MAX]);

/*
 * Proposes a change of a config. The proposal is copied, and is on disk when this returns: it
 * outlives the process, is sent when NATS is there, one after another, and is taken exactly once.
 * ref (which may be NULL) gets its name, for headwater_agent_options.decided. 0, or -1 with the
 * reason in error: it names no config, is too large, 16 wait already, or which revision the node
 * runs is not known.
 */
int headwater_agent_propose(struct headwater_agent *agent,
                            const struct headwater_agent_proposal *proposal,
                            char ref[HEADWATER_AGENT_REF_MAX],
                            char error[HEADWATER_AGENT_ERROR_MAX]);

/* Copies what the agent is at, as far as the size of the caller's struct goes. */
void headwater_agent_get_status(struct headwater_agent *agent,
                                struct headwater_agent_status *status, size_t size);

#ifdef __cplusplus
}
#endif

#endif
