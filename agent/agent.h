/*
 * The agent of one node: learns from NATS what the node shall run, gets it, verifies it, puts it in
 * place, and reports what came of it. It lives on an event loop, holds no global state, and does
 * not log: what happens is told to its owner, who also does the applying.
 *
 * Its guarantee: whatever is killed or unplugged at whatever moment, the output file is the old
 * document or the new one, whole; the next start agrees with the disk; and a report never says more
 * than the disk does.
 */
#ifndef HW_AGENT_AGENT_H
#define HW_AGENT_AGENT_H

#include <sys/types.h>

#include "agent/document.h"
#include "common/log.h"
#include "common/loop.h"

struct agent;

struct agent_options {
    const char *url; /* of NATS */
    const char *node;
    const char *bucket; /* desired; the reports bucket is <bucket>_reports */
    const char *state_dir;
    const char *output; /* file that holds the running document */
    mode_t mode;        /* of that file */
    int64_t poll_ms;    /* mean time between looks at NATS without a hint */
    int64_t splay_ms;   /* a new document waits a random part of this */
};

/* What the owner does. Called on the loop. */
struct agent_hooks {
    /*
     * Makes the node use the document that the output file now holds: a new one, or the last known
     * good again. Ends with one call of agent_applied, during this call or later. NULL: nothing but
     * the file is needed.
     */
    void (*apply)(void *arg, const struct agent_document *document);
    /* Something happened that an operator may want to know. document and detail may be NULL. */
    void (*told)(void *arg, enum hw_log_level level, const char *what,
                 const struct agent_document *document, const char *detail);
    void *arg;
};

/*
 * Opens the state directory (HW_ECONFLICT while another agent uses it), brings the output file in
 * line with it, and starts connecting; never fails for a NATS that is away. Strings are borrowed
 * until agent_close.
 */
enum hw_status agent_open(struct hw_loop *loop, const struct agent_options *options,
                          const struct agent_hooks *hooks, struct agent **agent,
                          struct hw_error *err) HW_CHECKED;

/* An apply that is still running counts as interrupted: the next start sets it right. NULL is fine.
 */
void agent_close(struct agent *agent);

/*
 * The end of a hook's apply. error: "" or NULL when the node uses the document. again: the document
 * is not to blame (the command could not be started), so it is tried again later; otherwise the
 * verdict stands until something newer is desired, a restart, or agent_retry.
 */
void agent_applied(struct agent *agent, const char *error, bool again);

/* Tries again what failed, now. */
void agent_retry(struct agent *agent);

#endif
