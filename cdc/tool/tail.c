#include "cdc/tool/tail.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "cdc/tool/signals.h"
#include "common/log.h"

/* So much output may wait for its reader before the stream is paused; at so little it goes on. */
#define PAUSE_BYTES  ((size_t)1024 * 1024)
#define RESUME_BYTES ((size_t)256 * 1024)
/* A pipe that poll(2) calls writable takes at least so many bytes without blocking. */
#define WRITE_BYTES 4096
/* After a signal, the line that is being printed may go on for so long. */
#define GRACE_MS 2000

struct tail {
    const struct cdc_tail_options *options;
    const char *slot;
    struct hw_loop *loop;
    struct cdc_source *source;
    struct hw_io *out_io;
    struct hw_buf out;
    size_t written; /* of out */
    struct hw_timer grace;
    bool in_transaction;
    bool line_open; /* the transaction has a change, and its line is begun */
    bool ending;    /* nothing more is printed once the line is complete */
    int64_t lines;
    int64_t silent_told; /* how long it had lasted when that was told; 0: it was not */
    int signals;
    hw_lsn last; /* end of the last transaction */
    enum hw_status status;
    struct hw_error *err;
};

/* ---- output ---- */

static size_t waiting(const struct tail *t)
{
    return t->out.len - t->written;
}

/* Closes the stream. Output that waits is still written. */
static void end(struct tail *t)
{
    t->ending = true;
    cdc_source_close(t->source);
    t->source = NULL;
    if (waiting(t) == 0)
        hw_loop_stop(t->loop);
}

static void end_when_complete(struct tail *t)
{
    t->ending = true;
    if (!t->line_open)
        end(t);
}

/*
 * The reader is gone: nothing is left to be done. Where the output has no end of its own, that is
 * how its reader ends it; with a count, not all that was asked for has arrived.
 */
static void reader_gone(struct tail *t, int why)
{
    if (why != EPIPE || t->options->count > 0) {
        errno = why;
        t->status = hw_fail_errno(t->err, "writing to standard output");
    }
    hw_buf_reset(&t->out);
    t->written = 0;
    hw_io_remove(t->out_io);
    t->out_io = NULL;
    end(t);
}

/* Pauses the stream or lets it go on, by how much output waits. */
static void balance(struct tail *t)
{
    if (waiting(t) == 0) {
        hw_buf_reset(&t->out);
        t->written = 0;
    } else if (t->written >= PAUSE_BYTES) {
        memmove(t->out.data, t->out.data + t->written, waiting(t) + 1);
        t->out.len -= t->written;
        t->written = 0;
    }
    if (t->out_io != NULL)
        hw_io_set(t->out_io, waiting(t) > 0 ? POLLOUT : 0);
    if (t->source == NULL) {
        if (waiting(t) == 0)
            hw_loop_stop(t->loop);
        return;
    }
    if (waiting(t) > PAUSE_BYTES)
        cdc_source_pause(t->source, true);
    else if (waiting(t) <= RESUME_BYTES)
        cdc_source_pause(t->source, false);
    if (waiting(t) == 0 && !t->in_transaction)
        cdc_source_confirm(t->source, t->last);
}

static void on_out(void *arg, short revents)
{
    struct tail *t = arg;
    if (revents & (POLLERR | POLLHUP | POLLNVAL)) {
        reader_gone(t, EPIPE);
        return;
    }
    size_t size = waiting(t) < WRITE_BYTES ? waiting(t) : WRITE_BYTES;
    ssize_t n = write(STDOUT_FILENO, t->out.data + t->written, size);
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        reader_gone(t, errno);
        return;
    }
    t->written += n > 0 ? (size_t)n : 0;
    balance(t);
}

/* ---- transactions to lines ---- */

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)tx, (void)err;
    struct tail *t = arg;
    t->in_transaction = true;
    return HW_OK;
}

static void add_member(struct hw_buf *out, const char *name, const char *value, size_t len)
{
    if (value == NULL)
        return;
    hw_buf_printf(out, ",\"%s\":", name);
    hw_buf_json_string(out, value, len);
}

static int append(const char *bytes, size_t len, void *arg)
{
    hw_buf_add(arg, bytes, len);
    return 0;
}

static void add_object(struct hw_buf *out, const char *name, const struct cdc_row *row)
{
    if (row == NULL)
        return;
    HW_AUTO_JSON json_t *object = cdc_row_json(row);
    hw_buf_printf(out, ",\"%s\":", name);
    (void)json_dump_callback(object, append, out, JSON_COMPACT);
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    (void)err;
    struct tail *t = arg;
    struct hw_buf *out = &t->out;
    if (!t->line_open)
        hw_buf_printf(out,
                      "{\"xid\":%" PRIu32 ",\"lsn\":\"%s\",\"committed_at\":\"%s\",\"changes\":[",
                      tx->xid, HW_LSN(tx->lsn), tx->committed_at);
    else
        hw_buf_putc(out, ',');
    t->line_open = true;

    hw_buf_printf(out, "{\"action\":\"%s\"", cdc_action_name(change->action));
    if (change->action == CDC_MESSAGE) {
        add_member(out, "prefix", change->prefix, strlen(change->prefix));
        add_member(out, "content", change->content, change->content_len);
    } else {
        add_member(out, "schema", change->schema, strlen(change->schema));
        add_member(out, "table", change->table, strlen(change->table));
        add_object(out, "columns", change->columns);
        add_object(out, "identity", change->identity);
    }
    hw_buf_putc(out, '}');
    balance(t);
    return HW_OK;
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct tail *t = arg;
    t->in_transaction = false;
    t->last = tx->lsn;
    if (t->line_open) {
        t->line_open = false;
        t->lines++;
        hw_buf_puts(&t->out, "]}\n");
    }
    balance(t);
    if (t->ending || (t->options->count > 0 && t->lines >= t->options->count))
        end(t);
    return HW_OK;
}

static void on_started(void *arg)
{
    const struct tail *t = arg;
    hw_log_info("streaming", HW_S("slot", t->slot), HW_S("tables", t->options->tables));
}

static void on_progress(void *arg, hw_lsn position)
{
    struct tail *t = arg;
    t->last = position;
    balance(t);
}

static void on_silent(void *arg, int pid, int64_t ms)
{
    struct tail *t = arg;
    if (ms < t->silent_told)
        t->silent_told = 0;
    if (t->silent_told != 0 && ms - t->silent_told < 60000)
        return;
    t->silent_told = ms;
    hw_log_warn("the server is silent: it reads a large transaction of other tables, or is frozen",
                HW_S("slot", t->slot), HW_I("pid", pid), HW_I("lasts_s", ms / 1000));
}

static void on_failed(void *arg, const struct hw_error *err)
{
    struct tail *t = arg;
    *t->err = *err;
    t->status = err->status;
    if (t->line_open)
        hw_buf_putc(&t->out, '\n'); /* so that whatever follows in the same file begins a line */
    balance(t);
    end(t);
}

/* ---- running ---- */

static void on_grace_over(void *arg)
{
    struct tail *t = arg;
    hw_loop_stop(t->loop);
}

static void on_signal(void *arg, int signo)
{
    (void)signo;
    struct tail *t = arg;
    if (++t->signals > 1)
        _exit(EXIT_FAILURE);
    hw_timer_start(t->loop, &t->grace, GRACE_MS, on_grace_over, t);
    end_when_complete(t);
}

/* Is the server fit, and does the slot still have what is asked for? */
static enum hw_status check_server(const struct cdc_tail_options *options, const char *slot,
                                   struct hw_error *err)
{
    PGconn *conn;
    PGresult *result;
    struct cdc_server server;
    enum hw_status st = hw_db_connect(options->conninfo, "headwater-cdc", &conn, err);
    if (st != HW_OK)
        return st;
    st = hw_db_exec(conn, cdc_server_sql, 2, (const char *[]){slot, options->tables}, &result, err);
    if (st == HW_OK) {
        st = cdc_server_read(result, &server, err);
        PQclear(result);
    }
    PQfinish(conn);
    if (st == HW_OK)
        st = cdc_server_check(&server, slot, options->slot != NULL, err);
    if (st != HW_OK || options->from == HW_LSN_NONE)
        return st;
    if (options->from < server.slot_confirmed)
        return hw_fail(err, HW_EINVAL, "--from %s: the slot %s begins behind it, at %s",
                       HW_LSN(options->from), slot, HW_LSN(server.slot_confirmed));
    if (options->from > server.current)
        return hw_fail(err, HW_EINVAL, "--from %s: the server's WAL ends before it, at %s",
                       HW_LSN(options->from), HW_LSN(server.current));
    return HW_OK;
}

enum hw_status cdc_tail_run(const struct cdc_tail_options *options, struct hw_error *err)
{
    HW_AUTO_FREE char *slot = options->slot != NULL
                                  ? hw_strdup(options->slot)
                                  : hw_sprintf("headwater_tail_%ld", (long)getpid());
    HW_AUTO_FREE char *prepare = options->slot == NULL ? cdc_slot_temporary_sql(slot) : NULL;
    struct tail t = {.options = options, .slot = slot, .err = err};
    enum hw_status st = check_server(options, slot, err);
    if (st == HW_OK)
        st = hw_loop_new(&t.loop, err);
    if (st == HW_OK)
        st = cdc_signals_end(t.loop, on_signal, &t, err);
    if (st == HW_OK)
        st = cdc_pg_open(t.loop,
                         &(struct cdc_pg_options){.conninfo = options->conninfo,
                                                  .slot = slot,
                                                  .start = options->from,
                                                  .tables = options->tables,
                                                  .message_prefix = "headwater",
                                                  .read_only = options->slot != NULL,
                                                  .application_name = "headwater-cdc",
                                                  .prepare = prepare},
                         &(struct cdc_handler){.begin = on_begin,
                                               .change = on_change,
                                               .commit = on_commit,
                                               .started = on_started,
                                               .progress = on_progress,
                                               .silent = on_silent,
                                               .failed = on_failed,
                                               .arg = &t},
                         &t.source, err);
    if (st == HW_OK) {
        t.out_io = hw_io_add(t.loop, STDOUT_FILENO, 0, on_out, &t);
        st = hw_loop_run(t.loop, err);
        if (st == HW_OK)
            st = t.status;
    }
    cdc_source_close(t.source);
    hw_io_remove(t.out_io);
    hw_timer_stop(&t.grace);
    hw_loop_free(t.loop);
    hw_buf_free(&t.out);
    return st;
}
