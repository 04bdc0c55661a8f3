/* Names that nobody registered, in SQL: who is listed, for how long, and what the list cannot do.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

#define NAMES "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM unknown_node"
#define COUNT "SELECT concat_ws(' ', names, most, is_full, left_out) FROM unknown_count()"

/* nodes: an expression of type text[]. */
static void hear(const char *nodes, int listened_ms)
{
    RUN("SET ROLE headwater_reconciler");
    RUN("SELECT hear(%s, %d)", nodes, listened_ms);
    RUN("RESET ROLE");
}

/* Answers reason, of a report that says what agent is, JSON, too. */
static void report(const char *expected, const char *node, int kv_revision, const char *agent)
{
    RUN("SET ROLE headwater_reconciler");
    EXPECT(expected,
           "SELECT reason FROM report(jsonb_build_array(jsonb_build_object("
           "'kv_created', '2024-01-01T00:00:00Z', 'kv_revision', %d, 'value', jsonb_build_object("
           "'node', %s, 'state', 'applied', 'agent', %s, 'running', jsonb_build_object("
           "'revision', 7, 'digest', digest_of('x'))))))",
           kv_revision, node, agent);
    RUN("RESET ROLE");
}

START_TEST(test_who_is_listed)
{
    RUN("INSERT INTO node (name) VALUES ('a')");
    hear("'{a,daq-O1,daq-O1}'", 3000);
    report("(null)", "'b.example'", 1, "'headwater-agent/0.1'");
    report("(null)", "'a'", 2, "'headwater-agent/0.1'");
    EXPECT("b.example daq-O1", NAMES);
    EXPECT("2 1000 f 0", COUNT);
    EXPECT("headwater-agent/0.1 applied 7 t",
           "SELECT concat_ws(' ', agent, reported_state, reported_revision, reported_digest = "
           "digest_of('x')) FROM unknown_node WHERE name = 'b.example'");
    EXPECT("t", "SELECT agent IS NULL AND reported_state IS NULL AND first_seen = last_seen "
                "FROM unknown_node WHERE name = 'daq-O1'");
    /* Gone at once, also from the count; what it had reported holds. */
    RUN("BEGIN; INSERT INTO node (name) VALUES ('b.example')");
    EXPECT("daq-O1", NAMES);
    EXPECT("1 1000 f 0", COUNT);
    EXPECT("unassigned", "SELECT state FROM fleet WHERE node = 'b.example'");
    RUN("COMMIT");
    hear("'{a,b.example}'", 1000);
    EXPECT("daq-O1", "SELECT name FROM unknown_heard");
    /* A live node that is deleted is unknown. */
    hear("'{a,b.example}'", 1000);
    RUN("DELETE FROM node WHERE name = 'a'");
    EXPECT("daq-O1", NAMES);
    hear("'{a,b.example}'", 1000);
    EXPECT("a daq-O1", NAMES);
    RUN("TRUNCATE node CASCADE");
    hear("'{a,b.example}'", 1000);
    EXPECT("a b.example daq-O1", NAMES);
    /* Everybody reads it, nobody writes it. */
    RUN("SET ROLE headwater_viewer");
    EXPECT("a b.example daq-O1", NAMES);
    EXPECT("3 1000 f 0", COUNT);
    REFUSE("42501", "", "", "DELETE FROM unknown_heard");
    REFUSE("42501", "", "", "SELECT note_unknown('{x}')");
}
END_TEST

START_TEST(test_who_is_silent_goes)
{
    hear("'{quiet,loud}'", 3000);
    report("(null)", "'told'", 1, "null");
    EXPECT("loud quiet told", NAMES);
    for (int i = 0; i < 10; i++)
        hear("'{loud}'", 30000);
    EXPECT("loud quiet told", NAMES);
    EXPECT("t", "SELECT last_seen > first_seen FROM unknown_node WHERE name = 'loud'");
    hear("'{loud}'", 1);
    EXPECT("loud", NAMES);
    /* A report that is read a second time is no sign of life; a newer one is. */
    report("not newer than what is stored", "'told'", 1, "null");
    EXPECT("loud", NAMES);
    report("(null)", "'told'", 2, "null");
    EXPECT("loud told", NAMES);
    /* Nobody listened. */
    hear("'{}'", 0);
    hear("'{}'", -10000000);
    EXPECT("loud told", NAMES);
    hear("'{}'", 300001);
    EXPECT("", NAMES);
    EXPECT("0", "SELECT count(*) FROM unknown_heard");
    /* A crash of the server empties what is not logged. */
    hear("'{loud}'", 1000);
    RUN("DELETE FROM unknown_heard; DELETE FROM unknown_head; DELETE FROM heard_head");
    EXPECT("0 1000 f 0", COUNT);
    hear("'{loud}'", 1000);
    EXPECT("loud", NAMES);
}
END_TEST

START_TEST(test_the_list_is_full)
{
    hear("ARRAY(SELECT 'n' || i FROM generate_series(1, 1000) AS i)", 1000);
    EXPECT("1000 1000 t 0", COUNT);
    hear("ARRAY(SELECT 'n' || i FROM generate_series(1, 1001) AS i)", 1000);
    EXPECT("1000 1000 t 1", COUNT);
    EXPECT("0", "SELECT count(*) FROM unknown_node WHERE name = 'n1001'");
    report("(null)", "'n1001'", 1, "null");
    hear("ARRAY(SELECT 'm' || i FROM generate_series(1, 5000) AS i)", 1000);
    EXPECT("1000 1000 t 5002", COUNT);
    EXPECT("1000", "SELECT count(*) FROM unknown_heard");
    /* One of them is registered: there is room for another. */
    RUN("INSERT INTO node (name) VALUES ('n1')");
    EXPECT("999 1000 f 0", COUNT);
    hear("'{n1001}'", 1000);
    EXPECT("1000 1000 t 5002", COUNT);
    EXPECT("1", "SELECT count(*) FROM unknown_node WHERE name = 'n1001'");
    /* The others fall silent. */
    hear("'{n1001}'", 297000);
    hear("'{n1001}'", 10000);
    EXPECT("n1001", NAMES);
    EXPECT("1 1000 f 0", COUNT);
    EXPECT("0", "SELECT left_out FROM unknown_head");
}
END_TEST

/* A door that a database's owner opens to others must hold by itself. */
START_TEST(test_hostile_names)
{
    hear("ARRAY['', '.', 'a..b', 'a b', E'a\\nb', 'a*', '>', E'\\u00e4', '-', '_', '{}', NULL, "
         "'''; DROP TABLE node; --', E'\\u202egnp', repeat('x', 129), repeat('y', 128)]",
         1000);
    EXPECT("t", "SELECT array_agg(name ORDER BY name) = ARRAY['-', '_', repeat('y', 128)] "
                "FROM unknown_node");
    report("(null)", "'-'", 1, "repeat(E'\\u001b[31m', 10000)");
    EXPECT("200", "SELECT length(agent) FROM unknown_node WHERE name = '-'");
}
END_TEST

/* Who beats as fast as he can has his row written now and then, and never the log. */
START_TEST(test_what_it_costs)
{
    RUN("INSERT INTO node (name) SELECT 'n' || i FROM generate_series(1, 100) AS i");
    RUN("CREATE FUNCTION pg_temp.wal_of(sql text) RETURNS text LANGUAGE plpgsql AS $$ "
        "DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (ANALYZE, WAL, FORMAT JSON) ' || sql INTO plan; "
        "RETURN plan -> 0 -> 'Plan' ->> 'WAL Bytes'; END $$");
#define WAL(names)                                                                                 \
    "SELECT pg_temp.wal_of('SELECT headwater.hear(ARRAY(SELECT ''" names                           \
    "'' || i FROM generate_series(1, 100) AS i), 1000)')"
#define WRITES                                                                                     \
    "SELECT n_tup_ins || ' ' || n_tup_upd || ' ' || n_tup_del FROM pg_stat_user_tables "           \
    "WHERE relname = "
    EXPECT("t", "SELECT (" WAL("n") ")::int > 0"); /* who is heard the first time */
    EXPECT("0", WAL("n"));
    RUN("SELECT pg_stat_force_next_flush()");
    EXPECT("0 0 0", WRITES "'unknown_heard'");
    EXPECT("0 0 0", WRITES "'unknown_head'");
    for (int i = 0; i < 20; i++)
        EXPECT("0", WAL("s"));
    RUN("SELECT pg_stat_force_next_flush()");
    EXPECT("100 100 0", WRITES "'unknown_heard'");
    EXPECT("1 0 0", WRITES "'unknown_head'");
}
END_TEST

static bool waits(PGconn *conn)
{
    HW_AUTO_FREE char *count =
        test_value(conn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");

    return strcmp(count, "1") == 0;
}

/* Two who come at once stay below the most together. */
START_TEST(test_two_at_once)
{
    PGconn *other = test_database_connect(&db, NULL);

    hear("ARRAY(SELECT 'n' || i FROM generate_series(1, 999) AS i)", 1000);
    test_run(other, "BEGIN");
    test_run(other, "SELECT headwater.note_unknown('{x}')");
    ck_assert_int_eq(PQsendQuery(db.conn, "SELECT headwater.note_unknown('{y}')"), 1);
    test_wait_for(waits(other), 60);
    test_run(other, "COMMIT");
    PQclear(PQgetResult(db.conn));
    PQclear(PQgetResult(db.conn));
    EXPECT("1000 1000 t 1", COUNT);
    PQfinish(other);
}
END_TEST

TEST_SQL_MAIN("sql unknown", 120, test_who_is_listed, test_who_is_silent_goes,
              test_the_list_is_full, test_hostile_names, test_what_it_costs, test_two_at_once)
