/* /v1/proposals: what nodes propose, read and decided on by HTTP. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

#define KEY "Idempotency-Key: once\r\n"

static void propose(const char *ref, int base)
{
    free(test_sql(&pg,
                  "SELECT headwater.propose('[{\"node\": \"n1\", \"ref\": \"%s\", \"config\": "
                  "\"base\", \"base_revision\": %d, \"content\": \"{\\\"%s\\\": 1}\", "
                  "\"encoding\": \"utf-8\", \"message\": \"as measured\"}]')",
                  ref, base, ref));
}

static void set_up(void)
{
    start_service();
    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('n1'), ('n2');"
                       "INSERT INTO headwater.config (name, content) VALUES ('base', '{}');"
                       "INSERT INTO headwater.assignment (name, config, selector) VALUES "
                       "('all', 'base', '{}')"));
}

static void check_member(const char *member, const char *expected)
{
    json_t *answer = test_answer_json(&last);
    HW_AUTO_FREE char *text = json_dumps(json_object_get(answer, member), JSON_ENCODE_ANY);

    ck_assert_msg(text != NULL && strcmp(text, expected) == 0, "%s: expected %s: %s", member,
                  expected, last.body);
    json_decref(answer);
}

START_TEST(test_life)
{
    propose("a", 1);
    propose("b", 1);
    ck_assert_int_eq(
        call("GET", "/v1/proposals?node=n1&state=pending&limit=1&fields=id", NULL, NULL), 200);
    ck_assert_str_eq(last.body, "{\"items\":[{\"id\":2}],\"next\":2}\n");
    ck_assert_int_eq(call("GET", "/v1/proposals?after=2&fields=id,ref", NULL, NULL), 200);
    ck_assert_str_eq(last.body, "{\"items\":[{\"id\":1,\"ref\":\"a\"}],\"next\":null}\n");
    ck_assert_int_eq(call("GET", "/v1/proposals?node=n2", NULL, NULL), 200);
    ck_assert_str_eq(last.body, "{\"items\":[],\"next\":null}\n");
    ck_assert_int_eq(call("GET", "/v1/proposals/1/content", NULL, NULL), 200);
    ck_assert_str_eq(last.body, "{\"a\": 1}");
    ck_assert_str_eq(header("Content-Type"), "application/json");

    /* First to see what it would do, then for real, once. */
    ck_assert_int_eq(call("GET", "/v1/proposals/1", NULL, NULL), 200);
    HW_AUTO_FREE char *match = hw_sprintf(JSON KEY "If-Match: %s\r\n", header("ETag"));
    ck_assert_int_eq(call("POST", "/v1/proposals/1/approve?dry_run=true", JSON, "{}"), 200);
    ck_assert_ptr_nonnull(strstr(last.body, "\"node\":\"n2\""));
    check_sql("1", "SELECT revision FROM headwater.config");
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(call("POST", "/v1/proposals/1/approve", match, "{\"reason\":\"good\"}") ==
                          200,
                      "%s", last.body);
        check_member("state", "\"approved\"");
        check_member("revision", "2");
        check_member("reason", "\"good\"");
        ck_assert_ptr_nonnull(header("Headwater-LSN"));
    }
    check_sql("2 {\"a\": 1} proposal 1 of node n1: good: as measured",
              "SELECT concat_ws(' ', revision, content, message) FROM headwater.config");
    check_sql("t", "SELECT author LIKE 'http:%' FROM headwater.audit WHERE kind = 'proposal'");
    ck_assert_int_eq(call("GET", "/v1/audit?kind=proposal&fields=name,action", NULL, NULL), 200);
    ck_assert_str_eq(last.body,
                     "{\"items\":[{\"name\":\"1\",\"action\":\"approve\"}],\"next\":null}\n");

    /* What was based on the same revision is in conflict, and nothing is decided on twice. */
    ck_assert_int_eq(call("POST", "/v1/proposals/2/approve", JSON, "{}"), 409);
    check_problem(409, "conflict");
    ck_assert_ptr_nonnull(strstr(last.body, "which is at revision 2"));
    ck_assert_ptr_nonnull(strstr(last.body, "\"constraint\":\"proposal_base_is_newest\""));
    ck_assert_int_eq(call("POST", "/v1/proposals/1/reject", JSON, "{}"), 409);
    ck_assert_ptr_nonnull(strstr(last.body, "\"constraint\":\"proposal_is_pending\""));
    propose("c", 2);
    ck_assert_int_eq(call("POST", "/v1/proposals/3/reject", JSON, "{\"reason\":\"no\"}"), 200);
    check_member("state", "\"rejected\"");
    check_sql("2", "SELECT revision FROM headwater.config");
    check_sql("no", "SELECT decisions -> 2 ->> 'reason' FROM headwater.decided");
}
END_TEST

START_TEST(test_roles)
{
    static const struct {
        const char *role;
        int read, decide;
    } cases[] = {{"viewer", 200, 403}, {"operator", 200, 403}, {"approver", 200, 200}};

    propose("d", 2);
    free(test_sql(&pg, "SELECT headwater.create_token('root', 'admin')"));
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *token = test_sql(&pg, "SELECT headwater.create_token('%s', '%s')",
                                            cases[i].role, cases[i].role);
        HW_AUTO_FREE char *headers = hw_sprintf(JSON "Authorization: Bearer %s\r\n", token);

        test_wait_for(call("GET", "/v1/proposals/4", headers, NULL) == cases[i].read, 30);
        ck_assert_int_eq(call("POST", "/v1/proposals/4/approve", headers, "{}"), cases[i].decide);
    }
    check_sql("token:approver", "SELECT decided_by FROM headwater.proposal WHERE id = 4");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api proposals");
    TCase *all = tcase_create("proposals");

    tcase_add_unchecked_fixture(all, set_up, stop_service);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_life);
    tcase_add_test(all, test_roles);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
