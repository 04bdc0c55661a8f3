#include "reconciler/compare/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/log.h"
#include "common/options.h"
#include "nats/kv.h"

enum {
    CONNECT_MS = 10000,
    ANSWER_MS = 60000, /* of the database to one statement */
    NATS_TIMEOUT_MS = 5000,
    TERMINAL_MS = 200, /* between two signs of progress on a terminal … */
    LOG_MS = 5000,     /* … and in a log */
};

/* ---- events, and waiting for them ---- */

void rec_session_fail(struct rec_session *session, enum hw_status status, const char *what,
                      const char *why)
{
    if (session->failure.status == HW_OK)
        (void)hw_fail(&session->failure, status, "%s%s", what, why);
}

static void on_signal(void *arg, int signo)
{
    struct rec_session *session = arg;

    if (++session->signals > 1)
        _exit(HW_EXIT_FAILURE);
    rec_session_fail(session, HW_ESTOPPED, "ended by ", signo == SIGINT ? "SIGINT" : "SIGTERM");
}

static void on_pg_up(void *arg)
{
    struct rec_session *session = arg;

    session->pg_up = true;
}

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct rec_session *session = arg;

    rec_session_fail(session, why->status, "the database: ", why->message);
}

static void on_nats_up(void *arg)
{
    struct rec_session *session = arg;

    session->nats_up = true;
}

static void on_nats_down(void *arg, const char *why)
{
    struct rec_session *session = arg;

    if (session->nats_up)
        rec_session_fail(session, HW_EUNAVAIL, "the connection to NATS was lost: ", why);
}

static void on_nats_away(void *arg, const struct hw_nats_away *away)
{
    HW_AUTO_FREE char *said = hw_sprintf("%s: %s", away->url, away->why);

    rec_session_fail(arg, HW_EUNAVAIL, "NATS cannot be reached: ", said);
}

void rec_session_sign(struct rec_session *session, const char *step, size_t done, size_t total)
{
    const int64_t now = hw_loop_now();

    if (now - session->last_sign < (session->terminal ? TERMINAL_MS : LOG_MS))
        return;
    session->last_sign = now;
    if (!session->terminal) {
        hw_log_info("verifying", HW_S("step", step), HW_I("done", (int64_t)done),
                    HW_I("of", (int64_t)total));
        return;
    }
    session->sign_open = true;
    if (total > 0)
        fprintf(stderr, "\r\033[K%s %zu of %zu", step, done, total);
    else
        fprintf(stderr, "\r\033[K%s", step);
}

void rec_session_clear_sign(struct rec_session *session)
{
    if (session->sign_open)
        fputs("\r\033[K", stderr);
    session->sign_open = false;
}

enum hw_status rec_session_wait(struct rec_session *session, const bool *flag, int64_t timeout_ms,
                                struct hw_error *err)
{
    const int64_t until = hw_loop_now() + timeout_ms;

    while (session->failure.status == HW_OK && !*flag) {
        const int64_t left = until - hw_loop_now();

        if (left <= 0)
            break;
        (void)hw_loop_run_until(session->loop, flag,
                                left < REC_SESSION_POLL_MS ? left : REC_SESSION_POLL_MS);
    }
    return session->failure.status == HW_OK
               ? HW_OK
               : hw_fail(err, session->failure.status, "%s", session->failure.message);
}

enum hw_status rec_session_sleep(struct rec_session *session, int64_t ms, struct hw_error *err)
{
    static const bool never = false;

    return rec_session_wait(session, &never, ms, err);
}

/* ---- the database ---- */

static void on_answer(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_session *session = arg;

    session->answered = true;
    if (outcome->status != HW_OK) {
        session->answer_err = outcome->err;
        return;
    }
    session->answer = PQcopyResult(outcome->results[0], PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (session->answer == NULL)
        abort(); /* out of memory */
}

enum hw_status rec_session_ask(struct rec_session *session, const char *sql, int count,
                               const char *const *values, PGresult **result, struct hw_error *err)
{
    const struct hw_db_query query = {.sql = sql, .count = count, .values = values};
    enum hw_status status;

    session->answered = false;
    session->answer_err.status = HW_OK;
    status = hw_db_run(session->pg, HW_DB_SEPARATE, &query, 1, NULL, on_answer, session, err);
    if (status == HW_OK)
        status = rec_session_wait(session, &session->answered, ANSWER_MS, err);
    if (status != HW_OK)
        return status;
    if (!session->answered)
        return hw_fail(err, HW_ETIMEOUT, "the database did not answer within %d s",
                       ANSWER_MS / 1000);
    if (session->answer_err.status != HW_OK) {
        *err = session->answer_err;
        return hw_fail_in(err, "reading the database");
    }
    PGresult *answer = HW_TAKE(session->answer);
    if (result != NULL)
        *result = answer;
    else
        PQclear(answer);
    return HW_OK;
}

/* ---- life ---- */

enum hw_status rec_session_begin(struct rec_session *session,
                                 const struct rec_verify_config *config, struct hw_error *err)
{
    const struct hw_db_events pg_events = {.up = on_pg_up, .down = on_pg_down, .arg = session};
    const struct hw_nats_events nats_events = {
        .up = on_nats_up, .down = on_nats_down, .away = on_nats_away, .arg = session};
    const struct hw_nats_options nats_options = {.url = config->nats,
                                                 .files = config->nats_files,
                                                 .name = "headwater-reconciler: verify",
                                                 .timeout_ms = NATS_TIMEOUT_MS};
    struct hw_kv_stream stream;
    enum hw_status status = hw_loop_new(&session->loop, err);

    session->config = config;
    session->last_sign = hw_loop_now();
    session->terminal = isatty(STDERR_FILENO) != 0;

    /* Before libnats starts its threads: they inherit which signals are blocked. */
    if (status == HW_OK)
        status = hw_loop_on_signal(session->loop, SIGINT, on_signal, session, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(session->loop, SIGTERM, on_signal, session, err);
    if (status == HW_OK)
        status = hw_db_open(session->loop, config->database, "headwater-reconciler: verify",
                            &pg_events, &session->pg, err);
    if (status == HW_OK)
        status = rec_session_wait(session, &session->pg_up, CONNECT_MS, err);
    if (status == HW_OK && !session->pg_up)
        status = hw_fail(err, HW_ETIMEOUT, "the database does not answer");
    if (status == HW_OK)
        status = hw_nats_open(session->loop, &nats_options, &nats_events, &session->nats, err);
    if (status == HW_OK)
        status = rec_session_wait(session, &session->nats_up, CONNECT_MS, err);
    if (status == HW_OK && !session->nats_up)
        status = hw_fail(err, HW_ETIMEOUT, "NATS does not answer");
    if (status != HW_OK)
        return status;
    status = hw_kv_stat(session->nats, config->bucket, &stream, err);
    if (status == HW_ENOENT)
        hw_fail_in(err, "the bucket is not in NATS; the reconciler makes it when it starts");
    return status;
}

void rec_session_end(struct rec_session *session)
{
    hw_nats_close(session->nats);
    hw_db_close(session->pg);
    hw_loop_free(session->loop);
    PQclear(session->answer);
}
