#include "cdc/pg_source.h"

#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/memory.h"
#include "cdc/assembler.h"
#include "cdc/slot.h"
#include "pg/database.h"

#define STATUS_INTERVAL_MS 1000
#define CONFIRM_MS         50   /* at the latest so long after the consumer has stored something */
#define ASK_MS             4000 /* nothing came for so long: the server is asked for an answer … */
#define SILENT_MS          12000 /* … and has not given one by now */

/* At most so much is read in one turn of the loop, because timers and signals wait meanwhile. */
#define TURN_MESSAGES 256
#define TURN_BYTES    ((size_t)1024 * 1024)

/*
 * The settings of the session that decoding depends on. wal_sender_timeout is short because a
 * leader that froze holds the slot until the server drops its connection.
 */
#define SESSION_OPTIONS                                                                            \
    "-c bytea_output=hex -c datestyle=ISO -c timezone=UTC -c wal_sender_timeout=10s"

enum stage {
    STAGE_CONNECTING,
    STAGE_PREPARING, /* the prepare statement runs */
    STAGE_STARTING,  /* START_REPLICATION was sent */
    STAGE_STREAMING,
    STAGE_ENDED, /* failed was called; close is all that is left */
};

struct pg_source {
    struct cdc_source base;
    struct hw_loop *loop;
    struct hw_route *route;
    char *slot;
    char *prepare;
    char *start_command;
    int64_t status_interval;
    bool read_only;

    struct hw_attempt *attempt; /* while connecting */
    PGconn *conn;
    struct hw_io *io;
    int64_t heard; /* hw_loop_now(): when something came last */
    struct hw_timer status_timer, turn_timer;
    enum stage stage;
    bool paused;
    bool backlog;   /* libpq may hold messages that were not taken yet */
    bool unflushed; /* libpq holds bytes that the socket would not take */
    bool reply_due; /* the server asked for feedback */
    int busy;       /* depth of calls from the loop; the source is freed when it is 0 again */
    bool closed;

    struct cdc_assembler assembler; /* has the position received */
    hw_lsn stored;
    hw_lsn confirmed;
    hw_lsn written;  /* the received position that the server was told last */
    hw_lsn idle_end; /* the log's end, as the server told it last between two transactions */
};

static void on_io(void *arg, short revents);
static void on_turn(void *arg);

/* ---- entering from the loop, leaving to it ---- */

static void disconnect(struct pg_source *s)
{
    hw_attempt_cancel(HW_TAKE(s->attempt));
    hw_timer_stop(&s->status_timer);
    hw_timer_stop(&s->turn_timer);
    hw_io_remove(s->io);
    s->io = NULL;
    PQfinish(s->conn);
    s->conn = NULL;
}

static void destroy(struct pg_source *s)
{
    hw_route_free(s->route);
    free(s->slot);
    free(s->prepare);
    free(s->start_command);
    free(s);
}

static bool live(const struct pg_source *s)
{
    return s->stage != STAGE_ENDED && !s->closed;
}

static short wanted_events(const struct pg_source *s)
{
    short events = s->unflushed ? POLLOUT : 0;
    /* While messages are left over, the socket is not read: libpq's buffer would only grow. */
    if (s->stage != STAGE_STREAMING || (!s->paused && !s->backlog))
        events |= POLLIN;
    return events;
}

static void watch(struct pg_source *s)
{
    if (s->io == NULL)
        s->io = hw_io_add(s->loop, PQsocket(s->conn), wanted_events(s), on_io, s);
    else
        hw_io_set(s->io, wanted_events(s));
}

static void enter(struct pg_source *s)
{
    s->busy++;
}

static void leave(struct pg_source *s)
{
    if (--s->busy > 0)
        return;
    if (s->closed)
        destroy(s);
    else if (s->conn != NULL)
        watch(s);
}

/* ---- failing ---- */

static void fail(struct pg_source *s, struct hw_error *err)
{
    hw_fail_in(err, "slot %s", s->slot);
    s->stage = STAGE_ENDED;
    disconnect(s);
    s->assembler.handler.failed(s->assembler.handler.arg, err);
}

static enum hw_status lost(const struct pg_source *s, struct hw_error *err)
{
    return hw_libpq_fail(err, HW_EUNAVAIL, "replication connection", PQerrorMessage(s->conn));
}

static enum hw_status refused(struct pg_source *s, const PGresult *result, const char *doing,
                              struct hw_error *err)
{
    static const enum hw_status statuses[] = {
        [CDC_REFUSED_OTHERWISE] = HW_EUNAVAIL, [CDC_LOG_REMOVED] = HW_ELIMIT,
        [CDC_NO_PLUGIN] = HW_EDENIED,          [CDC_NO_RIGHT] = HW_EDENIED,
        [CDC_SLOT_IN_USE] = HW_ECONFLICT,      [CDC_NO_SLOT] = HW_ENOENT};
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (sqlstate == NULL)
        return lost(s, err);
    (void)hw_db_fail(err, s->conn, result, doing);
    enum cdc_refusal refusal = cdc_slot_judge(sqlstate, s->slot, err);
    s->base.log_removed = refusal == CDC_LOG_REMOVED;
    return err->status = statuses[refusal];
}

/* ---- feedback ---- */

static hw_lsn later(hw_lsn a, hw_lsn b)
{
    return a > b ? a : b;
}

/* Everything up to this position has come, as far as it concerns us. */
static hw_lsn arrived(const struct pg_source *s)
{
    return later(s->assembler.received, s->idle_end);
}

/*
 * The position that the server may forget up to: what the consumer has stored, but never more than
 * the server itself has told us of. A position from another history of the database, confirmed
 * once, would spoil the slot for good.
 */
static hw_lsn confirmable(const struct pg_source *s)
{
    if (s->read_only)
        return HW_LSN_NONE;
    const hw_lsn told = arrived(s);
    return later(s->stored < told ? s->stored : told, s->confirmed);
}

static void put64(char *out, uint64_t value)
{
    value = htobe64(value);
    memcpy(out, &value, sizeof(value));
}

static uint64_t get64(const char *in)
{
    uint64_t value;
    memcpy(&value, in, sizeof(value));
    return be64toh(value);
}

/* Microseconds since 2000-01-01, PostgreSQL's epoch. */
static uint64_t postgres_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)(now.tv_sec - 946684800) * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static enum hw_status flush(struct pg_source *s, struct hw_error *err)
{
    int left = PQflush(s->conn);
    if (left < 0)
        return lost(s, err);
    s->unflushed = left > 0;
    return HW_OK;
}

/* Sends a standby status update, unless the socket has still to take the one before. Nothing is
 * lost then, because the next update says everything that this one would have said. */
static enum hw_status feedback(struct pg_source *s, struct hw_error *err)
{
    if (s->unflushed)
        return HW_OK;
    s->confirmed = confirmable(s);
    s->written = arrived(s);
    char message[1 + 4 * 8 + 1] = {'r'};
    put64(message + 1, s->written);
    put64(message + 9, s->confirmed);  /* flushed */
    put64(message + 17, s->confirmed); /* applied */
    put64(message + 25, postgres_time());
    message[33] = hw_loop_now() - s->heard >= ASK_MS; /* an answer is asked for */
    if (PQputCopyData(s->conn, message, sizeof(message)) < 0)
        return lost(s, err);
    s->reply_due = false;
    return flush(s, err);
}

/* ---- the stream ---- */

/* A primary keepalive: no transaction that commits before its position is still to come. */
static void take_keepalive(struct pg_source *s, hw_lsn end, bool reply)
{
    s->reply_due |= reply;
    if (s->assembler.open || end <= s->idle_end)
        return;
    s->idle_end = end;
    s->assembler.handler.progress(s->assembler.handler.arg, end);
}

static enum hw_status take_message(struct pg_source *s, char *message, size_t len,
                                   struct hw_error *err)
{
    if (len >= 25 && message[0] == 'w')
        return cdc_assembler_take(&s->assembler, get64(message + 1), message + 25, len - 25, err);
    if (len == 18 && message[0] == 'k') {
        take_keepalive(s, get64(message + 1), message[17] != 0);
        return HW_OK;
    }
    return hw_fail(err, HW_EPROTO, "the server sent a message 0x%02x of %zu bytes",
                   (unsigned)(unsigned char)message[0], len);
}

/* The server left the copy mode. */
static enum hw_status end_of_stream(struct pg_source *s, struct hw_error *err)
{
    PGresult *result = PQgetResult(s->conn);
    enum hw_status st = PQresultStatus(result) == PGRES_FATAL_ERROR
                            ? refused(s, result, "streaming", err)
                            : hw_fail(err, HW_EUNAVAIL, "the server ended the stream");
    PQclear(result);
    return st;
}

/*
 * Takes the messages that libpq holds and that have come meanwhile, within the limits of a turn,
 * until the source is paused, closed or has failed.
 */
static enum hw_status drain(struct pg_source *s, struct hw_error *err)
{
    size_t bytes = 0;
    int looked = 0; /* how many messages had been taken when the socket was read last */
    s->backlog = true;
    for (int n = 0; n < TURN_MESSAGES && bytes < TURN_BYTES && !s->paused && !s->closed; n++) {
        char *message;
        int len = PQgetCopyData(s->conn, &message, 1);
        if (len == 0 && n > looked) {
            looked = n--;
            if (PQconsumeInput(s->conn) != 1)
                return lost(s, err);
            continue;
        }
        if (len == 0) {
            s->backlog = false;
            break;
        }
        if (len == -1)
            return end_of_stream(s, err);
        if (len < 0)
            return lost(s, err);
        bytes += (size_t)len;
        s->heard = hw_loop_now();
        enum hw_status st = take_message(s, message, (size_t)len, err);
        PQfreemem(message);
        if (st != HW_OK)
            return st;
    }
    if (s->closed)
        return HW_OK;
    if (s->backlog && !s->paused)
        hw_timer_start(s->loop, &s->turn_timer, 0, on_turn, s);
    /* A server that shuts down asks again as soon as it is answered, until all is confirmed. So an
     * answer that tells it nothing new waits for the next status update. */
    if (s->reply_due && (confirmable(s) != s->confirmed || arrived(s) != s->written))
        return feedback(s, err);
    return HW_OK;
}

static enum hw_status receive(struct pg_source *s, struct hw_error *err)
{
    /* The second read takes what TLS has decrypted already and poll(2) cannot see. */
    if (PQconsumeInput(s->conn) != 1 || (PQsslInUse(s->conn) && PQconsumeInput(s->conn) != 1))
        return lost(s, err);
    return drain(s, err);
}

static enum hw_status stream(struct pg_source *s, short revents, struct hw_error *err)
{
    enum hw_status st = HW_OK;
    if (revents & POLLOUT)
        st = flush(s, err);
    if (st != HW_OK)
        return st;
    if (s->paused && (revents & (POLLERR | POLLHUP)))
        return hw_fail(err, HW_EUNAVAIL, "the replication connection broke");
    if (!s->paused && !s->backlog && (revents & (POLLIN | POLLERR | POLLHUP)))
        return receive(s, err);
    return HW_OK;
}

static void on_status(void *arg)
{
    struct pg_source *s = arg;
    struct hw_error err;
    enter(s);
    hw_timer_start(s->loop, &s->status_timer, s->status_interval, on_status, s);
    if (s->paused || s->backlog)
        s->heard = hw_loop_now(); /* it is not read, so nothing is owed */
    if (s->stage == STAGE_STREAMING && feedback(s, &err) != HW_OK)
        fail(s, &err);
    else if (hw_loop_now() - s->heard >= SILENT_MS && s->assembler.handler.silent != NULL)
        s->assembler.handler.silent(s->assembler.handler.arg, PQbackendPID(s->conn),
                                    hw_loop_now() - s->heard);
    leave(s);
}

/* ---- coming up ---- */

static enum hw_status send_query(struct pg_source *s, enum stage stage, const char *sql,
                                 struct hw_error *err)
{
    s->stage = stage;
    if (PQsendQuery(s->conn, sql) != 1)
        return lost(s, err);
    return flush(s, err);
}

static void on_connected(void *arg, const struct hw_attempt_end *end)
{
    struct pg_source *s = arg;
    struct hw_error err = end->err;
    enum hw_status st = HW_OK;
    enter(s);
    s->attempt = NULL;
    s->conn = end->conn;
    if (s->conn == NULL)
        st = err.status = err.status == HW_EDENIED ? HW_EDENIED : HW_EUNAVAIL;
    else if (PQsetnonblocking(s->conn, 1) != 0)
        st = lost(s, &err);
    else if (s->prepare != NULL)
        st = send_query(s, STAGE_PREPARING, s->prepare, &err);
    else
        st = send_query(s, STAGE_STARTING, s->start_command, &err);
    s->heard = hw_loop_now();
    hw_timer_start(s->loop, &s->status_timer, s->status_interval, on_status, s);
    if (st != HW_OK)
        fail(s, &err);
    leave(s);
}

/* Reads the results of the prepare statement or of START_REPLICATION. */
static enum hw_status answered(struct pg_source *s, short revents, struct hw_error *err)
{
    if ((revents & POLLOUT) && flush(s, err) != HW_OK)
        return err->status;
    if (PQconsumeInput(s->conn) != 1)
        return lost(s, err);
    s->heard = hw_loop_now();
    while (!PQisBusy(s->conn)) {
        PGresult *result = PQgetResult(s->conn);
        ExecStatusType status = PQresultStatus(result);
        if (result == NULL && s->stage == STAGE_PREPARING)
            return send_query(s, STAGE_STARTING, s->start_command, err);
        if (s->stage == STAGE_PREPARING &&
            (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)) {
            PQclear(result);
            continue;
        }
        if (s->stage == STAGE_PREPARING || status != PGRES_COPY_BOTH) {
            const char *doing = s->stage == STAGE_PREPARING ? "making the slot" : "start streaming";
            enum hw_status st = refused(s, result, doing, err);
            PQclear(result);
            return st;
        }
        PQclear(result);
        s->stage = STAGE_STREAMING;
        if (s->assembler.handler.started != NULL)
            s->assembler.handler.started(s->assembler.handler.arg);
        return s->closed ? HW_OK : drain(s, err);
    }
    return HW_OK;
}

static void on_io(void *arg, short revents)
{
    struct pg_source *s = arg;
    struct hw_error err;
    enum hw_status st;
    enter(s);
    if (s->stage == STAGE_STREAMING)
        st = stream(s, revents, &err);
    else
        st = answered(s, revents, &err);
    if (st != HW_OK && !s->closed)
        fail(s, &err);
    leave(s);
}

/* Runs without an event of the descriptor, whenever libpq may hold messages that were not taken
 * yet. */
static void on_turn(void *arg)
{
    struct pg_source *s = arg;
    struct hw_error err;
    enum hw_status st = HW_OK;
    enter(s);
    if (s->stage == STAGE_STREAMING)
        st = drain(s, &err);
    if (st != HW_OK && !s->closed)
        fail(s, &err);
    leave(s);
}

/* ---- the interface ---- */

static void pg_pause(struct cdc_source *base, bool paused)
{
    struct pg_source *s = (struct pg_source *)base;
    if (!live(s) || s->paused == paused)
        return;
    enter(s);
    s->paused = paused;
    if (!paused && s->backlog)
        hw_timer_start(s->loop, &s->turn_timer, 0, on_turn, s);
    leave(s);
}

static void pg_confirm(struct cdc_source *base, hw_lsn stored)
{
    struct pg_source *s = (struct pg_source *)base;
    if (stored <= s->stored)
        return;
    s->stored = stored;
    /* While more comes, one status update confirms many positions. */
    const int64_t ms = stored >= arrived(s) ? 0 : CONFIRM_MS;
    if (live(s) && s->stage == STAGE_STREAMING && s->status_timer.due > hw_loop_now() + ms)
        hw_timer_start(s->loop, &s->status_timer, ms, on_status, s);
}

static void pg_close(struct cdc_source *base)
{
    struct pg_source *s = (struct pg_source *)base;
    if (s->stage == STAGE_STREAMING && feedback(s, NULL) != HW_OK)
        s->stage = STAGE_ENDED; /* nobody depends on this feedback: its failure is not told */
    s->closed = true;
    disconnect(s);
    if (s->busy == 0)
        destroy(s);
}

static const struct cdc_source_ops operations = {pg_pause, pg_confirm, pg_close};

/* A string of the replication grammar: quotes are doubled, and a backslash is only itself. */
static void add_quoted(struct hw_buf *sql, const char *s, char quote)
{
    hw_buf_putc(sql, quote);
    for (; *s != '\0'; s++) {
        if (*s == quote)
            hw_buf_putc(sql, quote);
        hw_buf_putc(sql, *s);
    }
    hw_buf_putc(sql, quote);
}

static char *make_start_command(const struct cdc_pg_options *o)
{
    const struct {
        const char *name, *value;
    } options[] = {
        {"format-version", "2"},
        {"include-transaction", "on"},
        {"include-xids", "on"},
        {"include-lsn", "on"},
        {"include-timestamp", "on"},
        {"include-types", "off"},
        {"add-tables", o->tables},
        /* With an empty list the plug-in would send the messages of all prefixes. */
        {"add-msg-prefixes", o->message_prefix != NULL ? o->message_prefix : "headwater-none"},
    };
    struct hw_buf sql = {0};
    hw_buf_puts(&sql, "START_REPLICATION SLOT ");
    add_quoted(&sql, o->slot, '"');
    hw_buf_printf(&sql, " LOGICAL %s (", HW_LSN(o->start));
    const char *separator = "";
    for (size_t i = 0; i < HW_COUNT(options); i++) {
        hw_buf_puts(&sql, separator);
        add_quoted(&sql, options[i].name, '"');
        hw_buf_putc(&sql, ' ');
        add_quoted(&sql, options[i].value, '\'');
        separator = ", ";
    }
    hw_buf_putc(&sql, ')');
    return sql.data;
}

enum hw_status cdc_pg_open(struct hw_loop *loop, const struct cdc_pg_options *options,
                           const struct cdc_handler *handler, struct cdc_source **source,
                           struct hw_error *err)
{
    const struct hw_route_options way = {
        .conninfo = options->conninfo,
        .application_name =
            options->application_name != NULL ? options->application_name : "headwater",
        .session = SESSION_OPTIONS,
        .replication = true,
    };
    struct hw_route *route;
    if (hw_route_new(&way, &route, err) != HW_OK)
        return err->status;

    struct pg_source *s = hw_alloc(sizeof(*s));
    s->base.ops = &operations;
    s->loop = loop;
    s->route = route;
    s->slot = hw_strdup(options->slot);
    s->prepare = options->prepare != NULL ? hw_strdup(options->prepare) : NULL;
    s->start_command = make_start_command(options);
    s->status_interval =
        options->status_interval_ms > 0 ? options->status_interval_ms : STATUS_INTERVAL_MS;
    s->read_only = options->read_only;
    s->stored = options->start;
    s->assembler = (struct cdc_assembler){.handler = *handler, .start = options->start};
    s->attempt = hw_attempt_start(loop, route, true, NULL, on_connected, s);
    *source = &s->base;
    return HW_OK;
}
