/* What nodes report: what is taken, who is told, and what the view of the fleet makes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "tests/support/sql.h"

/* report() of one report of node n1, with this bucket, revision and value. */
#define REPORT(created, revision, value)                                                           \
    "SELECT concat_ws(' ', accepted, reason) FROM report('[{\"kv_created\": \"" created            \
    "\", \"kv_revision\": " revision ", \"value\": " value "}]')"

START_TEST(test_reports)
{
    static const char value[] =
        "{\"node\": \"n1\", \"state\": \"failed\", \"running\": {\"revision\": 1, \"digest\": "
        "\"sha256:%064d\", \"epoch\": 2, \"lsn\": \"0/16B3748\", \"applied_at\": "
        "\"2024-05-01T12:00:00.123Z\"}, \"failed\": {\"revision\": 2, \"digest\": \"sha256:%064d\","
        " \"epoch\": 2, \"lsn\": \"0/16B3750\", \"stage\": \"health\", \"error\": \"exit status "
        "7\", \"at\": \"2024-05-01T12:00:01+02:00\"}, \"desired_revision\": 2, \"agent\": \"1.0\", "
        "\"boot_id\": \"b\", \"reported_at\": \"2024-05-01T12:00:02Z\"}";
    char full[1024];
    snprintf(full, sizeof(full), value, 1, 2);
    RUN("SET timezone = 'Asia/Tokyo'");
    EXPECT("t",
           "SELECT accepted FROM report('[{\"kv_created\": \"2024-01-01T00:00:00Z\", "
           "\"kv_revision\": 7, \"value\": %s}]')",
           full);
    RUN("SET timezone = 'UTC'");
    char row[1024];
    snprintf(
        row, sizeof(row),
        "(n1,failed,1,sha256:%064d,2,0/16B3748,\"2024-05-01 12:00:00.123+00\",2,sha256:%064d,2,"
        "0/16B3750,health,\"exit status 7\",\"2024-05-01 10:00:01+00\",2,1.0,b,\"2024-05-01 "
        "12:00:02+00\",\"2024-01-01 00:00:00+00\",7)",
        1, 2);
    EXPECT(row, "SELECT ROW(node, state, running_revision, running_digest, running_epoch, "
                "running_lsn, running_applied_at, failed_revision, failed_digest, failed_epoch, "
                "failed_lsn, failed_stage, failed_error, failed_at, desired_revision, agent, "
                "boot_id, reported_at, kv_created, kv_revision) FROM reported");

    /* The newest wins: by the age of the bucket, then by the revision in it. */
#define APPLIED "{\"node\": \"n1\", \"state\": \"applied\", \"running\": null, \"failed\": null}"
    EXPECT("f not newer than what is stored", REPORT("2024-01-01T00:00:00Z", "6", APPLIED));
    EXPECT("f not newer than what is stored", REPORT("2024-01-01T00:00:00Z", "7", APPLIED));
    EXPECT("f not newer than what is stored", REPORT("2023-01-01T00:00:00Z", "99", APPLIED));
    EXPECT("failed", "SELECT state FROM reported");
    EXPECT("t", REPORT("2024-01-01T00:00:00Z", "8", APPLIED));
    EXPECT("t", REPORT("2024-01-02T00:00:00Z", "1", APPLIED));
    EXPECT("(applied,,,1)", "SELECT ROW(state, running_digest, failed_error, kv_revision) FROM "
                            "reported");

    /* In a batch as well; a bad one does not hold up the others. */
    EXPECT("n1 f not newer than what is stored,n1 t,n2 t,n2 f not newer than what is stored",
           "SELECT string_agg(concat_ws(' ', node, accepted, reason), ',') FROM report((SELECT "
           "jsonb_agg(jsonb_build_object('kv_created', '2024-01-02T00:00:00Z', 'kv_revision', r, "
           "'value', jsonb_build_object('node', n, 'state', 'applied'))) "
           "FROM (VALUES ('n1', 2), ('n1', 3), ('n2', 5), ('n2', 4)) AS v (n, r)))");
    static const char *const bad[] = {
        "5",
        "null",
        "[]",
        "{}",
        "{\"state\": \"applied\"}",
        "{\"node\": \"n 3\", \"state\": \"applied\"}",
        "{\"node\": \"n3\"}",
        "{\"node\": \"n3\", \"state\": \"happy\"}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": 5}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": [1]}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"revision\": 1.5}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"revision\": \"x\"}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"revision\": 1e30}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"digest\": \"md5:0\"}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"lsn\": \"0-1\"}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"running\": {\"applied_at\": \"soon\"}}",
        "{\"node\": \"n3\", \"state\": \"applied\", \"reported_at\": \"2024-02-31T00:00:00Z\"}",
    };
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        char kv_revision[16];
        snprintf(kv_revision, sizeof(kv_revision), "%zu", i + 10);
        EXPECT("t f t",
               "SELECT string_agg(accepted::text::\"char\"::text, ' ') FROM report('["
               "{\"kv_created\": \"2024-01-02T00:00:00Z\", \"kv_revision\": %s, "
               "\"value\": " APPLIED "}, {\"kv_created\": \"2024-01-02T00:00:00Z\", "
               "\"kv_revision\": %s, \"value\": %s}, {\"kv_created\": "
               "\"2024-01-02T00:00:00Z\", \"kv_revision\": %s, \"value\": {\"node\": "
               "\"n4\", \"state\": \"applied\"}}]')",
               kv_revision, kv_revision, bad[i], kv_revision);
    }
    EXPECT("n1 n2 n4", "SELECT string_agg(node, ' ' ORDER BY node) FROM reported");
    EXPECT("(none)", "SELECT * FROM report('[]')");
    REFUSE("22023", "", "scalar", "SELECT * FROM report('5')");

    /* A report may come before its node, and goes with it. */
    RUN("INSERT INTO node (name) VALUES ('n1')");
    RUN("DELETE FROM node");
    EXPECT("n2 n4", "SELECT string_agg(node, ' ' ORDER BY node) FROM reported");
}
END_TEST

START_TEST(test_reports_notify)
{
    PGconn *listener = test_database_connect(&db, "headwater_api");
    test_run(listener, "LISTEN headwater_reported");
    EXPECT("t", REPORT("2024-01-01T00:00:00Z", "1", APPLIED));
    test_run(listener, "SELECT 1");
    PGnotify *note = PQnotifies(listener);
    ck_assert_ptr_nonnull(note);
    ck_assert_str_eq(note->relname, "headwater_reported");
    PQfreemem(note);
    /* Writers of configuration do not pay for it: committing with a NOTIFY is one at a time. */
    make_fleet();
    RUN("DELETE FROM node WHERE name = 'n4'");
    test_run(listener, "SELECT 1");
    ck_assert_ptr_null(PQnotifies(listener));
    PQfinish(listener);
}
END_TEST

START_TEST(test_fleet)
{
    make_fleet();
    RUN("INSERT INTO node (name, labels) VALUES ('n5', '{\"site\": \"b\"}')");
#define STATES "SELECT string_agg(node || ' ' || state, ',' ORDER BY node) FROM fleet"
#define SAY(node, revision, state, running, failed)                                                \
    RUN("SELECT report(jsonb_build_array(jsonb_build_object('kv_created', "                        \
        "'2024-01-01T00:00:00Z', "                                                                 \
        "'kv_revision', %d, 'value', jsonb_build_object('node', '%s', 'state', '%s', 'running', "  \
        "%s, 'failed', %s))))",                                                                    \
        revision, node, state, running, failed)
#define CURRENT(node)                                                                              \
    "(SELECT jsonb_build_object('revision', revision, 'digest', digest, 'stage', 'apply', "        \
    "'error', 'exit status 1', 'applied_at', '2024-01-01T00:00:00Z') FROM desired WHERE node = "   \
    "'" node "')"
    EXPECT("n1 unknown,n2 unknown,n3 unknown,n4 unknown,n5 unknown", STATES);
    SAY("n1", 1, "applied", CURRENT("n1"), "NULL");
    SAY("n2", 2, "failed", "NULL", CURRENT("n2"));
    SAY("n3", 3, "applied", CURRENT("n1"), "NULL"); /* the digest of another */
    SAY("n4", 4, "rejected", CURRENT("n1"), CURRENT("n4"));
    SAY("stranger", 5, "applied", "NULL", "NULL");
    EXPECT("n1 in_sync,n2 failed,n3 pending,n4 failed,n5 unknown", STATES);
    EXPECT("t", "SELECT bool_and((lag = interval '0') = (state = 'in_sync')) FROM fleet");
    EXPECT("apply: exit status 1 2", "SELECT concat_ws(' ', string_agg(DISTINCT error, '|'), "
                                     "count(error)) FROM fleet");
    EXPECT("t", "SELECT reported_revision = desired_revision AND reported_digest = desired_digest "
                "AND applied_at = '2024-01-01T00:00:00Z' AND desired_changed_at IS NOT NULL AND "
                "labels ->> 'site' = 'a' FROM fleet WHERE node = 'n1'");

    /* What failed before is pending again once something else is desired. */
    RUN("UPDATE config SET content = '{}' WHERE name = 'base'");
    EXPECT("n1 pending,n2 pending,n3 pending,n4 pending,n5 unknown", STATES);
    EXPECT("0", "SELECT count(error) FROM fleet");
    /* What it runs nobody wants; of n5 nothing was ever heard. */
    RUN("DELETE FROM assignment");
    EXPECT("n1 unassigned,n2 unassigned,n3 unassigned,n4 unassigned,n5 unknown", STATES);
    EXPECT("00:00:00", "SELECT max(lag) FROM fleet");
}
END_TEST

TEST_SQL_MAIN("sql reports", 120, test_reports, test_reports_notify, test_fleet)
