#include "pg/database.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/memory.h"
#include "pg/advice.h"
#include "pg/conninfo.h"

enum {
    RETRY_FIRST_MS = 100,
    RETRY_MOST_MS = 5000,
    CONNECT_TIMEOUT_MS = 10000,
    REASON_MOST = 360, /* bytes of libpq's words, so that ours have room behind them */
};

enum state { STATE_DOWN, STATE_CONNECTING, STATE_UP };

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
    char *conninfo;
    char *application_name;
    struct hw_db_events events;
    enum state state;
    PGconn *conn;
    struct hw_io *io;
    int fd; /* the socket that io watches */
    struct hw_timer retry;
    struct hw_timer connect_timeout;
    int64_t retry_ms;
    int callbacks; /* of the owner's, running now: it must not be freed below them */
    bool closing;  /* closed from within one */
    struct batch batch;
};

static void start_connecting(void *arg);
static void on_io(void *arg, short revents);

/* ---- errors ---- */

enum hw_status hw_db_status_of(const char *sqlstate)
{
    if (sqlstate == NULL || *sqlstate == '\0')
        return HW_EUNAVAIL; /* libpq made the message: the connection broke */
    if (strncmp(sqlstate, "40", 2) == 0 || strcmp(sqlstate, "55P03") == 0)
        return HW_ECONFLICT;
    if (strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0)
        return HW_EUNAVAIL;
    if (strncmp(sqlstate, "28", 2) == 0 || strcmp(sqlstate, "42501") == 0)
        return HW_EDENIED;
    if (strncmp(sqlstate, "53", 2) == 0 || strncmp(sqlstate, "54", 2) == 0)
        return HW_ELIMIT;
    if (strcmp(sqlstate, "57014") == 0)
        return HW_ETIMEOUT;
    return HW_EINVAL;
}

static const char *field(const PGresult *result, int code)
{
    const char *text = result != NULL ? PQresultErrorField(result, code) : NULL;

    return text != NULL ? text : "";
}

/* libpq ends its messages with a newline and may spread them over several lines. */
static void add_libpq_text(struct hw_error *err, enum hw_status status, const char *doing,
                           const char *text)
{
    char flat[HW_ERROR_MAX];
    size_t len = 0;

    for (; *text != '\0' && len < sizeof(flat) - 1; text++)
        flat[len++] = *text == '\n' || *text == '\t' ? ' ' : *text;
    while (len > 0 && flat[len - 1] == ' ')
        len--;
    flat[len] = '\0';
    hw_fail(err, status, "%s%s%s", doing, len > 0 ? ": " : "", flat);
}

/* The error of a connection that was not made: libpq's words, without its lines that name a place
 * in the server's source, and then what to do. */
static enum hw_status fail_to_connect(struct hw_error *err, const char *doing, const char *text)
{
    const char *const advice = hw_db_advice(*text != '\0' ? text : doing);
    char words[REASON_MOST];
    struct hw_error said;
    size_t len = 0;

    for (const char *line = text; *line != '\0';) {
        const size_t size = strcspn(line, "\n");
        const size_t room = sizeof(words) - 1 - len;

        if (strncmp(line, "LOCATION:", strlen("LOCATION:")) != 0) {
            memcpy(words + len, line, size < room ? size : room);
            len += size < room ? size : room;
            if (len < sizeof(words) - 1)
                words[len++] = '\n';
        }
        line += size + (line[size] == '\n');
    }
    words[len] = '\0';
    add_libpq_text(&said, HW_EUNAVAIL, doing, words);
    return hw_fail(err, HW_EUNAVAIL, "%s%s%s", said.message, advice != NULL ? "; " : "",
                   advice != NULL ? advice : "");
}

enum hw_status hw_db_fail(struct hw_error *err, const PGconn *conn, const PGresult *result,
                          const char *doing)
{
    const char *sqlstate = field(result, PG_DIAG_SQLSTATE);
    const enum hw_status status = hw_db_status_of(sqlstate);

    if (*field(result, PG_DIAG_MESSAGE_PRIMARY) != '\0') {
        const char *hint = field(result, PG_DIAG_MESSAGE_HINT);

        hw_fail(err, status, "%s: %s%s%s", doing, field(result, PG_DIAG_MESSAGE_PRIMARY),
                *hint != '\0' ? ". " : "", hint);
    } else {
        add_libpq_text(err, status, doing, PQerrorMessage(conn));
    }
    return status;
}

static void on_notice(void *arg, const PGresult *result)
{
    (void)arg;
    hw_log_debug("the database remarks", HW_S("severity", field(result, PG_DIAG_SEVERITY)),
                 HW_S("sqlstate", field(result, PG_DIAG_SQLSTATE)),
                 HW_S("text", field(result, PG_DIAG_MESSAGE_PRIMARY)));
}

void hw_db_quiet(PGconn *conn)
{
    PQsetNoticeReceiver(conn, on_notice, NULL);
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

static void read_results(struct hw_db *db)
{
    while (db->batch.active && !db->closing && !PQisBusy(db->conn)) {
        PGresult *result = PQgetResult(db->conn);

        if (result == NULL) {
            if (PQstatus(db->conn) == CONNECTION_BAD)
                return;
            db->batch.index++;
            continue;
        }
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            db->batch.syncs_left--;
            db->batch.index = index_after_sync(&db->batch);
            if (db->batch.syncs_left == 0)
                finish_batch(db);
            continue;
        }
        keep_result(db, result);
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
    hw_timer_stop(&db->connect_timeout);
    hw_io_remove(db->io);
    PQfinish(db->conn);
    if (db->batch.active)
        clear_results(&db->batch);
    free(db->conninfo);
    free(db->application_name);
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

/* Tells the running batch and the owner, and tries again later. The owner may close us in both. */
static void lose_connection(struct hw_db *db, const char *doing)
{
    const int64_t delay = db->retry_ms / 2 + random() % (db->retry_ms / 2 + 1);
    struct hw_error err = {0};

    if (db->state == STATE_UP)
        add_libpq_text(&err, HW_EUNAVAIL, doing, PQerrorMessage(db->conn));
    else
        (void)fail_to_connect(&err, doing, PQerrorMessage(db->conn));
    hw_timer_start(db->loop, &db->retry, delay, start_connecting, db);
    db->retry_ms = 2 * db->retry_ms < RETRY_MOST_MS ? 2 * db->retry_ms : RETRY_MOST_MS;
    db->state = STATE_DOWN;
    hw_io_remove(db->io);
    db->io = NULL;
    hw_timer_stop(&db->connect_timeout);

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
        return;
    PQfinish(db->conn);
    db->conn = NULL;
}

static void watch_socket(struct hw_db *db, short events)
{
    const int fd = PQsocket(db->conn);

    /* libpq may open another socket while it tries the next address. */
    if (db->io != NULL && db->fd == fd) {
        hw_io_set(db->io, events);
        return;
    }
    hw_io_remove(db->io);
    db->fd = fd;
    db->io = hw_io_add(db->loop, fd, events, on_io, db);
}

static void go_on_connecting(struct hw_db *db)
{
    switch (PQconnectPoll(db->conn)) {
    case PGRES_POLLING_READING:
        hw_io_remove(HW_TAKE(db->io));
        watch_socket(db, POLLIN);
        return;
    case PGRES_POLLING_WRITING:
        hw_io_remove(HW_TAKE(db->io));
        watch_socket(db, POLLOUT);
        return;
    case PGRES_POLLING_OK:
        break;
    case PGRES_POLLING_FAILED:
    default:
        lose_connection(db, "connecting to the database");
        return;
    }
    hw_timer_stop(&db->connect_timeout);
    if (PQsetnonblocking(db->conn, 1) != 0 || PQenterPipelineMode(db->conn) != 1) {
        lose_connection(db, "setting up the database connection");
        return;
    }
    (void)PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
    hw_io_remove(HW_TAKE(db->io));
    watch_socket(db, POLLIN);
    db->state = STATE_UP;
    db->retry_ms = RETRY_FIRST_MS;
    enter_callbacks(db);
    if (db->events.up != NULL)
        db->events.up(db->events.arg);
    leave_callbacks(db);
}

static void on_connect_timeout(void *arg)
{
    lose_connection(arg, "connecting to the database: no answer within 10 s");
}

static void start_connecting(void *arg)
{
    struct hw_db *db = arg;
    const char *const keys[] = {"dbname",          "fallback_application_name", "client_encoding",
                                "keepalives_idle", "keepalives_count",          NULL};
    const char *const values[] = {db->conninfo, db->application_name, "UTF8", "10", "3", NULL};

    db->conn = PQconnectStartParams(keys, values, 1);
    if (db->conn == NULL)
        abort(); /* out of memory */
    if (PQstatus(db->conn) == CONNECTION_BAD) {
        lose_connection(db, "connecting to the database");
        return;
    }
    hw_db_quiet(db->conn);
    /* libpq tells the SQLSTATE of a refusal only within its message, and only at this verbosity. */
    (void)PQsetErrorVerbosity(db->conn, PQERRORS_VERBOSE);
    db->state = STATE_CONNECTING;
    hw_timer_start(db->loop, &db->connect_timeout, CONNECT_TIMEOUT_MS, on_connect_timeout, db);
    watch_socket(db, POLLOUT);
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

    if (db->state == STATE_CONNECTING) {
        go_on_connecting(db);
        return;
    }
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

    enter_callbacks(db);
    read_results(db);
    deliver_notifies(db);
    if (!leave_callbacks(db))
        return;
    if (!alive || PQstatus(db->conn) == CONNECTION_BAD)
        lose_connection(db, "database");
}

enum hw_status hw_db_open(struct hw_loop *loop, const char *conninfo, const char *application_name,
                          const struct hw_db_events *events, struct hw_db **out,
                          struct hw_error *err)
{
    struct hw_db *db;

    if (hw_conninfo_check(conninfo, err) != HW_OK)
        return hw_fail_in(err, "the database URL");
    db = hw_alloc(sizeof(*db));
    db->loop = loop;
    db->conninfo = hw_strdup(conninfo);
    db->application_name = hw_strdup(application_name);
    db->events = *events;
    db->retry_ms = RETRY_FIRST_MS;
    hw_timer_start(loop, &db->retry, 0, start_connecting, db);
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

/* The n-th of a list with commas in between; of a list of one, that one. */
static char *element(const char *list, int n)
{
    const char *at = list;

    for (int i = 0; i < n; i++) {
        const char *comma = strchr(at, ',');

        if (comma == NULL) {
            at = list;
            break;
        }
        at = comma + 1;
    }
    return hw_strndup(at, strcspn(at, ","));
}

static const char *setting_of(const PQconninfoOption *settings, const char *keyword)
{
    while (settings->keyword != NULL && strcmp(settings->keyword, keyword) != 0)
        settings++;
    return settings->val != NULL ? settings->val : "";
}

char *hw_db_address(const struct hw_db *db)
{
    PQconninfoOption *settings = db->state == STATE_UP ? PQconninfo(db->conn) : NULL;
    struct hw_buf out = {0};
    int count = 1;

    if (settings == NULL)
        return NULL;
    const char *hosts = setting_of(settings, "host"), *ports = setting_of(settings, "port");
    if (*hosts == '\0')
        hosts = setting_of(settings, "hostaddr");
    if (*hosts == '\0')
        hosts = PQhost(db->conn); /* the directory of the socket that libpq knows by itself */
    for (const char *p = hosts; *p != '\0'; p++)
        count += *p == ',';
    for (int i = 0; i < count; i++) {
        HW_AUTO_FREE char *host = element(hosts, i);
        HW_AUTO_FREE char *port = element(ports, i);

        hw_buf_printf(&out, "%s%s:%s", i > 0 ? "," : "", host, *port != '\0' ? port : "5432");
    }
    hw_buf_printf(&out, "/%s", setting_of(settings, "dbname"));
    PQconninfoFree(settings);
    return out.data;
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
    }
    return HW_OK;
}

/* ---- synchronous ---- */

enum hw_status hw_db_connect(const char *conninfo, const char *application_name, PGconn **conn,
                             struct hw_error *err)
{
    const char *const keys[] = {"dbname", "fallback_application_name", "client_encoding",
                                "connect_timeout", NULL};
    const char *const values[] = {conninfo, application_name, "UTF8", "10", NULL};
    PGconn *c = PQconnectdbParams(keys, values, 1);

    if (c == NULL || PQstatus(c) != CONNECTION_OK) {
        (void)fail_to_connect(err, "connecting to the database", PQerrorMessage(c));
        PQfinish(c);
        return HW_EUNAVAIL;
    }
    hw_db_quiet(c);
    *conn = c;
    return HW_OK;
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
