/*
 * Writers past the triggers, and the limits of words: what is kept of a config follows what the
 * config says, no document is lost for a row of the history, and what a person may do in SQL beyond
 * plain statements (savepoints, prepared transactions, columns of one's own) works.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

static void start_with_prepared(void)
{
    test_postgres_start(&server, true, "max_prepared_transactions = 4");
}

/* As a subscription does, or an owner who thinks that triggers are in the way. */
static void write_past_triggers(const char *sql)
{
    RUN("ALTER TABLE config DISABLE TRIGGER USER; %s; ALTER TABLE config ENABLE TRIGGER USER", sql);
    free(test_value(
        db.conn,
        "DO $$ DECLARE t name; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE "
        "tgrelid = 'config'::regclass AND NOT tgisinternal AND tgname NOT LIKE 'Explain%%' "
        "LOOP EXECUTE format('ALTER TABLE config ENABLE ALWAYS TRIGGER %%I', t); END LOOP; "
        "END $$"));
}

/* A revision that came without its row in the history. */
START_TEST(test_revision_without_row)
{
    make_fleet();
    EXPECT(FLEET, DESIRED);
    write_past_triggers("UPDATE config SET content = '{\"rate\":2,\"log\":{\"level\":3}}', "
                        "revision = 7 WHERE name = 'base'");
    EXPECT(
        "config base config_revision does not have its revision 7",
        "SELECT string_agg(concat_ws(' ', relation, name, problem), E'\\n') FROM history_drift()");
    /* A write that would leave it out is refused, and says what to do. */
    REFUSE("XX001", "config_revision_exists", "recompute()",
           "UPDATE node SET labels = labels || '{\"x\":1}' WHERE name = 'n1'");
    EXPECT(FLEET, DESIRED);
    EXPECT("t", "SELECT recompute() > 0");
    EXPECT(
        "n1 2 {\"rate\":2,\"log\":{\"level\":3}}\nn2 2 {\"rate\":2,\"log\":{\"level\":3}}\n"
        "n3 2 {\"log\": {\"level\": 5}, \"rate\": 2}\nn4 2 {\"log\": {\"level\": 5}, \"rate\": 2}",
        DESIRED);
    EXPECT("7", "SELECT max(revision) FROM config_revision WHERE config = 'base'");
    EXPECT("0", "SELECT recompute()");
    EXPECT("0", "SELECT count(*) FROM history_drift()");
    expect_no_drift();
}
END_TEST

/* A content that was changed under its number: the row of the history stays, the config goes on. */
START_TEST(test_other_content)
{
    make_fleet();
    write_past_triggers("UPDATE config SET content = '{\"rate\":9}' WHERE name = 'base'");
    EXPECT("config_revision has another content for its revision 1",
           "SELECT problem FROM history_drift()");
    EXPECT("t", "SELECT recompute() > 0");
    EXPECT("2", "SELECT revision FROM config WHERE name = 'base'");
    EXPECT("{\"rate\":9}",
           "SELECT content FROM config_revision WHERE config = 'base' AND revision = 2");
    EXPECT("n1 2 {\"rate\":9}", "SELECT split_part(v, E'\\n', 1) FROM (" DESIRED ") AS d (v)");
    EXPECT("0", "SELECT count(*) FROM history_drift()");
    EXPECT("0", "SELECT recompute()");
    expect_no_drift();
}
END_TEST

START_TEST(test_forced_row_security)
{
    make_fleet();
    RUN("ALTER TABLE config ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY");
    REFUSE("55000", "", "NO FORCE ROW LEVEL SECURITY",
           "UPDATE node SET labels = '{\"site\":\"x\"}' WHERE name = 'n1'");
    EXPECT("4", "SELECT count(*) FROM desired");
    RUN("ALTER TABLE config DISABLE ROW LEVEL SECURITY");
    RUN("UPDATE node SET labels = '{\"site\":\"x\"}' WHERE name = 'n1'");
}
END_TEST

/* One that a DBA adds, of any type, one that has no equality among them. */
START_TEST(test_columns_of_others)
{
    make_fleet();
    static const char *const tables[] = {"node", "config", "assignment"};

    for (size_t i = 0; i < HW_COUNT(tables); i++) {
        RUN("ALTER TABLE %s ADD COLUMN rack text, ADD COLUMN extra json", tables[i]);
        char *before = test_value(db.conn, "SELECT max(version) FROM %s", tables[i]);
        RUN("UPDATE %s SET rack = 'r1', extra = '{\"a\": 1}'", tables[i]);
        EXPECT("t", "SELECT bool_and(rack = 'r1' AND extra ->> 'a' = '1') FROM %s", tables[i]);
        EXPECT(before, "SELECT max(version) FROM %s", tables[i]);
        free(before);
    }
    EXPECT(FLEET, DESIRED);
    EXPECT("1", "SELECT max(revision) FROM config");
    /* What is not the writer's stays so. */
    RUN("UPDATE node SET version = 0, created_at = 'epoch', updated_at = 'epoch', rack = 'r2'");
    EXPECT("t", "SELECT bool_and(version > 0 AND created_at > 'epoch' AND updated_at > 'epoch' AND "
                "rack = 'r2') FROM node");
    RUN("UPDATE config SET revision = 5, updated_by = 'me', rack = 'r2'");
    EXPECT("t", "SELECT bool_and(revision = 1 AND updated_by <> 'me' AND rack = 'r2') FROM config");
    expect_no_drift();
}
END_TEST

START_TEST(test_numbers)
{
    RUN("INSERT INTO config (name, content) VALUES ('c', '{\"a\":[0,-1.7976931348623157e308,"
        "4.9406564584124654e-324,5e-324]}')");
    REFUSE("23514", "config_number_limit", "/a/1/b~1c",
           "UPDATE config SET content = '{\"a\":[1,{\"b/c\":1e131071}]}'");
    REFUSE("23514", "config_number_limit", "\"/a\"",
           "UPDATE config SET content = '{\"a\":-1E-0000000009999}'");
    REFUSE("23514", "config_number_limit", "\"/a\"",
           "UPDATE config SET content = '{\"a\":' || repeat('7', 401) || '}'");
    REFUSE("23514", "config_number_limit", "\"\"", "UPDATE config SET content = '1e500'");
    RUN("UPDATE config SET content = '{\"a\":' || repeat('7', 400) || ',\"b\":\"1e9999\"}'");
    RUN("UPDATE config SET content = '1e9999', media_type = 'text/plain'");
    REFUSE("23514", "config_number_limit", "/a",
           "INSERT INTO config (name, content, encoding) VALUES ('d', "
           "encode('{\"a\":1e9999}', 'base64'), 'base64')");
    REFUSE("23514", "node_number_limit", "/labels/x",
           "INSERT INTO node (name, labels) VALUES ('n', '{\"x\":1e9999}')");
    REFUSE("23514", "assignment_number_limit", "/selector/x",
           "INSERT INTO assignment (name, config, selector) VALUES ('a', 'c', '{\"x\":1e9999}')");
    /* 600 kB of text that are 31 MB of digits: refused before anything merges. */
    REFUSE("23514", "config_size_limit", "written out",
           "INSERT INTO config (name, content) SELECT 'e', '[' || string_agg('1e308', ',') || ']' "
           "FROM generate_series(1, 100000)");
    RUN("INSERT INTO config (name, content) SELECT 'e', '[' || string_agg('1.5e-12', ',') || ']' "
        "FROM generate_series(1, 100000)");
}
END_TEST

/* A lock that the transaction has is not taken anew, and one that was rolled back is. */
START_TEST(test_savepoints)
{
    static const char place[] = "SELECT concat_ws(' ', ctid, xmin, xmax) FROM changelog_head";

    make_fleet();
    RUN("BEGIN");
    RUN("SAVEPOINT a");
    RUN("UPDATE node SET description = 'x' WHERE name = 'n1'");
    RUN("RELEASE a");
    HW_AUTO_FREE char *before = test_value(db.conn, place);
    for (int i = 0; i < 5; i++) {
        RUN("SAVEPOINT a");
        RUN("UPDATE node SET description = 'x%d' WHERE name = 'n1'", i);
        RUN("RELEASE a");
    }
    EXPECT(before, place);
    RUN("COMMIT");

    PGconn *other = test_database_connect(&db, NULL);
    test_run(other, "SET search_path = headwater; SET lock_timeout = '100ms'");
    RUN("BEGIN");
    RUN("SAVEPOINT a");
    RUN("UPDATE node SET description = 'y' WHERE name = 'n1'");
    test_refuse(other, "55P03", "", "lock timeout", "DELETE FROM node WHERE name = 'n9'");
    RUN("ROLLBACK TO a");
    test_run(other, "UPDATE node SET description = 'z' WHERE name = 'n2'");
    RUN("UPDATE node SET description = 'y' WHERE name = 'n1'");
    test_refuse(other, "55P03", "", "lock timeout", "DELETE FROM node WHERE name = 'n9'");
    RUN("COMMIT");
    PQfinish(other);
    EXPECT("t", "SELECT count(*) = max(rev) FROM changelog");
}
END_TEST

START_TEST(test_prepared)
{
    make_fleet();
    RUN("BEGIN");
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    REFUSE("0A000", "", "NOTIFY", "PREPARE TRANSACTION 'one'");
    RUN("BEGIN");
    RUN("SET LOCAL headwater.notify = 'off'");
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    RUN("DELETE FROM node WHERE name = 'n4'");
    RUN("PREPARE TRANSACTION 'one'");
    EXPECT("4", "SELECT count(*) FROM desired");
    RUN("COMMIT PREPARED 'one'");
    EXPECT("3", "SELECT count(*) FROM desired");
    expect_no_drift();
}
END_TEST

/* Deadlines without waiting for them; and only the owner moves the clock. */
START_TEST(test_clock)
{
    static const char claim[] = "SELECT state FROM claim_idempotency_key('k', 'sha256:' || "
                                "encode(sha256('x'), 'hex'))";

    make_fleet();
    free(test_value(db.conn, "SELECT create_token('boss', 'admin', '30 days')"));
    EXPECT("new", claim);
    EXPECT("kept", claim);
    EXPECT("active", "SELECT state FROM token_info");
    RUN("DELETE FROM node WHERE name = 'n1'");
    EXPECT("(none)", "SELECT * FROM purge_gone('{}', false, '7 days', 10)");
    RUN("UPDATE clock SET shift = '25 hours'");
    EXPECT("new", claim);
    EXPECT("(none)", "SELECT * FROM purge_gone('{}', false, '7 days', 10)");
    RUN("UPDATE clock SET shift = '31 days'");
    EXPECT("expired", "SELECT state FROM token_info");
    EXPECT("n1", "SELECT * FROM purge_gone('{}', false, '7 days', 10)");

    static const char *const roles[] = {"dba", "api", "reconciler", "viewer"};
    for (size_t i = 0; i < HW_COUNT(roles); i++) {
        RUN("SET ROLE headwater_%s", roles[i]);
        REFUSE("42501", "", "clock", "UPDATE headwater.clock SET shift = '0'");
        RUN("RESET ROLE");
    }
    /* All decisions of functions ask this clock; a column that only records may have the server's.
     */
    EXPECT("", "SELECT coalesce(string_agg(proname, ' '), '') FROM pg_proc WHERE pronamespace = "
               "'headwater'::regnamespace AND prosrc ~ '[^.](now|clock_timestamp)\\(\\) [-<>+]' "
               "AND proname <> 'now'");
}
END_TEST

TEST_SQL_MAIN_WITH("sql history", 60, start_with_prepared, create_database,
                   test_revision_without_row, test_other_content, test_forced_row_security,
                   test_columns_of_others, test_numbers, test_savepoints, test_prepared, test_clock)
