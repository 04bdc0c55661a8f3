/*
 * What headwater and the API say to someone who has just begun, and gets it wrong: each message has
 * the words that tell what to do about it.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static const char *home;

static void begin(void)
{
    start_service();
    home = cli_home(api.port);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n1", JSON, "{\"labels\":{\"slot\":3}}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, "{\"rate_hz\":1,\"log\":{\"level\":3}}"),
                     201);
    ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, "{\"rate_hz\":2,\"log\":{\"level\":3}}"),
                     200);
    ck_assert_int_eq(call("PUT", "/v1/configs/words", "Content-Type: text/plain\r\n", "x"), 201);
    ck_assert_int_eq(
        call("PUT", "/v1/assignments/everyone", JSON, "{\"config\":\"base\",\"selector\":{}}"),
        201);
}

/* Runs headwater; what it says must hold the words. */
static void says(const char *const *arguments, int status, const char *words)
{
    HW_AUTO_FREE char *output = cli_run(status, NULL, NULL, arguments);

    expect_in(output, words);
}

START_TEST(test_commands)
{
    static const struct {
        const char *arguments[6];
        int status;
        const char *words;
    } cases[] = {
        {{"aply", "x"}, 2, "did you mean apply?"},
        {{"nodes"}, 2, "there are: get, describe, accept, choose, apply, diff"},
        {{"fleet", "--selctor=a=b"}, 2, "did you mean --selector?"},
        {{"apply", "--selector=a=b"}, 2, "apply does not take it; get and others do"},
        {{"apply", "--message"}, 2, "--message WHY"},
        {{"get", "nods"}, 2, "did you mean get nodes?"},
        {{"get", "n1"}, 2, "such as get node n1"},
        {{"get", "node"}, 2, "get node NAME"},
        {{"get", "nodes", "n1"}, 2, "for one of them: get node NAME"},
        {{"get", "node", "n9"}, 3, "GET /v1/nodes lists those that there are"},
        {{"get", "node", "n/1"}, 5, "letters, digits, - and _, in parts joined by single dots"},
        {{"get", "node", "n 1"}, 5, "letters, digits, - and _, in parts joined by single dots"},
        {{"get", "config", "base", "--content", "--revision=9"}, 3, "/v1/configs/base/revisions"},
        {{"get", "nodes", "--selector", "slot:3"}, 5, "label=value, such as site=north,slot=3"},
        {{"get", "nodes", "--selector", "{slot:3}"}, 5, "which a shell needs in single quotes"},
        {{"get", "nodes", "--selector", "slot!=3"}, 5, "labels are asked for by = alone"},
        {{"delete", "configs", "base"}, 2, "it takes node, config or assignment"},
        {{"delete", "config", "base"}, 4, "config \"base\" is in use: assignment \"everyone\""},
        {{"delete", "config", "base"}, 4, "Delete what refers to it, or give it another config"},
        {{"set", "base", "rate_hz"}, 2, "such as rate_hz=2000"},
        {{"set", "base", "x={\"a\":1,}"}, 2, "the comma before it is one too many"},
        {{"set", "words", "a=1"}, 5, "set changes JSON only: apply replaces it"},
        {{"rollback", "base", "9"}, 3, "whose newest is 2; GET /v1/configs/base/revisions"},
        {{"rollback", "base", "old"}, 2, "headwater history base lists them"},
        {{"rollback", "base", "2"}, 0, "config base is at revision 2 already: nothing changed"},
        {{"explain", "n1", "rate_hz"}, 0, "/rate_hz"},
        {{"explain", "n1", "log.level"}, 0, "/log/level"},
        {{"explain", "n1", "/log/level"}, 0, "CONFIG REV"},
        {{"explain", "n1", "rate"}, 3, "has nothing at /rate, and nobody removed anything there"},
        {{"explain", "n1", "rate"}, 3, "\"headwater explain n1\" shows every path"},
        {{"audit", "base"}, 2, "such as audit config base"},
        {{"audit", "configs"}, 2, "the kind comes first: node, config"},
        {{"wait"}, 2, "a change, a position (LSN), or --last"},
        {{"wait", "xyz"}, 2, "two hexadecimal numbers, as in 16/B374D848"},
        {{"wait", "FF/FFFFFFFF"}, 5, "wait for what a write answered"},
        {{"fleet", "--state=green"},
         5,
         "must be in_sync, pending, failed, unassigned, conflict or unknown"},
        {{"apply"}, 2, "-f FILE, or -f - for standard input"},
        {{"apply", "/nowhere/x.yaml"}, 5, "opening /nowhere/x.yaml: No such file"},
        {{"get", "node", "n1", "--at=yesterday"}, 5, "a time such as 2026-01-31T12:00:00Z"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        says(cases[i].arguments, cases[i].status, cases[i].words);
}
END_TEST

/* The two counters of revisions have two names. */
START_TEST(test_counters)
{
    says((const char *const[]){"get", "configs", NULL}, 0, "NAME   CONFIG REV  ");
    says((const char *const[]){"history", "base", NULL}, 0, "CONFIG REV  CREATED");
    says((const char *const[]){"fleet", NULL}, 0, "NODE REV  RUNNING");
    says((const char *const[]){"explain", "n1", NULL}, 0, "CONFIG  CONFIG REV  TIE");
    says((const char *const[]){"set", "base", "rate_hz=7", "--dry-run", NULL}, 0,
         "--- node revision 1  sha256:");
}
END_TEST

START_TEST(test_files)
{
    static const struct {
        const char *name, *text, *words;
    } cases[] = {
        {"t.yaml", "kind: node\nname: n2\nlabels:\n\tsite: a\n",
         "t.yaml:4:1: a tab indents this line: YAML is indented by blanks alone"},
        {"t.yaml", "kind: node\nname: n2\nlabels:\n  a: b\n \tc: d\n",
         "t.yaml:5:2: a tab indents this line"},
        {"k.yaml", "kind: nodes\nname: n2\n", "did you mean node?"},
        {"k.yaml", "Kind: node\nname: n2\n", "kind is missing; is Kind it?"},
        {"k.yaml", "name: n2\n", "kind is missing: node, config or assignment"},
        {"k.yaml", "kind: node\n", "name is missing: what it is called"},
        {"k.yaml", "kind: node\nnmae: n2\n", "name is missing; is nmae it?"},
        {"k.yaml", "kind: node\nname: 9\n", "name is 9, which is not a string: put it in quotes"},
        {"k.yaml", "kind: node\nname: a b\n",
         "node \"a b\": name: node name \"a b\" is not legal. A name is 1 to 128 characters"},
        {"k.yaml", "kind: node\nname: n2\nlabel: {a: b}\n",
         "label: there is no such member of a node. A node has name, labels and description."},
        {"k.yaml", "kind: config\nname: c\ncontents: {a: b}\n",
         "A config has name, media_type, schema, and one of content, text and base64."},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\nlabels: {a: b}\n",
         "An assignment has name, config, node or selector, priority and revision."},
        {"k.yaml", "kind: node\nname: n2\nlabels: site=a\n",
         "An object such as {\"site\": \"north\"}"},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\nselector: site=a\n",
         "An object such as {\"site\": \"north\"}"},
        {"k.yaml", "kind: config\nname: c\n",
         "needs one of content, text and base64. Exactly one: content is any JSON"},
        {"k.yaml", "kind: config\nname: c\ncontent: {}\ntext: x\n",
         "content and text exclude each other: content is JSON, text is taken as it is"},
        {"k.yaml", "kind: config\nname: c\ncontent: {}\nfile: x.json\n",
         "content and file exclude each other"},
        {"k.yaml", "kind: config\nname: c\nfile: x.bin\n",
         "media_type is missing: what is x.bin? text/plain, application/octet-stream"},
        {"k.yaml", "kind: config\nname: c\nfile: .\nmedia_type: text/plain\n",
         "it is a directory, not a file"},
        {"k.yaml", "kind: config\nname: c\ncontent: {}\nmedia_type: json\n",
         "a type of JSON such as application/json"},
        {"k.yaml", "kind: assignment\nname: a\nconfig: nope\nselector: {}\n",
         "there is no config \"nope\". There are: \"base\", \"words\". Create the config first, or "
         "in "
         "the same transaction."},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\nnode: n9\n",
         "there is no node \"n9\". There are: \"n1\". Create the node first"},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\nselector: {}\nrevision: 77\n",
         "It has revisions 1 to 2. Leave the revision out"},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\n",
         "needs either a node or a selector. It has neither. The selector '{}' means every node."},
        {"k.yaml", "kind: assignment\nname: a\nconfig: base\nnode: n1\nselector: {}\n",
         "It has both. The selector '{}' means every node."},
        {"k.json", "{\"kind\": \"node\",\n \"name\": \"n2\",}",
         "k.json:2:15: string or '}' expected near '}'; the comma before it is one too many"},
        {"k.yaml", "kind: config\nname: c\nfile: bad.json\n",
         "bad.json:1:9: string or '}' expected near '}'; the comma before it is one too many"},
        {"k.yaml", "", "no resource in it"},
    };
    HW_AUTO_FREE char *bad = hw_sprintf("%s/bad.json", home);

    ck_assert_int_eq(hw_file_replace(bad, "{\"a\": 1,}", 9, 0600, NULL), HW_OK);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *path = hw_sprintf("%s/%s", home, cases[i].name);

        ck_assert_int_eq(hw_file_replace(path, cases[i].text, strlen(cases[i].text), 0600, NULL),
                         HW_OK);
        says((const char *const[]){"apply", "-f", path, NULL}, 5, cases[i].words);
    }
    HW_AUTO_FREE char *empty = hw_sprintf("%s/empty", home);
    ck_assert_int_eq(hw_file_mkdirs(empty, 0700, NULL), HW_OK);
    says((const char *const[]){"apply", "-f", empty, NULL}, 5,
         "no file in it ends with .yaml, .yml or .json");
}
END_TEST

/* On stderr, whatever the form of the output, by apply, diff and dry runs. */
START_TEST(test_warnings)
{
    static const char text[] =
        "- {kind: assignment, name: w, config: words, node: n1, priority: 9}\n"
        "- {kind: assignment, name: s, config: base, selector: {slot: '3'}}\n";
    static const char *const commands[][4] = {
        {"diff", NULL}, {"apply", "--dry-run", NULL}, {"apply", "-o", "json"}};
    HW_AUTO_FREE char *path = hw_sprintf("%s/w.yaml", home);

    ck_assert_int_eq(hw_file_replace(path, text, strlen(text), 0600, NULL), HW_OK);
    for (size_t i = 0; i < HW_COUNT(commands); i++) {
        HW_AUTO_FREE char *option = hw_sprintf("--file=%s", path);
        const char *const arguments[] = {commands[i][0], option, commands[i][1],
                                         commands[i][1] != NULL ? commands[i][2] : NULL, NULL};
        for (int k = 0; k < 2; k++) {
            if (k == 0 && i == 2)
                continue; /* which happens once */
            says(arguments, i == 0 ? 1 : 0,
                 k == 0
                     ? "headwater: warning: assignment \"s\" reaches no node: the labels of "
                       "\"n1\" are of another type than its selector {\"slot\": \"3\"}"
                     : "headwater: warning: assignment \"w\" replaces the whole document of node "
                       "\"n1\" (config \"words\" is text/plain");
        }
    }
    /* Once it is there, it is no news. */
    says((const char *const[]){"apply", "-f", path, NULL}, 0, "unchanged");
}
END_TEST

START_TEST(test_refusals_by_http)
{
    static const struct {
        const char *method, *target, *type, *body, *problem, *words;
        int status;
    } cases[] = {
        {"PUT", "/v1/nodes/x", JSON, "{\"labels\":{\"a\":1},}", "malformed-json",
         "line 1, column 19: string or '}' expected near '}'; the comma before it", 400},
        {"PUT", "/v1/nodes/x", JSON, "{'labels':{}}", "malformed-json", "double quotes", 400},
        {"PUT", "/v1/nodes/x", JSON, "", "malformed-json", "; it is empty", 400},
        {"PUT", "/v1/nodes/x", JSON, "{\"label\":{}}", "invalid-body",
         "there are: labels, description; did you mean labels?", 422},
        {"PUT", "/v1/nodes/x", JSON, "{\"labels\":\"a=b\"}", "invalid-body", "an object such as",
         422},
        {"PUT", "/v1/nodes/x", NULL, "{}", "unsupported-media-type", "", 415},
        {"PUT", "/v1/configs/x", JSON, "{\"a\":1,}", "invalid-content", "line 1", 422},
        {"PUT", "/v1/assignments/x", JSON, "{\"config\":\"nope\",\"selector\":{}}", "refused",
         "there is no config \\\"nope\\\". There are: \\\"base\\\"", 422},
        {"DELETE", "/v1/configs/base", NULL, NULL, "conflict", "is in use: assignment", 409},
        {"DELETE", "/v1/nodes/x", NULL, NULL, "no-such-resource", "GET /v1/nodes lists", 404},
        {"GET", "/v1/nodes/n1/explain?path=log.level", NULL, NULL, "invalid-parameter",
         "such as /log/level", 400},
        {"GET", "/v1/nodes?select=a", NULL, NULL, "invalid-parameter", "there are: selector", 400},
        {"GET", "/v1/wait", NULL, NULL, "invalid-parameter", "Headwater-LSN give it", 400},
        {"POST", "/v1/configs/base/rollback", JSON, "{\"revision\":9}", "no-such-resource",
         "whose newest is 2; GET /v1/configs/base/revisions lists them", 404},
        {"PUT", "/v1/configs/base", JSON "If-Match: \"1\"\r\n", "{}", "precondition-failed",
         "Read it again, and name that version", 412},
        {"POST", "/v1/apply", JSON, "{\"resources\":[{\"kind\":\"config\",\"name\":\"c\"}]}",
         "invalid-body", "Exactly one: content is any JSON", 422},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        call(cases[i].method, cases[i].target, cases[i].type, cases[i].body);
        check_problem(cases[i].status, cases[i].problem);
        ck_assert_msg(strstr(last.body, cases[i].words) != NULL, "%s %s: no \"%s\" in %s",
                      cases[i].method, cases[i].target, cases[i].words, last.body);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli messages");
    TCase *all = tcase_create("messages");

    tcase_add_unchecked_fixture(all, begin, stop_service);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_commands);
    tcase_add_test(all, test_counters);
    tcase_add_test(all, test_files);
    tcase_add_test(all, test_warnings);
    tcase_add_test(all, test_refusals_by_http);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
