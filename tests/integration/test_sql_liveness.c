/* Signs of life in SQL: who counts as silent, who never does, and what it costs. */
#include <stdlib.h>

#include "base/memory.h"
#include "tests/support/sql.h"

#define STATES                                                                                     \
    "SELECT string_agg(concat_ws(' ', node, state, reported_state), ',' ORDER BY node) FROM fleet"
#define SILENT                                                                                     \
    "SELECT coalesce(string_agg(node, ' ' ORDER BY node), '') FROM liveness WHERE silent_since "   \
    "IS NOT NULL"

static void start_without_autovacuum(void)
{
    /* A snapshot of autovacuum's would keep rows from being pruned. */
    test_postgres_start(&server, true, "autovacuum = off");
}

/* Nothing is desired, so that whoever reported is unassigned. heartbeat: JSON. */
static void report(const char *node, const char *heartbeat)
{
    RUN("SELECT report(jsonb_build_array(jsonb_build_object('kv_created', '2024-01-01T00:00:00Z', "
        "'kv_revision', 1 + coalesce((SELECT max(kv_revision) FROM reported), 0), 'value', "
        "jsonb_build_object('node', '%s', 'state', 'applied', 'heartbeat', %s))))",
        node, heartbeat);
}

static void hear(const char *nodes, int listened_ms)
{
    RUN("SET ROLE headwater_reconciler");
    RUN("SELECT hear('{%s}', %d)", nodes, listened_ms);
    RUN("RESET ROLE");
}

START_TEST(test_who_falls_silent)
{
    RUN("INSERT INTO node (name) VALUES ('a'), ('b'), ('null')");
    report("a", "30");
    report("b", "30");
    report("null", "30");
    hear("a,b,\"null\",stranger", 3000);
    EXPECT("a b null", "SELECT string_agg(node, ' ' ORDER BY node) FROM liveness");
    EXPECT("t", "SELECT bool_and(last_seen = h.at) FROM fleet JOIN heard AS h USING (node)");
    hear("b,\"null\"", 299999);
    hear("\"null\"", 1);
    EXPECT("a unassigned unassigned,b unassigned unassigned,null unassigned unassigned", STATES);
    hear("\"null\"", 1);
    EXPECT("a unknown unassigned,b unassigned unassigned,null unassigned unassigned", STATES);
    EXPECT("t", "SELECT f.last_seen < o.last_seen FROM fleet AS f, fleet AS o "
                "WHERE f.node = 'a' AND o.node = 'null'");
    /* It is back. */
    hear("a,b", 3000);
    EXPECT("a unassigned unassigned,b unassigned unassigned,null unassigned unassigned", STATES);
    EXPECT("", SILENT);
}
END_TEST

/* A reported state stays to be seen, with its error and lag. */
START_TEST(test_what_was_reported_stays_visible)
{
    RUN("INSERT INTO node (name) VALUES ('a')");
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('c', 'c', 'a')");
    RUN("SELECT report(jsonb_build_array(jsonb_build_object('kv_created', '2024-01-01T00:00:00Z', "
        "'kv_revision', 1, 'value', jsonb_build_object('node', 'a', 'state', 'failed', "
        "'heartbeat', 30, 'failed', (SELECT jsonb_build_object('revision', revision, 'digest', "
        "digest, 'stage', 'apply', 'error', 'no disk') FROM desired)))))");
    hear("a", 3000);
    hear("", 300001);
    EXPECT("a unknown failed", STATES);
    EXPECT("apply: no disk t", "SELECT concat_ws(' ', error, lag > interval '0') FROM fleet");
}
END_TEST

/* Old agents, and those that are told not to beat, say no heartbeat. */
START_TEST(test_who_never_beats_is_never_silent)
{
    RUN("INSERT INTO node (name) VALUES ('mute'), ('old'), ('unheard'), ('young')");
    report("mute", "30");
    report("old", "null");
    report("unheard", "30");      /* its account in NATS has no such subject */
    hear("mute,old,young", 3000); /* young: nothing was ever desired, so it reported nothing */
    EXPECT("unassigned", "SELECT state FROM fleet WHERE node = 'young'");
    hear("", 300001);
    EXPECT("mute young", SILENT);
    EXPECT("mute unknown unassigned,old unassigned unassigned,unheard unassigned unassigned,young "
           "unknown unassigned",
           STATES);
    EXPECT("mute young", "SELECT string_agg(node, ' ' ORDER BY node) FROM liveness");
    /* Started again without a heartbeat, it says so. */
    report("mute", "null");
    EXPECT("mute unassigned unassigned,old unassigned unassigned,unheard unassigned "
           "unassigned,young unknown unassigned",
           STATES);
}
END_TEST

START_TEST(test_only_what_was_listened_to_is_silence)
{
    RUN("INSERT INTO node (name) VALUES ('a')");
    report("a", "30");
    hear("a", 3000);
    /* Nobody listened; then the clock of the server jumps. */
    RUN("UPDATE heard SET at = at - interval '1 day'");
    hear("", 0);
    hear("", -1000000);
    EXPECT("a unassigned unassigned", STATES);
    hear("", 200000);
    EXPECT("a unassigned unassigned", STATES);
    /* A crash of the server leaves nothing here: the time begins anew for all that beat. */
    RUN("DELETE FROM heard; DELETE FROM heard_head");
    hear("", 299999);
    hear("", 300000);
    EXPECT("a unassigned unassigned", STATES);
    EXPECT("t", "SELECT last_seen IS NULL FROM fleet");
    hear("", 1);
    EXPECT("a unknown unassigned", STATES);
    RUN("DELETE FROM heard; DELETE FROM heard_head");
    hear("", 1);
    EXPECT("a unknown unassigned", STATES);
    hear("a", 1);
    EXPECT("a unassigned unassigned", STATES);
}
END_TEST

START_TEST(test_the_setting)
{
    RUN("INSERT INTO node (name) VALUES ('quick'), ('slow')");
    report("quick", "0.5");
    report("slow", "20");
    RUN("SET ROLE headwater_dba");
    RUN("UPDATE setting SET silence = '10 seconds'");
    REFUSE("23514", "setting_silence_is_positive", "", "UPDATE setting SET silence = '0'");
    REFUSE("42501", "", "", "DELETE FROM setting");
    REFUSE("42501", "", "", "SELECT hear('{}', 1)");
    REFUSE("42501", "", "", "UPDATE liveness SET silent_since = now()");
    RUN("RESET ROLE");
    hear("quick,slow", 0);
    hear("", 10001);
    EXPECT("quick", SILENT);
    /* Three heartbeats may be missed whatever the setting says. */
    hear("", 49999);
    EXPECT("quick", SILENT);
    hear("", 1);
    EXPECT("quick slow", SILENT);
}
END_TEST

START_TEST(test_a_deleted_node_is_forgotten)
{
    RUN("INSERT INTO node (name) VALUES ('a'), ('b')");
    report("a", "30");
    report("b", "30");
    hear("a,b", 0);
    hear("b", 300001);
    EXPECT("a", SILENT);
    RUN("DELETE FROM node");
    hear("", 300001);
    RUN("INSERT INTO node (name) VALUES ('c')");
    hear("c", 0);
    EXPECT("1 1", "SELECT (SELECT count(*) FROM liveness) || ' ' || (SELECT count(*) FROM heard)");
    /* One of the same name is another one. */
    RUN("INSERT INTO node (name) VALUES ('a')");
    report("a", "30");
    EXPECT("a unassigned unassigned,c unassigned unassigned", STATES);
}
END_TEST

/* Follows the fleet by what changed alone, and compares with all of it. */
static void expect_followed(int changes)
{
    RUN("BEGIN ISOLATION LEVEL REPEATABLE READ");
    RUN("CREATE TEMP TABLE IF NOT EXISTS followed AS SELECT 0::bigint AS a, 0::bigint AS b, "
        "0::bigint AS c, 0::bigint AS d");
    RUN("CREATE TEMP TABLE IF NOT EXISTS known (node text PRIMARY KEY, state text)");
    RUN("CREATE TEMP TABLE news ON COMMIT DROP AS SELECT f.* FROM followed, "
        "fleet_changes(a, b, c, d) AS f");
    RUN("INSERT INTO known SELECT node, state FROM news ON CONFLICT (node) DO UPDATE SET state = "
        "excluded.state");
    RUN("UPDATE followed SET (a, b, c, d) = (SELECT * FROM fleet_ids())");
    EXPECT("(none)", "(SELECT node, state FROM known WHERE state IS NOT NULL EXCEPT SELECT node, "
                     "state FROM fleet) UNION ALL (SELECT node, state FROM fleet EXCEPT SELECT "
                     "node, state FROM known)");
    if (changes >= 0) {
        HW_AUTO_FREE char *count = hw_sprintf("%d", changes);

        EXPECT(count, "SELECT count(*) FROM news");
    }
    RUN("COMMIT");
}

/* Says that it runs what it should. */
static void report_in_sync(PGconn *conn, const char *node)
{
    test_run(conn,
             "SELECT headwater.report(jsonb_build_array(jsonb_build_object('kv_created', "
             "'2024-01-01T00:00:00Z', 'kv_revision', 1 + coalesce((SELECT max(kv_revision) FROM "
             "headwater.reported), 0), 'value', (SELECT jsonb_build_object('node', node, 'state', "
             "'applied', 'heartbeat', 30, 'running', jsonb_build_object('revision', revision, "
             "'digest', digest)) FROM headwater.desired WHERE node = '%s'))))",
             node);
}

START_TEST(test_what_changed_in_the_fleet)
{
    PGconn *other = test_database_connect(&db, NULL);

    RUN("INSERT INTO node (name) SELECT 'n' || i FROM generate_series(1, 50) AS i");
    expect_followed(50);
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    expect_followed(0);
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('c', 'c', '{}')");
    expect_followed(50);
    report_in_sync(db.conn, "n1");
    report_in_sync(db.conn, "n2");
    expect_followed(2);
    report_in_sync(db.conn, "n2"); /* no news */
    expect_followed(0);
    hear("n1,n2", 0);
    expect_followed(2);
    hear("n1", 300001);
    expect_followed(1);
    EXPECT("unknown", "SELECT state FROM known WHERE node = 'n2'");
    hear("n1", 3000);
    expect_followed(0);
    /* It stops beating, and says so. */
    report("n2", "null");
    expect_followed(1);
    hear("n2", 0);
    expect_followed(1);
    /* One with nothing to run is born, lives, dies, lives, and is given something. */
    RUN("INSERT INTO node (name) VALUES ('x'); DELETE FROM assignment");
    expect_followed(51);
    EXPECT("unknown", "SELECT state FROM known WHERE node = 'x'");
    hear("n1,x", 0);
    expect_followed(1);
    EXPECT("unassigned", "SELECT state FROM known WHERE node = 'x'");
    hear("n1", 300001);
    expect_followed(1);
    EXPECT("unknown", "SELECT state FROM known WHERE node = 'x'");
    hear("n1,x", 0);
    expect_followed(1);
    EXPECT("unassigned", "SELECT state FROM known WHERE node = 'x'");
    RUN("DELETE FROM node WHERE name = 'x'");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('c', 'c', '{}')");
    expect_followed(51);
    report_in_sync(db.conn, "n1");
    report_in_sync(db.conn, "n2");
    expect_followed(2);

    /* Two at once, neither of which sees the other: whoever comes later tells. */
    test_run(other, "BEGIN; UPDATE headwater.config SET content = '2'");
    report_in_sync(db.conn, "n3");
    expect_followed(1);
    RUN("SELECT create_token('first', 'admin')"); /* an entry behind that of the other */
    expect_followed(0);
    test_run(other, "COMMIT");
    expect_followed(50);
    test_run(other, "BEGIN");
    report_in_sync(other, "n4");
    RUN("UPDATE config SET content = '3'");
    expect_followed(50);
    test_run(other, "COMMIT");
    expect_followed(1);
    test_run(other, "BEGIN; INSERT INTO headwater.node (name) VALUES ('late')");
    RUN("SELECT create_token('second', 'viewer')");
    expect_followed(0);
    test_run(other, "COMMIT");
    expect_followed(1);
    RUN("UPDATE node SET labels = '{\"a\":1}' WHERE name = 'n5'");
    expect_followed(1);
    RUN("DELETE FROM node WHERE name IN ('n1', 'n50')");
    expect_followed(2);
    RUN("TRUNCATE node CASCADE");
    expect_followed(-1);
    EXPECT("0", "SELECT count(state) FROM known");
    PQfinish(other);
}
END_TEST

/* Beats of a fleet leave nothing in the log, and rows that are updated in place. */
START_TEST(test_an_idle_fleet_writes_no_wal)
{
    RUN("INSERT INTO node (name) SELECT 'n' || i FROM generate_series(1, 1000) AS i");
    RUN("SELECT report(jsonb_agg(jsonb_build_object('kv_created', '2024-01-01T00:00:00Z', "
        "'kv_revision', i, 'value', jsonb_build_object('node', 'n' || i, 'state', 'applied', "
        "'heartbeat', 30)))) FROM generate_series(1, 1000) AS i");
    RUN("VACUUM ANALYZE");
    RUN("CREATE FUNCTION pg_temp.wal_of(sql text) RETURNS text LANGUAGE plpgsql AS $$ "
        "DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (ANALYZE, WAL, FORMAT JSON) ' || sql INTO plan; "
        "RETURN plan -> 0 -> 'Plan' ->> 'WAL Bytes'; END $$");
#define ALL "(SELECT array_agg(name) FROM headwater.node)"
    EXPECT("t", "SELECT pg_temp.wal_of('SELECT headwater.hear(" ALL ", 1000)')::int > 0");
    for (int i = 0; i < 10; i++)
        EXPECT("0", "SELECT pg_temp.wal_of('SELECT headwater.hear(" ALL ", 1000)')");
    RUN("SELECT pg_stat_force_next_flush()");
    EXPECT("t", "SELECT n_tup_upd = n_tup_hot_upd AND n_tup_upd >= 10000 FROM pg_stat_user_tables "
                "WHERE relname = 'heard'");
}
END_TEST

TEST_SQL_MAIN_WITH("sql liveness", 120, start_without_autovacuum, create_database,
                   test_who_falls_silent, test_what_was_reported_stays_visible,
                   test_who_never_beats_is_never_silent, test_only_what_was_listened_to_is_silence,
                   test_the_setting, test_a_deleted_node_is_forgotten,
                   test_what_changed_in_the_fleet, test_an_idle_fleet_writes_no_wal)
