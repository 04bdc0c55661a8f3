#include <stdlib.h>
#include <string.h>

#include "cdc/archive.h"
#include "cdc/slot.h"
#include "common/memory.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define SLOT    "headwater"
#define ARCHIVE "headwater_archive"
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
        const double until_ = test_now() + 30;                                                     \
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

    /* It never goes beyond what the slot has confirmed. */
    const hw_lsn start = k.state.from;
    write_log(&pg, 30);
    const bool never = false;
    hw_loop_run_until(k.loop, &never, 200);
    ck_assert(slot_lsn(&pg, "confirmed_flush_lsn", ARCHIVE) == start);

    const hw_lsn end = current(&pg);
    free(test_sql(&pg, "SELECT pg_replication_slot_advance('" SLOT "', '%s')", HW_LSN(end)));
    run_until(&k, k.state.from >= end - (hw_lsn)(8 * MIB));
    ck_assert(k.state.from <= end);
    ck_assert_int_eq(k.troubles, 0);
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

TEST_MAIN("cdc_archive", 180, test_retention_by_size, test_lost_slot_is_made_anew)
