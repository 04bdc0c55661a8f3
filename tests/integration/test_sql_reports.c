/* What nodes report: what is taken, who is told, and what the view of the fleet makes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
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

/* ---- what the history takes ---- */

/* So many reports of a node, one after another: state and error are expressions over i. */
static void flood(const char *node, int first, int last, const char *state, const char *error)
{
    RUN("DO $$ BEGIN FOR i IN %d..%d LOOP PERFORM report(jsonb_build_array(jsonb_build_object("
        "'kv_created', '2024-01-01T00:00:00Z', 'kv_revision', i, 'value', jsonb_build_object("
        "'node', '%s', 'state', %s, 'failed', jsonb_build_object('stage', 'apply', 'error', %s, "
        "'at', '2024-01-01T00:00:00Z'))))); END LOOP; END $$",
        first, last, node, state, error);
}

static bool is_settled(void)
{
    HW_AUTO_FREE char *waiting = test_value(db.conn, "SELECT count(*) FROM settle_reports()");

    return strcmp(waiting, "0") == 0;
}

#define LAST_ROW                                                                                   \
    "SELECT concat_ws(' ', state, failed_error, left_out) FROM reported_history "                  \
    "WHERE node = 'n1' ORDER BY id DESC LIMIT 1"

/* Those that have a row, and those that were counted. The row that settles what waited is one more
 * than there were changes. */
#define ALL_CHANGES                                                                                \
    "SELECT count(*) + sum(left_out) + (SELECT left_out FROM reported WHERE node = 'n1') "         \
    "FROM reported_history WHERE node = 'n1'"

START_TEST(test_history_is_bounded)
{
    RUN("UPDATE setting SET report_rate = 1"); /* so that it does not matter how long this takes */
    /* Details that change all the time: the history has some of them, reported the newest. */
    flood("n1", 1, 1000, "'failed'", "'e' || i");
    flood("n2", 1, 1, "'applied'", "'e'");
    EXPECT("t", "SELECT count(*) BETWEEN 21 AND 23 FROM reported_history WHERE node = 'n1'");
    EXPECT("1", "SELECT count(*) FROM reported_history WHERE node = 'n2'");
    EXPECT("e1000", "SELECT failed_error FROM reported WHERE node = 'n1'");
    EXPECT("1000", ALL_CHANGES);
    EXPECT("n1 t 1", "SELECT concat_ws(' ', node, left_out > 900, nodes) FROM settle_reports()");

    /* How it stands changes meanwhile, and each time it is hidden at once: all are recorded. */
    flood("n1", 1001, 1400, "CASE WHEN i % 10 = 0 THEN 'rejected' ELSE 'failed' END", "'e' || i");
    EXPECT("40", "SELECT count(*) FROM reported_history WHERE state = 'rejected'");
    EXPECT("t", "SELECT bool_and(left_out >= 0) AND max(left_out) > 900 FROM reported_history");

    /* Nor is that without a bound. */
    flood("n1", 1401, 3000, "CASE WHEN i % 2 = 0 THEN 'rejected' ELSE 'failed' END", "'e'");
    EXPECT("t", "SELECT count(*) BETWEEN 241 AND 250 FROM reported_history WHERE node = 'n1'");
    EXPECT("3000", ALL_CHANGES);
    EXPECT("rejected", "SELECT state FROM reported WHERE node = 'n1'");
    EXPECT("t", "SELECT count(*) = 1 FROM settle_reports()");

    /* When there is room again, the newest comes, and says how many did not. */
    RUN("UPDATE setting SET report_rate = 6000");
    test_wait_for(is_settled(), 30);
    EXPECT("rejected e t", "SELECT concat_ws(' ', state, failed_error, left_out > 1000) FROM "
                           "reported_history WHERE node = 'n1' ORDER BY id DESC LIMIT 1");
    EXPECT("3001", ALL_CHANGES);
    EXPECT("t", "SELECT data -> 'left_out' = to_jsonb(h.left_out) FROM reported_history AS h, "
                "events_after(0, h.id - 1, 1) WHERE h.left_out > 1000 AND h.state = 'rejected' "
                "ORDER BY h.id DESC LIMIT 1");
    EXPECT("t", "SELECT bool_and(data ? 'left_out' = (left_out > 0)) FROM reported_history AS h "
                "JOIN events_after(0, 0, 100000) AS e ON (e.kind, e.id) = ('reported', h.id)");
    EXPECT("0", "SELECT count(*) FROM settle_reports()");
    EXPECT("rejected e t", "SELECT concat_ws(' ', state, failed_error, left_out > 1000) FROM "
                           "reported_history WHERE node = 'n1' ORDER BY id DESC LIMIT 1");
}
END_TEST

/* What people do to a node is recorded however often they do it, and whatever the node does. */
START_TEST(test_what_becomes_of_revisions_is_recorded)
{
    make_fleet();
    RUN("UPDATE setting SET report_rate = 1");
    flood("n1", 1, 1000, "CASE WHEN i % 2 = 0 THEN 'rejected' ELSE 'failed' END", "'e'");
    for (int i = 1; i <= 30; i++) {
        RUN("UPDATE config SET content = '{\"i\": %d}' WHERE name = 'base'", i);
        for (int k = 0; k < 3; k++) {
            SAY("n1", 2000 + 10 * i + 2 * k, "applied", CURRENT("n1"), "NULL");
            SAY("n1", 2001 + 10 * i + 2 * k, "applied", "NULL", "NULL");
        }
    }
    EXPECT("30 31", "SELECT concat_ws(' ', count(*), max(running_revision)) FROM reported_history "
                    "WHERE running_revision IS NOT NULL");
    EXPECT("t", "SELECT count(*) < 300 FROM reported_history");
}
END_TEST

/* Nobody is silenced by a clock that was set back, or by a rate that was low. */
START_TEST(test_pace_after_the_clock_was_set)
{
    flood("n1", 1, 1, "'failed'", "'e'");
    RUN("UPDATE reported SET paced_until = now() + interval '1 year'");
    RUN("UPDATE setting SET report_rate = 6000");
    flood("n1", 2, 2, "'failed'", "'f'");
    test_wait_for(is_settled(), 30);
    EXPECT("failed f 1", LAST_ROW);
    REFUSE("23514", "setting_report_rate_is_sane", "", "UPDATE setting SET report_rate = 0");
}
END_TEST

TEST_SQL_MAIN("sql reports", 120, test_reports, test_reports_notify, test_fleet,
              test_history_is_bounded, test_what_becomes_of_revisions_is_recorded,
              test_pace_after_the_clock_was_set)
