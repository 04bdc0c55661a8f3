/*
 * Positions and revisions across histories: rows that came from another server, and reports about
 * a history that was lost.
 */
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

/* As a dump from another server would have brought them: what there is now was made on server 1, at
 * positions that are ahead of this one. */
static void come_from_another_server(void)
{
    static const char *const tables[] = {"epoch", "desired_history", "reported_history"};

    for (size_t i = 0; i < HW_COUNT(tables); i++)
        RUN("ALTER TABLE %s DISABLE TRIGGER is_kept", tables[i]);
    RUN("UPDATE epoch SET system_id = 1");
    RUN("UPDATE desired_history SET wal_lsn = 'FFFF/0'");
    RUN("UPDATE reported_history SET wal_lsn = 'FFFF/0'");
    for (size_t i = 0; i < HW_COUNT(tables); i++)
        RUN("ALTER TABLE %s ENABLE ALWAYS TRIGGER is_kept", tables[i]);
    RUN("UPDATE desired SET wal_lsn = 'FFFF/0'");
}

static void set_rate(int rate)
{
    RUN("UPDATE config SET content = '{\"rate\": %d}' WHERE name = 'base'", rate);
}

/* What a node says in its report: a revision, whose digest is that of another one, or NULL. */
static void say(const char *state, int revision, const char *digest, const char *epoch)
{
    const bool runs = strcmp(state, "applied") == 0;

    RUN("INSERT INTO reported AS r (node, state, %1$s_revision, %1$s_digest, %1$s_epoch,"
        " kv_created, kv_revision) VALUES ('n1', '%2$s', %3$d, %4$s, %5$s, now(), 1)"
        " ON CONFLICT (node) DO UPDATE SET (state, running_revision, running_digest,"
        " running_epoch, failed_revision, failed_digest, failed_epoch) = ROW (excluded.state,"
        " excluded.running_revision, excluded.running_digest, excluded.running_epoch,"
        " excluded.failed_revision, excluded.failed_digest, excluded.failed_epoch)",
        runs ? "running" : "failed", state, revision, digest, epoch);
}

static const char digest_of[] =
    "(SELECT digest FROM headwater.desired_history WHERE node = 'n1' AND revision = %d LIMIT 1)";

/* Says it with the digest that this database has for the revision. */
static void say_ours(const char *state, int revision, const char *epoch)
{
    HW_AUTO_FREE char *digest = hw_sprintf(digest_of, revision);

    say(state, revision, digest, epoch);
}

/* What became of n1, for who waits for all there is, and for the newest change. */
static void expect_wait(const char *state)
{
    EXPECT(state, "SELECT CASE WHEN applied = 1 THEN 'applied' WHEN failed = 1 THEN 'failed'"
                  " WHEN pending = 1 THEN 'pending' ELSE 'none' END"
                  " FROM judge_waits(ARRAY[pg_current_wal_insert_lsn()], '{}')");
    EXPECT(state, "SELECT CASE WHEN applied = 1 THEN 'applied' WHEN failed = 1 THEN 'failed'"
                  " WHEN pending = 1 THEN 'pending' ELSE 'none' END"
                  " FROM changelog_head AS h, judge_waits('{}', ARRAY[h.rev])");
}

static void make_node(void)
{
    RUN("INSERT INTO node (name) VALUES ('n1')");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\": 1}')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('a', 'base', 'n1')");
}

START_TEST(test_servers_and_epochs_are_noted)
{
    make_node();
    /* The first change has noted the server; nothing is known of an epoch. */
    EXPECT("1 t 1 t t",
           "SELECT concat_ws(' ', first_rev, system_id = (SELECT system_identifier"
           " FROM pg_control_system()), timeline, slot IS NULL, epoch IS NULL) FROM epoch");
    EXPECT("t", "SELECT needed_epoch(1) IS NULL");
    EXPECT("t", "SELECT begin_epoch('s', 3)");
    EXPECT("f", "SELECT begin_epoch('s', 3)");
    EXPECT("1 s 3", "SELECT concat_ws(' ', first_rev, slot, epoch) FROM epoch WHERE epoch = 3");
    EXPECT("3", "SELECT needed_epoch(1)");
    set_rate(2);
    EXPECT("2", "SELECT count(*) FROM epoch");
    /* The same history, and a higher epoch: only what comes is of it. */
    EXPECT("t", "SELECT begin_epoch('s', 4)");
    EXPECT("t", "SELECT first_rev = (SELECT rev + 1 FROM changelog_head) FROM epoch"
                " WHERE epoch = 4");
    EXPECT("3 4", "SELECT concat_ws(' ', needed_epoch(rev), needed_epoch(rev + 1))"
                  " FROM changelog_head");
    /* Another slot has a bucket of its own. */
    EXPECT("t", "SELECT begin_epoch('other', 1)");
    EXPECT("f", "SELECT begin_epoch('s', 4)");
    EXPECT("f", "SELECT begin_epoch('other', 1)");
    EXPECT("1", "SELECT needed_epoch(1)");
    EXPECT("0 0", "SELECT concat_ws(' ', rev, reported_id) FROM log_begin()");
    REFUSE("23514", "epoch_is_positive", "", "SELECT begin_epoch('s', 0)");
    REFUSE("55000", "epoch_is_kept", "history, which only grows", "DELETE FROM epoch");
}
END_TEST

START_TEST(test_positions_of_another_server_come_first)
{
    make_node();
    set_rate(2);
    say_ours("applied", 1, "1");
    RUN("SELECT begin_epoch('s', 1)");
    come_from_another_server();
    /* Nothing was changed here yet: all there is, is before. */
    EXPECT("2", "SELECT revision FROM desired_at('n1', pg_current_wal_insert_lsn())");
    EXPECT("2", "SELECT revision FROM desired_at('n1', pg_lsn '0/1')");
    EXPECT("1", "SELECT running_revision FROM reported_at('n1', pg_lsn '0/1')");
    EXPECT("1", "SELECT pending FROM judge_waits(ARRAY[pg_current_wal_insert_lsn()], '{}')");

    RUN("CREATE TEMP TABLE before AS SELECT pg_current_wal_insert_lsn() AS lsn");
    set_rate(3);
    RUN("SELECT begin_epoch('s', 2)");
    say_ours("applied", 2, "1");
    EXPECT("3", "SELECT revision FROM desired_at('n1', pg_current_wal_insert_lsn())");
    EXPECT("2", "SELECT d.revision FROM before, desired_at('n1', before.lsn) AS d");
    EXPECT("2", "SELECT running_revision FROM reported_at('n1', pg_current_wal_insert_lsn())");
    EXPECT("1", "SELECT r.running_revision FROM before, reported_at('n1', before.lsn) AS r");
    /* It runs what was before, and not what came. */
    EXPECT("1", "SELECT w.applied FROM before, judge_waits(ARRAY[before.lsn], '{}') AS w");
    expect_wait("pending");
}
END_TEST

/* What a node says of a revision that this database has made, or has not. */
START_TEST(test_reports_of_a_lost_history_do_not_count)
{
    static const char other[] = "'sha256:' || repeat('0', 64)";

    make_node();
    set_rate(2);
    RUN("SELECT begin_epoch('s', 1)");
    expect_wait("pending");
    say_ours("applied", 1, "1");
    expect_wait("pending");
    say_ours("applied", 2, "1");
    expect_wait("applied");
    say_ours("applied", 2, "NULL"); /* an older agent */
    expect_wait("applied");
    /* The number of a revision is not enough, nor is a later number. */
    say("applied", 2, other, "9");
    expect_wait("pending");
    say("applied", 3, other, "9");
    expect_wait("pending");
    say_ours("failed", 2, "1");
    expect_wait("failed");
    say("failed", 2, "NULL", "1"); /* there is no digest of what could not be read */
    expect_wait("failed");
    say("failed", 2, other, "1");
    expect_wait("pending");
    say("failed", 3, other, "1");
    expect_wait("pending");

    /* The database comes to another server; a change is made before anybody leads there. The old
     * server, too, has made a revision of this number, and perhaps of the same bytes. */
    come_from_another_server();
    set_rate(3);
    say_ours("applied", 3, "1");
    expect_wait("pending");
    say_ours("applied", 3, "2");
    expect_wait("pending");
    RUN("SELECT begin_epoch('s', 2)");
    expect_wait("applied");
    say_ours("applied", 3, "1");
    expect_wait("pending");
    say_ours("failed", 3, "1");
    expect_wait("pending");
    say_ours("failed", 3, "2");
    expect_wait("failed");
    /* What was made before is of both histories. */
    say_ours("applied", 2, "1");
    EXPECT("t", "SELECT is_known('n1', 2, r.running_digest, 1) FROM reported AS r");

    /* Another bucket, whose epochs have lower numbers. */
    RUN("SELECT begin_epoch('s', 1)");
    say_ours("applied", 3, "1");
    expect_wait("applied");
}
END_TEST

/* Behind a promotion that lost nothing, the leader names the same epoch. */
START_TEST(test_a_promotion_is_noted)
{
    make_node();
    RUN("SELECT begin_epoch('s', 1)");
    RUN("ALTER TABLE epoch DISABLE TRIGGER is_kept");
    RUN("UPDATE epoch SET timeline = 77");
    RUN("ALTER TABLE epoch ENABLE ALWAYS TRIGGER is_kept");
    set_rate(2);
    say_ours("applied", 2, "1");
    expect_wait("pending");
    RUN("SELECT begin_epoch('s', 1)");
    expect_wait("applied");
    /* The log goes on at the same positions. */
    EXPECT("0", "SELECT rev FROM log_begin()");
}
END_TEST

TEST_SQL_MAIN("sql epochs", 60, test_servers_and_epochs_are_noted,
              test_positions_of_another_server_come_first,
              test_reports_of_a_lost_history_do_not_count, test_a_promotion_is_noted)
