#include "pg/database.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "pg/aside.h"
#include "pg/connect.h"

enum {
    RETRY_FIRST_MS = 100,
    RETRY_MOST_MS = 5000,
    ASK_MS = 10000,  /* an idle connection asks so long after it heard something */
    OWED_MS = 5000,  /* a batch is not answered for so long: is the backend at work? */
    DOUBT_MS = 1000, /* it is not: the answer may be on its way, so that is asked once more */
    NEIGHBOURS = 3,
    SILENT_MS = 10000 /* the answer to a question of ours is due */
};

/*
 * CONNECTING: an attempt is under way. PREPARING: connected, and the first question is not answered
 * yet, which says whom we are talking to.
 */
enum state { STATE_DOWN, STATE_CONNECTING, STATE_PREPARING, STATE_UP };

/* What is being run. Statement i is in the segment that ends with a Sync behind it. */
struct batch {
    bool active;
    enum hw_db_mode mode;
    int count; /* of statements, a tail included */
    bool has_tail;
    int index; /* of the statement whose results come next */
    int syncs_left;
    PGresult **results;
    struct hw_db_outcome outcome;
    hw_db_done_fn *done;
    void *arg;
};

struct hw_db {
    struct hw_loop *loop;
    struct hw_route *route;
    struct hw_db_events events;
    enum state state;
    PGconn *conn;
    struct hw_io *io;
    struct hw_timer retry;
    int64_t retry_ms;
    struct hw_attempt *attempt; /* to connect; while UP: to a server that takes writes */
    int callbacks;              /* of the owner's, running now: it must not be freed below them */
    bool closing;               /* closed from within one */
    struct batch batch;

    /* is it alive? */
    int64_t heard; /* hw_loop_now(): the server said something, or owed nothing */
    struct hw_timer watch;
    bool asking;        /* our own question runs, in front of a batch that was sent since */
    bool answer_counts; /* it was not asked within a transaction */
    struct hw_aside *aside;
    int neighbours; /* how often another connection was asked for its backend */
    bool is_shared; /* a pooler has changed it under us */
    bool in_doubt;  /* the backend was seen idle while an answer of it is owed */
    char pid[16];   /* the backend's, as it says itself; "": not known yet */
    bool is_own;    /* the session is: no pooler gives it to others as well */

    /* does it take writes? */
    const char *refusal;  /* why not; NULL: it does */
    struct hw_timer look; /* for a server that does */
    int64_t look_ms;
    char *passed_over;
};

static void start_connecting(void *arg);
static void on_io(void *arg, short revents);

/* ---- errors ---- */

static const char *field(const PGresult *result, int code)
{
    const char *text = result != NULL ? PQresultErrorField(result, code) : NULL;

    return text != NULL ? text : "";
}

/* The place in the server's source is in no language, as the message is. */
bool hw_db_hides(const PGresult *result)
{
    return strcmp(field(result, PG_DIAG_SOURCE_FUNCTION), "check_enable_rls") == 0;
}

enum hw_status hw_db_fail(struct hw_error *err, const PGconn *conn, const PGresult *result,
                          const char *doing)
{
    const char *sqlstate = field(result, PG_DIAG_SQLSTATE);
    enum hw_status status = hw_db_status_of(sqlstate);

    /* What a statement reports of another server, say by a foreign table, is no loss of ours: that
     * is FATAL, or worse. */
    if (status == HW_EUNAVAIL && strcmp(field(result, PG_DIAG_SEVERITY_NONLOCALIZED), "ERROR") == 0)
        status = HW_ECONFLICT;
    if (*field(result, PG_DIAG_MESSAGE_PRIMARY) != '\0') {
        const char *hint = field(result, PG_DIAG_MESSAGE_HINT);

        if (*hint == '\0' && hw_db_hides(result))
            hint = HW_DB_HIDES_ADVICE;

        hw_fail(err, status, "%s: %s%s%s", doing, field(result, PG_DIAG_MESSAGE_PRIMARY),
                *hint != '\0' ? ". " : "", hint);
    } else {
        (void)hw_libpq_fail(err, status, doing, PQerrorMessage(conn));
    }
    return status;
}

/* ---- batches ---- */

static void clear_results(struct batch *batch)
{
    for (int i = 0; i < batch->count; i++)
        PQclear(batch->results[i]);
    free(batch->results);
    batch->results = NULL;
}

static void finish_batch(struct hw_db *db)
{
    struct batch done = db->batch;

    db->batch = (struct batch){0};
    done.outcome.results = done.results;
    done.outcome.count = done.count;
    done.done(done.arg, &done.outcome);
    clear_results(&done);
}

/*
 * The statement that is being answered. Behind the answer of the last one of a segment, and before
 * its Sync, comes what went wrong with the commit: that belongs to this last one, never to the
 * statement that follows.
 */
static int current_statement(const struct batch *batch)
{
    int last = batch->count - 1;

    if (batch->mode == HW_DB_SEPARATE)
        last = batch->count - batch->syncs_left;
    else if (batch->has_tail && batch->syncs_left == 2)
        last = batch->count - 2;
    return batch->index < last ? batch->index : last;
}

static void note_failure(struct hw_db *db, PGresult *result)
{
    struct batch *batch = &db->batch;
    struct hw_db_outcome *outcome = &batch->outcome;

    if (outcome->status != HW_OK)
        return;
    outcome->failed = current_statement(batch);
    outcome->status = hw_db_fail(&outcome->err, db->conn, result, "database");
    strncpy(outcome->sqlstate, field(result, PG_DIAG_SQLSTATE), sizeof(outcome->sqlstate) - 1);
    outcome->constraint = field(result, PG_DIAG_CONSTRAINT_NAME);
    outcome->detail = field(result, PG_DIAG_MESSAGE_DETAIL);
    outcome->hint = field(result, PG_DIAG_MESSAGE_HINT);
}

/* The index behind the Sync that just came. */
static int index_after_sync(const struct batch *batch)
{
    if (batch->mode == HW_DB_SEPARATE)
        return batch->count - batch->syncs_left;
    return batch->has_tail && batch->syncs_left == 1 ? batch->count - 1 : batch->count;
}

/* Keeps the first result of each statement, or its failure. */
static void keep_result(struct hw_db *db, PGresult *result)
{
    struct batch *batch = &db->batch;
    const ExecStatusType status = PQresultStatus(result);
    const int place = current_statement(batch);
    const bool failed = status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK;

    if (batch->results[place] == NULL) {
        batch->results[place] = result;
    } else if (failed) {
        PQclear(batch->results[place]);
        batch->results[place] = result;
    } else {
        PQclear(result);
        return;
    }
    if (failed && status != PGRES_PIPELINE_ABORTED)
        note_failure(db, result);
}

static void take_answer(struct hw_db *db, const PGresult *result);
static void finish_question(struct hw_db *db);

static void read_results(struct hw_db *db)
{
    while ((db->asking || db->batch.active) && !db->closing && !PQisBusy(db->conn)) {
        PGresult *result = PQgetResult(db->conn);
        const bool is_sync = PQresultStatus(result) == PGRES_PIPELINE_SYNC;

        if (result == NULL) {
            if (PQstatus(db->conn) == CONNECTION_BAD)
                return;
            if (!db->asking)
                db->batch.index++;
        } else if (db->asking) {
            take_answer(db, result);
            PQclear(result);
            if (is_sync)
                finish_question(db);
        } else if (is_sync) {
            PQclear(result);
            db->batch.syncs_left--;
            db->batch.outcome.committed |= db->batch.mode == HW_DB_ATOMIC && db->batch.has_tail &&
                                           db->batch.outcome.status == HW_OK;
            db->batch.index = index_after_sync(&db->batch);
            if (db->batch.syncs_left == 0)
                finish_batch(db);
        } else {
            keep_result(db, result);
        }
    }
}

static enum hw_status send_batch(struct hw_db *db, enum hw_db_mode mode,
                                 const struct hw_db_query *queries, int count,
                                 const struct hw_db_query *tail)
{
    const int total = count + (tail != NULL ? 1 : 0);

    for (int i = 0; i < total; i++) {
        const struct hw_db_query *q = i < count ? &queries[i] : tail;
        const bool sync_before = i == count;
        const bool sync_behind = mode == HW_DB_SEPARATE || i == total - 1;

        if (sync_before && mode == HW_DB_ATOMIC && PQpipelineSync(db->conn) != 1)
            return HW_EUNAVAIL;
        if (PQsendQueryParams(db->conn, q->sql, q->count, NULL, q->values, NULL, NULL, 0) != 1)
            return HW_EUNAVAIL;
        if (sync_behind && PQpipelineSync(db->conn) != 1)
            return HW_EUNAVAIL;
    }
    return HW_OK;
}

/* ---- the connection ---- */

static void destroy(struct hw_db *db)
{
    hw_timer_stop(&db->retry);
    hw_timer_stop(&db->watch);
    hw_timer_stop(&db->look);
    hw_attempt_cancel(db->attempt);
    hw_aside_cancel(db->aside);
    hw_io_remove(db->io);
    PQfinish(db->conn);
    if (db->batch.active)
        clear_results(&db->batch);
    free(db->passed_over);
    hw_route_free(db->route);
    free(db);
}

/* The owner may close the connection from its callbacks: they run between these two. */
static void enter_callbacks(struct hw_db *db)
{
    db->callbacks++;
}

/* Returns false when the owner has closed the connection, and db is freed. */
static bool leave_callbacks(struct hw_db *db)
{
    db->callbacks--;
    if (!db->closing)
        return true;
    if (db->callbacks == 0)
        destroy(db);
    return false;
}

/* Tells the running batch and the owner, and tries again later. The owner may close us in both;
 * returns false then. */
static bool lose(struct hw_db *db, const struct hw_error *why)
{
    const int64_t delay = db->retry_ms / 2 + random() % (db->retry_ms / 2 + 1);
    const struct hw_error err = *why; /* it may be ours */

    hw_timer_start(db->loop, &db->retry, delay, start_connecting, db);
    db->retry_ms = 2 * db->retry_ms < RETRY_MOST_MS ? 2 * db->retry_ms : RETRY_MOST_MS;
    db->state = STATE_DOWN;
    hw_io_remove(HW_TAKE(db->io));
    hw_timer_stop(&db->watch);
    hw_timer_stop(&db->look);
    hw_attempt_cancel(HW_TAKE(db->attempt));
    hw_aside_cancel(HW_TAKE(db->aside));
    db->refusal = NULL;
    db->asking = db->in_doubt = false;

    enter_callbacks(db);
    if (db->batch.active) {
        if (db->batch.outcome.status == HW_OK) {
            db->batch.outcome.status = HW_EUNAVAIL;
            db->batch.outcome.err = err;
            db->batch.outcome.failed = current_statement(&db->batch);
        }
        finish_batch(db);
    }
    if (!db->closing && db->events.down != NULL)
        db->events.down(db->events.arg, &err);
    if (!leave_callbacks(db))
        return false;
    PQfinish(HW_TAKE(db->conn));
    return true;
}

static void lose_connection(struct hw_db *db, const char *doing)
{
    struct hw_error err;

    (void)hw_libpq_fail(&err, HW_EUNAVAIL, doing, PQerrorMessage(db->conn));
    (void)lose(db, &err);
}

static void lose_silent(struct hw_db *db, const char *what)
{
    struct hw_error err;

    (void)hw_fail(&err, HW_EUNAVAIL, "database: %s; connecting anew", what);
    (void)lose(db, &err);
}

/* ---- is it alive, and who is it? ----
 *
 * A host that vanished ends the connection by itself (pg/connect.h). Where the other side's kernel
 * still acknowledges, because the server or a proxy in between is frozen, nothing does. So a
 * connection that is idle asks now and then, and where a batch is owed an answer for long, another
 * connection asks whether its backend is still at work: there is no limit to how long it may be. */

static void on_watch(void *arg);

static void watch_in(struct hw_db *db, int64_t ms)
{
    hw_timer_start(db->loop, &db->watch, ms, on_watch, db);
}

/* The session is set up as hw_connect_session says where it is our own, which the first question
 * finds out as it is answered: a backend that is the one of the connection is nobody else's. */
static void ask(struct hw_db *db)
{
    static const char sql[] =
        "SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_read_only'), "
        "CASE WHEN $1::int IN (0, pg_backend_pid()) THEN " HW_CONNECT_SESSION " END";
    char backend[16];
    const char *const values[] = {backend};

    snprintf(backend, sizeof(backend), "%d", db->is_own ? 0 : PQbackendPID(db->conn));
    db->answer_counts = PQtransactionStatus(db->conn) == PQTRANS_IDLE;
    db->asking = true;
    db->heard = hw_loop_now();
    const int left = PQsendQueryParams(db->conn, sql, 1, NULL, values, NULL, NULL, 0) == 1 &&
                             PQpipelineSync(db->conn) == 1
                         ? PQflush(db->conn)
                         : -1;
    if (left < 0) {
        lose_connection(db, "sending to the database");
        return;
    }
    hw_io_set(db->io, left > 0 ? POLLIN | POLLOUT : POLLIN);
    watch_in(db, SILENT_MS);
}

static void on_looked(void *arg, const PGresult *result, bool answered)
{
    struct hw_db *db = arg;
    const bool has_heard = !db->batch.active || hw_loop_now() - db->heard < OWED_MS;
    /* A server that refuses to say it counts as one that works. */
    const bool at_work =
        result == NULL || (PQntuples(result) == 1 && *PQgetvalue(result, 0, 0) == 't');

    db->aside = NULL;
    if (has_heard || (answered && at_work)) {
        db->in_doubt = false;
    } else if (!answered) {
        lose_silent(db, "the server does not answer");
    } else if (db->in_doubt) {
        lose_silent(db, "an answer was lost: the server does not work on what was asked");
    } else {
        db->in_doubt = true;
        watch_in(db, DOUBT_MS);
    }
}

static void look_at_backend(struct hw_db *db)
{
    static const char sql[] = "SELECT coalesce(state, '') NOT LIKE 'idle%' "
                              "FROM pg_catalog.pg_stat_activity WHERE pid = $1::int";

    if (db->aside == NULL)
        db->aside = hw_aside_ask(db->loop, db->route, db->conn, sql, db->pid, on_looked, db);
}

static void on_watch(void *arg)
{
    struct hw_db *db = arg;
    const int64_t silent = hw_loop_now() - db->heard;
    const int64_t most = db->asking ? SILENT_MS : db->batch.active ? OWED_MS : ASK_MS;

    if (silent < most) {
        watch_in(db, most - silent);
    } else if (db->asking) {
        lose_silent(db, "no answer within 10 s");
    } else if (db->batch.active) {
        watch_in(db, OWED_MS);
        look_at_backend(db);
    } else {
        ask(db);
    }
}

/* ---- does it take writes? ---- */

static void look_for_writes(void *arg);

static void set_refusal(struct hw_db *db, const char *refusal)
{
    const bool turned = (refusal == NULL) != (db->refusal == NULL);

    db->refusal = refusal;
    if (!turned)
        return;
    hw_timer_stop(&db->look);
    hw_attempt_cancel(HW_TAKE(db->attempt));
    db->look_ms = RETRY_FIRST_MS;
    if (refusal != NULL && hw_route_wants_writes(db->route))
        hw_timer_start(db->loop, &db->look, db->look_ms, look_for_writes, db);
    if (db->state == STATE_UP && db->events.writes != NULL)
        db->events.writes(db->events.arg, refusal);
}

static void adopt(struct hw_db *db, PGconn *conn);

static void on_found(void *arg, const struct hw_attempt_end *end)
{
    struct hw_db *db = arg;
    struct hw_error err;

    db->attempt = NULL;
    if (end->conn == NULL) {
        db->look_ms = 2 * db->look_ms < RETRY_MOST_MS ? 2 * db->look_ms : RETRY_MOST_MS;
        hw_timer_start(db->loop, &db->look, db->look_ms, look_for_writes, db);
        return;
    }
    hw_fail(&err, HW_EUNAVAIL, "database: the server took no writes (%s), and now one does",
            db->refusal);
    if (lose(db, &err))
        adopt(db, end->conn);
    else
        PQfinish(end->conn);
}

/* The connection that there is can be read meanwhile. Another one is needed also where the same
 * server takes writes again, if the session was told not to. */
static void look_for_writes(void *arg)
{
    struct hw_db *db = arg;

    db->attempt = hw_attempt_start(db->loop, db->route, true, NULL, on_found, db);
}

/* ---- the answer to our own question ---- */

static const char shared[] =
    "a pooler in front of the server gives one of its sessions to several clients in turns "
    "(pgbouncer's pool_mode is transaction or statement), and Headwater needs its own (LISTEN, "
    "SET, advisory locks): set pool_mode = session for this database there, or name PostgreSQL "
    "itself in --database (HEADWATER_DATABASE_URL)";

static void lose_shared(struct hw_db *db)
{
    struct hw_error err;

    (void)hw_fail(&err, HW_EUNAVAIL, "database: %s", shared);
    (void)lose(db, &err);
}

/* The key by which a statement is cancelled names the backend, save where a pooler made it up. */
static bool is_pooled(const struct hw_db *db)
{
    return strtol(db->pid, NULL, 10) != PQbackendPID(db->conn);
}

static void take_answer(struct hw_db *db, const PGresult *result)
{
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return;
    const char *const pid = PQgetvalue(result, 0, 0);
    const bool in_recovery = *PQgetvalue(result, 0, 1) == 't';
    const bool read_only = strcmp(PQgetvalue(result, 0, 2), "on") == 0;

    if (*db->pid == '\0')
        snprintf(db->pid, sizeof(db->pid), "%s", pid);
    db->is_shared = strcmp(db->pid, pid) != 0;
    if (db->answer_counts)
        set_refusal(db, in_recovery ? "it is a standby"
                        : read_only ? "default_transaction_read_only is on there"
                                    : NULL);
}

static void come_up(struct hw_db *db)
{
    db->state = STATE_UP;
    db->is_own = true;
    db->retry_ms = RETRY_FIRST_MS;
    if (db->events.up != NULL)
        db->events.up(db->events.arg);
}

static void on_neighbour(void *arg, const PGresult *result, bool answered)
{
    struct hw_db *db = arg;

    (void)answered;
    db->aside = NULL;
    if (result != NULL && strcmp(PQgetvalue(result, 0, 0), db->pid) == 0) {
        lose_shared(db);
        return;
    }
    db->is_own = result == NULL || ++db->neighbours >= NEIGHBOURS;
    ask(db);
}

static void finish_question(struct hw_db *db)
{
    db->asking = false;
    if (db->state != STATE_PREPARING)
        return;
    if (db->is_shared)
        return; /* whoever called us closes it */
    /* In a session of our own our backend stays the same, and no other client has it. A pooler that
     * shares gives each question the backend that was used last, which is once ours for the
     * neighbour, or once the neighbour's for us, unless others come in between each time. */
    if (*db->pid != '\0' && is_pooled(db) && !db->is_own)
        db->aside = hw_aside_ask(db->loop, db->route, db->conn, "SELECT pg_backend_pid()", NULL,
                                 on_neighbour, db);
    else
        come_up(db);
}

/* ---- connecting ---- */

static void adopt(struct hw_db *db, PGconn *conn)
{
    hw_timer_stop(&db->retry);
    db->conn = conn;
    db->state = STATE_PREPARING;
    db->pid[0] = '\0';
    db->is_shared = db->is_own = false;
    db->neighbours = 0;
    if (PQsetnonblocking(conn, 1) != 0 || PQenterPipelineMode(conn) != 1) {
        lose_connection(db, "setting up the database connection");
        return;
    }
    db->io = hw_io_add(db->loop, PQsocket(conn), POLLIN, on_io, db);
    ask(db);
}

static void on_attempt(void *arg, const struct hw_attempt_end *end)
{
    struct hw_db *db = arg;

    db->attempt = NULL;
    free(db->passed_over);
    db->passed_over = hw_strdup(end->passed_over);
    if (end->conn != NULL) {
        adopt(db, end->conn);
        return;
    }
    struct hw_error err = end->err;
    err.status = HW_EUNAVAIL;
    (void)lose(db, &err);
}

static void start_connecting(void *arg)
{
    struct hw_db *db = arg;

    db->state = STATE_CONNECTING;
    db->attempt = hw_attempt_start(db->loop, db->route, false, NULL, on_attempt, db);
}

static void deliver_notifies(struct hw_db *db)
{
    PGnotify *notify;

    while (!db->closing && (notify = PQnotifies(db->conn)) != NULL) {
        if (db->events.notify != NULL)
            db->events.notify(db->events.arg, notify->relname);
        PQfreemem(notify);
    }
}

static void on_io(void *arg, short revents)
{
    struct hw_db *db = arg;

    if ((revents & POLLOUT) != 0) {
        const int left = PQflush(db->conn);

        if (left < 0) {
            lose_connection(db, "sending to the database");
            return;
        }
        if (left == 0)
            hw_io_set(db->io, POLLIN);
    }
    if ((revents & (POLLIN | POLLERR | POLLHUP)) == 0)
        return;
    /* What arrived before the end counts, so results are read before the loss is noticed. */
    const bool alive = PQconsumeInput(db->conn) == 1;

    db->heard = hw_loop_now();
    enter_callbacks(db);
    read_results(db);
    deliver_notifies(db);
    if (!db->closing && *db->pid != '\0' && !is_pooled(db))
        set_refusal(db, hw_connect_refuses_writes(db->conn));
    if (!leave_callbacks(db))
        return;
    if (!alive || PQstatus(db->conn) == CONNECTION_BAD)
        lose_connection(db, "database");
    else if (db->is_shared)
        lose_shared(db);
    else if (db->state == STATE_PREPARING && !db->asking && *db->pid == '\0')
        lose_silent(db, "the server does not say which backend it is");
}

enum hw_status hw_db_open(struct hw_loop *loop, const char *conninfo, const char *application_name,
                          const struct hw_db_events *events, struct hw_db **out,
                          struct hw_error *err)
{
    const struct hw_route_options options = {.conninfo = conninfo,
                                             .application_name = application_name};
    struct hw_route *route;
    struct hw_db *db;

    if (hw_route_new(&options, &route, err) != HW_OK)
        return err->status;
    db = hw_alloc(sizeof(*db));
    db->loop = loop;
    db->route = route;
    db->events = *events;
    db->retry_ms = RETRY_FIRST_MS;
    start_connecting(db);
    *out = db;
    return HW_OK;
}

void hw_db_close(struct hw_db *db)
{
    if (db == NULL)
        return;
    if (db->callbacks > 0)
        db->closing = true;
    else
        destroy(db);
}

void hw_db_hurry(struct hw_db *db)
{
    if (db->state == STATE_DOWN && hw_timer_running(&db->retry))
        hw_timer_start(db->loop, &db->retry, 0, start_connecting, db);
}

bool hw_db_up(const struct hw_db *db)
{
    return db->state == STATE_UP;
}

bool hw_db_idle(const struct hw_db *db)
{
    return db->state == STATE_UP && !db->batch.active;
}

int hw_db_server_version(const struct hw_db *db)
{
    return db->state == STATE_UP ? PQserverVersion(db->conn) : 0;
}

int hw_db_backend(const struct hw_db *db)
{
    return db->state == STATE_UP ? (int)strtol(db->pid, NULL, 10) : 0;
}

char *hw_db_address(const struct hw_db *db)
{
    return db->state == STATE_UP ? hw_route_address(db->route, db->conn) : NULL;
}

const char *hw_db_refuses_writes(const struct hw_db *db)
{
    return db->state == STATE_UP ? db->refusal : NULL;
}

const char *hw_db_passed_over(const struct hw_db *db)
{
    return db->passed_over != NULL && *db->passed_over != '\0' ? db->passed_over : NULL;
}

/* A connection that broke while a batch was sent is reported from the loop, not from within. */
static void on_broken_send(void *arg)
{
    lose_connection(arg, "sending to the database");
}

enum hw_status hw_db_run(struct hw_db *db, enum hw_db_mode mode, const struct hw_db_query *queries,
                         int count, const struct hw_db_query *tail, hw_db_done_fn *done, void *arg,
                         struct hw_error *err)
{
    const int total = count + (tail != NULL ? 1 : 0);

    if (!hw_db_idle(db))
        return hw_fail(err, HW_EUNAVAIL, "the database cannot be reached now");
    db->batch = (struct batch){
        .active = true,
        .mode = mode,
        .count = total,
        .has_tail = tail != NULL,
        .syncs_left = mode == HW_DB_SEPARATE ? total
                      : tail != NULL         ? 2
                                             : 1,
        .results = hw_alloc((size_t)total * sizeof(PGresult *)),
        .outcome = {.failed = -1, .sent = true, .constraint = "", .detail = "", .hint = ""},
        .done = done,
        .arg = arg,
    };
    const enum hw_status status = send_batch(db, mode, queries, count, tail);
    const int left = status == HW_OK ? PQflush(db->conn) : -1;

    if (left < 0) {
        hw_io_remove(HW_TAKE(db->io));
        hw_timer_start(db->loop, &db->retry, 0, on_broken_send, db);
    } else {
        hw_io_set(db->io, left > 0 ? POLLIN | POLLOUT : POLLIN);
        if (!db->asking) { /* its time began before */
            db->heard = hw_loop_now();
            watch_in(db, OWED_MS);
        }
    }
    return HW_OK;
}

/* ---- synchronous ---- */

struct connecting {
    bool over;
    PGconn *conn;
    struct hw_error err;
};

static void on_over(void *arg, const struct hw_attempt_end *end)
{
    *(struct connecting *)arg = (struct connecting){true, end->conn, end->err};
}

static PGconn *connect_now(struct hw_loop *loop, const struct hw_route *route, const PGconn *beside,
                           struct hw_error *err)
{
    struct connecting connecting = {0};

    /* It ends by itself. */
    (void)hw_attempt_start(loop, route, false, beside, on_over, &connecting);
    while (!hw_loop_run_until(loop, &connecting.over, 60000))
        ;
    *err = connecting.err;
    return connecting.conn;
}

static long backend_of(PGconn *conn)
{
    PGresult *result = PQexec(conn, "SELECT pg_backend_pid()");
    const long pid = PQntuples(result) == 1 ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : -1;

    PQclear(result);
    return pid;
}

/* As on_neighbour finds out. */
static bool is_session_shared(struct hw_loop *loop, const struct hw_route *route, PGconn *conn)
{
    const long pid = backend_of(conn);
    struct hw_error err;

    if (pid == PQbackendPID(conn))
        return false;
    PGconn *neighbour = connect_now(loop, route, conn, &err);
    bool is_shared = false;
    for (int i = 0; i < NEIGHBOURS && neighbour != NULL && !is_shared; i++)
        is_shared = backend_of(neighbour) == pid || backend_of(conn) != pid;
    PQfinish(neighbour);
    return is_shared;
}

/* A connection that streams has its settings from the start, and takes no such statement. */
static enum hw_status begin_session(struct hw_loop *loop, const struct hw_route *route,
                                    PGconn *conn, struct hw_error *err)
{
    if (is_session_shared(loop, route, conn))
        return hw_fail(err, HW_EINVAL, "database: %s", shared);
    return hw_db_exec(conn, "SELECT " HW_CONNECT_SESSION, 0, NULL, NULL, err);
}

static enum hw_status connect_by(const struct hw_route_options *options, PGconn **conn,
                                 struct hw_error *err)
{
    struct hw_route *route = NULL;
    struct hw_loop *loop = NULL;
    PGconn *made = NULL;
    enum hw_status status = hw_route_new(options, &route, err);

    if (status == HW_OK)
        status = hw_loop_new(&loop, err);
    if (status == HW_OK) {
        made = connect_now(loop, route, NULL, err);
        status = made != NULL ? HW_OK : err->status;
    }
    if (status == HW_OK && !options->replication)
        status = begin_session(loop, route, made, err);
    if (status != HW_OK)
        PQfinish(HW_TAKE(made));
    hw_loop_free(loop);
    hw_route_free(route);
    if (status == HW_OK)
        *conn = made;
    return status;
}

enum hw_status hw_db_connect(const char *conninfo, const char *application_name, PGconn **conn,
                             struct hw_error *err)
{
    return connect_by(
        &(struct hw_route_options){.conninfo = conninfo, .application_name = application_name},
        conn, err);
}

enum hw_status hw_db_connect_replication(const char *conninfo, const char *application_name,
                                         PGconn **conn, struct hw_error *err)
{
    return connect_by(&(struct hw_route_options){.conninfo = conninfo,
                                                 .application_name = application_name,
                                                 .replication = true},
                      conn, err);
}

enum hw_status hw_db_exec(PGconn *conn, const char *sql, int count, const char *const *values,
                          PGresult **result, struct hw_error *err)
{
    PGresult *r = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    const ExecStatusType status = PQresultStatus(r);
    enum hw_status code = HW_OK;

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        code = hw_db_fail(err, conn, r, "database");
        PQclear(r);
        return code;
    }
    if (result != NULL)
        *result = r;
    else
        PQclear(r);
    return HW_OK;
}
