/* The audit trail: what is written by psql and by HTTP, in SQL and at /v1/audit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/sql.h"

#define JSON "Content-Type: application/json\r\n"

static void open_database(void)
{
    create_database();
    RUN("SET application_name = 'psql'");
}

/* Fails the test unless these are the entries since the last call, in order, without repeats:
 * "node n create,config c update". */
static void expect_entries(const char *expected)
{
    EXPECT(expected,
           "SELECT coalesce(string_agg(concat_ws(' ', kind, name, action), ',' ORDER BY id), "
           "'nothing') FROM audit WHERE id > coalesce(nullif(current_setting('test.seen', "
           "true), '')::bigint, 0)");
    RUN("SELECT set_config('test.seen', coalesce(max(id), 0)::text, false) "
        "FROM audit");
}

/* ---- what is written ---- */

START_TEST(test_rows)
{
    open_database();
    RUN("INSERT INTO node (name, labels) VALUES ('n1', '{\"a\":1}'), ('n2', '{}')");
    expect_entries("node n1 create,node n2 create");
    RUN("INSERT INTO config (name, content) VALUES ('c', '{}')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('a', 'c', 'n1')");
    expect_entries("config c create,assignment a create");

    /* Only what differs. */
    RUN("UPDATE node SET labels = labels, description = description");
    RUN("UPDATE config SET content = content");
    RUN("UPDATE assignment SET priority = priority");
    RUN("INSERT INTO node (name) VALUES ('n1') ON CONFLICT DO NOTHING");
    RUN("DELETE FROM node WHERE name = 'nobody'");
    expect_entries("nothing");
    RUN("UPDATE node SET labels = '{\"a\":1}'");
    expect_entries("node n2 update");
    RUN("INSERT INTO node (name, description) VALUES ('n2', 'two'), ('n3', '') "
        "ON CONFLICT (name) DO UPDATE SET description = excluded.description");
    expect_entries("node n2 update,node n3 create");
    RUN("MERGE INTO node AS n USING (VALUES ('n3'), ('n4')) AS v (name) "
        "ON n.name = v.name WHEN MATCHED THEN DELETE "
        "WHEN NOT MATCHED THEN INSERT (name) VALUES (v.name)");
    EXPECT("2", "SELECT count(*) FROM audit WHERE rev = (SELECT max(rev) FROM changelog)");
    RUN("SELECT set_config('test.seen', max(id)::text, false) FROM audit");

    /* A change of the message alone, and two changes of one row in a transaction. */
    RUN("UPDATE config SET message = 'why'");
    RUN("BEGIN");
    RUN("UPDATE config SET content = '{\"v\":1}'");
    RUN("UPDATE config SET content = '{}'");
    RUN("COMMIT");
    expect_entries("config c update,config c update,config c update");

    /* What falls with something, and what never happened. */
    RUN("BEGIN");
    RUN("DELETE FROM node WHERE name = 'n4'");
    RUN("ROLLBACK");
    expect_entries("nothing");
    RUN("DELETE FROM node WHERE name = 'n1'");
    EXPECT("assignment a,node n1",
           "SELECT string_agg(kind || ' ' || name, ',' ORDER BY kind) FROM audit "
           "WHERE rev = (SELECT max(rev) FROM changelog) AND action = 'delete'");
    RUN("SELECT set_config('test.seen', max(id)::text, false) FROM audit");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('b', 'c', '{}')");
    RUN("SELECT set_config('test.seen', max(id)::text, false) FROM audit");
    RUN("TRUNCATE node CASCADE");
    EXPECT("assignment b delete,node n2 delete,node n4 delete",
           "SELECT string_agg(concat_ws(' ', kind, name, action), ',' ORDER BY kind, name) "
           "FROM audit WHERE id > current_setting('test.seen')::bigint");
    EXPECT("t", "SELECT bool_and(rev = (SELECT max(rev) FROM changelog)) FROM audit "
                "WHERE id > current_setting('test.seen')::bigint");
    /* session_replication_role, with which other triggers sleep, silences none. */
    RUN("SELECT set_config('test.seen', max(id)::text, false) FROM audit");
    RUN("SET session_replication_role = replica");
    RUN("INSERT INTO node (name) VALUES ('r')");
    expect_entries("node r create");
    drop_database();
}
END_TEST

START_TEST(test_digests)
{
    open_database();
    RUN("INSERT INTO config (name, content) VALUES ('c', '{\"v\":1}')");
    RUN("UPDATE config SET content = '{\"v\":2}'");
    RUN("DELETE FROM config");
    EXPECT("t", "SELECT array_agg(old_digest ORDER BY id) = ARRAY[NULL, digest_of('{\"v\":1}'), "
                "digest_of('{\"v\":2}')] AND array_agg(new_digest ORDER BY id) = "
                "ARRAY[digest_of('{\"v\":1}'), digest_of('{\"v\":2}'), NULL] FROM audit");

    /* Equal rows have equal digests; what changes shows. */
    RUN("INSERT INTO node (name, labels) VALUES ('n', '{\"b\":1, \"a\":2}')");
    RUN("UPDATE node SET description = 'x'");
    RUN("UPDATE node SET description = '', labels = '{\"a\":2,\"b\":1}'");
    EXPECT("t", "SELECT c.new_digest = u.old_digest AND u.new_digest <> u.old_digest AND "
                "d.old_digest = u.new_digest AND d.new_digest = c.new_digest "
                "FROM audit AS c JOIN audit AS u ON u.id > c.id JOIN audit AS d ON d.id > u.id "
                "WHERE c.kind = 'node' AND u.kind = 'node' AND d.kind = 'node'");
    EXPECT("t", "SELECT new_digest = digest_of(convert_to("
                "'{\"labels\": {\"a\": 2, \"b\": 1}, \"description\": \"\"}', 'UTF8')) "
                "FROM audit WHERE kind = 'node' ORDER BY id LIMIT 1");
    RUN("INSERT INTO config (name, content) VALUES ('c', '{}')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('a', 'c', 'n')");
    RUN("UPDATE assignment SET priority = 1");
    RUN("UPDATE assignment SET node = NULL, selector = '{}'");
    EXPECT("3", "SELECT count(DISTINCT new_digest) FROM audit "
                "WHERE kind = 'assignment'");
    drop_database();
}
END_TEST

START_TEST(test_who_and_why)
{
    open_database();
    RUN("CREATE ROLE alice LOGIN IN ROLE headwater_dba");
    PGconn *alice = test_database_connect(&db, "alice");
    test_run(alice, "SET application_name = 'shift'");
    test_run(alice, "BEGIN");
    test_run(alice, "SET LOCAL headwater.author = 'http:someone'"); /* only the API may */
    test_run(alice, "SET LOCAL headwater.message = 'ELOG 4711'");
    test_run(alice, "INSERT INTO headwater.node (name) VALUES ('n')");
    test_run(alice, "COMMIT");
    EXPECT("alice|shift|ELOG 4711|t",
           "SELECT concat_ws('|', a.author, a.application_name, a.message, "
           "(a.rev, a.at) = (c.rev, c.at)) FROM audit AS a, changelog AS c");

    /* It only grows, whoever asks. */
    for (int i = 0; i < 2; i++) {
        PGconn *conn = i == 0 ? db.conn : alice;
        const char *code = i == 0 ? "55000" : "42501", *constraint = i == 0 ? "audit_is_kept" : "";

        test_refuse(conn, code, constraint, "", "DELETE FROM headwater.audit");
        test_refuse(conn, code, constraint, "", "UPDATE headwater.audit SET author = 'x'");
        test_refuse(conn, code, constraint, "", "TRUNCATE headwater.audit");
    }
    test_refuse(alice, "42501", "", "denied",
                "INSERT INTO headwater.audit (author, application_name, kind, name, action) "
                "VALUES ('bob', '', 'node', 'n', 'delete')");
    PQfinish(alice);
    drop_database();
    free(test_sql(&server, "DROP ROLE alice"));
}
END_TEST

/* Whole statements, not rows: a fleet is recorded as a fleet, also in a session whose plans were
 * made for a node. */
START_TEST(test_fleet)
{
    open_database();
    RUN("INSERT INTO node (name) VALUES ('n0')");
    for (int i = 1; i <= 10; i++)
        RUN("UPDATE node SET description = '%d'", i);
    test_run(db.conn,
             "INSERT INTO node (name) SELECT 'n' || i FROM generate_series(1, 60000) AS i");
    RUN("UPDATE node SET labels = '{\"a\":1}' WHERE name <> 'n0'");
    RUN("DELETE FROM node WHERE name <> 'n0'");
    EXPECT("create 60001 2,delete 60000 1,update 60010 11",
           "SELECT string_agg(concat_ws(' ', action, n, revs), ',' ORDER BY action) FROM "
           "(SELECT action, count(*) AS n, count(DISTINCT rev) AS revs FROM audit "
           "GROUP BY action) AS a");
    drop_database();
}
END_TEST

/* ---- GET /v1/audit ---- */

static struct test_api api;
static struct test_answer last;

static int get(const char *target)
{
    test_answer_free(&last);
    last = test_http(api.port, "GET", target, NULL, NULL, 0);
    return last.status;
}

/* Fails the test unless the answer lists these: "config c update http:127.0.0.1 why,…". */
static void expect_items(const char *expected)
{
    HW_AUTO_FREE char *body = PQescapeLiteral(db.conn, last.body, last.len);

    EXPECT(expected,
           "SELECT coalesce(string_agg(concat_ws(' ', e.kind, e.name, e.action, e.author, "
           "e.message), ',' ORDER BY (e.id) DESC), 'nothing') FROM jsonb_to_recordset("
           "%s::jsonb -> 'items') AS e (id bigint, kind text, name text, action text, "
           "author text, message text)",
           body);
}

START_TEST(test_http_list)
{
    char url[128];

    open_database();
    snprintf(url, sizeof(url), "postgresql://headwater_api@127.0.0.1:%d/%s", server.port, db.name);
    test_api_start(&api, url, NULL);
    RUN("INSERT INTO node (name) VALUES ('n')");
    test_answer_free(&last);
    last = test_http(api.port, "PUT", "/v1/configs/c?message=first", JSON, "{}", 2);
    ck_assert_int_eq(last.status, 201);
    test_answer_free(&last);
    last = test_http(api.port, "PUT", "/v1/configs/c?message=more", JSON, "[]", 2);
    ck_assert_int_eq(last.status, 200);

    ck_assert_int_eq(get("/v1/audit"), 200);
    expect_items("config c update http:127.0.0.1 more,config c create http:127.0.0.1 first,"
                 "node n create postgres");
    json_t *body = test_answer_json(&last);
    const json_t *item = json_array_get(json_object_get(body, "items"), 0);
    static const char *const members[] = {"id",          "at",         "rev",       "author",
                                          "application", "message",    "kind",      "name",
                                          "action",      "old_digest", "new_digest"};
    for (size_t i = 0; i < HW_COUNT(members); i++)
        ck_assert_msg(json_object_get(item, members[i]) != NULL, "%s", members[i]);
    ck_assert_uint_eq(json_object_size(item), HW_COUNT(members));
    ck_assert_str_eq(json_string_value(json_object_get(item, "application")), "headwater-api");
    ck_assert(json_is_null(json_object_get(body, "next")));
    json_decref(body);

    ck_assert_int_eq(get("/v1/audit?kind=node"), 200);
    expect_items("node n create postgres");
    ck_assert_int_eq(get("/v1/audit?kind=config&name=c&limit=1"), 200);
    expect_items("config c update http:127.0.0.1 more");
    body = test_answer_json(&last);
    HW_AUTO_FREE char *next = hw_sprintf("/v1/audit?kind=config&name=c&limit=1&after=%d",
                                         (int)json_integer_value(json_object_get(body, "next")));
    json_decref(body);
    ck_assert_int_eq(get(next), 200);
    expect_items("config c create http:127.0.0.1 first");
    ck_assert_int_eq(get("/v1/audit?name=nobody"), 200);
    expect_items("nothing");
    ck_assert_int_eq(get("/v1/audit?after=999999999999999999"), 200);

    static const char *const bad[] = {
        "kind=tokens", "kind=",   "after=x", "after=-1", "after=9999999999999999999",
        "limit=0",     "author=x"};
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/audit?%s", bad[i]);

        ck_assert_msg(get(target) == 400, "%s: %d", target, last.status);
    }
    test_api_stop(&api);
    drop_database();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sql audit");
    TCase *all = tcase_create("audit");

    tcase_add_unchecked_fixture(all, start_server, remove_server);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_rows);
    tcase_add_test(all, test_digests);
    tcase_add_test(all, test_who_and_why);
    tcase_add_test(all, test_fleet);
    tcase_add_test(all, test_http_list);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
