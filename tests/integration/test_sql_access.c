/* Who may do what, whose words are written down, and what goes into the stream of changes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

START_TEST(test_privileges)
{
    make_fleet();
    enum { dba = 1, api = 2, reconciler = 4, viewer = 8, stranger = 16 };
    static const char *const roles[] = {"headwater_dba", "headwater_api", "headwater_reconciler",
                                        "headwater_viewer", "stranger"};
    static const struct {
        const char *sql;
        int allowed;
    } cases[] = {
        {"INSERT INTO headwater.node (name) VALUES ('x')", dba | api},
        {"UPDATE headwater.node SET labels = '{\"site\": \"b\"}' WHERE name = 'n1'", dba | api},
        {"DELETE FROM headwater.node WHERE name = 'n1'", dba | api},
        {"INSERT INTO headwater.config (name, content) VALUES ('x', '{}')", dba | api},
        {"UPDATE headwater.config SET content = '{}' WHERE name = 'base'", dba | api},
        {"INSERT INTO headwater.assignment (name, config, node) VALUES ('x', 'base', 'n1')",
         dba | api},
        {"DELETE FROM headwater.assignment", dba | api},
        {"TRUNCATE headwater.node CASCADE", dba},
        {"SELECT * FROM headwater.node, headwater.config, headwater.assignment",
         dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.config_revision, headwater.desired, headwater.desired_history, "
         "headwater.blob, headwater.reported, headwater.changelog, headwater.changelog_head, "
         "headwater.migration",
         dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.fleet", dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.resolve(NULL)", dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.desired_drift()", dba | api | reconciler | viewer},
        {"SELECT headwater.document(sources) FROM headwater.desired",
         dba | api | reconciler | viewer},
        {"SELECT headwater.recompute()", dba},
        {"SELECT headwater.resync()", dba | reconciler},
        {"SELECT headwater.replay('0/1')", dba | reconciler},
        {"SELECT headwater.heartbeat()", dba | reconciler},
        {"SELECT headwater.report('[]')", reconciler},
        {"SELECT headwater.take_reports('[]')", 0},
        {"SELECT headwater.materialise(NULL)", 0},
        {"SELECT headwater.lock_head()", 0},
        {"SELECT headwater.log_change()", 0},
        {"SELECT pg_logical_emit_message(true, 'headwater', '{}')", 0},
        {"SELECT pg_logical_emit_message(true, 'headwater', '{}'::bytea)", 0},
        {"INSERT INTO headwater.desired SELECT * FROM headwater.desired", 0},
        {"UPDATE headwater.desired SET revision = 1", 0},
        {"DELETE FROM headwater.desired", 0},
        {"INSERT INTO headwater.blob VALUES ('x', 'utf-8', '', 0)", 0},
        {"INSERT INTO headwater.changelog (rev) VALUES (99)", 0},
        {"UPDATE headwater.changelog_head SET rev = 99", 0},
        {"INSERT INTO headwater.config_revision (config) VALUES ('x')", 0},
        {"UPDATE headwater.reported SET state = 'applied'", 0},
        {"INSERT INTO headwater.reported (node) VALUES ('x')", 0},
        {"UPDATE headwater.migration SET checksum = ''", 0},
        {"SELECT * FROM headwater.set_member", dba | api | reconciler | viewer},
        {"DELETE FROM headwater.set_member", dba},
        {"UPDATE headwater.set_member SET version = 1", 0},
        {"SELECT headwater.apply('{\"resources\": []}', 'x', true)", dba | api},
        {"SELECT headwater.prune_set('x', '{}', '{}')", 0},
        {"CREATE TABLE headwater.mine ()", 0},
        {"ALTER TABLE headwater.node DISABLE TRIGGER ALL", 0},
        {"SET session_replication_role = replica", 0},
    };
    RUN("CREATE ROLE stranger");
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        for (size_t r = 0; r < HW_COUNT(roles); r++) {
            RUN("BEGIN; SET LOCAL ROLE %s", roles[r]);
            if (cases[i].allowed >> r & 1)
                RUN("%s", cases[i].sql);
            else
                REFUSE("42501", "", "", "%s", cases[i].sql);
            RUN("ROLLBACK");
        }
    EXPECT(FLEET, DESIRED);
    RUN("DROP ROLE stranger");
    EXPECT("headwater_api:f headwater_dba:f headwater_owner:f headwater_reconciler:t "
           "headwater_viewer:f",
           "SELECT string_agg(rolname || ':' || CASE WHEN rolreplication THEN 't' ELSE 'f' END, "
           "' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^headwater_' AND NOT rolsuper AND "
           "NOT rolcreaterole AND NOT rolcreatedb");
    EXPECT("0", "SELECT count(*) FROM pg_class WHERE relnamespace = 'headwater'::regnamespace AND "
                "relowner <> 'headwater_owner'::regrole");
    /* What runs with the owner's rights has a fixed search_path. */
    EXPECT("0", "SELECT count(*) FROM pg_proc WHERE pronamespace = 'headwater'::regnamespace AND "
                "(proowner <> 'headwater_owner'::regrole OR prosecdef AND (proconfig IS NULL OR "
                "NOT 'search_path=pg_catalog, headwater, pg_temp' = ANY (proconfig)))");
}
END_TEST

/* A writer's own objects do not get between: neither functions nor operators nor tables. */
START_TEST(test_search_path)
{
    make_fleet();
    RUN("SET search_path = trap, pg_catalog, headwater");
    RUN("CREATE SCHEMA trap");
    RUN("CREATE FUNCTION trap.merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT "
        "NULL::jsonb'");
    RUN("CREATE FUNCTION trap.contains(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT "
        "true'");
    RUN("CREATE OPERATOR trap.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = trap.contains)");
    RUN("CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'");
    RUN("CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal)");
    RUN("CREATE TABLE trap.assignment AS SELECT * FROM headwater.assignment");
    RUN("CREATE TEMP TABLE desired AS SELECT * FROM headwater.desired");
    RUN("UPDATE headwater.config SET content = '{\"log\":{\"level\":6}}' WHERE true");
    RUN("SET search_path = headwater");
    EXPECT("4 2", "SELECT count(*) || ' ' || count(DISTINCT digest) FROM headwater.desired WHERE "
                  "revision > 1");
    expect_no_drift();
}
END_TEST

START_TEST(test_authors_and_messages)
{
    PGconn *api = test_database_connect(&db, "headwater_api");
    test_run(api, "BEGIN; SET LOCAL headwater.author = 'alice'; "
                  "SET LOCAL headwater.message = 'more often'; "
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '1'); COMMIT");
    EXPECT("alice|more often|headwater_api",
           "SELECT concat_ws('|', author, message, "
           "(SELECT usename FROM pg_stat_activity WHERE pid = %d)) FROM changelog",
           PQbackendPID(api));
    EXPECT("alice|more often", "SELECT author || '|' || message FROM config_revision");
    EXPECT("alice|more often", "SELECT updated_by || '|' || message FROM config");
    /* Those settings were of that transaction. */
    test_run(api, "UPDATE headwater.config SET content = '2'");
    EXPECT("headwater_api|", "SELECT updated_by || '|' || message FROM config");
    EXPECT("headwater_api|(none)", "SELECT author || '|' || coalesce(message, '(none)') FROM "
                                   "changelog WHERE rev = 2");
    test_expect(api, "10s", "SHOW lock_timeout");
    PQfinish(api);

    /* Nobody else speaks for others. */
    RUN("CREATE ROLE bob LOGIN IN ROLE headwater_dba");
    PGconn *bob = test_database_connect(&db, "bob");
    test_run(bob, "SET application_name = 'psql'; SET headwater.author = 'alice'; "
                  "UPDATE headwater.config SET content = '3', message = 'by hand'");
    EXPECT("bob|by hand|bob|psql", "SELECT concat_ws('|', c.updated_by, c.message, l.author, "
                                   "l.application_name) FROM config AS c JOIN changelog AS l ON "
                                   "l.rev = c.version");
    /* A message describes its revision: it does not stay for the next, unless given again. */
    test_run(bob, "UPDATE headwater.config SET content = '4', message = 'by hand'");
    test_run(bob, "UPDATE headwater.config SET content = '5'");
    test_run(bob,
             "INSERT INTO headwater.config (name, content, message) VALUES ('c', '6', 'again') "
             "ON CONFLICT (name) DO UPDATE SET content = excluded.content, "
             "message = excluded.message");
    EXPECT("more often||by hand|by hand||again",
           "SELECT string_agg(message, '|' ORDER BY revision) FROM config_revision");
    PQfinish(bob);
    RUN("DROP ROLE bob");
}
END_TEST

/* ---- what goes into the stream ------------------------------------------------------------------
 */

#define STREAM                                                                                     \
    "FROM pg_logical_slot_get_changes('test', NULL, NULL, 'format-version', '2', 'add-tables', "   \
    "'headwater.desired,headwater.blob,headwater.changelog', 'include-transaction', 'false', "     \
    "'add-msg-prefixes', 'headwater')"

START_TEST(test_stream)
{
    make_fleet();
    RUN("SELECT pg_create_logical_replication_slot('test', 'wal2json')");

    /* In one transaction: the change, the blobs that nodes will need, then the nodes. */
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    RUN("CREATE TEMP TABLE frame AS SELECT row_number() OVER () AS n, data::jsonb AS data " STREAM);
    EXPECT("changelog I 1,blob I 2,desired U 4",
           "SELECT string_agg(concat_ws(' ', name, action, n), ',' ORDER BY first) FROM (SELECT "
           "data ->> 'table' AS name, data ->> 'action' AS action, count(*) AS n, min(n) AS first "
           "FROM frame GROUP BY 1, 2) AS f");
    EXPECT("8", "SELECT DISTINCT jsonb_array_length(data -> 'columns') FROM frame "
                "WHERE data ->> 'table' = 'desired'");

    /* Sources that do not fit into a page are there as well, changed or not. */
    RUN("INSERT INTO config (name, content) SELECT 'c' || i || repeat('x', 100), '{}' FROM "
        "generate_series(1, 300) AS i");
    RUN("INSERT INTO assignment (name, config, selector) SELECT name, name, '{}' FROM config WHERE "
        "name ~ '^c'");
    RUN("UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    RUN("UPDATE config SET content = '{\"x\":3}' WHERE name ~ '^c7'");
    RUN("UPDATE config SET media_type = 'application/json;v=2' WHERE name ~ '^c'");
    EXPECT("t", "SELECT count(*) >= 16 AND bool_and(jsonb_array_length(data::jsonb -> 'columns') = "
                "8) " STREAM " WHERE data::jsonb ->> 'table' = 'desired'");

    /* What changes nothing streams nothing. */
    RUN("UPDATE config SET content = content; UPDATE node SET labels = labels; SELECT recompute()");
    EXPECT("0", "SELECT count(*) " STREAM);

    RUN("SELECT headwater.resync()");
    RUN("BEGIN; SELECT headwater.resync(); ROLLBACK");
    RUN("SELECT headwater.replay('0/1A2B')");
    RUN("SELECT headwater.replay(to_lsn => '0/1a2c', from_lsn => '0/1a2b')");
    RUN("SELECT headwater.heartbeat()");
    REFUSE("22004", "", "needs a position", "SELECT headwater.replay(NULL, '0/1')");
    REFUSE("22023", "", "would begin", "SELECT headwater.replay('FFFF/0')");
    REFUSE("22023", "", "would end", "SELECT headwater.replay('0/1', 'FFFF/0')");
    REFUSE("22023", "", "before 0/3 where it begins", "SELECT headwater.replay('0/3', '0/2')");
    EXPECT(
        "t headwater {\"command\":\"resync\"},"
        "t headwater {\"command\":\"replay\",\"from\":\"0/1A2B\",\"to\":null},"
        "t headwater {\"command\":\"replay\",\"from\":\"0/1A2B\",\"to\":\"0/1A2C\"},"
        "t headwater {\"command\":\"heartbeat\"}",
        "SELECT string_agg(concat_ws(' ', CASE WHEN (data::jsonb ->> 'transactional')::bool THEN "
        "'t' END, data::jsonb ->> 'prefix', data::jsonb ->> 'content'), ',') " STREAM);
    RUN("SELECT pg_drop_replication_slot('test')");
}
END_TEST

TEST_SQL_MAIN("sql access", 120, test_privileges, test_search_path, test_authors_and_messages,
              test_stream)
