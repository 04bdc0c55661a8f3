#include "pg/aside.h"

#include <poll.h>
#include <stdlib.h>

#include "base/memory.h"

struct hw_aside {
    struct hw_loop *loop;
    char *sql, *value;
    hw_aside_fn *fn;
    void *arg;
    struct hw_attempt *attempt;
    PGconn *conn;
    struct hw_io *io;
    struct hw_timer timer;
};

static void destroy(struct hw_aside *a)
{
    hw_attempt_cancel(a->attempt);
    hw_timer_stop(&a->timer);
    hw_io_remove(a->io);
    PQfinish(a->conn);
    free(a->sql);
    free(a->value);
    free(a);
}

void hw_aside_cancel(struct hw_aside *aside)
{
    if (aside != NULL)
        destroy(aside);
}

static void finish(struct hw_aside *a, PGresult *result, bool answered)
{
    hw_aside_fn *const fn = a->fn;
    void *const arg = a->arg;

    destroy(a);
    fn(arg, result, answered);
    PQclear(result);
}

static void on_io(void *arg, short revents)
{
    struct hw_aside *a = arg;
    PGresult *result;

    (void)revents;
    if (PQconsumeInput(a->conn) != 1) {
        finish(a, NULL, false);
        return;
    }
    if (PQisBusy(a->conn))
        return;
    result = PQgetResult(a->conn);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        finish(a, result, true);
        return;
    }
    PQclear(result);
    finish(a, NULL, true);
}

static void on_silence(void *arg)
{
    finish(arg, NULL, false);
}

static void on_connected(void *arg, const struct hw_attempt_end *end)
{
    struct hw_aside *a = arg;
    const char *const values[] = {a->value};

    a->attempt = NULL;
    a->conn = end->conn;
    if (a->conn == NULL) {
        finish(a, NULL, end->answered);
        return;
    }
    /* So short a question fits into the socket. */
    const int sent = a->value == NULL
                         ? PQsendQuery(a->conn, a->sql)
                         : PQsendQueryParams(a->conn, a->sql, 1, NULL, values, NULL, NULL, 0);
    if (sent != 1) {
        finish(a, NULL, false);
        return;
    }
    hw_timer_start(a->loop, &a->timer, HW_CONNECT_MS, on_silence, a);
    a->io = hw_io_add(a->loop, PQsocket(a->conn), POLLIN, on_io, a);
}

struct hw_aside *hw_aside_ask(struct hw_loop *loop, const struct hw_route *route,
                              const PGconn *beside, const char *sql, const char *value,
                              hw_aside_fn *fn, void *arg)
{
    struct hw_aside *a = hw_alloc(sizeof(*a));

    a->loop = loop;
    a->sql = hw_strdup(sql);
    a->value = value != NULL ? hw_strdup(value) : NULL;
    a->fn = fn;
    a->arg = arg;
    a->attempt = hw_attempt_start(loop, route, false, beside, on_connected, a);
    return a;
}
