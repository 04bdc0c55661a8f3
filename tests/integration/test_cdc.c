#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define SLOT   "headwater"
#define TABLES "headwater.item,headwater.note"

/* ---- a consumer that writes down what it is told ---- */

enum moment { NEVER, AT_BEGIN, AT_CHANGE, AT_COMMIT, AT_STARTED, AT_PROGRESS, AT_FAILED };

struct consumer {
    struct hw_loop *loop;
    struct cdc_source *source;
    struct hw_buf log; /* a line an event */
    bool quiet;        /* changes are only counted */
    bool confirms;     /* what it was told, at once */
    bool started, failed;
    struct hw_error error;
    int begins, changes, commits;
    hw_lsn last; /* end of the last transaction */
    hw_lsn progress;
    char committed_at[40];
    enum moment close_at, pause_at;
    enum hw_status refuse_commit;
};

static void reached(struct consumer *c, enum moment moment)
{
    if (c->close_at == moment) {
        cdc_source_close(c->source);
        c->source = NULL;
    }
    if (c->pause_at == moment && c->source != NULL)
        cdc_source_pause(c->source, true);
}

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct consumer *c = arg;
    ck_assert_ptr_nonnull(c->source); /* never after close */
    ck_assert_int_eq(c->begins, c->commits);
    ck_assert_uint_gt(tx->xid, 0);
    ck_assert(tx->lsn > c->last);
    c->begins++;
    if (!c->quiet)
        hw_buf_puts(&c->log, "begin\n");
    reached(c, AT_BEGIN);
    return HW_OK;
}

static void log_row(struct hw_buf *log, const char *name, const struct cdc_row *row)
{
    if (row == NULL)
        return;
    HW_AUTO_JSON json_t *value = cdc_row_json(row);
    HW_AUTO_FREE char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    hw_buf_printf(log, " %s=%s", name, text);
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    (void)tx, (void)err;
    struct consumer *c = arg;
    ck_assert_ptr_nonnull(c->source);
    ck_assert_int_eq(c->begins, c->commits + 1);
    c->changes++;
    if (!c->quiet) {
        hw_buf_puts(&c->log, cdc_action_name(change->action));
        if (change->action == CDC_MESSAGE)
            hw_buf_printf(&c->log, " %s=%.*s", change->prefix, (int)change->content_len,
                          change->content);
        else
            hw_buf_printf(&c->log, " %s.%s", change->schema, change->table);
        log_row(&c->log, "columns", change->columns);
        log_row(&c->log, "identity", change->identity);
        hw_buf_putc(&c->log, '\n');
    }
    reached(c, AT_CHANGE);
    return HW_OK;
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct consumer *c = arg;
    ck_assert_ptr_nonnull(c->source);
    c->commits++;
    ck_assert_int_eq(c->begins, c->commits);
    c->last = tx->lsn;
    memcpy(c->committed_at, tx->committed_at, sizeof(c->committed_at));
    if (!c->quiet)
        hw_buf_puts(&c->log, "commit\n");
    if (c->confirms)
        cdc_source_confirm(c->source, tx->lsn);
    reached(c, AT_COMMIT);
    if (c->refuse_commit != HW_OK)
        return hw_fail(err, c->refuse_commit, "the consumer refuses");
    return HW_OK;
}

static void on_started(void *arg)
{
    struct consumer *c = arg;
    c->started = true;
    reached(c, AT_STARTED);
}

static void on_progress(void *arg, hw_lsn position)
{
    struct consumer *c = arg;
    ck_assert_ptr_nonnull(c->source);
    ck_assert_int_eq(c->begins, c->commits);
    ck_assert(position > c->progress);
    c->progress = position;
    if (c->confirms)
        cdc_source_confirm(c->source, position);
    reached(c, AT_PROGRESS);
}

static void on_failed(void *arg, const struct hw_error *err)
{
    struct consumer *c = arg;
    ck_assert_ptr_nonnull(c->source);
    ck_assert(!c->failed);
    c->failed = true;
    c->error = *err;
    reached(c, AT_FAILED);
}

static void consumer_init(struct consumer *c)
{
    *c = (struct consumer){0};
    ck_assert_int_eq(hw_loop_new(&c->loop, NULL), HW_OK);
}

static void consumer_open_with(struct consumer *c, const struct cdc_pg_options *options)
{
    const struct cdc_handler handler = {.begin = on_begin,
                                        .change = on_change,
                                        .commit = on_commit,
                                        .started = on_started,
                                        .progress = on_progress,
                                        .failed = on_failed,
                                        .arg = c};
    struct hw_error err;
    if (cdc_pg_open(c->loop, options, &handler, &c->source, &err) != HW_OK)
        ck_abort_msg("%s", err.message);
}

static void consumer_open(struct consumer *c, const char *url, hw_lsn start)
{
    consumer_open_with(c, &(struct cdc_pg_options){.conninfo = url,
                                                   .slot = SLOT,
                                                   .start = start,
                                                   .tables = TABLES,
                                                   .message_prefix = "headwater",
                                                   .status_interval_ms = 50});
}

static void consumer_close(struct consumer *c)
{
    cdc_source_close(c->source);
    hw_loop_free(c->loop);
    hw_buf_free(&c->log);
}

/* Turns the loop until the condition holds. */
#define run_until(c, condition)                                                                    \
    do {                                                                                           \
        const double until_ = test_deadline(60);                                                   \
        while (!(condition)) {                                                                     \
            const bool never_ = false;                                                             \
            if (test_now() > until_)                                                               \
                ck_abort_msg("timed out waiting for: " #condition "; %s", (c)->error.message);     \
            hw_loop_run_until((c)->loop, &never_, 10);                                             \
        }                                                                                          \
    } while (0)

static void run_for(struct consumer *c, double seconds)
{
    const bool never = false;
    hw_loop_run_until(c->loop, &never, (int64_t)(seconds * 1000));
}

/* A consumer of a server that never gets as far as streaming: how it fails. */
static struct hw_error failure_of(const char *url, const char *slot, const char *tables)
{
    struct consumer c;
    consumer_init(&c);
    consumer_open_with(&c,
                       &(struct cdc_pg_options){.conninfo = url, .slot = slot, .tables = tables});
    run_until(&c, c.failed);
    ck_assert(!c.started);
    const struct hw_error err = c.error;
    consumer_close(&c);
    return err;
}

/* ---- the database's side ---- */

static hw_lsn lsn_of(const struct test_postgres *pg, const char *sql)
{
    HW_AUTO_FREE char *text = test_sql(pg, "%s", sql);
    hw_lsn lsn = HW_LSN_NONE;
    ck_assert_int_eq(hw_lsn_parse(text, &lsn, NULL), HW_OK);
    return lsn;
}

static hw_lsn confirmed(const struct test_postgres *pg)
{
    return lsn_of(pg, "SELECT confirmed_flush_lsn FROM pg_replication_slots "
                      "WHERE slot_name = '" SLOT "'");
}

static bool is_true(const struct test_postgres *pg, const char *sql)
{
    HW_AUTO_FREE char *value = test_sql(pg, "%s", sql);
    return value != NULL && strcmp(value, "t") == 0;
}

/* The server notices a little later that its client is gone. */
static void wait_until_free(const struct test_postgres *pg)
{
    test_wait_for(is_true(pg, "SELECT NOT active FROM pg_replication_slots "
                              "WHERE slot_name = '" SLOT "'"),
                  30);
}

/* Two tables and a slot; gives the slot's consistent point. */
static hw_lsn start_postgres(struct test_postgres *pg, const char *extra)
{
    /* Autovacuum has transactions, too, and they come by the stream. */
    HW_AUTO_FREE char *settings = hw_sprintf("autovacuum = off\n%s", extra != NULL ? extra : "");
    test_postgres_start(pg, false, settings);
    free(test_sql(pg, "CREATE SCHEMA headwater;"
                      "CREATE TABLE headwater.item (id int PRIMARY KEY, text text, n bigint);"
                      "CREATE TABLE headwater.note (id int PRIMARY KEY, text text);"
                      "CREATE TABLE headwater.unpublished (id int PRIMARY KEY);"
                      "ALTER TABLE headwater.item ALTER text SET STORAGE external"));
    return lsn_of(pg, "SELECT lsn FROM pg_create_logical_replication_slot('" SLOT "', 'wal2json')");
}

/* ---- what is delivered ---- */

static const char first_transaction[] =
    "begin\n"
    "insert headwater.item columns={\"id\":1,\"text\":\"é\\\"\\\\\\n\",\"n\":9007199254740993}\n"
    "insert headwater.note columns={\"id\":1,\"text\":null}\n"
    "update headwater.item columns={\"id\":1,\"text\":\"é\\\"\\\\\\n\",\"n\":-1} "
    "identity={\"id\":1}\n"
    "message headwater=resync \"all\"\n"
    "update headwater.item columns={\"id\":2,\"text\":\"é\\\"\\\\\\n\",\"n\":-1} "
    "identity={\"id\":1}\n"
    "delete headwater.item identity={\"id\":2}\n"
    "truncate headwater.note\n"
    "commit\n";

static void write_first_transaction(const struct test_postgres *pg)
{
    free(test_sql(pg, "BEGIN;"
                      "INSERT INTO headwater.item VALUES (1, E'é\"\\\\\\n', 9007199254740993);"
                      "INSERT INTO headwater.note VALUES (1, NULL);"
                      "INSERT INTO headwater.unpublished VALUES (1);"
                      "UPDATE headwater.item SET n = -1 WHERE id = 1;"
                      "SELECT pg_logical_emit_message(true, 'headwater', 'resync \"all\"');"
                      "SELECT pg_logical_emit_message(true, 'other', 'unheard');"
                      "SELECT pg_logical_emit_message(false, 'headwater', 'in no transaction');"
                      "SAVEPOINT s; INSERT INTO headwater.note VALUES (2, 'undone');"
                      "ROLLBACK TO s;"
                      "UPDATE headwater.item SET id = 2 WHERE id = 1;"
                      "DELETE FROM headwater.item WHERE id = 2;"
                      "TRUNCATE headwater.note;"
                      "COMMIT"));
}

START_TEST(test_changes_in_order)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);

    write_first_transaction(&pg);
    run_until(&c, c.commits >= 1);
    ck_assert_str_eq(hw_buf_str(&c.log), first_transaction);
    ck_assert(c.last <= lsn_of(&pg, "SELECT pg_current_wal_lsn()"));

    /* Nothing comes of a rollback; a transaction that touches no streamed table comes empty. */
    hw_buf_reset(&c.log);
    free(test_sql(&pg, "BEGIN; INSERT INTO headwater.item VALUES (7); ROLLBACK"));
    free(test_sql(&pg, "INSERT INTO headwater.unpublished VALUES (2)"));
    run_until(&c, c.commits >= 2);
    ck_assert_str_eq(hw_buf_str(&c.log), "begin\ncommit\n");

    /* An update does not carry a large value that it left alone. */
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (8, repeat('x', 5000), NULL)"));
    run_until(&c, c.commits >= 3);
    hw_buf_reset(&c.log);
    free(test_sql(&pg, "UPDATE headwater.item SET n = 1"));
    run_until(&c, c.commits >= 4);
    ck_assert_str_eq(hw_buf_str(&c.log), "begin\n"
                                         "update headwater.item columns={\"id\":8,\"n\":1} "
                                         "identity={\"id\":8}\n"
                                         "commit\n");
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

/* Whatever the database, the role or the URL ask for, the stream is decoded the same. */
START_TEST(test_session_settings)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    free(test_sql(&pg, "ALTER DATABASE headwater SET timezone = 'Asia/Kathmandu'"));
    free(test_sql(&pg, "ALTER DATABASE headwater SET datestyle = 'German'"));
    free(test_sql(&pg, "ALTER ROLE postgres SET statement_timeout = '1ms'"));
    HW_AUTO_FREE char *url =
        hw_sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=headwater "
                   "options='-c datestyle=SQL,DMY -c timezone=Asia/Tokyo' client_encoding=LATIN1",
                   test_free_port(), pg.port);
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, url, start);
    run_until(&c, c.started);
    const double before = (double)time(NULL);
    free(test_sql(&pg, "SET statement_timeout = 0; INSERT INTO headwater.item VALUES (1, 'é')"));
    run_until(&c, c.changes >= 1 && c.commits == c.begins);
    ck_assert_ptr_nonnull(strstr(c.log.data, "begin\ninsert headwater.item columns="
                                             "{\"id\":1,\"text\":\"é\",\"n\":null}\ncommit\n"));
    struct tm tm = {0};
    const char *rest = strptime(c.committed_at, "%Y-%m-%dT%H:%M:%S", &tm);
    ck_assert_ptr_nonnull(rest);
    ck_assert_uint_eq(strlen(rest), strlen(".123456Z"));
    ck_assert_int_le(llabs((long long)timegm(&tm) - (long long)before), 60);
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

/* ---- positions ---- */

/* The consumer goes away again and again, at any point of a transaction, and comes back with the
 * end of the last transaction that it had whole. */
START_TEST(test_resumes_from_the_stored_position)
{
    enum { ROWS = 8 };
    static const enum moment moments[] = {AT_STARTED, AT_BEGIN, AT_CHANGE, AT_COMMIT};
    struct test_postgres pg;
    hw_lsn stored = start_postgres(&pg, NULL);
    for (int i = 1; i <= ROWS; i++)
        free(test_sql(&pg, "INSERT INTO headwater.item VALUES (%d)", i));

    struct hw_buf all = {0}, expected = {0};
    for (int i = 1; i <= ROWS; i++)
        hw_buf_printf(&expected,
                      "begin\ninsert headwater.item "
                      "columns={\"id\":%d,\"text\":null,\"n\":null}\ncommit\n",
                      i);
    for (int round = 0; round < 4 * ROWS; round++) {
        struct consumer c;
        consumer_init(&c);
        c.close_at = moments[round % 4];
        consumer_open(&c, pg.url, stored);
        run_until(&c, c.source == NULL);
        ck_assert_int_eq(c.commits, c.close_at == AT_COMMIT ? 1 : 0);
        if (c.commits == 1) {
            ck_assert(c.last > stored);
            stored = c.last;
            hw_buf_puts(&all, c.log.data);
        }
        consumer_close(&c);
        wait_until_free(&pg);
    }
    ck_assert_str_eq(hw_buf_str(&all), hw_buf_str(&expected));

    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, stored);
    run_until(&c, c.progress >= stored);
    ck_assert_int_eq(c.begins, 0);
    consumer_close(&c);
    hw_buf_free(&all);
    hw_buf_free(&expected);
    test_postgres_remove(&pg);
}
END_TEST

/* The server has had a status update that was sent after the consumer had got position. */
static bool written(const struct test_postgres *pg, hw_lsn position)
{
    HW_AUTO_FREE char *yes =
        test_sql(pg, "SELECT coalesce(bool_or(write_lsn >= '%s'), false) FROM pg_stat_replication",
                 HW_LSN(position));
    return strcmp(yes, "t") == 0;
}

START_TEST(test_confirms_what_is_stored_and_no_more)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    run_until(&c, c.commits >= 1);
    const hw_lsn first = c.last;
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (2)"));
    run_until(&c, c.commits >= 2);
    const hw_lsn second = c.last;
    run_until(&c, written(&pg, second));
    ck_assert(confirmed(&pg) < first);

    cdc_source_confirm(c.source, first);
    run_until(&c, confirmed(&pg) >= first);
    ck_assert_uint_eq(confirmed(&pg), first);
    cdc_source_confirm(c.source, start); /* it never goes back */

    /* The log goes on with what is of no interest: its end is stored and confirmed like the rest.
     */
    HW_AUTO_FREE char *other = hw_sprintf("postgresql://postgres@127.0.0.1:%d/postgres", pg.port);
    struct test_postgres elsewhere = pg;
    snprintf(elsewhere.url, sizeof(elsewhere.url), "%s", other);
    free(test_sql(&elsewhere, "CREATE TABLE unseen AS SELECT generate_series(1, 1000)"));
    const hw_lsn end = lsn_of(&pg, "SELECT pg_current_wal_lsn()");
    run_until(&c, c.progress >= end && written(&pg, end));
    ck_assert_int_eq(c.commits, 2);
    ck_assert_uint_eq(confirmed(&pg), first);
    cdc_source_confirm(c.source, second);
    run_until(&c, confirmed(&pg) >= second);
    ck_assert_uint_eq(confirmed(&pg), second);
    cdc_source_confirm(c.source, c.progress);
    run_until(&c, confirmed(&pg) >= end);
    consumer_close(&c);

    /* One that only looks on moves nothing. */
    wait_until_free(&pg);
    const hw_lsn before = confirmed(&pg);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (3)"));
    consumer_init(&c);
    consumer_open_with(&c, &(struct cdc_pg_options){.conninfo = pg.url,
                                                    .slot = SLOT,
                                                    .tables = TABLES,
                                                    .status_interval_ms = 50,
                                                    .read_only = true});
    run_until(&c, c.commits >= 1);
    cdc_source_confirm(c.source, c.last);
    run_until(&c, written(&pg, c.last));
    consumer_close(&c);
    wait_until_free(&pg);
    ck_assert_uint_eq(confirmed(&pg), before);
    test_postgres_remove(&pg);
}
END_TEST

/* A position from another history would make the slot skip everything up to it, for good. */
START_TEST(test_never_confirms_beyond_the_server)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    cdc_source_confirm(c.source, start + (1ULL << 40));
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    run_until(&c, c.commits >= 1);
    run_until(&c, confirmed(&pg) >= c.last);
    ck_assert(confirmed(&pg) <= lsn_of(&pg, "SELECT pg_current_wal_insert_lsn()"));
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

/* ---- flow ---- */

struct ticker {
    struct hw_loop *loop;
    struct hw_timer timer;
    int ticks;
};

static void on_tick(void *arg)
{
    struct ticker *t = arg;
    t->ticks++;
    hw_timer_start(t->loop, &t->timer, 0, on_tick, t);
}

static long max_rss_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* 100 MB in one transaction: bounded memory, and a loop that goes on turning. */
START_TEST(test_large_transaction)
{
    enum { ROWS = 100000 };
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    free(test_sql(&pg,
                  "INSERT INTO headwater.note SELECT g, repeat('x', 1000) "
                  "FROM generate_series(1, %d) g",
                  ROWS));
    struct consumer c;
    consumer_init(&c);
    c.quiet = true;
    const long before = max_rss_kib();
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    struct ticker ticker = {.loop = c.loop};
    on_tick(&ticker);
    run_until(&c, c.commits >= 1);
    hw_timer_stop(&ticker.timer);
    ck_assert_int_eq(c.changes, ROWS);
    ck_assert_int_ge(ticker.ticks, ROWS / 256);
#ifndef __SANITIZE_ADDRESS__
    ck_assert_int_lt(max_rss_kib() - before, 16384);
#else
    (void)before;
#endif
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

/* Paused in mid-transaction for longer than the server waits for a silent client. */
START_TEST(test_pause_outlives_the_servers_time_out)
{
    enum { ROWS = 50000 };
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    struct consumer c;
    consumer_init(&c);
    c.quiet = true;
    c.pause_at = AT_CHANGE;
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    free(test_sql(&pg,
                  "INSERT INTO headwater.note SELECT g, repeat('x', 1000) "
                  "FROM generate_series(1, %d) g",
                  ROWS));
    run_until(&c, c.changes > 0);
    ck_assert_int_eq(c.changes, 1);
    const double until = test_now() + 12; /* wal_sender_timeout of this connection is 10 s */
    while (test_now() < until)
        run_for(&c, 1);
    ck_assert_int_eq(c.changes, 1);
    ck_assert(!c.failed);
    ck_assert(is_true(&pg, "SELECT count(*) = 1 FROM pg_stat_replication"));

    c.pause_at = NEVER;
    cdc_source_pause(c.source, false);
    run_until(&c, c.commits >= 1);
    ck_assert_int_eq(c.changes, ROWS);
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

/* At every moment a consumer may pause, go on, or close the source. */
START_TEST(test_pause_and_close_from_callbacks)
{
    static const enum moment moments[] = {AT_STARTED, AT_BEGIN, AT_CHANGE, AT_COMMIT, AT_PROGRESS};
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (2)"));
    for (size_t i = 0; i < HW_COUNT(moments); i++) {
        struct consumer c;
        consumer_init(&c);
        c.close_at = moments[i];
        consumer_open(&c, pg.url, start);
        run_until(&c, c.source == NULL);
        run_for(&c, 0.05); /* a source that lived on would call, and the callbacks check */
        ck_assert(!c.failed);
        consumer_close(&c);
        wait_until_free(&pg);

        consumer_init(&c);
        c.pause_at = moments[i];
        consumer_open(&c, pg.url, start);
        while (c.commits < 2) {
            run_until(&c, c.log.len > 0 || c.started);
            cdc_source_pause(c.source, false);
            run_for(&c, 0.01);
        }
        ck_assert_int_eq(c.changes, 2);
        consumer_close(&c);
        wait_until_free(&pg);
    }
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_consumers_failure_ends_the_stream)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (2)"));
    struct consumer c;
    consumer_init(&c);
    c.refuse_commit = HW_ELIMIT;
    c.close_at = AT_FAILED;
    consumer_open(&c, pg.url, start);
    run_until(&c, c.source == NULL);
    ck_assert(c.failed);
    ck_assert_int_eq(c.commits, 1);
    ck_assert_int_eq(c.error.status, HW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(c.error.message, "the consumer refuses"));
    consumer_close(&c);
    wait_until_free(&pg);
    test_postgres_remove(&pg);
}
END_TEST

/* ---- failures ---- */

START_TEST(test_server_goes_away)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    /* A fast shutdown waits until its clients have confirmed everything. */
    c.confirms = true;
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (0)"));
    run_until(&c, c.commits >= 1);
    kill(pg.pid, SIGINT);
    run_until(&c, c.failed);
    ck_assert_int_eq(c.error.status, HW_EUNAVAIL);
    test_postgres_stop(&pg);
    cdc_source_pause(c.source, true); /* without effect, and without harm */
    cdc_source_confirm(c.source, start);
    consumer_close(&c);

    const struct hw_error err = failure_of(pg.url, SLOT, TABLES);
    ck_assert_int_eq(err.status, HW_EUNAVAIL);
    ck_assert_ptr_nonnull(strstr(err.message, "Connection refused"));

    test_postgres_restart(&pg);
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    run_until(&c, c.commits >= 1);
    test_postgres_kill(&pg);
    run_until(&c, c.failed);
    ck_assert_int_eq(c.error.status, HW_EUNAVAIL);
    consumer_close(&c);

    /* Also while it is paused. */
    test_postgres_restart(&pg);
    consumer_init(&c);
    c.pause_at = AT_BEGIN;
    consumer_open(&c, pg.url, start);
    run_until(&c, c.begins >= 1);
    test_postgres_kill(&pg);
    run_until(&c, c.failed);
    ck_assert_int_eq(c.error.status, HW_EUNAVAIL);
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

static void check_failure(const char *url, const char *slot, const char *tables,
                          enum hw_status status, const char *text)
{
    const struct hw_error err = failure_of(url, slot, tables);
    ck_assert_msg(err.status == status, "%s: %s", hw_status_name(err.status), err.message);
    ck_assert_msg(strstr(err.message, text) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.message, slot) != NULL, "%s", err.message);
    ck_assert_ptr_null(strchr(err.message, '\n'));
}

START_TEST(test_refusals)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, "log_min_messages = fatal");
    free(test_sql(&pg, "CREATE ROLE plain LOGIN; CREATE ROLE repl LOGIN REPLICATION"));
    HW_AUTO_FREE char *plain = hw_sprintf("postgresql://plain@127.0.0.1:%d/headwater", pg.port);
    HW_AUTO_FREE char *nobody = hw_sprintf("postgresql://nobody@127.0.0.1:%d/headwater", pg.port);
    HW_AUTO_FREE char *elsewhere =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/elsewhere", pg.port);
    HW_AUTO_FREE char *other = hw_sprintf("postgresql://postgres@127.0.0.1:%d/postgres", pg.port);
    HW_AUTO_FREE char *repl = hw_sprintf("postgresql://repl@127.0.0.1:%d/headwater", pg.port);

    check_failure(pg.url, "nowhere", TABLES, HW_ENOENT, "\"nowhere\" does not exist");
    check_failure(pg.url, "odd name' \\", TABLES, HW_ENOENT, "does not exist");
    /* Not every minor version's replication grammar knows a doubled quote in a name (15.18 calls it
     * a syntax error, 15.20 looks for the slot): refused it is by each, and taken for no other. */
    const struct hw_error quoted = failure_of(pg.url, "odd\"" SLOT, TABLES);
    const bool understood = quoted.status == HW_ENOENT &&
                            strstr(quoted.message, "\"odd\"" SLOT "\" does not exist") != NULL;
    ck_assert_msg(understood || (quoted.status == HW_EUNAVAIL &&
                                 strstr(quoted.message, "syntax error") != NULL),
                  "%s: %s", hw_status_name(quoted.status), quoted.message);
    check_failure(plain, SLOT, TABLES, HW_EDENIED, "to start"); /* a WAL sender */
    check_failure(nobody, SLOT, TABLES, HW_EDENIED, "role \"nobody\" does not exist");
    check_failure(elsewhere, SLOT, TABLES, HW_EUNAVAIL, "\"elsewhere\" does not exist");
    check_failure(other, SLOT, TABLES, HW_EUNAVAIL, "was not created in this database");
    wait_until_free(&pg);
    check_failure(pg.url, SLOT, "no schema'", HW_EUNAVAIL, "could not parse value");
    wait_until_free(&pg);

    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    check_failure(pg.url, SLOT, TABLES, HW_ECONFLICT, "is active for PID");
    consumer_close(&c);
    wait_until_free(&pg);

    consumer_init(&c);
    struct cdc_source *source = NULL;
    struct hw_error err;
    ck_assert_int_eq(cdc_pg_open(c.loop,
                                 &(struct cdc_pg_options){
                                     .conninfo = "postgresql://[", .slot = SLOT, .tables = TABLES},
                                 &(struct cdc_handler){0}, &source, &err),
                     HW_EINVAL);
    ck_assert_ptr_null(source);
    consumer_close(&c);

    /* An ordinary role with REPLICATION needs nothing else, until the plug-in is refused. */
    consumer_init(&c);
    consumer_open(&c, repl, start);
    run_until(&c, c.started);
    consumer_close(&c);
    wait_until_free(&pg);
    HW_AUTO_FREE char *known =
        test_sql(&pg, "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'");
    if (strcmp(known, "1") == 0) {
        free(test_sql(&pg, "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput'"));
        free(test_sql(&pg, "SELECT pg_reload_conf()"));
        test_wait_for(is_true(&pg, "SELECT current_setting('output_plugin_libraries') = "
                                   "'pgoutput'"),
                      30);
        check_failure(repl, SLOT, TABLES, HW_EDENIED,
                      "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding', "
                      "'wal2json'");
    }
    test_postgres_remove(&pg);
}
END_TEST

/* ---- headwater-cdc ---- */

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct hw_error err;
    if (hw_json_parse_object(text, strlen(text), &value, &err) != HW_OK)
        ck_abort_msg("%s: %s", err.message, text);
    return value;
}

/* Runs preflight for a role, checks its exit status, and gives the checks as "name text" lines of
 * what failed. */
static char *failed_checks(const struct test_postgres *pg, const char *role, const char *tables)
{
    HW_AUTO_FREE char *url = hw_sprintf("postgresql://%s@127.0.0.1:%d/headwater", role, pg->port);
    char *output;
    const int status =
        test_program_run((const char *[]){"headwater-cdc", "preflight", "--json", "--database", url,
                                          "--slot", SLOT, "--tables", tables, NULL},
                         NULL, NULL, &output);
    HW_AUTO_JSON json_t *answer = parse(output);
    free(output);
    struct hw_buf failed = {0};
    size_t i;
    json_t *check;
    json_array_foreach(json_object_get(answer, "checks"), i, check) {
        if (json_is_false(json_object_get(check, "ok")))
            hw_buf_printf(&failed, "%s: %s\n", json_string_value(json_object_get(check, "name")),
                          json_string_value(json_object_get(check, "text")));
    }
    ck_assert_int_eq(status, failed.len > 0 ? 1 : 0);
    ck_assert_int_eq(json_is_true(json_object_get(answer, "ok")), failed.len == 0);
    hw_buf_puts(&failed, "");
    return failed.data;
}

#define check_preflight(pg, role, tables, text)                                                    \
    do {                                                                                           \
        HW_AUTO_FREE char *failed_ = failed_checks(pg, role, tables);                              \
        ck_assert_msg((text)[0] == '\0' ? failed_[0] == '\0' : strstr(failed_, (text)) != NULL,    \
                      "%s", failed_);                                                              \
    } while (0)

START_TEST(test_preflight)
{
    struct test_postgres pg;
    start_postgres(&pg, "log_min_messages = fatal");
    free(test_sql(&pg, "CREATE ROLE plain LOGIN; CREATE ROLE repl LOGIN REPLICATION;"
                       "CREATE TABLE headwater.keyless (a int)"));
    check_preflight(&pg, "postgres", TABLES, "");
    check_preflight(&pg, "repl", " headwater.item , headwater.note", "");
    check_preflight(&pg, "repl", "*.item,headwater.note", "");
    check_preflight(&pg, "nobody", TABLES, "connection: connecting to the database");
    check_preflight(&pg, "plain", TABLES, "role: the role plain may not replicate");
    check_preflight(&pg, "repl", TABLES ",headwater.itme,nowhere.item",
                    "tables: not in this database: headwater.itme, nowhere.item.");
    check_preflight(&pg, "repl", TABLES ",headwater.keyless",
                    "tables: no replica identity: headwater.keyless;");
    free(test_sql(&pg, "ALTER TABLE headwater.keyless REPLICA IDENTITY FULL"));
    check_preflight(&pg, "repl", TABLES ",headwater.keyless", "");

    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" SLOT "')"));
    check_preflight(&pg, "repl", TABLES, "");
    free(test_sql(&pg, "SELECT pg_create_logical_replication_slot('" SLOT "', 'test_decoding')"));
    check_preflight(&pg, "repl", TABLES, "slot: the slot \"headwater\" belongs to the plug-in");
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" SLOT "')"));

    HW_AUTO_FREE char *known =
        test_sql(&pg, "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'");
    if (strcmp(known, "1") == 0) {
        free(test_sql(&pg, "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput, wal2json'"));
        free(test_sql(&pg, "SELECT pg_reload_conf()"));
        test_wait_for(is_true(&pg, "SELECT current_setting('output_plugin_libraries') = "
                                   "'\"pgoutput, wal2json\"'"),
                      30);
        check_preflight(&pg, "postgres", TABLES, "plug-in: output_plugin_libraries does not list");
        /* Who may not read the setting learns it from the trial. */
        check_preflight(&pg, "repl", TABLES, "trial: slot headwater_preflight_");
        check_preflight(&pg, "repl", TABLES, "'pgoutput', 'test_decoding', 'wal2json'");
        free(test_sql(&pg, "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'wal2json'"));
        free(test_sql(&pg, "SELECT pg_reload_conf()"));
        test_wait_for(is_true(&pg, "SELECT current_setting('output_plugin_libraries') = "
                                   "'pgoutput, wal2json'"),
                      30);
        check_preflight(&pg, "postgres", TABLES, "");
    }

    free(test_sql(&pg, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"));
    HW_AUTO_FREE char *latin = hw_sprintf("postgresql://postgres@127.0.0.1:%d/latin", pg.port);
    char *output;
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-cdc", "preflight", "--database", latin, NULL},
                         NULL, NULL, &output),
        1);
    ck_assert_ptr_nonnull(strstr(output, "FAIL  encoding   the database is not encoded in UTF8"));
    ck_assert_ptr_nonnull(strstr(output, "ok    wal_level  logical"));
    free(output);

    free(test_sql(&pg, "ALTER SYSTEM SET wal_level = replica"));
    test_postgres_restart(&pg);
    check_preflight(&pg, "postgres", TABLES, "wal_level: it is \"replica\"");
    check_preflight(&pg, "postgres", TABLES, "ALTER SYSTEM SET wal_level = 'logical'");
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_status)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, "max_slot_wal_keep_size = 64MB");
    const char *const argv[] = {"headwater-cdc", "status", "--json", "--database",
                                pg.url,          "--slot", SLOT,     NULL};
    const char *const plain[] = {"headwater-cdc", "status", "--database", pg.url,
                                 "--slot",        SLOT,     NULL};
    struct consumer c;
    consumer_init(&c);
    consumer_open(&c, pg.url, start);
    run_until(&c, c.started);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (1)"));
    run_until(&c, c.commits >= 1);
    cdc_source_confirm(c.source, c.last);
    run_until(&c, confirmed(&pg) >= c.last);

    char *output;
    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &output), 0);
    json_t *status = parse(output), *stream = json_object_get(status, "stream");
    free(output);
    hw_lsn lsn = HW_LSN_NONE;
    const char *text = json_string_value(json_object_get(status, "confirmed_lsn"));
    ck_assert_int_eq(hw_lsn_parse(text, &lsn, NULL), HW_OK);
    ck_assert(lsn >= c.last);
    ck_assert(json_is_true(json_object_get(status, "active")));
    ck_assert_str_eq(json_string_value(json_object_get(status, "wal_status")), "reserved");
    ck_assert_int_gt(json_integer_value(json_object_get(status, "safe_wal_bytes")), 0);
    ck_assert_int_gt(json_integer_value(json_object_get(status, "retained_bytes")), 0);
    ck_assert_str_eq(json_string_value(json_object_get(stream, "application")), "headwater");
    json_decref(status);
    ck_assert_int_eq(test_program_run(plain, NULL, NULL, &output), 0);
    ck_assert_ptr_nonnull(strstr(output, "stream     to headwater of postgres at 127.0.0.1"));
    free(output);
    consumer_close(&c);
    wait_until_free(&pg);

    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" SLOT "')"));
    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &output), 1);
    status = parse(output);
    free(output);
    ck_assert(json_is_false(json_object_get(status, "exists")));
    json_decref(status);
    test_postgres_remove(&pg);
}
END_TEST

/* How many lines it has written so far. */
static int lines_of(const struct test_program *p)
{
    HW_AUTO_FREE char *text = NULL;
    size_t len;
    int lines = 0;
    if (hw_file_read(p->log, 1 << 20, &text, &len, NULL) != HW_OK)
        return 0;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    return lines;
}

START_TEST(test_tail)
{
    struct test_postgres pg;
    start_postgres(&pg, NULL);
    const hw_lsn before = confirmed(&pg);
    struct test_program tail;
    test_program_start(&tail,
                       (const char *[]){"headwater-cdc", "tail", "--database", pg.url, "--tables",
                                        TABLES, "--log-level", "error", NULL},
                       (const char *[]){"HEADWATER_SLOT=" SLOT, NULL});
    test_wait_for(is_true(&pg, "SELECT count(*) = 1 FROM pg_stat_replication WHERE "
                               "application_name = 'headwater-cdc' AND state = 'streaming'"),
                  30);
    write_first_transaction(&pg);
    free(test_sql(&pg, "INSERT INTO headwater.unpublished VALUES (9)"));
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (9)"));
    test_wait_for(lines_of(&tail) == 2, 30);
    /* Its own slot keeps no WAL; and it goes with it. */
    test_wait_for(is_true(&pg, "SELECT bool_and(confirmed_flush_lsn >= pg_current_wal_lsn()) "
                               "FROM pg_replication_slots WHERE temporary"),
                  30);
    ck_assert_int_eq(test_program_stop(&tail, SIGTERM), 0);
    test_wait_for(is_true(&pg, "SELECT count(*) = 1 FROM pg_replication_slots"), 30);

    HW_AUTO_FREE char *text = NULL;
    size_t len;
    ck_assert_int_eq(hw_file_read(tail.log, 1 << 20, &text, &len, NULL), HW_OK);
    char *second = strchr(text, '\n') + 1;
    second[-1] = '\0';
    HW_AUTO_JSON json_t *transaction = parse(text);
    ck_assert_uint_eq(json_object_size(transaction), 4);
    json_t *changes = json_object_get(transaction, "changes");
    ck_assert_uint_eq(json_array_size(changes), 7);
    HW_AUTO_FREE char *insert = hw_json_dump(json_array_get(changes, 0));
    ck_assert_str_eq(insert, "{\"action\":\"insert\",\"schema\":\"headwater\",\"table\":\"item\","
                             "\"columns\":{\"id\":1,\"text\":\"é\\\"\\\\\\n\","
                             "\"n\":9007199254740993}}");
    HW_AUTO_FREE char *message = hw_json_dump(json_array_get(changes, 3));
    ck_assert_str_eq(message, "{\"action\":\"message\",\"prefix\":\"headwater\","
                              "\"content\":\"resync \\\"all\\\"\"}");
    HW_AUTO_JSON json_t *next = parse(second);
    ck_assert_int_gt(json_integer_value(json_object_get(next, "xid")), 0);

    /* The named slot was not touched, and is not by those who look into it. */
    HW_AUTO_FREE char *from = hw_strdup(json_string_value(json_object_get(transaction, "lsn")));
    char *output;
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-cdc", "tail", "--database", pg.url, "--tables",
                                          TABLES, "--log-level", "error", "--slot", SLOT, "-n", "1",
                                          "--from", from, NULL},
                         NULL, NULL, &output),
        0);
    ck_assert_str_eq(output, second);
    free(output);
    ck_assert_uint_eq(confirmed(&pg), before);

    /* A reader that has enough ends it, and that is no failure. */
    free(test_sql(&pg, "INSERT INTO headwater.note SELECT g, repeat('x', 1000) "
                       "FROM generate_series(1, 1000) g"));
    HW_AUTO_FREE char *script =
        hw_sprintf("{ ${HW_BUILD_DIR:-build}/headwater-cdc tail --slot %s --database %s "
                   "--tables %s --log-level error; echo status $? >&2; } | head -c 10",
                   SLOT, pg.url, TABLES);
    wait_until_free(&pg);
    ck_assert_int_eq(
        test_program_run((const char *[]){"sh", "-c", script, NULL}, NULL, NULL, &output), 0);
    ck_assert_msg(strstr(output, "status 0") != NULL, "%s", output);
    free(output);
    test_postgres_remove(&pg);
}
END_TEST

static void start_tail(struct test_program *tail, const struct test_postgres *pg,
                       const char *before)
{
    HW_AUTO_FREE char *command =
        hw_sprintf("%s exec ${HW_BUILD_DIR:-build}/headwater-cdc tail --database %s --tables %s "
                   "--log-level error",
                   before, pg->url, TABLES);

    test_program_start(tail, (const char *[]){"sh", "-c", command, NULL}, NULL);
    test_wait_for(is_true(pg, "SELECT count(*) = 1 FROM pg_stat_replication WHERE "
                              "application_name = 'headwater-cdc' AND state = 'streaming'"),
                  30);
}

/* A terminal that closes ends it as SIGTERM does; one that was started by nohup goes on. */
START_TEST(test_tail_is_hung_up)
{
    struct test_postgres pg;
    struct test_program tail;
    start_postgres(&pg, NULL);
    start_tail(&tail, &pg, "");
    ck_assert_int_eq(test_program_stop(&tail, SIGHUP), 0);
    test_wait_for(is_true(&pg, "SELECT count(*) = 1 FROM pg_replication_slots"), 30);

    start_tail(&tail, &pg, "trap '' HUP;");
    kill(tail.pid, SIGHUP);
    free(test_sql(&pg, "INSERT INTO headwater.item VALUES (9)"));
    test_wait_for(lines_of(&tail) == 1, 30);
    ck_assert_int_eq(test_program_stop(&tail, SIGTERM), 0);
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_tail_refusals)
{
    struct test_postgres pg;
    const hw_lsn start = start_postgres(&pg, NULL);
    static const struct {
        const char *argument[4];
        int status;
        const char *text;
    } cases[] = {
        {{"--from", "0/1"}, 2, "--from needs --slot"},
        {{"--slot", SLOT, "--from", "x"}, 2, "--from: "},
        {{"--slot", "No!"}, 2, "lower-case"},
        {{"--slot", SLOT, "--from", "0/1"}, 1, "begins behind it"},
        {{"--slot", SLOT, "--from", "FFFF/0"}, 1, "WAL ends before it"},
        {{"--slot", "nowhere"}, 1, "there is no slot"},
        {{"--tables", "headwater.itme"}, 1, "not in this database: headwater.itme"},
        {{"--count", "-1"}, 2, "--count"},
        {{"more"}, 2, "more: not understood"},
        {{"--frob"}, 2, "--frob"},
        {{"--slot", SLOT}, 1, "streams from the slot"}, /* last: it is taken by then */
    };
    struct consumer c;
    consumer_init(&c);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        if (i == HW_COUNT(cases) - 1) {
            consumer_open(&c, pg.url, start);
            run_until(&c, c.started);
        }
        const char *const *a = cases[i].argument;
        char *output;
        const int status =
            test_program_run((const char *[]){"headwater-cdc", "tail", "--database", pg.url,
                                              "--tables", TABLES, a[0], a[1], a[2], a[3], NULL},
                             NULL, NULL, &output);
        ck_assert_msg(status == cases[i].status, "case %zu: %d: %s", i, status, output);
        ck_assert_msg(strstr(output, cases[i].text) != NULL, "case %zu: %s", i, output);
        free(output);
    }
    consumer_close(&c);
    test_postgres_remove(&pg);
}
END_TEST

TEST_MAIN("cdc", 180, test_changes_in_order, test_session_settings,
          test_resumes_from_the_stored_position, test_confirms_what_is_stored_and_no_more,
          test_never_confirms_beyond_the_server, test_large_transaction,
          test_pause_outlives_the_servers_time_out, test_pause_and_close_from_callbacks,
          test_consumers_failure_ends_the_stream, test_server_goes_away, test_refusals,
          test_preflight, test_status, test_tail, test_tail_is_hung_up, test_tail_refusals)
