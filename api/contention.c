#include "api/contention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/row.h"
#include "base/buf.h"
#include "base/memory.h"
#include "common/log.h"

enum {
    LOOK_MS = 1000,    /* between two looks */
    LONG_MS = 1000,    /* a request that has been at work for so long may be waiting */
    BACKENDS_MAX = 128 /* that are asked about in one look */
};

struct api_contention {
    struct hw_loop *loop;
    struct hw_pool *pool;
    struct api_listener *listener;
    struct api_subscriber subscriber;
    struct hw_timer look;
    bool asking;
    char *holder; /* the text, or NULL */
    int holder_pid, told_pid;
};

/*
 * Of all who are in the way of these backends, those whom nobody is in the way of. A prepared
 * transaction has no backend and is 0. Of other roles' sessions, every role may see these columns
 * of pg_stat_activity.
 */
static const char holders_sql[] =
    "WITH RECURSIVE chain AS ("
    "SELECT unnest(pg_blocking_pids(w.pid)) AS pid FROM unnest($1::int[]) AS w (pid) "
    "UNION SELECT unnest(pg_blocking_pids(c.pid)) FROM chain AS c) "
    "SELECT c.pid, coalesce(a.application_name, '') AS application, "
    "coalesce(a.usename, '') AS role "
    "FROM chain AS c LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = c.pid "
    "WHERE pg_blocking_pids(c.pid) = '{}' ORDER BY c.pid LIMIT 1";

static void forget(struct api_contention *contention)
{
    free(HW_TAKE(contention->holder));
    contention->holder_pid = -1;
}

static void on_holders(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_contention *contention = arg;
    const PGresult *rows = outcome->status == HW_OK ? outcome->results[0] : NULL;

    contention->asking = false;
    forget(contention);
    if (rows == NULL || PQntuples(rows) == 0)
        return;
    const char *application = api_row_text(rows, 0, "application");
    const int pid = (int)strtol(api_row_text(rows, 0, "pid"), NULL, 10);
    contention->holder_pid = pid;
    if (pid == 0)
        contention->holder = hw_strdup("A prepared transaction holds the lock: "
                                       "pg_prepared_xacts lists those that there are, and COMMIT "
                                       "PREPARED or ROLLBACK PREPARED ends it");
    else
        contention->holder =
            hw_sprintf("The application \"%s\" (role %s, backend %d) holds the lock: it has to "
                       "commit or roll back, or SELECT pg_terminate_backend(%d) ends it",
                       *application != '\0' ? application : "(without application_name)",
                       api_row_text(rows, 0, "role"), pid, pid);
}

static void ask(void *arg)
{
    struct api_contention *contention = arg;
    struct hw_buf list = {0};
    int pids[BACKENDS_MAX];
    bool busy;
    const int count = hw_pool_long_at_work(contention->pool, LONG_MS, pids, BACKENDS_MAX, &busy);

    if (count == 0 || contention->asking) {
        if (count == 0)
            forget(contention);
        return;
    }
    hw_buf_putc(&list, '{');
    for (int i = 0; i < count; i++)
        hw_buf_printf(&list, "%s%d", i > 0 ? "," : "", pids[i]);
    hw_buf_putc(&list, '}');
    const char *const values[] = {list.data};
    const struct hw_db_query query = {.sql = holders_sql, .count = 1, .values = values};
    contention->asking =
        api_listener_ask(contention->listener, HW_DB_ATOMIC, &query, 1, on_holders, contention);
    hw_buf_free(&list);
}

static void on_look(void *arg)
{
    struct api_contention *contention = arg;
    int pids[1];
    bool busy;

    if (hw_pool_long_at_work(contention->pool, LONG_MS, pids, 1, &busy) > 0)
        api_listener_line_up(contention->listener, &contention->subscriber);
    else
        forget(contention);
    if (busy)
        hw_timer_start(contention->loop, &contention->look, LOOK_MS, on_look, contention);
}

static void on_down(void *arg, const struct hw_error *why)
{
    (void)why;
    forget(arg);
}

struct api_contention *api_contention_new(struct hw_loop *loop, struct hw_pool *pool,
                                          struct api_listener *listener)
{
    static const char *const channels[] = {NULL};
    struct api_contention *contention = hw_alloc(sizeof(*contention));

    contention->loop = loop;
    contention->pool = pool;
    contention->listener = listener;
    contention->holder_pid = contention->told_pid = -1;
    contention->subscriber = (struct api_subscriber){
        .channels = channels, .down = on_down, .turn = ask, .arg = contention};
    api_listener_subscribe(listener, &contention->subscriber);
    return contention;
}

void api_contention_free(struct api_contention *contention)
{
    if (contention == NULL)
        return;
    hw_timer_stop(&contention->look);
    free(contention->holder);
    free(contention);
}

void api_contention_watch(struct api_contention *contention)
{
    if (!hw_timer_running(&contention->look))
        hw_timer_start(contention->loop, &contention->look, LOOK_MS, on_look, contention);
}

const char *api_contention_holder(struct api_contention *contention)
{
    if (contention->holder != NULL && contention->holder_pid != contention->told_pid)
        hw_log_warn("requests are refused because somebody holds a lock for long",
                    HW_S("holder", contention->holder));
    if (contention->holder != NULL)
        contention->told_pid = contention->holder_pid;
    return contention->holder;
}
