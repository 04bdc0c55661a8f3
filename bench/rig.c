#include "bench/rig.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/memory.h"
#include "protocol/keys.h"
#include "tests/support/http.h"
#include "tests/support/process.h"

/* ---- NATS ---- */

static void on_entry(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    struct rig *rig = arg;
    const double now = test_now();

    (void)nc, (void)sub;
    pthread_mutex_lock(&rig->mutex);
    if (rig->count++ == 0)
        rig->first = now;
    rig->last = now;
    rig->size = natsMsg_GetDataLength(msg);
    pthread_cond_signal(&rig->came);
    pthread_mutex_unlock(&rig->mutex);
    natsMsg_Destroy(msg);
}

void rig_connect(struct rig *rig)
{
    if (natsConnection_ConnectTo(&rig->nc, rig->nats.url) != NATS_OK ||
        natsConnection_JetStream(&rig->js, rig->nc, NULL) != NATS_OK ||
        natsConnection_Subscribe(&rig->sub, rig->nc, "headwater." HW_HINT_DESIRED ">", on_entry,
                                 rig) != NATS_OK ||
        natsSubscription_SetPendingLimits(rig->sub, -1, -1) != NATS_OK ||
        natsConnection_Flush(rig->nc) != NATS_OK)
        test_fail("cannot subscribe at %s", rig->nats.url);
}

void rig_disconnect(struct rig *rig)
{
    natsSubscription_Destroy(HW_TAKE(rig->sub));
    jsCtx_Destroy(HW_TAKE(rig->js));
    natsConnection_Destroy(HW_TAKE(rig->nc));
}

void rig_forget(struct rig *rig)
{
    pthread_mutex_lock(&rig->mutex);
    rig->count = 0;
    pthread_mutex_unlock(&rig->mutex);
}

long rig_count(struct rig *rig)
{
    pthread_mutex_lock(&rig->mutex);
    const long count = rig->count;
    pthread_mutex_unlock(&rig->mutex);
    return count;
}

double rig_wait_count(struct rig *rig, long count)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RIG_WAIT_S;
    pthread_mutex_lock(&rig->mutex);
    while (rig->count < count)
        if (pthread_cond_timedwait(&rig->came, &rig->mutex, &until) != 0) {
            test_print_tail(rig->reconciler.log);
            test_fail("%ld of %ld entries came within %d s", rig->count, count, RIG_WAIT_S);
        }
    const double last = rig->last;
    pthread_mutex_unlock(&rig->mutex);
    return last;
}

/* ---- PostgreSQL ---- */

static void drop_notice(void *arg, const char *message)
{
    (void)arg, (void)message;
}

PGconn *rig_sql_connect(const char *url)
{
    PGconn *conn = PQconnectdb(url);

    if (PQstatus(conn) != CONNECTION_OK)
        test_fail("%s", PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, drop_notice, NULL);
    return conn;
}

static char *run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    const ExecStatusType status = PQresultStatus(result);
    char *value = NULL;

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        test_fail("%s%.400s", PQresultErrorMessage(result), sql);
    if (PQntuples(result) > 0 && PQnfields(result) > 0 && !PQgetisnull(result, 0, 0))
        value = hw_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

static char *format(const char *fmt, va_list args)
{
    char *text;

    if (vasprintf(&text, fmt, args) < 0)
        test_fail("out of memory");
    return text;
}

char *rig_sql(PGconn *conn, const char *sql, ...)
{
    va_list args;

    va_start(args, sql);
    HW_AUTO_FREE char *text = format(sql, args);
    va_end(args);
    return run(conn, text);
}

void rig_run(PGconn *conn, const char *sql, ...)
{
    va_list args;

    va_start(args, sql);
    HW_AUTO_FREE char *text = format(sql, args);
    va_end(args);
    free(run(conn, text));
}

double rig_wait_notice(PGconn *listener)
{
    const double until = test_deadline(RIG_WAIT_S);
    PGnotify *heard;

    while ((heard = PQnotifies(listener)) == NULL) {
        struct pollfd socket = {.fd = PQsocket(listener), .events = POLLIN};

        if (test_now() > until)
            test_fail("PostgreSQL did not notify in time");
        poll(&socket, 1, 1000);
        if (PQconsumeInput(listener) != 1)
            test_fail("%s", PQerrorMessage(listener));
    }
    PQfreemem(heard);
    return test_now();
}

static bool is_confirmed(struct rig *rig, const char *lsn)
{
    HW_AUTO_FREE char *answer = rig_sql(rig->sql,
                                        "SELECT confirmed_flush_lsn >= '%s' "
                                        "FROM pg_replication_slots WHERE slot_name = 'headwater'",
                                        lsn);

    return answer != NULL && *answer == 't';
}

double rig_wait_confirmed(struct rig *rig, const char *lsn)
{
    for (const double until = test_deadline(RIG_WAIT_S); !is_confirmed(rig, lsn); test_pause())
        if (test_now() > until) {
            test_print_tail(rig->reconciler.log);
            test_fail("the log was not confirmed up to %s in time", lsn);
        }
    return test_now();
}

void rig_wait_caught_up(struct rig *rig)
{
    HW_AUTO_FREE char *lsn = rig_sql(rig->sql, "SELECT pg_current_wal_lsn()");

    rig_wait_confirmed(rig, lsn);
}

/* ---- the reconciler ---- */

void rig_start(struct rig *rig)
{
    HW_AUTO_FREE char *monitor = hw_sprintf("127.0.0.1:%d", rig->monitor);
    const char *const key = getenv("SIGN_KEY");
    const char *const argv[] = {"headwater-reconciler",
                                "--database",
                                rig->pg.reconciler_url,
                                "--nats",
                                rig->nats.url,
                                "--monitor",
                                monitor,
                                key != NULL ? "--sign-key" : NULL,
                                key,
                                NULL};

    test_program_start(&rig->reconciler, argv, NULL);
}

void rig_stop(struct rig *rig)
{
    const int status = test_program_stop(&rig->reconciler, SIGTERM);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        test_print_tail(rig->reconciler.log);
        test_fail("the reconciler ended with status %#x", (unsigned)status);
    }
}

/* Its port is open some time after its start. */
static bool is_ready(struct rig *rig)
{
    HW_AUTO_FREE char *log = test_read_file(rig->reconciler.log);
    struct test_answer answer;

    if (strstr(log, "msg=started") == NULL)
        return false;
    answer = test_http(rig->monitor, "GET", "/readyz", NULL, NULL, 0);
    const bool ready = answer.status == 200;
    test_answer_free(&answer);
    return ready;
}

void rig_wait_ready(struct rig *rig)
{
    test_wait_for(is_ready(rig), RIG_WAIT_S);
}

/* ---- the agent of one node ---- */

void rig_start_agent(struct rig *rig, struct test_program *agent, const char *node,
                     const char *output, const char *dir)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir);
    const char *const argv[] = {"headwater-agent", "--nats", rig->nats.url, "--node", node,
                                "--output",        output,   "--state-dir", state,    NULL};

    test_program_start(agent, argv, NULL);
}

void rig_stop_agent(struct test_program *agent)
{
    if (test_program_stop(agent, SIGTERM) != 0)
        test_fail("the agent failed, see %s", agent->log);
}

/* ---- all of it ---- */

void rig_stop_all(struct rig *rig)
{
    rig_stop(rig);
    rig_disconnect(rig);
    test_nats_stop(&rig->nats);
}

double rig_start_all(struct rig *rig)
{
    test_nats_restart(&rig->nats);
    rig_connect(rig);
    rig_forget(rig);
    const double start = test_now();
    rig_start(rig);
    return start;
}

void rig_open(struct rig *rig)
{
    *rig = (struct rig){.mutex = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    test_postgres_start(&rig->pg, true, RIG_SETTINGS);
    test_nats_start(&rig->nats);
    rig->monitor = test_free_port();
    rig->sql = rig_sql_connect(rig->pg.url);
    rig_connect(rig);
    rig_start(rig);
    rig_wait_ready(rig);
}

void rig_close(struct rig *rig)
{
    rig_stop(rig);
    rig_disconnect(rig);
    PQfinish(rig->sql);
    test_nats_remove(&rig->nats);
    test_postgres_remove(&rig->pg);
}

void rig_make_fleet(struct rig *rig, int count)
{
    rig_run(rig->sql,
            "INSERT INTO headwater.config (name, content) VALUES ('fleet', '{\"change\":0}');"
            "INSERT INTO headwater.assignment (name, config, selector) "
            "VALUES ('fleet', 'fleet', '{}');"
            "INSERT INTO headwater.node (name) SELECT 'n' || i FROM generate_series(1, %d) AS i",
            count);
    rig_run(rig->sql, "VACUUM ANALYZE");
    rig_wait_caught_up(rig);
}

void rig_change_fleet(struct rig *rig, int change)
{
    rig_run(rig->sql,
            "UPDATE headwater.config SET content = '{\"change\":%d}' WHERE name = 'fleet'", change);
}

void rig_leave_behind(struct rig *rig)
{
    for (int i = 0; i < 2; i++) {
        rig_run(rig->sql, "CHECKPOINT");
        rig_run(rig->sql, "SELECT headwater.heartbeat()");
        rig_wait_caught_up(rig);
    }
}

jsStreamInfo *rig_bucket(struct rig *rig)
{
    jsStreamInfo *info = NULL;

    if (js_GetStreamInfo(&info, rig->js, "KV_headwater", NULL, NULL) != NATS_OK)
        test_fail("the stream KV_headwater does not answer");
    return info;
}

void rig_fill_history(struct rig *rig)
{
    jsStreamInfo *info = rig_bucket(rig);

    for (int64_t i = info->Config->MaxMsgsPerSubject; i > 0; i--)
        rig_change_fleet(rig, (int)-i);
    jsStreamInfo_Destroy(info);
    rig_wait_caught_up(rig);
}
