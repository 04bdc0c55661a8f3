/*
 * The schema: what follows from what is written, and that no way of writing gets round it. Each
 * test has a migrated database of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

/* ---- JSON Merge Patch ---------------------------------------------------------------------------
 */

START_TEST(test_merge_patch)
{
    /* RFC 7396, appendix A: original, patch, result; then more of our own. */
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"{\"a\":{\"x\":null}}", "{\"a\":{\"y\":{\"z\":1}}}",
         "{\"a\":{\"x\":null,\"y\":{\"z\":1}}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":null,\"c\":[null]}}", "{\"a\":{\"c\":[null]}}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":{}}}", "{\"a\":{\"b\":{}}}"},
        {"{\"a\":[{\"b\":null}]}", "{\"c\":[{\"d\":null}]}",
         "{\"a\":[{\"b\":null}],\"c\":[{\"d\":null}]}"},
        {"null", "{\"a\":1}", "{\"a\":1}"},
        {"{\"n\":1.00}", "{\"m\":1e3}", "{\"n\":1.00,\"m\":1000}"},
    };
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) VALUES ('original', '0'), ('patch', '0')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('o', 'original', 'n', 1), "
        "('p', 'patch', 'n', 2)");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        EXPECT("t", "SELECT merge_patch('%s', '%s')::text = '%s'::jsonb::text", cases[i][0],
               cases[i][1], cases[i][2]);
        RUN("UPDATE config SET content = CASE name WHEN 'original' THEN '%s' ELSE '%s' END",
            cases[i][0], cases[i][1]);
        /* A patch that replaces is the only source, and comes as it was written. */
        EXPECT("t",
               "SELECT b.content = CASE WHEN jsonb_array_length(d.sources) = 1 THEN '%s' "
               "ELSE '%s'::jsonb::text END FROM desired AS d JOIN blob AS b USING (digest)",
               cases[i][1], cases[i][2]);
    }
    expect_no_drift();
}
END_TEST

START_TEST(test_merging_deep_documents)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) "
        "SELECT c, repeat('{\"a\":', 100) || format('{\"%%s\":1}', c) || repeat('}', 100) "
        "FROM unnest('{x,y}'::text[]) AS c");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('x', 'x', 'n'), ('y', 'y', 'n')");
    EXPECT("{\"x\": 1, \"y\": 1}", "SELECT content::jsonb #>> array_fill('a'::text, ARRAY[100]) "
                                   "FROM desired JOIN blob USING (digest)");
}
END_TEST

/* ---- resolution -------------------------------------------------------------------------------*/

START_TEST(test_resolution)
{
    make_fleet();
    EXPECT(FLEET, DESIRED);
    EXPECT("[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"everyone\"}, "
           "{\"config\": \"site-b\", \"revision\": 1, \"assignment\": \"b\"}]",
           "SELECT sources FROM desired WHERE node = 'n3'");
    EXPECT("application/json 32", "SELECT concat_ws(' ', media_type, size) FROM desired WHERE node "
                                  "= 'n3'");

    /* A node's own assignment, and one that is moved to another node. */
    RUN("INSERT INTO config (name, content) VALUES ('own', '{\"own\":true}')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('own', 'own', 'n1', 20)");
    EXPECT("{\"log\": {\"level\": 3}, \"own\": true, \"rate\": 1}",
           "SELECT content FROM desired JOIN blob USING (digest) WHERE node = 'n1'");
    RUN("UPDATE assignment SET node = 'n2' WHERE name = 'own'");
    EXPECT("n1 3 {\"rate\":1,\"log\":{\"level\":3}}\n"
           "n2 2 {\"log\": {\"level\": 3}, \"own\": true, \"rate\": 1}\n"
           "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": "
           "1}",
           DESIRED);

    /* A node that moves between sites; a selector that moves. */
    RUN("UPDATE node SET labels = '{\"site\": \"b\", \"rack\": 7}' WHERE name = 'n1'");
    EXPECT("4", "SELECT revision FROM desired WHERE node = 'n1'");
    RUN("UPDATE assignment SET selector = '{\"rack\": 7}' WHERE name = 'b'");
    EXPECT("n1,n2,n3,n4", "SELECT string_agg(node, ',' ORDER BY node) FROM desired");
    EXPECT("n1", "SELECT string_agg(node, ',') FROM desired WHERE sources @> '[{\"assignment\": "
                 "\"b\"}]'");
    RUN("DELETE FROM assignment WHERE name = 'everyone'");
    EXPECT("n1 5 {\"log\":{\"level\":5}}\nn2 3 {\"own\":true}", DESIRED);
    RUN("DELETE FROM assignment");
    EXPECT("", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_order_of_sources)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) SELECT c, format('{\"who\":\"%%s\"}', c) "
        "FROM unnest('{one,two,three}'::text[]) AS c");
    /* Equal priorities go by the name of the assignment, byte by byte, whatever the locale. */
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
        "('a', 'one', '{}', 5), ('B', 'two', '{}', 5), ('C', 'three', '{}', -5)");
    EXPECT("C B a", "SELECT string_agg(s ->> 'assignment', ' ' ORDER BY i) FROM desired, "
                    "jsonb_array_elements(sources) WITH ORDINALITY AS e (s, i)");
    EXPECT("{\"who\": \"one\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    RUN("UPDATE assignment SET priority = 6 WHERE name = 'C'");
    EXPECT("{\"who\": \"three\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    RUN("UPDATE assignment SET priority = 2147483647 WHERE name = 'B'");
    EXPECT("{\"who\": \"two\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    expect_no_drift();
}
END_TEST

START_TEST(test_media_types_decide_what_merges)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content, media_type, encoding) VALUES "
        "('json', '{ \"a\" : 1 }', 'application/json', 'utf-8'), "
        "('more', '{\"b\":2}', 'application/x+json', 'utf-8'), "
        "('coded', 'eyJjIjogM30=', 'application/json', 'base64'), "
        "('list', '[1,2]', 'application/json', 'utf-8'), "
        "('text', 'hello', 'text/plain', 'utf-8')");
    static const struct {
        const char *configs; /* lowest priority first */
        const char *content, *media_type, *sources;
    } cases[] = {
        {"json", "{ \"a\" : 1 }", "application/json", "json"},
        {"json,more", "{\"a\": 1, \"b\": 2}", "application/x+json", "json,more"},
        {"more,json", "{\"a\": 1, \"b\": 2}", "application/json", "more,json"},
        {"json,json", "{\"a\": 1}", "application/json", "json,json"},
        {"coded", "eyJjIjogM30=", "application/json", "coded"},
        {"json,coded", "{\"a\": 1, \"c\": 3}", "application/json", "json,coded"},
        {"json,text", "hello", "text/plain", "text"},
        {"text,json", "{ \"a\" : 1 }", "application/json", "json"},
        {"text,json,more", "{\"a\": 1, \"b\": 2}", "application/x+json", "json,more"},
        {"json,text,more,coded", "{\"b\": 2, \"c\": 3}", "application/json", "more,coded"},
        {"json,list", "[1,2]", "application/json", "list"},
        {"list,json", "{\"a\": 1}", "application/json", "list,json"},
        {"text,list,json", "{\"a\": 1}", "application/json", "list,json"},
        {"list,text,list", "[1,2]", "application/json", "list"},
        {"text,text", "hello", "text/plain", "text"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        RUN("DELETE FROM assignment");
        RUN("INSERT INTO assignment (name, config, node, priority) SELECT 'a' || i, c, 'n', i "
            "FROM unnest(string_to_array('%s', ',')) WITH ORDINALITY AS e (c, i)",
            cases[i].configs);
        EXPECT(cases[i].content, "SELECT content FROM desired JOIN blob USING (digest)");
        EXPECT(cases[i].media_type, "SELECT media_type FROM desired");
        EXPECT(cases[i].sources, "SELECT string_agg(s ->> 'config', ',' ORDER BY i) FROM desired, "
                                 "jsonb_array_elements(sources) WITH ORDINALITY AS e (s, i)");
        expect_no_drift();
    }
}
END_TEST

START_TEST(test_pinned_revisions)
{
    RUN("INSERT INTO node (name) VALUES ('n'), ('m')");
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('follows', 'c', 'n')");
    RUN("INSERT INTO assignment (name, config, node, revision) VALUES ('stays', 'c', 'm', 1)");
    RUN("UPDATE config SET content = '2'");
    EXPECT("m 1 1\nn 2 2", DESIRED);
    RUN("UPDATE assignment SET revision = 2 WHERE name = 'stays'");
    RUN("UPDATE assignment SET revision = 1 WHERE name = 'follows'");
    EXPECT("m 2 2\nn 3 1", DESIRED);
    RUN("UPDATE assignment SET revision = NULL");
    EXPECT("m 2 2\nn 4 2", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_same_bytes_are_one_blob)
{
    RUN("INSERT INTO node (name) VALUES ('n'), ('m')");
    RUN("INSERT INTO config (name, content, encoding, media_type) VALUES "
        "('c', 'hello', 'utf-8', 'text/plain'), ('d', 'aGVs\nbG8=', 'base64', 'text/plain')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('c', 'c', 'n'), ('d', 'd', 'm')");
    EXPECT("1", "SELECT count(*) FROM blob");
    EXPECT("1", "SELECT count(DISTINCT digest) FROM config_revision");
    EXPECT("aGVsbG8=", "SELECT content FROM config WHERE name = 'd'");
    /* Another media type is another revision, of the same blob. */
    RUN("UPDATE config SET media_type = 'text/html'");
    EXPECT("m 2 hello\nn 2 hello", DESIRED);
    EXPECT("1", "SELECT count(*) FROM blob");
}
END_TEST

/* ---- revisions, versions, and what changes nothing ----------------------------------------------
 */

START_TEST(test_revisions_of_a_config)
{
    RUN("INSERT INTO config (name, content, revision) VALUES ('c', '1', 77)");
    EXPECT("1", "SELECT revision FROM config");
    RUN("UPDATE config SET content = '2', revision = 9, version = 9, created_at = 'epoch', "
        "updated_at = 'epoch', updated_by = 'nobody'");
    EXPECT("2 2 postgres t", "SELECT concat_ws(' ', revision, version, updated_by, "
                             "least(created_at, updated_at) > now() - interval '1 h') FROM config");
    RUN("UPDATE config SET encoding = 'base64', content = 'Mg=='"); /* the same bytes */
    RUN("UPDATE config SET media_type = 'text/plain'");
    EXPECT("4", "SELECT revision FROM config");
    RUN("DELETE FROM config");
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    EXPECT("5 6", "SELECT revision || ' ' || version FROM config");
    EXPECT("1 2 3 4 5", "SELECT string_agg(revision::text, ' ' ORDER BY revision) "
                        "FROM config_revision WHERE config = 'c'");
    EXPECT("t", "SELECT bool_and(digest = digest_of(bytes_of(content, encoding)) AND size = "
                "length(bytes_of(content, encoding))) FROM config_revision");
    /* A rollback is a new revision. */
    RUN("UPDATE config AS c SET (content, encoding, media_type) = (SELECT r.content, r.encoding, "
        "r.media_type FROM config_revision AS r WHERE r.config = c.name AND r.revision = 3)");
    EXPECT("6 Mg== base64", "SELECT concat_ws(' ', revision, content, encoding) FROM config");
}
END_TEST

START_TEST(test_versions_are_never_used_again)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    EXPECT("1", "SELECT version FROM node");
    RUN("DELETE FROM node");
    RUN("INSERT INTO node (name, version) VALUES ('n', 1)");
    EXPECT("3", "SELECT version FROM node");
    RUN("UPDATE node SET version = 1, created_at = 'epoch'");
    EXPECT("3", "SELECT version FROM node");
    RUN("UPDATE node SET description = 'x'");
    EXPECT("4", "SELECT version FROM node");
    RUN("BEGIN; INSERT INTO config (name, content) VALUES ('c', '1'); INSERT INTO assignment "
        "(name, config, node) VALUES ('a', 'c', 'n'); COMMIT");
    EXPECT("5 5", "SELECT c.version || ' ' || a.version FROM config AS c, assignment AS a");
    EXPECT("5", "SELECT rev FROM changelog_head");
}
END_TEST

START_TEST(test_revisions_of_a_node)
{
    make_fleet();
    /* Other sources, the same bytes: the row says so, the revision stays. */
    RUN("INSERT INTO config (name, content) VALUES ('same', '{\"rate\": 1}')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('same', 'same', 'n3', 50)");
    EXPECT("1 3", "SELECT revision || ' ' || jsonb_array_length(sources) FROM desired WHERE node = "
                  "'n3'");
    EXPECT("2", "SELECT count(*) FROM desired_history WHERE node = 'n3'");
    EXPECT("t", "SELECT d.changed_at = h.changed_at AND d.wal_lsn = h.wal_lsn FROM desired AS d "
                "JOIN desired_history AS h USING (node, revision) WHERE node = 'n3' ORDER BY h.id "
                "LIMIT 1");

    /* Gone and back, the revision goes on. */
    RUN("DELETE FROM node WHERE name = 'n1'");
    RUN("INSERT INTO node (name) VALUES ('n1')");
    EXPECT("2", "SELECT revision FROM desired WHERE node = 'n1'");
    EXPECT("1 f,1 t,2 f", "SELECT string_agg(concat_ws(' ', revision, digest IS NULL), ',' ORDER "
                          "BY id) FROM desired_history WHERE node = 'n1'");
    EXPECT("t", "SELECT bool_and(c.rev = h.rev) FROM desired_history AS h LEFT JOIN changelog AS c "
                "USING (rev)");
    expect_no_drift();
}
END_TEST

START_TEST(test_what_changes_nothing)
{
    make_fleet();
    static const char *const cases[] = {
        "UPDATE config SET content = content",
        "UPDATE config SET content = '{\"rate\":1,\"log\":{\"level\":3}}', revision = 8, "
        "version = 0, message = '' WHERE name = 'base'",
        "UPDATE config SET content = 'x' WHERE name = 'none'",
        "UPDATE node SET labels = labels, description = description",
        "UPDATE node SET labels = '{ \"site\":\"a\" }' WHERE name = 'n1'",
        "UPDATE assignment SET priority = priority + 0",
        "DELETE FROM node WHERE name = 'n9'",
        "DELETE FROM assignment WHERE false",
        "INSERT INTO node (name) SELECT name FROM node WHERE false",
        "INSERT INTO node (name) VALUES ('n1') ON CONFLICT DO NOTHING",
        "INSERT INTO config (name, content) VALUES ('base', '[]') ON CONFLICT DO NOTHING",
        "INSERT INTO assignment (name, config, node) VALUES ('b', 'base', 'n1') "
        "ON CONFLICT (name) DO NOTHING",
        "INSERT INTO node (name) VALUES ('n1') ON CONFLICT (name) DO UPDATE SET description = ''",
        "INSERT INTO config (name, content) VALUES ('site-b', '{\"log\":{\"level\":5}}') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content, "
        "media_type = excluded.media_type, encoding = excluded.encoding, "
        "revision = excluded.revision, version = excluded.version",
        "MERGE INTO node USING (VALUES ('n1'), ('n2')) AS v (name) ON node.name = v.name "
        "WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (name) VALUES (v.name)",
        "BEGIN; UPDATE config SET content = '{}'; DELETE FROM node; ROLLBACK",
        "BEGIN; SAVEPOINT s; UPDATE config SET content = '{}'; ROLLBACK TO s; "
        "UPDATE node SET description = ''; COMMIT",
        "BEGIN; SAVEPOINT s; TRUNCATE node CASCADE; ROLLBACK TO s; COMMIT",
        "DO $$ BEGIN INSERT INTO headwater.node (name) VALUES ('x'); "
        "INSERT INTO headwater.node (name) VALUES ('!'); EXCEPTION WHEN check_violation THEN END "
        "$$",
        "SELECT recompute()",
    };
    static const char state[] =
        "SELECT concat_ws(' ', (SELECT rev FROM changelog_head), (SELECT count(*) FROM changelog), "
        "(SELECT count(*) FROM desired_history), (SELECT count(*) FROM blob), "
        "(SELECT count(*) FROM config_revision), (SELECT string_agg(concat(d, d.ctid), '' ORDER BY "
        "node) FROM desired AS d), (SELECT string_agg(concat(name, version), '' ORDER BY name) "
        "FROM node))";
    char *before = test_value(db.conn, state);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        RUN("%s", cases[i]);
        char *after = test_value(db.conn, state);
        ck_assert_msg(strcmp(before, after) == 0, "%s: %s became %s", cases[i], before, after);
        free(after);
    }
    free(before);
    /* What was updated in vain still counts as found: the writer's row count and RETURNING. */
    EXPECT("n1", "UPDATE node SET labels = labels WHERE name = 'n1' RETURNING name");
}
END_TEST

START_TEST(test_a_change_that_reaches_nobody)
{
    make_fleet();
    RUN("UPDATE node SET description = 'rack 7' WHERE name = 'n1'");
    RUN("UPDATE config SET message = 'as agreed' WHERE name = 'base'");
    RUN("INSERT INTO config (name, content) VALUES ('unused', '0')");
    RUN("UPDATE config SET content = '1' WHERE name = 'unused'");
    RUN("DELETE FROM config WHERE name = 'unused'");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('none', 'base', '{\"site\": 0}')");
    RUN("UPDATE assignment SET priority = 3 WHERE name = 'none'");
    EXPECT("10", "SELECT count(*) FROM changelog"); /* they are changes of the configuration */
    EXPECT(FLEET, DESIRED);
    EXPECT("4", "SELECT count(*) FROM desired_history");
}
END_TEST

START_TEST(test_one_transaction_is_one_change)
{
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\": 1}'), ('b', '{}')");
    RUN("BEGIN; INSERT INTO node (name, labels) SELECT 'n' || i, jsonb_build_object('m', i %% 10) "
        "FROM generate_series(1, 1000) AS i; "
        "INSERT INTO assignment (name, config, selector) VALUES ('all', 'base', '{}'); COMMIT");
    EXPECT("2 1", "SELECT rev || ' ' || revision FROM changelog_head, config WHERE name = 'base'");
    EXPECT("1000 1000 2 2", "SELECT concat_ws(' ', count(*), count(DISTINCT node), min(rev), "
                            "max(rev)) FROM desired_history");

    RUN("UPDATE config SET content = '{\"rate\": 2}' WHERE name = 'base'");
    EXPECT("1000 1", "SELECT count(*) || ' ' || count(DISTINCT (digest, changed_at, wal_lsn)) FROM "
                     "desired_history WHERE rev = 3 AND revision = 2");
    EXPECT("2", "SELECT count(*) FROM blob");
    EXPECT("t", "SELECT bool_and(wal_lsn < pg_current_wal_lsn()) FROM desired");

    RUN("INSERT INTO assignment (name, config, selector) VALUES ('some', 'b', '{\"m\": 3}')");
    EXPECT("100", "SELECT count(*) FROM desired_history WHERE rev = 4");
    RUN("DELETE FROM node");
    EXPECT("0 1000", "SELECT concat_ws(' ', (SELECT count(*) FROM desired), (SELECT count(*) FROM "
                     "desired_history WHERE rev = 5 AND digest IS NULL))");
    EXPECT("5", "SELECT count(*) FROM changelog");
}
END_TEST

/* ---- every way of writing -----------------------------------------------------------------------
 */

START_TEST(test_copy)
{
    make_fleet();
    PQclear(PQexec(db.conn, "COPY node (name, labels) FROM STDIN"));
    static const char rows[] = "n5\t{\"site\": \"b\"}\nn6\t{}\n";
    ck_assert_int_eq(PQputCopyData(db.conn, rows, (int)strlen(rows)), 1);
    ck_assert_int_eq(PQputCopyEnd(db.conn, NULL), 1);
    for (PGresult *r; (r = PQgetResult(db.conn)) != NULL; PQclear(r))
        ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK, "%s", PQresultErrorMessage(r));
    EXPECT("6", "SELECT count(*) FROM desired");
    EXPECT("t", "SELECT (SELECT digest FROM desired WHERE node = 'n5') = (SELECT digest FROM "
                "desired WHERE node = 'n3')");
    expect_no_drift();
}
END_TEST

START_TEST(test_upsert_and_merge)
{
    make_fleet();
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\":2}'), ('new', '{}') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content");
    EXPECT("2 1", "SELECT string_agg(revision::text, ' ' ORDER BY name) FROM config WHERE name IN "
                  "('base', 'new')");
    EXPECT("{\"rate\":2}",
           "SELECT content FROM desired JOIN blob USING (digest) WHERE node = 'n1'");
    RUN("MERGE INTO node USING (VALUES ('n1', '{\"site\": \"b\"}'::jsonb), ('n7', '{}'), "
        "('n2', NULL)) AS v (name, labels) ON node.name = v.name "
        "WHEN MATCHED AND v.labels IS NULL THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET labels = v.labels "
        "WHEN NOT MATCHED THEN INSERT (name, labels) VALUES (v.name, v.labels)");
    EXPECT("n1,n3,n4,n7", "SELECT string_agg(node, ',' ORDER BY node) FROM desired");
    EXPECT("1", "SELECT count(DISTINCT digest) FROM desired WHERE node IN ('n1', 'n3', 'n4')");
    EXPECT("5", "SELECT rev FROM changelog_head");
    RUN("WITH c AS (UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'), "
        "a AS (DELETE FROM assignment WHERE name = 'b') INSERT INTO node (name) VALUES ('n8')");
    EXPECT("n1 {\"rate\":3},n3 {\"rate\":3},n4 {\"rate\":3},n7 {\"rate\":3},n8 {\"rate\":3}",
           "SELECT string_agg(node || ' ' || content, ',' ORDER BY node) FROM desired JOIN blob "
           "USING (digest)");
    expect_no_drift();
}
END_TEST

START_TEST(test_savepoints)
{
    make_fleet();
    RUN("BEGIN");
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    RUN("SAVEPOINT s");
    RUN("DELETE FROM node WHERE name = 'n1'");
    EXPECT("3", "SELECT count(*) FROM desired");
    RUN("ROLLBACK TO s");
    RUN("SAVEPOINT t");
    RUN("UPDATE node SET labels = '{\"site\": \"b\"}' WHERE name = 'n2'");
    RUN("RELEASE t");
    RUN("COMMIT");
    EXPECT("4 4 4", "SELECT concat_ws(' ', rev, (SELECT count(*) FROM changelog), (SELECT count(*) "
                    "FROM desired)) FROM changelog_head");
    EXPECT("5", "SELECT count(*) FROM desired_history WHERE rev = 4");
    expect_no_drift();
}
END_TEST

START_TEST(test_truncate)
{
    make_fleet();
    RUN("SELECT report(jsonb_build_array('{\"kv_created\": \"2024-01-01T00:00:00Z\", "
        "\"kv_revision\": 1, \"value\": {\"node\": \"n1\", \"state\": \"applied\"}}'::jsonb))");
    REFUSE("0A000", "", "assignment", "TRUNCATE node");
    REFUSE("0A000", "", "assignment", "TRUNCATE config");
    RUN("TRUNCATE assignment");
    EXPECT("", DESIRED);
    RUN("TRUNCATE assignment");
    EXPECT("4", "SELECT rev FROM changelog_head");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('everyone', 'base', '{}')");
    EXPECT("4", "SELECT count(*) FROM desired");
    RUN("TRUNCATE node CASCADE");
    EXPECT("0 0 0 6", "SELECT concat_ws(' ', (SELECT count(*) FROM desired), (SELECT count(*) FROM "
                      "assignment), (SELECT count(*) FROM reported), rev) FROM changelog_head");
    RUN("TRUNCATE config CASCADE");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{}')");
    EXPECT("2", "SELECT revision FROM config");
    expect_no_drift();
}
END_TEST

/* Not even this setting, which only a superuser has, turns the triggers off. */
START_TEST(test_replica_role)
{
    RUN("SET session_replication_role = replica");
    make_fleet();
    EXPECT(FLEET, DESIRED);
    REFUSE("23514", "config_content_is_json", "base", "UPDATE config SET content = 'x'");
    REFUSE("55000", "blob_is_kept", "Write to headwater.node", "DELETE FROM blob");
    /* Foreign keys are off then: what is left behind reaches nobody. */
    RUN("DELETE FROM config WHERE name = 'base'");
    EXPECT("n3 2 {\"log\":{\"level\":5}}\nn4 2 {\"log\":{\"level\":5}}", DESIRED);
    RUN("INSERT INTO assignment (name, config, node) VALUES ('n3', 'site-b', 'n3')");
    RUN("DELETE FROM node WHERE name = 'n3'");
    EXPECT("n4 2 {\"log\":{\"level\":5}}", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_a_node_takes_its_assignments_along)
{
    make_fleet();
    RUN("INSERT INTO assignment (name, config, node) SELECT 'own-' || name, 'site-b', name "
        "FROM node");
    RUN("DELETE FROM node WHERE name IN ('n1', 'n2')");
    EXPECT("b everyone own-n3 own-n4",
           "SELECT string_agg(name, ' ' ORDER BY name) FROM assignment");
    EXPECT("5 2", "SELECT rev || ' ' || (SELECT count(*) FROM desired_history WHERE rev = 5) "
                  "FROM changelog_head");
    expect_no_drift();
}
END_TEST

START_TEST(test_history_is_kept)
{
    make_fleet();
    static const char *const tables[] = {"config_revision", "desired_history", "changelog", "blob"};
    for (int replica = 0; replica < 2; replica++) {
        for (size_t i = 0; i < HW_COUNT(tables); i++) {
            char constraint[40];
            snprintf(constraint, sizeof(constraint), "%s_is_kept", tables[i]);
            char *column =
                test_value(db.conn,
                           "SELECT attname FROM pg_attribute WHERE attrelid = '%s'::regclass AND "
                           "attnum = 2",
                           tables[i]);
            REFUSE("55000", constraint, "only grows", "DELETE FROM %s", tables[i]);
            REFUSE("55000", constraint, "only grows", "UPDATE %s SET %s = DEFAULT", tables[i],
                   column);
            REFUSE("55000", constraint, "only grows", "TRUNCATE %s CASCADE", tables[i]);
            free(column);
        }
        REFUSE("55000", "desired_is_kept", "follows", "TRUNCATE desired");
        REFUSE("55000", "changelog_head_is_kept", "wait", "DELETE FROM changelog_head");
        REFUSE("55000", "changelog_head_is_kept", "wait", "TRUNCATE changelog_head");
        RUN("SET session_replication_role = replica");
    }
    EXPECT(FLEET, DESIRED);
}
END_TEST

START_TEST(test_damage_is_found_and_repaired)
{
    make_fleet();
    RUN("UPDATE desired SET digest = 'sha256:' || repeat('0', 64) WHERE node = 'n1'");
    RUN("DELETE FROM desired WHERE node = 'n2'");
    RUN("UPDATE desired SET sources = '[]' WHERE node = 'n3'");
    RUN("INSERT INTO desired SELECT 'n5', revision, digest, size, media_type, sources, changed_at, "
        "wal_lsn FROM desired WHERE node = 'n4'");
    EXPECT("n1,n2,n3,n5", "SELECT string_agg(node, ',' ORDER BY node) FROM desired_drift()");
    EXPECT("4", "SELECT recompute()");
    EXPECT("n1 2 {\"rate\":1,\"log\":{\"level\":3}}\nn2 2 {\"rate\":1,\"log\":{\"level\":3}}\n"
           "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": "
           "1}",
           DESIRED);
    EXPECT("4", "SELECT rev FROM changelog_head"); /* a repair is a change, too */
    expect_no_drift();
}
END_TEST

START_TEST(test_dump_and_restore)
{
    make_fleet();
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    char url[256], *dump, *output;
    make_database("", "postgres", url);
    ck_assert_int_eq(
        test_program_run((const char *[]){"pg_dump", "-d", db.url, NULL}, NULL, NULL, &dump), 0);
    ck_assert_msg(test_program_run((const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
                                                    "-d", url, NULL},
                                   NULL, dump, &output) == 0,
                  "%s", output);
    struct test_database copy = {.conn = NULL};
    snprintf(copy.url, sizeof(copy.url), "%s", url);
    copy.conn = test_database_connect(&copy, NULL);
    test_run(copy.conn, "SET search_path = headwater");
    test_expect(copy.conn, "0", "SELECT count(*) FROM desired_drift()");

    /* The history is the same up to the dump, and another one after it. */
    test_run(copy.conn, "UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    RUN("UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    char *ours = test_value(db.conn, "SELECT string_agg(nonce::text, ' ' ORDER BY rev) FROM "
                                     "changelog");
    char *theirs = test_value(copy.conn, "SELECT string_agg(nonce::text, ' ' ORDER BY rev) FROM "
                                         "changelog");
    ck_assert_uint_eq(strlen(ours), strlen(theirs));
    ck_assert_int_eq(strncmp(ours, theirs, strlen(ours) - 36), 0);
    ck_assert_str_ne(ours, theirs);
    test_expect(copy.conn, "3", "SELECT max(revision) FROM desired");
    test_expect(copy.conn, "0", "SELECT recompute()");
    test_refuse(copy.conn, "55000", "changelog_is_kept", "grows", "DELETE FROM changelog");
    free(ours);
    free(theirs);
    free(dump);
    free(output);
    PQfinish(copy.conn);
}
END_TEST

TEST_SQL_MAIN("sql", 120, test_merge_patch, test_merging_deep_documents, test_resolution,
              test_order_of_sources, test_media_types_decide_what_merges, test_pinned_revisions,
              test_same_bytes_are_one_blob, test_revisions_of_a_config,
              test_versions_are_never_used_again, test_revisions_of_a_node,
              test_what_changes_nothing, test_a_change_that_reaches_nobody,
              test_one_transaction_is_one_change, test_copy, test_upsert_and_merge, test_savepoints,
              test_truncate, test_replica_role, test_a_node_takes_its_assignments_along,
              test_history_is_kept, test_damage_is_found_and_repaired, test_dump_and_restore)
