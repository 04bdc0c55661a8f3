/* Agents that share a node's name, in SQL: what is a conflict, what is none, and how it ends. */
#include <stdlib.h>

#include "base/memory.h"
#include "tests/support/sql.h"

#define STATE "SELECT concat_ws(' ', state, error) FROM fleet WHERE node = 'n1'"
#define NAMES "SELECT array_to_string(conflict, ' ') FROM liveness WHERE node = 'n1'"
#define HISTORY                                                                                    \
    "SELECT coalesce(string_agg(concat_ws(' ', h.conflict ->> 'instances', "                       \
    "CASE WHEN h.conflict ? 'until' THEN 'end' ELSE 'begin' END), ', ' ORDER BY h.id), '') "       \
    "FROM reported_history AS h WHERE h.conflict IS NOT NULL"
#define BOTH "conflict agents of the same name: a, b"

/* Signs of life of n1 within 3 s, by these instances ("": of none). */
static void hear(const char *instances)
{
    RUN("SET ROLE headwater_reconciler");
    RUN("SELECT hear(array_fill('n1'::text, ARRAY[cardinality(i)]), 3000, i) "
        "FROM (SELECT '{%s}'::text[]) AS v (i)",
        instances);
    RUN("RESET ROLE");
}

/* "t", or why the report was not taken. heartbeat and instance: JSON. */
static void report(const char *expected, const char *state, const char *heartbeat,
                   const char *instance)
{
    RUN("SET ROLE headwater_reconciler");
    EXPECT(expected,
           "SELECT concat_ws(' ', accepted, reason) FROM report(jsonb_build_array("
           "jsonb_build_object('kv_created', '2024-01-01T00:00:00Z', 'kv_revision', "
           "1 + coalesce((SELECT max(kv_revision) FROM reported), 0), 'value', "
           "jsonb_build_object('node', 'n1', 'state', '%s', 'heartbeat', %s, 'instance', %s))))",
           state, heartbeat, instance);
    RUN("RESET ROLE");
}

static void create_node(void)
{
    create_database();
    RUN("INSERT INTO node (name) VALUES ('n1')");
}

/* a was there first, b has the same name. */
static void make_conflict(void)
{
    report("t", "applied", "1", "'a'");
    hear("a");
    hear("a,b");
    hear("a,b");
    EXPECT("unassigned", STATE);
    hear("a,b");
    EXPECT(BOTH, STATE);
}

START_TEST(test_two_at_once_are_a_conflict)
{
    make_conflict();
    EXPECT("a t", "SELECT concat_ws(' ', instance, conflict ->> 'since' IS NOT NULL) FROM fleet");
    /* Whoever is heard, and whoever reports, it goes on, and the history has its begin once. */
    hear("a");
    hear("b");
    report("t", "failed", "1", "'b'");
    report("t", "applied", "1", "'a'");
    EXPECT(BOTH, STATE);
    EXPECT("[\"a\", \"b\"] begin", HISTORY);
    /* b is stopped. */
    for (int i = 0; i < 100; i++)
        hear("a");
    EXPECT(BOTH, STATE);
    hear("a");
    EXPECT("unassigned", STATE);
    EXPECT("[\"a\", \"b\"] begin, [\"a\", \"b\"] end", HISTORY);
    EXPECT("0", "SELECT count(*) FROM instance");
}
END_TEST

/* They are heard seldom, and never within the same 3 s. */
START_TEST(test_in_turns)
{
    static const char *const heard[] = {"a", "", "b", "a", "", "", "b", "a"};

    for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++) {
        EXPECT(i == 0 ? "unknown" : "unassigned", STATE);
        hear(heard[i]);
    }
    EXPECT(BOTH, STATE);
}
END_TEST

/* Whoever restarts often has an instance after the other, and is alone all the time. */
START_TEST(test_a_restart_is_no_conflict)
{
    report("t", "applied", "1", "'i0'");
    hear("i0");
    for (int i = 1; i < 30; i++) {
        HW_AUTO_FREE char *both = hw_sprintf("i%d,i%d", i - 1, i);
        HW_AUTO_FREE char *next = hw_sprintf("i%d", i);
        HW_AUTO_FREE char *quoted = hw_sprintf("'i%d'", i);

        hear(both); /* the old one's last and the new one's first came together */
        hear(next);
        report("t", "applied", "1", quoted);
    }
    hear("i29,i28"); /* the old one's last message came late */
    hear("i29");
    hear("i29");
    EXPECT("unassigned", STATE);
    EXPECT("8", "SELECT count(*) FROM instance");
    EXPECT("", HISTORY);
    for (int i = 0; i <= 101; i++)
        hear("i29");
    EXPECT("0", "SELECT count(*) FROM instance");
    /* Nor is an old agent, which has no instance, beside what it was before. */
    hear("NULL");
    hear("i29");
    hear("NULL");
    hear("i29");
    EXPECT("unassigned", STATE);
}
END_TEST

/* Agents that give no signs of life are told apart by their reports alone. */
START_TEST(test_reports_alone)
{
    report("t", "applied", "NULL", "'a'");
    hear("");
    report("t", "applied", "NULL", "'b'");
    hear("");
    report("t", "applied", "NULL", "'a'");
    hear("");
    report("t", "applied", "NULL", "'b'");
    hear("");
    EXPECT("unassigned", STATE);
    report("t", "applied", "NULL", "'a'");
    EXPECT(BOTH, STATE);
    for (int i = 0; i < 399; i++)
        hear("");
    EXPECT(BOTH, STATE);
    hear("");
    EXPECT("unassigned", STATE);
}
END_TEST

/* The operator says which of them is meant. */
START_TEST(test_chosen)
{
    make_conflict();
    report("t", "failed", "1", "'b'");
    RUN("SET ROLE headwater_dba");
    REFUSE("P0002", "", "there is no node", "SELECT choose_instance('n2', 'a')");
    REFUSE("P0002", "instance_is_alive", "Alive: a, b", "SELECT choose_instance('n1', 'c')");
    REFUSE("P0002", "instance_is_alive", "Alive: a, b", "SELECT choose_instance('n1', NULL)");
    EXPECT("{b}", "SELECT choose_instance('n1', 'a')");
    EXPECT("instance n1 choose a", "SELECT concat_ws(' ', kind, name, action, message) FROM audit "
                                   "WHERE kind = 'instance'");
    RUN("SET ROLE headwater_viewer");
    REFUSE("42501", "", "", "SELECT choose_instance('n1', 'a')");
    RUN("RESET ROLE");
    /* What stands there is still b's. */
    EXPECT(BOTH, STATE);
    report("f another agent was chosen for this node", "failed", "1", "'b'");
    report("t", "applied", "1", "'a'");
    EXPECT("unassigned", STATE);
    EXPECT("[\"a\", \"b\"] begin, [\"a\", \"b\"] end", HISTORY);
    for (int i = 0; i < 5; i++)
        hear("a,b");
    EXPECT("unassigned", STATE);
    /* a is started again. */
    for (int i = 0; i < 5; i++)
        hear("c,b");
    report("t", "applied", "1", "'c'");
    EXPECT("unassigned c", "SELECT concat_ws(' ', state, instance) FROM fleet");
    /* That b is alive is no sign of life of the node. */
    for (int i = 0; i < 102; i++)
        hear("b");
    EXPECT("unknown", STATE);
    /* Both are started again: nobody has chosen between these. */
    for (int i = 0; i < 5; i++)
        hear("d,e");
    EXPECT("d e", NAMES);
    /* b has fallen silent, and is forgotten. */
    for (int i = 0; i < 102; i++)
        hear("d");
    EXPECT("unassigned", STATE);
    EXPECT("t", "SELECT set_aside IS NULL FROM liveness");
    EXPECT("0", "SELECT count(*) FROM instance");
}
END_TEST

/* A crash of the server empties the unlogged tables. */
START_TEST(test_after_a_crash)
{
    make_conflict();
    RUN("DELETE FROM instance; DELETE FROM heard; DELETE FROM heard_head");
    EXPECT(BOTH, STATE);
    hear("a");
    EXPECT("unassigned", STATE);
    for (int i = 0; i < 4; i++)
        hear("a,b");
    EXPECT(BOTH, STATE);
}
END_TEST

/* Who invents instances fills nothing, and hides nobody's neighbour. */
START_TEST(test_invented)
{
    hear("a");
    for (int i = 0; i < 20; i++) {
        HW_AUTO_FREE char *names = hw_sprintf("x%d,y%d,z%d,\"no name\"", i, i, i);
        hear(names);
    }
    EXPECT("8", "SELECT count(*) FROM instance");
    EXPECT("unassigned", STATE);
    EXPECT("n1 f reported_instance_is_legal",
           "SELECT concat_ws(' ', node, accepted, substring(reason from 'reported_[a-z_]*')) "
           "FROM report('[{\"kv_created\": \"2024-01-01T00:00:00Z\", \"kv_revision\": 1, \"value\":"
           " {\"node\": \"n1\", \"state\": \"applied\", \"instance\": \"no name\"}}]')");
    RUN("DELETE FROM node");
    for (int i = 0; i < 102; i++)
        hear("");
    EXPECT("0", "SELECT count(*) FROM instance");
}
END_TEST

TEST_SQL_MAIN_WITH("sql-instances", 60, start_server, create_node, test_two_at_once_are_a_conflict,
                   test_in_turns, test_a_restart_is_no_conflict, test_reports_alone, test_chosen,
                   test_after_a_crash, test_invented)
