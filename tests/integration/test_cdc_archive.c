#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "cdc/archive.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define SLOT    "headwater"
#define ARCHIVE "headwater_archive"
#define TABLES  "headwater.desired,headwater.blob,headwater.changelog"
#define MIB     ((int64_t)1024 * 1024)

/* ---- an archive, and what it told ---- */

struct keeper {
    struct hw_loop *loop;
    struct cdc_archive *archive;
    struct cdc_archive_state state;
    int changes, troubles;
    struct hw_error error; /* of the last trouble */
    bool stop_at_change, stop_at_trouble;
};

static void stop(struct keeper *k)
{
    cdc_archive_stop(k->archive);
    k->archive = NULL;
}

static void on_changed(void *arg, const struct cdc_archive_state *state)
{
    struct keeper *k = arg;
    ck_assert_ptr_nonnull(k->archive);
    k->state = *state;
    k->changes++;
    if (k->stop_at_change)
        stop(k);
}

static void on_trouble(void *arg, const struct hw_error *err)
{
    struct keeper *k = arg;
    ck_assert_ptr_nonnull(k->archive);
    k->error = *err;
    k->troubles++;
    if (k->stop_at_trouble)
        stop(k);
}

static void keeper_start(struct keeper *k, const char *url, int64_t keep_bytes, int64_t keep_ms)
{
    struct hw_error err;
    *k = (struct keeper){0};
    ck_assert_int_eq(hw_loop_new(&k->loop, NULL), HW_OK);
    if (cdc_archive_start(
            k->loop, url,
            &(struct cdc_archive_options){
                .slot = SLOT, .keep_bytes = keep_bytes, .keep_ms = keep_ms, .check_ms = 20},
            &(struct cdc_archive_events){.changed = on_changed, .trouble = on_trouble, .arg = k},
            &k->archive, &err) != HW_OK)
        ck_abort_msg("%s", err.message);
}

static void keeper_stop(struct keeper *k)
{
    cdc_archive_stop(k->archive);
    hw_loop_free(k->loop);
}

#define run_until(k, condition)                                                                    \
    do {                                                                                           \
        const double until_ = test_deadline(60);                                                   \
        while (!(condition)) {                                                                     \
            const bool never_ = false;                                                             \
            if (test_now() > until_)                                                               \
                ck_abort_msg("timed out waiting for: " #condition "; %s", (k)->error.message);     \
            hw_loop_run_until((k)->loop, &never_, 10);                                             \
        }                                                                                          \
    } while (0)

/* ---- the database's side ---- */

static bool is_true(const struct test_postgres *pg, const char *sql)
{
    HW_AUTO_FREE char *value = test_sql(pg, "%s", sql);
    return value != NULL && strcmp(value, "t") == 0;
}

static hw_lsn lsn_of(const struct test_postgres *pg, const char *sql)
{
    HW_AUTO_FREE char *text = test_sql(pg, "%s", sql);
    hw_lsn lsn = HW_LSN_NONE;
    ck_assert_msg(text != NULL && hw_lsn_parse(text, &lsn, NULL) == HW_OK, "%s", sql);
    return lsn;
}

static hw_lsn slot_lsn(const struct test_postgres *pg, const char *column, const char *slot)
{
    HW_AUTO_FREE char *sql =
        hw_sprintf("SELECT %s FROM pg_replication_slots WHERE slot_name = '%s'", column, slot);
    return lsn_of(pg, sql);
}

static hw_lsn current(const struct test_postgres *pg)
{
    return lsn_of(pg, "SELECT pg_current_wal_insert_lsn()");
}

/* The main slot has confirmed everything. */
static hw_lsn confirm_all(const struct test_postgres *pg)
{
    const hw_lsn end = current(pg);
    free(test_sql(pg, "SELECT pg_replication_slot_advance('" SLOT "', '%s')", HW_LSN(end)));
    return end;
}

static void make_slot(const struct test_postgres *pg)
{
    free(test_sql(pg, "SELECT pg_create_logical_replication_slot('" SLOT "', 'wal2json')"));
}

/* About so much log that nobody decodes, and a place behind it where decoding may begin. */
static void write_log(const struct test_postgres *pg, int mib)
{
    free(test_sql(pg, "CREATE TABLE IF NOT EXISTS filler (text text)"));
    free(test_sql(pg, "ALTER TABLE filler ALTER text SET STORAGE external"));
    free(test_sql(
        pg, "INSERT INTO filler SELECT repeat('x', 1024 * 1024) FROM generate_series(1, %d)", mib));
    free(test_sql(pg, "CHECKPOINT"));
}

/* ---- keeping the archive slot ---- */

START_TEST(test_retention_by_size)
{
    struct test_postgres pg;
    struct keeper k;
    test_postgres_start(&pg, true, NULL);
    make_slot(&pg);

    keeper_start(&k, pg.reconciler_url, 8 * MIB, 0);
    run_until(&k, k.changes > 0);
    ck_assert(k.state.exists);
    ck_assert(k.state.from == slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE));
    ck_assert(k.state.from == slot_lsn(&pg, "confirmed_flush_lsn", SLOT));

    /* It never goes beyond what the slot has confirmed: there it waits. */
    const hw_lsn start = k.state.from;
    write_log(&pg, 16);
    const hw_lsn middle = confirm_all(&pg);
    write_log(&pg, 30);
    ck_assert(current(&pg) - (hw_lsn)(8 * MIB) > middle);
    run_until(&k, k.state.from >= middle);
    ck_assert(start < middle && k.state.from == middle);

    /* Then by size; and the log before it goes, up to where decoding may begin. */
    const hw_lsn end = confirm_all(&pg);
    run_until(&k, k.state.from >= end - (hw_lsn)(8 * MIB));
    ck_assert(k.state.from < end);
    const hw_lsn restart = slot_lsn(&pg, "restart_lsn", ARCHIVE);
    for (int i = 0; i < 4; i++)
        write_log(&pg, 5);
    confirm_all(&pg);
    run_until(&k, k.state.from > end && k.state.held_bytes < 16 * MIB);
    ck_assert(slot_lsn(&pg, "restart_lsn", ARCHIVE) > restart);
    ck_assert_int_eq(k.troubles, 0);
    keeper_stop(&k);

    /* The next one takes it as it stands. */
    const hw_lsn left = slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE);
    keeper_start(&k, pg.reconciler_url, 1024 * MIB, 0);
    run_until(&k, is_true(&pg, "SELECT true FROM pg_stat_activity WHERE application_name = "
                               "'headwater-reconciler: archive' AND query ~ 'pg_replication_slots' "
                               "AND state = 'idle'"));
    ck_assert(slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE) == left);
    ck_assert_int_eq(k.troubles, 0);
    keeper_stop(&k);
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_retention_by_age)
{
    struct test_postgres pg;
    struct keeper k;
    test_postgres_start(&pg, true, NULL);
    make_slot(&pg);
    keeper_start(&k, pg.reconciler_url, 1024 * MIB, 500);
    run_until(&k, k.changes > 0);

    free(test_sql(&pg, "CREATE TABLE t ()"));
    const hw_lsn end = confirm_all(&pg);
    const double began = test_now();
    run_until(&k, k.state.from >= end);
    ck_assert(test_now() - began >= 0.4); /* what was written is kept for so long */
    ck_assert_int_eq(k.troubles, 0);
    keeper_stop(&k);

    /* None is wanted any more. */
    keeper_start(&k, pg.reconciler_url, 0, 500);
    run_until(&k, k.changes > 0);
    ck_assert(!k.state.exists);
    ck_assert(is_true(&pg, "SELECT string_agg(slot_name, '') = '" SLOT "' "
                           "FROM pg_replication_slots"));
    keeper_stop(&k);
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_lost_slot_is_made_anew)
{
    struct test_postgres pg;
    struct keeper k;
    test_postgres_start(&pg, true, "max_slot_wal_keep_size = 32MB\nlog_min_messages = fatal");
    make_slot(&pg);
    keeper_start(&k, pg.reconciler_url, 1024 * MIB, 0);
    run_until(&k, k.changes > 0);
    const hw_lsn start = k.state.from;
    keeper_stop(&k);

    write_log(&pg, 64);
    free(test_sql(&pg, "SELECT pg_switch_wal()"));
    free(test_sql(&pg, "CHECKPOINT"));
    ck_assert(is_true(&pg, "SELECT wal_status = 'lost' FROM pg_replication_slots "
                           "WHERE slot_name = '" ARCHIVE "'"));
    /* The slot itself is lost as well: the reconciler makes another one. */
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" SLOT "')"));
    make_slot(&pg);
    char *output;
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-cdc", "replay", "--dry-run", "--database",
                                          pg.reconciler_url, "--from", "0/1", NULL},
                         NULL, NULL, &output),
        1);
    ck_assert_msg(strstr(output, "has lost its WAL") != NULL, "%s", output);
    free(output);

    keeper_start(&k, pg.reconciler_url, 1024 * MIB, 0);
    run_until(&k, k.changes >= 2);
    ck_assert_int_eq(k.troubles, 1);
    ck_assert_int_eq(k.error.status, HW_ELIMIT);
    ck_assert_msg(strstr(k.error.message, "max_slot_wal_keep_size") != NULL, "%s", k.error.message);
    ck_assert(k.state.exists);
    ck_assert(k.state.from > start);
    ck_assert(k.state.from == slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE));
    keeper_stop(&k);
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_troubles)
{
    struct test_postgres pg;
    struct keeper k;
    struct hw_error err;
    test_postgres_start(&pg, true, "max_replication_slots = 2\nlog_min_messages = fatal");

    /* Nothing to follow yet: told once, and then it is there. */
    keeper_start(&k, pg.reconciler_url, MIB, 0);
    run_until(&k, k.troubles > 0);
    ck_assert_int_eq(k.error.status, HW_ENOENT);
    free(test_sql(&pg, "SELECT pg_create_logical_replication_slot('other', 'test_decoding')"));
    make_slot(&pg);
    run_until(&k, k.troubles > 1);
    ck_assert_int_eq(k.error.status, HW_ELIMIT);
    ck_assert_msg(strstr(k.error.message, "all replication slots are in use") != NULL, "%s",
                  k.error.message);
    ck_assert_ptr_nonnull(strstr(k.error.message, ARCHIVE));
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('other')"));
    run_until(&k, k.changes > 0);
    ck_assert_int_eq(k.troubles, 2);

    /* A database that goes away and comes back. */
    test_postgres_kill(&pg);
    run_until(&k, k.troubles > 2);
    ck_assert_int_eq(k.error.status, HW_EUNAVAIL);
    test_postgres_restart(&pg);
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" ARCHIVE "')"));
    run_until(&k, k.changes > 1);

    /* Somebody else's slot is left alone. */
    keeper_stop(&k);
    test_wait_for(is_true(&pg, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = "
                               "'headwater-reconciler: archive'"),
                  30);
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" ARCHIVE "')"));
    free(
        test_sql(&pg, "SELECT pg_create_logical_replication_slot('" ARCHIVE "', 'test_decoding')"));
    keeper_start(&k, pg.reconciler_url, 0, 0);
    k.stop_at_trouble = true;
    run_until(&k, k.troubles > 0);
    ck_assert_int_eq(k.error.status, HW_EINVAL);
    ck_assert_ptr_null(k.archive);
    keeper_stop(&k);
    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" ARCHIVE "')"));

    keeper_start(&k, pg.reconciler_url, MIB, 0);
    k.stop_at_change = true;
    run_until(&k, k.changes > 0);
    ck_assert_ptr_null(k.archive);
    keeper_stop(&k);

    /* At once, before anything has come of it; and a name that leaves no room for "_archive". */
    keeper_start(&k, pg.reconciler_url, MIB, 0);
    keeper_stop(&k);
    struct cdc_archive *archive = NULL;
    ck_assert_int_eq(cdc_archive_start(NULL, pg.url,
                                       &(struct cdc_archive_options){
                                           .slot = "a23456789_123456789_123456789_123456789_"
                                                   "123456789_123456"},
                                       &(struct cdc_archive_events){0}, &archive, &err),
                     HW_EINVAL);
    ck_assert_ptr_null(archive);
    test_postgres_remove(&pg);
}
END_TEST

/* ---- streaming from a copy ---- */

struct reader {
    struct hw_loop *loop;
    struct cdc_source *source;
    struct hw_buf log;
    bool confirms; /* what it was told, at once */
    bool failed, started;
    struct hw_error error;
    hw_lsn first, last, progress;
};

static enum hw_status read_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct reader *r = arg;
    hw_buf_printf(&r->log, "begin %u %s %s\n", tx->xid, HW_LSN(tx->lsn), tx->committed_at);
    if (r->first == HW_LSN_NONE)
        r->first = tx->lsn;
    return HW_OK;
}

static enum hw_status read_change(void *arg, const struct cdc_transaction *tx,
                                  const struct cdc_change *change, struct hw_error *err)
{
    (void)tx, (void)err;
    struct reader *r = arg;
    hw_buf_printf(&r->log, "%s", cdc_action_name(change->action));
    if (change->action == CDC_MESSAGE) {
        hw_buf_printf(&r->log, " %.*s\n", (int)change->content_len, change->content);
        return HW_OK;
    }
    hw_buf_printf(&r->log, " %s", change->table);
    for (int i = 0; i < 2; i++) {
        const struct cdc_row *row = i == 0 ? change->columns : change->identity;
        HW_AUTO_JSON json_t *object = row != NULL ? cdc_row_json(row) : NULL;
        HW_AUTO_FREE char *text = json_dumps(object, JSON_COMPACT);
        hw_buf_printf(&r->log, " %s", text != NULL ? text : "-");
    }
    hw_buf_putc(&r->log, '\n');
    return HW_OK;
}

static enum hw_status read_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct reader *r = arg;
    r->last = tx->lsn;
    if (r->confirms)
        cdc_source_confirm(r->source, tx->lsn);
    return HW_OK;
}

static void read_started(void *arg)
{
    struct reader *r = arg;
    r->started = true;
}

static void read_progress(void *arg, hw_lsn position)
{
    struct reader *r = arg;
    r->progress = position;
    if (r->confirms)
        cdc_source_confirm(r->source, position);
}

static void read_failed(void *arg, const struct hw_error *err)
{
    struct reader *r = arg;
    r->error = *err;
    r->failed = true;
}

/* From a temporary copy of the archive slot, or from the slot itself. */
static void reader_open(struct reader *r, const char *url, const char *copy, hw_lsn start,
                        const char *application)
{
    HW_AUTO_FREE char *prepare = copy != NULL ? cdc_slot_copy_sql(ARCHIVE, copy) : NULL;
    struct hw_error err;
    if (r->loop == NULL)
        ck_assert_int_eq(hw_loop_new(&r->loop, NULL), HW_OK);
    if (cdc_pg_open(r->loop,
                    &(struct cdc_pg_options){.conninfo = url,
                                             .slot = copy != NULL ? copy : SLOT,
                                             .start = start,
                                             .tables = TABLES,
                                             .message_prefix = "headwater",
                                             .status_interval_ms = 50,
                                             .application_name = application,
                                             .prepare = prepare},
                    &(struct cdc_handler){.begin = read_begin,
                                          .change = read_change,
                                          .commit = read_commit,
                                          .started = read_started,
                                          .progress = read_progress,
                                          .failed = read_failed,
                                          .arg = r},
                    &r->source, &err) != HW_OK)
        ck_abort_msg("%s", err.message);
}

static void reader_close(struct reader *r)
{
    cdc_source_close(r->source);
    hw_loop_free(r->loop);
    hw_buf_free(&r->log);
}

/* All of a copy, from start to end, as text. */
static char *read_copy(const struct test_postgres *pg, const char *copy, hw_lsn start, hw_lsn end,
                       bool confirms)
{
    struct reader r = {.confirms = confirms};
    reader_open(&r, pg->reconciler_url, copy, start, NULL);
    run_until(&r, r.failed || r.last >= end || r.progress >= end);
    ck_assert_msg(!r.failed, "%s", r.error.message);
    char *text = hw_strdup(hw_buf_str(&r.log));
    reader_close(&r);
    /* The copy's name is free again a little later. */
    test_wait_for(is_true(pg, "SELECT count(*) = 0 FROM pg_replication_slots WHERE temporary"), 30);
    return text;
}

/* Two nodes, one of them removed in the end, and three documents: what the counts below are of.
 * Gives where each of the transactions ends. */
#define STEPS 5
static void write_fleet(const struct test_postgres *pg, hw_lsn ends[static STEPS])
{
    static const char *const steps[STEPS] = {
        "INSERT INTO headwater.node (name) VALUES ('n1'), ('n2')",
        "INSERT INTO headwater.config (name, content) VALUES ('base', '{\"rate\":1}')",
        "INSERT INTO headwater.assignment (name, config, selector) VALUES ('all', 'base', '{}')",
        "UPDATE headwater.config SET content = '{\"rate\":2}'",
        "DELETE FROM headwater.node WHERE name = 'n2'",
    };
    for (int i = 0; i < STEPS; i++) {
        free(test_sql(pg, "%s", steps[i]));
        ends[i] = lsn_of(pg, "SELECT pg_current_wal_flush_lsn()");
    }
}

/* A server with a slot, its archive, and a fleet that the slot has confirmed; gives where the
 * archive begins. */
static hw_lsn start_with_archive(struct test_postgres *pg, hw_lsn ends[static STEPS])
{
    struct keeper k;
    test_postgres_start(pg, true, "log_min_messages = fatal\nautovacuum = off");
    make_slot(pg);
    keeper_start(&k, pg->reconciler_url, 1024 * MIB, 0);
    run_until(&k, k.changes > 0);
    keeper_stop(&k);
    write_fleet(pg, ends);
    confirm_all(pg);
    return k.state.from;
}

START_TEST(test_copies_stream_the_same)
{
    struct test_postgres pg;
    hw_lsn ends[STEPS];
    const hw_lsn start = start_with_archive(&pg, ends);
    const hw_lsn end = ends[STEPS - 1];
    free(test_sql(&pg, "CHECKPOINT"));

    HW_AUTO_FREE char *first = read_copy(&pg, "copy_a", start, end, true);
    HW_AUTO_FREE char *second = read_copy(&pg, "copy_b", start, end, false);
    ck_assert_str_eq(first, second);
    ck_assert_ptr_nonnull(strstr(first, "delete desired - {\"node\":\"n2\"}"));
    ck_assert_ptr_nonnull(strstr(first, "insert changelog"));
    ck_assert(slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE) == start);

    /* From a position within, it is the rest. */
    HW_AUTO_FREE char *rest = read_copy(&pg, "copy_a", ends[2], end, true);
    ck_assert_uint_gt(strlen(rest), 0);
    ck_assert_uint_lt(strlen(rest), strlen(first));
    ck_assert_ptr_nonnull(strstr(first, rest));
    HW_AUTO_FREE char *end_of_third = hw_sprintf("%s", HW_LSN(ends[2]));
    ck_assert_ptr_null(strstr(rest, end_of_third));

    /* And over a restart of the server. */
    test_postgres_stop(&pg);
    test_postgres_restart(&pg);
    HW_AUTO_FREE char *later = read_copy(&pg, "copy_a", start, end, false);
    ck_assert_msg(strncmp(later, first, strlen(first)) == 0, "%s\n---\n%s", first, later);
    test_wait_for(is_true(&pg, "SELECT count(*) = 2 FROM pg_replication_slots"), 30);
    test_postgres_remove(&pg);
}
END_TEST

/* ---- headwater-cdc ---- */

static char *cdc(const struct test_postgres *pg, int status, const char *const arguments[])
{
    const char *argv[16] = {"headwater-cdc", arguments[0], "--database", pg->reconciler_url};
    char *output;
    for (int i = 1; arguments[i] != NULL; i++)
        argv[3 + i] = arguments[i];
    const int exit_status = test_program_run(argv, NULL, NULL, &output);
    ck_assert_msg(exit_status == status, "%s %s: %d: %s", arguments[0], arguments[1], exit_status,
                  output);
    return output;
}
#define CDC(pg, status, ...) cdc(pg, status, (const char *const[]){__VA_ARGS__, NULL})

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct hw_error err;
    const char *object = strchr(text, '{');
    ck_assert_msg(object != NULL &&
                      hw_json_parse_object(object, strlen(object), &value, &err) == HW_OK,
                  "%s", text);
    return value;
}

static void check_counts(const char *text, const char *expected)
{
    HW_AUTO_JSON json_t *root = parse(text);
    static const char *const names[] = {"transactions", "changes", "nodes", "objects"};
    struct hw_buf counts = {0};
    for (size_t i = 0; i < HW_COUNT(names); i++)
        hw_buf_printf(&counts, "%lld ",
                      (long long)json_integer_value(json_object_get(root, names[i])));
    HW_AUTO_FREE char *node_names = json_dumps(json_object_get(root, "node_names"), JSON_COMPACT);
    hw_buf_puts(&counts, node_names);
    ck_assert_msg(strcmp(hw_buf_str(&counts), expected) == 0, "%s: %s", hw_buf_str(&counts), text);
    hw_buf_free(&counts);
}

/* When the transaction with this rev began: before its commit, and behind that of the one before.
 */
static char *time_of(const struct test_postgres *pg, int rev, const char *format)
{
    return test_sql(pg,
                    "SELECT to_char(at AT TIME ZONE 'UTC', '%s') FROM headwater.changelog "
                    "WHERE rev = %d",
                    format, rev);
}

#define EVERYTHING "5 12 2 2 [\"n1\",\"n2\"]"
#define RFC3339    "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\""

START_TEST(test_dry_run)
{
    struct test_postgres pg;
    hw_lsn ends[STEPS];
    const hw_lsn start = start_with_archive(&pg, ends);
    HW_AUTO_FREE char *third = time_of(&pg, 3, RFC3339);
    HW_AUTO_FREE char *fourth = time_of(&pg, 4, "Mon DD YYYY HH24:MI:SS.US +00");
    const char *const begin = HW_LSN(start);
    /* Each has a row of changelog; the third one and the fourth one entries for both nodes and
     * their document as well; with the fifth one an entry goes. */
    const struct {
        const char *from, *to, *expected;
    } cases[] = {
        {begin, HW_LSN(ends[4]), EVERYTHING},
        {begin, HW_LSN(ends[0]), "1 1 0 0 []"},
        {HW_LSN(ends[0]), HW_LSN(ends[1]), "1 1 0 0 []"},
        {HW_LSN(ends[3]), HW_LSN(ends[4]), "1 2 1 0 [\"n2\"]"},
        {begin, begin, "0 0 0 0 []"},
        {HW_LSN(ends[4]), HW_LSN(ends[4]), "0 0 0 0 []"},
        {third, HW_LSN(ends[4]), "3 10 2 2 [\"n1\",\"n2\"]"},
        {third, fourth, "1 4 2 1 [\"n1\",\"n2\"]"},
        {begin, third, "2 2 0 0 []"},
        {third, "tomorrow", "3 10 2 2 [\"n1\",\"n2\"]"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *output = CDC(&pg, 0, "replay", "--dry-run", "--json", "--from",
                                        cases[i].from, "--to", cases[i].to);
        check_counts(output, cases[i].expected);
    }

    /* Without an end: to the end of the log. For people; and nothing is left behind. */
    HW_AUTO_FREE char *all = CDC(&pg, 0, "replay", "--dry-run", "--json", "--from", begin);
    check_counts(all, EVERYTHING);
    HW_AUTO_JSON json_t *root = parse(all);
    const char *first, *last, *committed_at;
    struct hw_error err;
    ck_assert_int_eq(hw_json_unpack(root, &err, "{s:{s:s}, s:{s:s, s:s}}", "first", "lsn", &first,
                                    "last", "lsn", &last, "committed_at", &committed_at),
                     HW_OK);
    ck_assert_str_eq(first, HW_LSN(ends[0]));
    ck_assert_str_eq(last, HW_LSN(ends[4]));
    ck_assert_int_gt(strcmp(committed_at, third), 0);
    HW_AUTO_FREE char *text = CDC(&pg, 0, "replay", "--dry-run", "--from", begin);
    ck_assert_msg(strstr(text, "5 with 12 changes") != NULL, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, committed_at));
    ck_assert(slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE) == start);
    test_wait_for(is_true(&pg, "SELECT count(*) = 2 FROM pg_replication_slots"), 30);

    HW_AUTO_FREE char *status = CDC(&pg, 0, "status");
    HW_AUTO_FREE char *line = hw_sprintf("archive    " ARCHIVE ", from %s, ", begin);
    ck_assert_msg(strstr(status, line) != NULL, "%s", status);
    HW_AUTO_FREE char *status_json = CDC(&pg, 0, "status", "--json");
    HW_AUTO_JSON json_t *root_of_status = parse(status_json);
    const char *slot, *from, *wal_status;
    json_int_t bytes;
    ck_assert_int_eq(hw_json_unpack(root_of_status, &err, "{s:{s:s, s:s, s:I, s:s}}", "archive",
                                    "slot", &slot, "from_lsn", &from, "retained_bytes", &bytes,
                                    "wal_status", &wal_status),
                     HW_OK);
    ck_assert_str_eq(slot, ARCHIVE);
    ck_assert_str_eq(from, begin);
    ck_assert_str_eq(wal_status, "reserved");
    ck_assert_int_gt(bytes, (json_int_t)(ends[4] - start));
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_replay_refusals)
{
    struct test_postgres pg;
    hw_lsn ends[STEPS];
    const hw_lsn start = start_with_archive(&pg, ends);
    const char *const begin = HW_LSN(start), *const end = HW_LSN(ends[STEPS - 1]);
    HW_AUTO_FREE char *first = time_of(&pg, 1, RFC3339);
    HW_AUTO_FREE char *reach = hw_sprintf("reaches back to %s only", begin);
    const struct {
        const char *from, *to; /* to NULL: not given */
        int status;
        const char *text;
    } cases[] = {
        {"0/1", NULL, 1, reach},
        {"0/1", NULL, 1, "headwater.resync() compares everything instead"},
        {HW_LSN(start - 1), end, 1, reach},
        {first, NULL, 1, reach},
        {"1999-01-01T00:00:00Z", NULL, 1, reach},
        {"0/0", NULL, 1, "not a position"},
        {"FFFF/0", NULL, 1, "WAL ends before it"},
        {begin, "FFFF/0", 1, "WAL ends before it"},
        {end, begin, 1, "it is before --from"},
        {"2020-01-02", "2020-01-01", 1, "it is before --from"},
        {begin, "2020-01-01", 1, "nothing behind --from"},
        {"tomorrow", NULL, 1, "nothing was committed then or later"},
        {"infinity", NULL, 1, "not a point in time"},
        {begin, "the day after", 1, "--to: neither an LSN nor a time"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        for (int dry = 0; dry < 2; dry++) {
            const char *to[] = {cases[i].to != NULL ? "--to" : NULL, cases[i].to};
            HW_AUTO_FREE char *output =
                CDC(&pg, cases[i].status, "replay", dry ? "--dry-run" : "--json", "--from",
                    cases[i].from, to[0], to[1]);
            ck_assert_msg(strstr(output, cases[i].text) != NULL, "case %zu: %s", i, output);
        }
    HW_AUTO_FREE char *usage = CDC(&pg, 2, "replay");
    ck_assert_msg(strstr(usage, "replay needs --from") != NULL, "%s", usage);
    /* None of them left a command in the log. */
    HW_AUTO_FREE char *log = read_copy(&pg, "copy", start, current(&pg), true);
    ck_assert_ptr_null(strstr(log, "message {"));

    free(test_sql(&pg, "SELECT pg_drop_replication_slot('" ARCHIVE "')"));
    HW_AUTO_FREE char *output = CDC(&pg, 1, "replay", "--from", begin);
    ck_assert_msg(strstr(output, "there is no archive slot " ARCHIVE) != NULL, "%s", output);
    HW_AUTO_FREE char *status = CDC(&pg, 0, "status");
    ck_assert_msg(strstr(status, "archive    there is none") != NULL, "%s", status);
    HW_AUTO_FREE char *status_json = CDC(&pg, 0, "status", "--json");
    ck_assert_msg(strstr(status_json, "\"archive\":null") != NULL, "%s", status_json);
    test_postgres_remove(&pg);
}
END_TEST

static void replay_start(struct test_program *p, const struct test_postgres *pg, hw_lsn from,
                         hw_lsn to)
{
    test_program_start(p,
                       (const char *[]){"headwater-cdc", "replay", "--database", pg->reconciler_url,
                                        "--from", HW_LSN(from), to != HW_LSN_NONE ? "--to" : NULL,
                                        HW_LSN(to), NULL},
                       NULL);
}

static bool says(const struct test_program *p, const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(p->log);
    return strstr(log, text) != NULL;
}

static void expect_end(struct test_program *p, int signo, int exit_status, const char *text)
{
    const int status = test_program_stop(p, signo);
    HW_AUTO_FREE char *log = test_read_file(p->log);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == exit_status, "%s", log);
    ck_assert_msg(strstr(log, text) != NULL, "%s", log);
}

/* What the command sees of a leader: its two connections, and what it confirms. */
START_TEST(test_follows_the_reconciler)
{
    struct test_postgres pg;
    hw_lsn ends[STEPS];
    const hw_lsn start = start_with_archive(&pg, ends);
    const hw_lsn confirmed = slot_lsn(&pg, "confirmed_flush_lsn", SLOT);
    struct test_program p;
    struct reader leader = {0};
    reader_open(&leader, pg.reconciler_url, NULL, confirmed, "headwater-reconciler: stream");
    run_until(&leader, leader.started);

    replay_start(&p, &pg, start, ends[2]);
    HW_AUTO_FREE char *command = hw_sprintf("{\"command\":\"replay\",\"from\":\"%s\",\"to\":"
                                            "\"%s\"}",
                                            HW_LSN(start), HW_LSN(ends[2]));
    run_until(&leader, strstr(hw_buf_str(&leader.log), command) != NULL);
    struct reader replay = {.loop = leader.loop, .confirms = true};
    reader_open(&replay, pg.reconciler_url, "copy", start, "headwater-reconciler: replay");
    run_until(&leader, replay.last >= ends[2]);
    run_until(&leader, says(&p, "replaying: "));
    ck_assert(test_program_running(&p));

    /* The replay's end alone is not the command's: a leader may have gone down in between. */
    cdc_source_close(replay.source);
    hw_buf_free(&replay.log);
    test_wait_for(is_true(&pg, "SELECT count(*) = 1 FROM pg_stat_replication"), 30);
    const bool never = false;
    hw_loop_run_until(leader.loop, &never, 1500);
    ck_assert(test_program_running(&p));
    leader.confirms = true;
    cdc_source_confirm(leader.source, leader.last);
    run_until(&leader, !test_program_running(&p));
    HW_AUTO_FREE char *summary = hw_sprintf("replayed %s to %s, ", HW_LSN(start), HW_LSN(ends[2]));
    expect_end(&p, 0, 0, summary);

    /* A replay that is over before anybody looks. */
    replay_start(&p, &pg, start, HW_LSN_NONE);
    run_until(&leader, !test_program_running(&p));
    ck_assert_ptr_nonnull(strstr(hw_buf_str(&leader.log), "\"to\":null}"));
    expect_end(&p, 0, 0, "replayed ");
    reader_close(&leader);
    test_postgres_remove(&pg);
}
END_TEST

START_TEST(test_follows_without_a_reconciler)
{
    struct test_postgres pg;
    hw_lsn ends[STEPS];
    const hw_lsn start = start_with_archive(&pg, ends);
    struct test_program p;
    replay_start(&p, &pg, start, HW_LSN_NONE);
    test_wait_for(says(&p, "waiting for a reconciler to lead"), 30);
    expect_end(&p, SIGINT, 1, "the command stays in the log, at ");

    replay_start(&p, &pg, start, HW_LSN_NONE);
    test_wait_for(!test_program_running(&p), 30);
    expect_end(&p, 0, 1, "no reconciler leads; the command waits in the log");

    HW_AUTO_FREE char *log = read_copy(&pg, "copy", ends[4], current(&pg), true);
    ck_assert_ptr_nonnull(strstr(log, "message {"));
    test_postgres_remove(&pg);
}
END_TEST

TEST_MAIN("cdc_archive", 180, test_retention_by_size, test_retention_by_age,
          test_lost_slot_is_made_anew, test_troubles, test_copies_stream_the_same, test_dry_run,
          test_replay_refusals, test_follows_the_reconciler, test_follows_without_a_reconciler)
