/*
 * One run of verify: its loop, its connections to the database and to NATS, and the waiting for
 * both. A command has nothing else to do meanwhile, so its steps are written one below the other,
 * and each waits by running the loop. SIGINT and SIGTERM end whatever is waited for.
 */
#ifndef RECONCILER_COMPARE_SESSION_H
#define RECONCILER_COMPARE_SESSION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "common/loop.h"
#include "nats/connection.h"
#include "pg/database.h"
#include "reconciler/compare/verify_config.h"

enum {
    REC_SESSION_POLL_MS = 100, /* how late a signal may be noticed */
    REC_SESSION_BATCH = 500,   /* names in one statement */
};

struct rec_session {
    const struct rec_verify_config *config;
    struct hw_loop *loop;
    struct hw_db *pg;
    struct hw_nats *nats;
    bool pg_up, nats_up;
    struct hw_error failure; /* what ended the run, or HW_OK */
    int signals;

    /* the answer to a statement */
    bool answered;
    PGresult *answer;
    struct hw_error answer_err;

    /* signs of progress on standard error */
    int64_t last_sign;
    bool terminal, sign_open;
};

/* Connects to both, and looks whether the bucket is there. Call rec_session_end also when it
 * failed. Zero-initialised before. */
enum hw_status rec_session_begin(struct rec_session *session,
                                 const struct rec_verify_config *config,
                                 struct hw_error *err) HW_CHECKED;
void rec_session_end(struct rec_session *session);

/* Ends the run because of something that a callback was told; the error says what, and then why.
 * Only the first call counts. */
void rec_session_fail(struct rec_session *session, enum hw_status status, const char *what,
                      const char *why);

/* Runs the loop until *flag, at most for so long; HW_OK also where the time passed without it. */
enum hw_status rec_session_wait(struct rec_session *session, const bool *flag, int64_t timeout_ms,
                                struct hw_error *err) HW_CHECKED;
enum hw_status rec_session_sleep(struct rec_session *session, int64_t ms,
                                 struct hw_error *err) HW_CHECKED;

/* Runs one statement with count parameters. *result is the caller's (PQclear); result may be NULL.
 */
enum hw_status rec_session_ask(struct rec_session *session, const char *sql, int count,
                               const char *const *values, PGresult **result,
                               struct hw_error *err) HW_CHECKED;

/* Shows how far a step is; total 0: not known. On a terminal the line overwrites itself, elsewhere
 * it is a line of the log every few seconds. */
void rec_session_sign(struct rec_session *session, const char *step, size_t done, size_t total);
void rec_session_clear_sign(struct rec_session *session);

#endif
