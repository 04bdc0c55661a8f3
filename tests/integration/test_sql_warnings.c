/*
 * What a transaction did and was hardly meant, as headwater.warnings() tells it; the words of
 * refusals that only PostgreSQL's own rules would give; and that selectors are served by the index.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

#define WARNINGS                                                                                   \
    "SELECT coalesce(string_agg(concat_ws(' ', code, kind, name, message), E'\\n'), '') "          \
    "FROM warnings()"

static void make_nodes(void)
{
    RUN("INSERT INTO node (name, labels) VALUES ('n1', '{\"slot\": 1, \"on\": true}'), "
        "('n2', '{\"slot\": 2, \"site\": \"a\"}'), ('n3', '{\"slot\": \"3\", \"site\": \"a\"}')");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\": 1}'), ('site', '{}')");
    RUN("INSERT INTO config (name, content, media_type) VALUES ('text', 'x', 'text/plain')");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('everyone', 'base', '{}')");
}

/* ---- assignments that reach no node ---------------------------------------------------------- */

START_TEST(test_an_assignment_without_nodes)
{
    RUN("BEGIN");
    EXPECT("", WARNINGS);
    RUN("INSERT INTO config (name, content) VALUES ('base', '{}')");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('early', 'base', '{}')");
    EXPECT("assignment-without-nodes assignment early assignment \"early\" reaches no node: "
           "there is none yet",
           WARNINGS);
    /* It is about what the transaction comes to. */
    RUN("INSERT INTO node (name) VALUES ('n0')");
    EXPECT("", WARNINGS);
    RUN("ROLLBACK");

    make_nodes();
    EXPECT("", WARNINGS); /* what is committed is no longer this transaction's */
    static const struct {
        const char *selector, *says;
    } cases[] = {
        {"{\"slot\": \"1\"}", "the labels of \"n1\" are of another type than its selector "
                              "{\"slot\": \"1\"}: 3 is a number, \"3\" a string"},
        {"{\"slot\": 3}",
         "the labels of \"n3\" are of another type than its selector {\"slot\": 3}: "
         "3 is a number, \"3\" a string"},
        {"{\"on\": \"true\"}", "the labels of \"n1\" are of another type than its selector "
                               "{\"on\": \"true\"}: 3 is a number, \"3\" a string"},
        {"{\"slot\": 7}", "no node's labels contain its selector {\"slot\": 7}"},
        {"{\"slot\": \"2\", \"site\": \"b\"}",
         "no node's labels contain its selector {\"site\": \"b\", \"slot\": \"2\"}"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *expected =
            hw_sprintf("assignment-without-nodes assignment a assignment \"a\" reaches no node: %s",
                       cases[i].says);
        RUN("BEGIN");
        RUN("INSERT INTO assignment (name, config, selector) VALUES ('a', 'site', '%s')",
            cases[i].selector);
        EXPECT(expected, WARNINGS);
        RUN("ROLLBACK");
    }
    static const char *const reach[] = {"{\"slot\": 1.0}", "{}", "{\"site\": \"a\"}"};
    for (size_t i = 0; i < HW_COUNT(reach); i++) {
        RUN("BEGIN");
        RUN("INSERT INTO assignment (name, config, selector) VALUES ('a', 'site', '%s')", reach[i]);
        EXPECT("", WARNINGS);
        RUN("ROLLBACK");
    }
}
END_TEST

/* ---- what is replaced ------------------------------------------------------------------------ */

START_TEST(test_a_base_that_is_replaced)
{
    make_nodes();
    RUN("BEGIN");
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
        "('site', 'site', '{\"site\": \"a\"}', 10)");
    EXPECT("", WARNINGS); /* JSON over JSON merges */
    RUN("COMMIT");

    RUN("BEGIN");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('t', 'text', 'n1', 20)");
    EXPECT(
        "base-replaced assignment t assignment \"t\" replaces the whole document of node \"n1\" "
        "(config \"text\" is text/plain, and only JSON objects merge): \"everyone\" has no effect "
        "there",
        WARNINGS);
    RUN("ROLLBACK");

    RUN("BEGIN");
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES ('t', 'text', '{}', 20)");
    EXPECT(
        "base-replaced assignment t assignment \"t\" replaces the whole document of 3 nodes, such "
        "as \"n1\" (config \"text\" is text/plain, and only JSON objects merge): \"everyone\", "
        "\"site\" have no effect there",
        WARNINGS);
    RUN("COMMIT");

    /* Who replaces already does so in the next revision, which is no news. */
    RUN("BEGIN");
    RUN("UPDATE config SET content = 'y' WHERE name = 'text'");
    EXPECT("3", "SELECT count(*) FROM planned()");
    EXPECT("", WARNINGS);
    RUN("COMMIT");

    /* A config whose type changes, under an assignment that stays as it is. */
    RUN("DELETE FROM assignment WHERE name = 't'");
    RUN("BEGIN");
    RUN("UPDATE config SET content = '[]' WHERE name = 'site'");
    EXPECT(
        "base-replaced assignment site assignment \"site\" replaces the whole document of 2 nodes, "
        "such as \"n2\" (config \"site\" is application/json, and only JSON objects merge): "
        "\"everyone\" has no effect there",
        WARNINGS);
    RUN("ROLLBACK");

    /* JSON does not merge with what is none, either. */
    RUN("BEGIN");
    RUN("UPDATE config SET content = 'rate=1', media_type = 'text/plain' WHERE name = 'base'");
    EXPECT(
        "base-replaced assignment site assignment \"site\" replaces the whole document of 2 nodes, "
        "such as \"n2\" (config \"site\" is application/json, and only JSON objects merge): "
        "\"everyone\" has no effect there",
        WARNINGS);
    RUN("ROLLBACK");
}
END_TEST

START_TEST(test_an_assignment_without_effect)
{
    make_nodes();
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES ('t', 'text', '{}', 20)");
    RUN("BEGIN");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('below', 'site', 'n1', 10)");
    EXPECT(
        "assignment-without-effect assignment below assignment \"below\" changes nothing: on each "
        "node that it reaches, an assignment of higher priority replaces the whole document (only "
        "JSON objects merge)",
        WARNINGS);
    RUN("UPDATE assignment SET node = NULL, selector = '{\"site\": \"a\"}' WHERE name = 'below'");
    EXPECT("1", "SELECT count(*) FROM warnings() WHERE code = 'assignment-without-effect'");
    /* On one of its nodes it has some. */
    RUN("UPDATE assignment SET selector = '{\"slot\": 1}' WHERE name = 't'");
    EXPECT("", WARNINGS);
    RUN("ROLLBACK");
}
END_TEST

START_TEST(test_who_may_ask)
{
    make_nodes();
    static const char *const roles[] = {"headwater_dba", "headwater_api"};
    for (size_t i = 0; i < HW_COUNT(roles); i++) {
        RUN("BEGIN");
        RUN("SET LOCAL ROLE %s", roles[i]);
        RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
            "('t', 'text', '{}', 20), ('none', 'base', '{\"slot\": 9}', 0)");
        EXPECT("assignment-without-nodes none, base-replaced t",
               "SELECT string_agg(code || ' ' || name, ', ') FROM warnings()");
        RUN("ROLLBACK");
    }
}
END_TEST

/* ---- foreign keys ---------------------------------------------------------------------------- */

START_TEST(test_references_in_words)
{
    make_nodes();
    RUN("INSERT INTO assignment (name, config, selector) "
        "SELECT 'a' || i, 'site', '{}' FROM generate_series(1, 7) AS i");
    REFUSE(
        "23503", "assignment_config_exists",
        "config \"site\" is in use: assignments \"a1\", \"a2\", \"a3\", \"a4\", \"a5\" and 2 more "
        "refer to it",
        "DELETE FROM config WHERE name = 'site'");
    REFUSE("23503", "assignment_config_exists", "There are: \"base\", \"site\", \"text\".",
           "UPDATE assignment SET config = 'sit' WHERE name = 'a1'");

    /* One statement may still bring both, and replace a config under its assignments. */
    RUN("WITH c AS (INSERT INTO config (name, content) VALUES ('new', '{}')) "
        "INSERT INTO assignment (name, config, selector) VALUES ('new', 'new', '{}')");
    RUN("DELETE FROM assignment WHERE config = 'site'");
    RUN("DELETE FROM config WHERE name = 'site'");
    RUN("INSERT INTO config (name, content) VALUES ('site', '{}')");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('site', 'site', '{}')");
    RUN("WITH gone AS (DELETE FROM config WHERE name = 'text') "
        "DELETE FROM assignment WHERE config = 'text'");
    REFUSE("23503", "assignment_node_exists", "There are: \"n1\", \"n2\", \"n3\".",
           "UPDATE assignment SET selector = NULL, node = 'n4' WHERE name = 'site'");
    RUN("DELETE FROM node");
    REFUSE("23503", "assignment_node_exists", "There is none at all yet",
           "UPDATE assignment SET selector = NULL, node = 'n4' WHERE name = 'site'");
}
END_TEST

/* ---- the index ------------------------------------------------------------------------------- */

START_TEST(test_alternatives_are_found_by_the_index)
{
    RUN("INSERT INTO node (name, labels) SELECT 'n' || i, jsonb_build_object('slot', i) "
        "FROM generate_series(1, 2000) AS i");
    RUN("ANALYZE node");
    RUN("CREATE FUNCTION pg_temp.plan_of(statement text) RETURNS text LANGUAGE plpgsql AS $$ "
        "DECLARE line text; lines text := ''; BEGIN FOR line IN EXECUTE 'EXPLAIN ' || statement "
        "LOOP "
        "lines := lines || line || E'\\n'; END LOOP; RETURN lines; END $$");
    EXPECT("t", "SELECT pg_temp.plan_of('SELECT name FROM headwater.node WHERE labels @> ANY "
                "(''{\"{\\\"slot\\\":3}\",\"{\\\"slot\\\":\\\"3\\\"}\"}''::jsonb[])') "
                "LIKE '%%Bitmap Index Scan on node_labels%%'");
    EXPECT("n3", "SELECT string_agg(name, ' ') FROM node WHERE labels @> ANY "
                 "('{\"{\\\"slot\\\":3}\",\"{\\\"slot\\\":\\\"3\\\"}\"}'::jsonb[])");
}
END_TEST

TEST_SQL_MAIN("sql warnings", 120, test_an_assignment_without_nodes, test_a_base_that_is_replaced,
              test_an_assignment_without_effect, test_who_may_ask, test_references_in_words,
              test_alternatives_are_found_by_the_index)
