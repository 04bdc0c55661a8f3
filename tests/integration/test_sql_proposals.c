/* Proposals in SQL: what is taken, what is refused and why, and that each is decided on once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/process.h"
#include "tests/support/sql.h"

static void create_with_configs(void)
{
    create_database();
    RUN("INSERT INTO node (name) VALUES ('n1'), ('n2')");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\":1}'), ('other', '{}')");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('everyone', 'base', '{}')");
}

/* One of n1 for base. more: members that come after, and count instead. Expects this state. */
static void propose(const char *expected, const char *ref, int base, const char *more)
{
    EXPECT(expected,
           "SELECT state FROM propose(jsonb_build_array(jsonb_build_object('node', 'n1', 'ref', "
           "'%s', 'config', 'base', 'base_revision', %d, 'content', '{\"rate\":2}', 'encoding', "
           "'utf-8') || '%s'))",
           ref, base, more);
}

/* What the node is told: "a pending, b approved 2". */
static void expect_told(const char *node, const char *expected)
{
    EXPECT(expected,
           "SELECT coalesce(string_agg(concat_ws(' ', t ->> 'ref', t ->> 'state', t ->> "
           "'revision'), ', '), 'nothing') FROM decided, jsonb_array_elements(decisions) AS t "
           "WHERE node = '%s'",
           node);
}

START_TEST(test_approve)
{
    propose("pending", "a", 1, "{\"message\": \"as measured\"}");
    expect_told("n1", "a pending");
    EXPECT("1", "SELECT revision FROM config WHERE name = 'base'");

    RUN("SELECT approve(id, 'looks good') FROM proposal");
    EXPECT("2 {\"rate\":2} proposal 1 of node n1: looks good: as measured postgres",
           "SELECT concat_ws(' ', revision, content, message, author) FROM config_revision WHERE "
           "config = 'base' ORDER BY revision DESC LIMIT 1");
    EXPECT("approved 2 postgres looks good",
           "SELECT concat_ws(' ', state, revision, decided_by, reason) FROM proposal");
    expect_told("n1", "a approved 2");
    EXPECT("2", "SELECT count(*) FROM desired WHERE revision = 2");
    EXPECT("proposal 1 of node n1: looks good: as measured",
           "SELECT message FROM audit WHERE kind = 'config' AND name = 'base' AND action = "
           "'update'");
    EXPECT("approve", "SELECT action FROM audit WHERE kind = 'proposal' AND name = '1'");
    EXPECT("1", "SELECT count(DISTINCT rev) FROM audit WHERE rev = (SELECT rev FROM audit WHERE "
                "kind = 'proposal') AND kind = 'config'");
    EXPECT("", "SELECT current_setting('headwater.message', true)");

    /* The media type is the proposal's, where it names one; bytes may be of any kind. */
    propose("pending", "b", 2,
            "{\"content\": \"AAH/\", \"encoding\": \"base64\", \"media_type\": \"x/y\"}");
    RUN("SET headwater.message = 'a reason for all of it'");
    EXPECT("3", "SELECT approve(2)");
    EXPECT("AAH/ x/y proposal 2 of node n1",
           "SELECT concat_ws(' ', content, media_type, message) FROM config WHERE name = 'base'");
    EXPECT("a reason for all of it", "SELECT message FROM changelog ORDER BY rev DESC LIMIT 1");
    /* What changes nothing makes no revision, and is approved all the same. */
    propose("pending", "c", 3,
            "{\"content\": \"AAH/\", \"encoding\": \"base64\", \"media_type\": \"x/y\"}");
    EXPECT("3", "SELECT approve(3)");
    expect_told("n1", "a approved 2, b approved 3, c approved 3");
}
END_TEST

START_TEST(test_reject)
{
    propose("pending", "a", 1, "{}");
    RUN("SELECT reject(1, 'not now')");
    expect_told("n1", "a rejected");
    EXPECT("not now", "SELECT decisions -> 0 ->> 'reason' FROM decided");
    EXPECT("1", "SELECT revision FROM config WHERE name = 'base'");
    EXPECT("reject not now", "SELECT action || ' ' || message FROM audit WHERE kind = 'proposal'");
    REFUSE("55000", "proposal_is_pending", "proposal 1 is rejected already, by postgres",
           "SELECT approve(1)");
    REFUSE("55000", "proposal_is_pending", "decided on once", "SELECT reject(1)");
    REFUSE("P0002", "", "there is no proposal 99", "SELECT approve(99)");
    REFUSE("P0002", "", "there is no proposal 99", "SELECT reject(99)");
}
END_TEST

/* What is not based on the newest revision is in conflict: on arrival, or from when that changes.
 */
START_TEST(test_stale)
{
    RUN("UPDATE config SET content = '{\"rate\":7}' WHERE name = 'base'");
    propose("conflict", "old", 1, "{}");
    propose("conflict", "future", 3, "{}");
    propose("pending", "a", 2, "{}");
    propose("pending", "b", 2, "{\"content\": \"{}\"}");
    REFUSE("55000", "proposal_base_is_newest",
           "it is based on revision 1 of config \"base\", which is at revision 2",
           "SELECT approve(1)");
    REFUSE("55000", "proposal_base_is_newest", "in conflict", "SELECT reject(1)");

    RUN("SELECT approve(3)");
    expect_told("n1", "old conflict, future conflict, a approved 3, b conflict");
    REFUSE("55000", "proposal_base_is_newest", "which is at revision 3", "SELECT approve(4)");
    EXPECT("3 {\"rate\":2}", "SELECT revision || ' ' || content FROM config WHERE name = 'base'");

    propose("pending", "c", 3, "{}");
    RUN("UPDATE config SET message = 'only that' WHERE name = 'base'");
    RUN("UPDATE config SET content = '{\"x\":1}' WHERE name = 'other'");
    EXPECT("pending", "SELECT state FROM proposal WHERE ref = 'c'");
    RUN("UPDATE config SET content = '{\"rate\":8}' WHERE name = 'base'");
    EXPECT("conflict", "SELECT state FROM proposal WHERE ref = 'c'");

    propose("pending", "d", 4, "{}");
    RUN("DELETE FROM assignment");
    RUN("DELETE FROM config WHERE name = 'base'");
    EXPECT("config \"base\" is gone", "SELECT reason FROM proposal WHERE ref = 'd'");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{}')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('one', 'base', 'n1')");
    propose("pending", "e", 5, "{}");
    RUN("TRUNCATE config CASCADE");
    EXPECT("conflict", "SELECT state FROM proposal WHERE ref = 'e'");
    EXPECT("0", "SELECT count(*) FROM proposal WHERE state = 'pending'");
}
END_TEST

START_TEST(test_refused)
{
    static const struct {
        const char *members, *reason;
    } cases[] = {
        {"{\"problem\": \"no JSON object\"}", "no JSON object"},
        {"{\"config\": null}", "it names no config"},
        {"{\"base_revision\": null}", "no revision that it is based on"},
        {"{\"config\": \"other\"}", "no assignment gives config \"other\" to this node"},
        {"{\"config\": \"nothing\"}", "no assignment gives config \"nothing\""},
        {"{\"content\": null}", "it has no content"},
        {"{\"encoding\": \"rot13\"}", "neither utf-8 nor base64"},
        {"{\"content\": \"{\"}", "content is not valid JSON"},
        {"{\"content\": \"!\", \"encoding\": \"base64\"}", "invalid symbol"},
        {"{\"media_type\": \"nonsense\"}", "media type \"nonsense\" is not legal"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char ref[16];

        snprintf(ref, sizeof(ref), "r%zu", i);
        propose("refused", ref, 1, cases[i].members);
        EXPECT("t",
               "SELECT reason LIKE '%%%s%%' AND content IS NULL AND decided_at IS NOT NULL FROM "
               "proposal WHERE ref = '%s'",
               cases[i].reason, ref);
        EXPECT("t",
               "SELECT decisions @> '[{\"ref\": \"%s\", \"state\": \"refused\"}]' FROM decided",
               ref);
    }
    REFUSE("55000", "proposal_is_pending", "is refused already", "SELECT approve(1)");

    RUN("UPDATE config SET schema = '{\"properties\": {\"rate\": {\"maximum\": 9}}}' "
        "WHERE name = 'base'");
    propose("refused", "s1", 1, "{\"content\": \"{\\\"rate\\\": 10}\"}");
    EXPECT("t", "SELECT reason LIKE '%%at \"/rate\"%%' FROM proposal WHERE ref = 's1'");
    propose("refused", "s2", 1, "{\"media_type\": \"text/plain\"}");
    propose("pending", "s3", 1, "{\"content\": \"{\\\"rate\\\": 9}\"}");
    /* A schema that changes meanwhile counts when it is approved, and leaves it undecided. */
    RUN("UPDATE config SET schema = '{\"properties\": {\"rate\": {\"maximum\": 5}}}' "
        "WHERE name = 'base'");
    REFUSE("23514", "config_content_fits_schema", "/rate",
           "SELECT approve(id) FROM proposal WHERE ref = 's3'");
    EXPECT("pending", "SELECT state FROM proposal WHERE ref = 's3'");
}
END_TEST

START_TEST(test_limits)
{
    char ref[16];

    EXPECT("pending",
           "SELECT state FROM propose(jsonb_build_array(jsonb_build_object('node', 'n1', 'ref', "
           "'big', 'config', 'base', 'base_revision', 1, 'content', repeat('x', 524288), "
           "'encoding', 'utf-8', 'media_type', 'text/plain')))");
    EXPECT("refused",
           "SELECT state FROM propose(jsonb_build_array(jsonb_build_object('node', 'n1', 'ref', "
           "'bigger', 'config', 'base', 'base_revision', 1, 'content', repeat('x', 524289), "
           "'encoding', 'utf-8', 'media_type', 'text/plain')))");
    EXPECT("content is 524289 bytes; the limit is 512 KiB (524288 bytes)",
           "SELECT reason FROM proposal WHERE ref = 'bigger'");

    for (int i = 1; i < 8; i++) {
        snprintf(ref, sizeof(ref), "p%d", i);
        propose("pending", ref, 1, "{}");
    }
    propose("refused", "p8", 1, "{}");
    EXPECT("8 proposals of this node wait for a decision; that is the limit",
           "SELECT reason FROM proposal WHERE ref = 'p8'");
    propose("pending", "of-n2", 1, "{\"node\": \"n2\"}");
    RUN("SELECT reject(id) FROM proposal WHERE node = 'n1' AND state = 'pending'");

    for (int i = 0; i < 50; i++) {
        snprintf(ref, sizeof(ref), "q%d", i);
        propose("pending", ref, 1, "{}");
        RUN("SELECT reject(id) FROM proposal WHERE node = 'n1' AND state = 'pending'");
    }
    propose("refused", "r0", 1, "{}");
    EXPECT("more than 60 proposals within an hour; try again later",
           "SELECT reason FROM proposal WHERE ref = 'r0'");
    for (int i = 1; i < 60; i++) {
        snprintf(ref, sizeof(ref), "r%d", i);
        propose("refused", ref, 1, "{}");
    }
    propose("ignored", "flood", 1, "{}");
    propose("refused", "r0", 1, "{}"); /* known */
    EXPECT("120", "SELECT count(*) FROM proposal WHERE node = 'n1'");
    EXPECT("32", "SELECT jsonb_array_length(decisions) FROM decided WHERE node = 'n1'");

    /* Later again; and only so much is kept. */
    RUN("UPDATE proposal SET proposed_at = proposed_at - interval '1 hour'");
    propose("pending", "flood", 1, "{}");
    RUN("INSERT INTO proposal (node, ref, state, content, proposed_at) SELECT 'n1', 'x' || g, "
        "'rejected', 'x', now() - interval '1 day' FROM generate_series(1, 300) AS g");
    propose("pending", "last", 1, "{}");
    EXPECT("200", "SELECT count(*) FROM proposal WHERE node = 'n1' AND ref <> 'flood'");
    EXPECT("15", "SELECT count(content) FROM proposal WHERE node = 'n1' AND state = 'rejected'");
    EXPECT("2", "SELECT count(content) FROM proposal WHERE node = 'n1' AND state = 'pending'");
}
END_TEST

START_TEST(test_once)
{
    propose("pending", "a", 1, "{}");
    char *before = test_value(db.conn, "SELECT max(rev) FROM changelog");
    propose("pending", "a", 1, "{}");
    propose("pending", "a", 7, "{\"content\": \"other\"}");
    EXPECT(before, "SELECT max(rev) FROM changelog");
    free(before);
    EXPECT("1", "SELECT count(*) FROM proposal");
    RUN("SELECT approve(1)");
    propose("approved", "a", 1, "{}");
    EXPECT("2", "SELECT revision FROM config WHERE name = 'base'");

    /* Also twice in one batch, of two nodes with the same word for it, and of nobody. */
    EXPECT("n1 b 2 pending,n1 b 2 pending,n2 b 3 pending,nobody b unknown",
           "SELECT string_agg(concat_ws(' ', node, ref, id, state), ',') FROM propose((SELECT "
           "jsonb_agg(jsonb_build_object('node', n, 'ref', 'b', 'config', 'base', "
           "'base_revision', 2, 'content', '{}', 'encoding', 'utf-8')) FROM "
           "unnest('{n1,n1,n2,nobody}'::text[]) AS n))");
    expect_told("n2", "b pending");
    expect_told("nobody", "nothing");

    /* With the node goes what it proposed. */
    RUN("DELETE FROM node WHERE name = 'n2'");
    expect_told("n2", "nothing");
    EXPECT("0", "SELECT count(*) FROM proposal WHERE node = 'n2'");
    RUN("TRUNCATE node CASCADE");
    EXPECT("0", "SELECT count(*) FROM decided");
    REFUSE("55000", "proposal_is_kept", "refused", "TRUNCATE proposal");
    REFUSE("55000", "decided_is_kept", "refused", "TRUNCATE decided");
}
END_TEST

/* What one of two decides stands, and the other is told. */
static void decide_at_once(const char *first, const char *second, const char *state)
{
    PGconn *other = test_database_connect(&db, NULL);

    test_run(db.conn, "BEGIN");
    test_run(db.conn, "%s", first);
    ck_assert_int_eq(PQsendQuery(other, second), 1);
    test_expect(db.conn, "t", "SELECT true");
    test_run(db.conn, "COMMIT");
    PGresult *result = PQgetResult(other);
    ck_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "55000");
    ck_assert_ptr_nonnull(strstr(PQresultErrorMessage(result), state));
    PQclear(result);
    PQfinish(other);
}

START_TEST(test_concurrent)
{
    propose("pending", "a", 1, "{}");
    decide_at_once("SELECT approve(1)", "SELECT headwater.approve(1)",
                   "proposal 1 is approved already");
    propose("pending", "b", 2, "{\"content\": \"[]\"}");
    decide_at_once("SELECT reject(2)", "SELECT headwater.approve(2)",
                   "proposal 2 is rejected already");
    propose("pending", "c", 2, "{\"content\": \"[]\"}");
    decide_at_once("SELECT approve(3)", "SELECT headwater.reject(3)",
                   "proposal 3 is approved already");
    propose("pending", "d", 3, "{}");
    decide_at_once("UPDATE config SET content = '[1]' WHERE name = 'base'",
                   "SELECT headwater.approve(4)", "proposal 4 is in conflict");
    EXPECT("4 [1]", "SELECT revision || ' ' || content FROM config WHERE name = 'base'");
}
END_TEST

START_TEST(test_roles)
{
    PGconn *reconciler = test_database_connect(&db, "headwater_reconciler");
    PGconn *api = test_database_connect(&db, "headwater_api");

    test_refuse(api, "42501", "", "permission denied", "SELECT headwater.propose('[]')");
    test_refuse(reconciler, "42501", "", "permission denied", "SELECT headwater.approve(1)");
    test_refuse(reconciler, "42501", "", "permission denied", "SELECT headwater.reject(1)");
    test_refuse(reconciler, "42501", "", "permission denied", "DELETE FROM headwater.proposal");
    test_refuse(api, "42501", "", "permission denied",
                "UPDATE headwater.proposal SET state = 'pending'");
    test_expect(reconciler, "pending",
                "SELECT state FROM headwater.propose('[{\"node\": \"n1\", \"ref\": \"a\", "
                "\"config\": \"base\", \"base_revision\": 1, \"content\": \"{}\", \"encoding\": "
                "\"utf-8\"}]')");
    test_run(api, "SET headwater.author = 'token:alice'");
    test_expect(api, "2", "SELECT headwater.approve(1, 'fine')");
    EXPECT("token:alice token:alice token:alice",
           "SELECT concat_ws(' ', p.decided_by, c.updated_by, a.author) FROM proposal AS p, "
           "config AS c, audit AS a WHERE c.name = 'base' AND a.kind = 'proposal'");
    test_expect(api, "1", "SELECT count(*) FROM headwater.decided");
    PQfinish(reconciler);
    PQfinish(api);
}
END_TEST

TEST_SQL_MAIN_WITH("sql proposals", 120, start_server, create_with_configs, test_approve,
                   test_reject, test_stale, test_refused, test_limits, test_once, test_concurrent,
                   test_roles)
