/* Named sets, by SQL and by HTTP: who is a member, what pruning removes, and what it never does. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/sql.h"

/* Every result of an apply, and the members of all sets, in one line. */
#define RESULTS "SELECT string_agg(concat_ws(' ', kind, name, result), ', ') FROM headwater.apply("
#define MEMBERS                                                                                    \
    "SELECT coalesce(string_agg(concat_ws(' ', set_name, kind, name), ', ' "                       \
    "ORDER BY set_name, kind, name), '-') FROM headwater.set_member"

#define NODE(name)   "{\"kind\":\"node\",\"name\":\"" name "\"}"
#define CONFIG(name) "{\"kind\":\"config\",\"name\":\"" name "\",\"content\":{\"v\":1}}"
#define ASSIGN(name, config)                                                                       \
    "{\"kind\":\"assignment\",\"name\":\"" name "\",\"config\":\"" config "\",\"selector\":{}}"
#define DOCUMENT(...) "'{\"resources\":[" __VA_ARGS__ "]}'"

START_TEST(test_what_is_not_mentioned_goes)
{
    EXPECT("node n created, config c created, config d created, assignment a created",
           RESULTS DOCUMENT(
               NODE("n") "," CONFIG("c") "," CONFIG("d") "," ASSIGN("a", "c")) ", 'site')");
    EXPECT("site assignment a, site config c, site config d, site node n", MEMBERS);
    /* Without prune nothing goes, and nothing leaves. */
    EXPECT("node n unchanged", RESULTS DOCUMENT(NODE("n")) ", 'site')");
    EXPECT("site assignment a, site config c, site config d, site node n", MEMBERS);
    /* Its config is another one now, which takes the old one's place in the same transaction. */
    EXPECT("node n unchanged, config e created, assignment a changed, config c deleted, "
           "config d deleted",
           RESULTS DOCUMENT(NODE("n") "," CONFIG("e") "," ASSIGN("a", "e")) ", 'site', true)");
    EXPECT("site assignment a, site config e, site node n", MEMBERS);
    EXPECT("e", "SELECT string_agg(name, ' ') FROM headwater.config");
    /* One transaction, which the trail tells from another's. */
    EXPECT("2 pruned from the set \"site\"",
           "SELECT count(*) || ' ' || min(message) FROM headwater.audit "
           "WHERE action = 'delete' AND rev = (SELECT max(rev) FROM headwater.changelog)");
    RUN("SET headwater.message = 'spring cleaning'");
    EXPECT("assignment a deleted, config e deleted, node n deleted",
           RESULTS DOCUMENT("") ", 'site', true)");
    EXPECT("pruned from the set \"site\": spring cleaning",
           "SELECT message FROM headwater.audit ORDER BY id DESC LIMIT 1");
    EXPECT("spring cleaning", "SELECT current_setting('headwater.message')");
    EXPECT("-", MEMBERS);
}
END_TEST

/* Whatever the set did not apply, or did not apply last, stays. */
START_TEST(test_what_is_not_the_sets_stays)
{
    RUN("INSERT INTO config (name, content) VALUES ('byhand', '1')");
    EXPECT("config theirs created", RESULTS DOCUMENT(CONFIG("theirs")) ", 'other')");
    RUN("SELECT FROM apply(" DOCUMENT(
        CONFIG("a") "," CONFIG("b") "," NODE("n") "," NODE("m")) ", 'site')");
    RUN("UPDATE config SET content = '{\"v\": 2}' WHERE name = 'a'");
    RUN("UPDATE config SET schema = 'true' WHERE name = 'b'");
    RUN("UPDATE node SET labels = '{\"x\": 1}' WHERE name = 'n'");
    EXPECT("config a kept, config b kept, node m deleted, node n kept",
           RESULTS DOCUMENT("") ", 'site', true)");
    EXPECT("a b byhand theirs", "SELECT string_agg(name, ' ' ORDER BY name) FROM config");
    EXPECT("other config theirs, site config a, site config b, site node n", MEMBERS);
    /* Mentioned again, and then no more: it is the set's again. */
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("a")) ", 'site')");
    EXPECT("config a deleted, config b kept, node n kept", RESULTS DOCUMENT("") ", 'site', true)");
    /* What goes by hand leaves; who comes by that name is another. */
    RUN("DELETE FROM config WHERE name = 'b'");
    EXPECT("other config theirs, site node n", MEMBERS);
    RUN("INSERT INTO config (name, content) VALUES ('b', '{}')");
    RUN("TRUNCATE node CASCADE");
    EXPECT("other config theirs", MEMBERS);
    EXPECT("(null)", RESULTS DOCUMENT("") ", 'site', true)");
    EXPECT("b byhand theirs", "SELECT string_agg(name, ' ' ORDER BY name) FROM config");
    /* session_replication_role turns nothing off. */
    RUN("SET session_replication_role = replica");
    RUN("DELETE FROM config");
    EXPECT("-", MEMBERS);
}
END_TEST

START_TEST(test_two_sets)
{
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("c") "," NODE("n")) ", 'north')");
    REFUSE("55000", "set_member_is_of_one_set", "$.resources[1]",
           "SELECT * FROM apply(" DOCUMENT(NODE("m") "," NODE("n")) ", 'south')");
    REFUSE("55000", "set_member_is_of_one_set",
           "node \"n\" is of the set \"north\", so the set \"south\"",
           "SELECT * FROM apply(" DOCUMENT(NODE("n")) ", 'south')");
    /* Neither by way of a delete. */
    REFUSE("55000", "set_member_is_of_one_set", "north",
           "SELECT * FROM apply('{\"resources\":[{\"kind\":\"node\",\"name\":\"n\",\"delete\":"
           "true}]}', 'south', true)");
    EXPECT("north config c, north node n", MEMBERS);
    EXPECT("0", "SELECT count(*) FROM node WHERE name = 'm'");
    /* By hand anyone may; and let go of it. */
    EXPECT("node n changed",
           RESULTS "'{\"resources\":[{\"kind\":\"node\",\"name\":\"n\",\"labels\":{\"x\":1}}]}')");
    RUN("SET ROLE headwater_dba");
    RUN("DELETE FROM headwater.set_member WHERE (kind, name) = ('node', 'n')");
    EXPECT("node n unchanged", RESULTS
           "'{\"resources\":[{\"kind\":\"node\",\"name\":\"n\",\"labels\":{\"x\":1}}]}', 'south')");
    EXPECT("north config c, south node n", MEMBERS);
}
END_TEST

/* What others made of it keeps it; then nothing at all is done. */
START_TEST(test_what_is_in_use)
{
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("c") "," NODE("n") "," CONFIG("d")) ", 'site')");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('mine', 'c', '{}')");
    REFUSE("23001", "set_member_is_not_used",
           "config \"c\" of the set \"site\" cannot be removed: "
           "the assignment \"mine\"",
           "SELECT * FROM apply(" DOCUMENT(NODE("n")) ", 'site', true)");
    EXPECT("2", "SELECT count(*) FROM config");
    RUN("UPDATE assignment SET selector = NULL, node = 'n'");
    REFUSE("23001", "set_member_is_not_used",
           "node \"n\" of the set \"site\" cannot be removed: "
           "the assignment \"mine\"",
           "SELECT * FROM apply(" DOCUMENT(CONFIG("c")) ", 'site', true)");
    EXPECT("1", "SELECT count(*) FROM assignment");
    EXPECT("site config c, site config d, site node n", MEMBERS);
}
END_TEST

START_TEST(test_what_is_refused)
{
    REFUSE("23514", "set_name_is_legal", "a b", "SELECT * FROM apply(" DOCUMENT("") ", 'a b')");
    REFUSE("23514", "set_name_is_legal", "", "SELECT * FROM apply(" DOCUMENT("") ", NULL)");
    REFUSE("22P02", "apply_body_is_json", "", "SELECT * FROM apply('{', 'site')");
    REFUSE("22023", "apply_body_is_legal", "must be an object",
           "SELECT * FROM apply('[]', 'site')");
    REFUSE("22023", "apply_body_is_legal", "$.resources",
           "SELECT * FROM apply('{\"resources\":7}', 'site', true)");
    REFUSE("22023", "apply_body_is_legal", "$.resources[0]",
           "SELECT * FROM apply('{\"resources\":[7]}', 'site', true)");
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("c")) ", 'site')");
    /* A refusal anywhere removes nothing. */
    REFUSE("23503", "assignment_config_exists", "$.resources[0]",
           "SELECT * FROM apply(" DOCUMENT(ASSIGN("a", "none")) ", 'site', true)");
    EXPECT("site config c", MEMBERS);
    EXPECT("set_member", "SELECT relname FROM pg_class WHERE relname = 'set_member' AND "
                         "obj_description(oid, 'pg_class') IS NOT NULL");
    RUN("SET ROLE headwater_api");
    REFUSE("42501", "", "", "DELETE FROM headwater.set_member");
    REFUSE("42501", "", "", "SELECT headwater.prune_set('site', '{}', '{}')");
    RUN("SET ROLE headwater_viewer");
    EXPECT("site config c", MEMBERS);
    REFUSE("42501", "", "", "SELECT headwater.apply(" DOCUMENT("") ", 'site')");
}
END_TEST

/* Of two who prune at once the second sees what the first left. */
START_TEST(test_one_after_the_other)
{
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("a") "," CONFIG("b")) ", 'site')");
    PGconn *other = test_database_connect(&db, NULL);
    RUN("BEGIN");
    RUN("SELECT FROM apply(" DOCUMENT(CONFIG("b") "," CONFIG("c")) ", 'site', true)");
    ck_assert_int_eq(PQsendQuery(other, "SELECT string_agg(name || ' ' || result, ', ') FROM "
                                        "headwater.apply(" DOCUMENT(CONFIG("c")) ", 'site', true)"),
                     1);
    test_wait_for(({
                      HW_AUTO_FREE char *waiting = test_value(
                          db.conn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = "
                                   "'Lock' AND datname = current_database()");
                      strcmp(waiting, "1") == 0;
                  }),
                  60);
    RUN("COMMIT");
    PGresult *result = PQgetResult(other);
    ck_assert_str_eq(PQgetvalue(result, 0, 0), "c unchanged, b deleted");
    PQclear(result);
    PQfinish(other);
    EXPECT("site config c", MEMBERS);
}
END_TEST

/* What differs in its encoding alone is the same; what has another type is not. */
START_TEST(test_same_bytes)
{
    RUN("INSERT INTO config (name, content, encoding, media_type) VALUES "
        "('b', 'aMOkCg==', 'base64', 'text/plain'), ('t', E'h\303\244\n', 'utf-8', 'text/plain')");
    EXPECT(
        "config b unchanged, config t unchanged", RESULTS
        "'{\"resources\":[{\"kind\":\"config\",\"name\":\"b\",\"text\":\"h\\u00e4\\n\"},{"
        "\"kind\":\"config\",\"name\":\"t\",\"base64\":\"aMOkCg==\",\"media_type\":\"text/plain\"}"
        "]}')");
    EXPECT("base64 utf-8", "SELECT string_agg(encoding, ' ' ORDER BY name) FROM config");
    EXPECT("config b changed, config t changed",
           RESULTS "'{\"resources\":[{\"kind\":\"config\",\"name\":\"b\",\"text\":\"h\\u00e4\"},{"
                   "\"kind\":\"config\",\"name\":\"t\",\"base64\":\"aMOkCg==\"}]}')");
    REFUSE("23514", "config_content_is_base64", "$.resources[0].base64",
           "SELECT * FROM apply('{\"resources\":[{\"kind\":\"config\",\"name\":\"b\",\"base64\":"
           "\"*\",\"media_type\":\"text/plain\"}]}')");
}
END_TEST

/* ---- by HTTP ---- */

static int apply(const char *query, const char *headers, const char *resources)
{
    HW_AUTO_FREE char *target = hw_sprintf("/v1/apply%s", query);
    HW_AUTO_FREE char *body = hw_sprintf("{\"resources\":[%s]}", resources);
    HW_AUTO_FREE char *all = hw_sprintf(JSON "%s", headers);

    return call("POST", target, all, body);
}

static void expect_in_answer(const char *text)
{
    ck_assert_msg(strstr(last.body, text) != NULL, "no %s in %s", text, last.body);
}

START_TEST(test_by_http)
{
    ck_assert_int_eq(apply("?set=site", "", CONFIG("a") "," CONFIG("b")), 200);
    /* A dry run says what would become of each, and leaves sets as they are. */
    ck_assert_int_eq(apply("?set=site&prune=true&dry_run=true", "", CONFIG("a")), 200);
    expect_in_answer("\"dry_run\":true,\"nodes\":0");
    expect_in_answer("\"results\":[{\"kind\":\"config\",\"name\":\"a\",\"result\":\"unchanged\"},"
                     "{\"kind\":\"config\",\"name\":\"b\",\"result\":\"deleted\"}]");
    check_sql("2", "SELECT count(*) FROM headwater.set_member");
    check_sql("2", "SELECT count(*) FROM headwater.config");
    /* Once for one key, whatever came between. */
    ck_assert_int_eq(apply("?set=site&prune=true", "Idempotency-Key: k\r\n", CONFIG("a")), 200);
    expect_in_answer("{\"kind\":\"config\",\"name\":\"b\",\"result\":\"deleted\",\"etag\":null}");
    ck_assert_int_eq(apply("?set=site", "", CONFIG("b")), 200);
    ck_assert_int_eq(apply("?set=site&prune=true", "Idempotency-Key: k\r\n", CONFIG("a")), 200);
    ck_assert_ptr_nonnull(header("Idempotency-Replayed"));
    check_sql("2", "SELECT count(*) FROM headwater.config");
    apply("?set=site", "Idempotency-Key: k\r\n", CONFIG("a"));
    check_problem(422, "idempotency-key-reused");
    /* A condition that does not hold removes nothing. */
    apply("?set=site&prune=true", "",
          "{\"kind\":\"config\",\"name\":\"a\",\"content\":1,\"if_match\":\"999\"}");
    check_problem(412, "precondition-failed");
    check_sql("2", "SELECT count(*) FROM headwater.config");
    apply("?set=other", "", NODE("n") "," CONFIG("a"));
    check_problem(409, "conflict");
    expect_in_answer("\"path\":\"$.resources[1]\"");
    expect_in_answer("\\\"site\\\"");
    expect_in_answer("\\\"other\\\"");
    apply("?prune=true", "", CONFIG("a"));
    check_problem(400, "invalid-parameter");
    apply("?set=a%20b", "", CONFIG("a"));
    check_problem(422, "refused");
    apply("?set=site&prune=perhaps", "", CONFIG("a"));
    check_problem(400, "invalid-parameter");
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, selector) "
                       "VALUES ('mine', 'b', '{}')"));
    apply("?set=site&prune=true", "", CONFIG("a"));
    check_problem(409, "conflict");
    expect_in_answer("mine");
    /* Who wrote it is in the trail. */
    check_sql("t", "SELECT author LIKE 'http:%' FROM headwater.audit WHERE action = 'delete'");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_what_is_not_mentioned_goes,
                                  test_what_is_not_the_sets_stays,
                                  test_two_sets,
                                  test_what_is_in_use,
                                  test_what_is_refused,
                                  test_one_after_the_other,
                                  test_same_bytes};
    Suite *suite = suite_create("sql sets");
    TCase *by_http = tcase_create("http");

    test_sql_add(suite, 240, start_server, create_database, tests, HW_COUNT(tests));
    tcase_add_unchecked_fixture(by_http, start_service, stop_service);
    tcase_set_timeout(by_http, 240);
    tcase_add_test(by_http, test_by_http);
    suite_add_tcase(suite, by_http);
    return test_suite_finish(suite);
}
