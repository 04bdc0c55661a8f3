/*
 * headwater, the command line, against the real API and PostgreSQL. Reports of nodes come in as the
 * reconciler's do.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

enum { TEST_S = 240 };

static const char *home;
static char *server;

static void start(void)
{
    start_on_copy();
    home = cli_home(api.port);
    server = hw_sprintf("http://127.0.0.1:%d", api.port);
}

static void stop(void)
{
    stop_on_copy();
    free(HW_TAKE(server));
}

static json_t *parse(const char *text)
{
    json_error_t problem;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &problem);

    ck_assert_msg(value != NULL, "%s in:\n%s", problem.text, text);
    return value;
}

/* ---- what it is about ---- */

/* Nodes n1 to n<count>, and the config base for all of them. */
static void make_fleet(int count)
{
    free(test_sql(&pg,
                  "INSERT INTO headwater.node (name, labels) SELECT 'n' || i, "
                  "jsonb_build_object('site', CASE WHEN i %% 2 = 0 THEN 'north' ELSE 'south' END) "
                  "FROM generate_series(1, %d) AS i",
                  count));
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content) "
                       "VALUES ('base', '{\"rate_hz\": 1000, \"limits\": {\"high\": 7}}')"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, selector) "
                       "VALUES ('everyone', 'base', '{}')"));
}

/* ---- reading ---- */

START_TEST(test_lists)
{
    make_fleet(3);
    HW_AUTO_FREE char *nodes = HEADWATER(0, "get", "nodes");
    expect_in(nodes, "NAME  UPDATED ");
    expect_in(nodes, "site=north");
    ck_assert_ptr_null(strchr(nodes, '\x1b'));
    EXPECT(0, "base           1 ", "get", "configs");
    EXPECT(0, "everyone", "get", "assignments");
    EXPECT(0, "n2\n", "get", "nodes", "--selector", "site=north", "-o", "name");
    HW_AUTO_FREE char *names = HEADWATER(0, "get", "nodes", "-o", "name");
    ck_assert_str_eq(names, "n1\nn2\nn3\n");
    HW_AUTO_FREE char *two = HEADWATER(0, "get", "nodes", "-o", "name", "--limit", "2");
    ck_assert_str_eq(two, "n1\nn2\n");

    struct test_answer raw = test_http(api.port, "GET", "/v1/nodes", NULL, NULL, 0);
    HW_AUTO_JSON json_t *expected = test_answer_json(&raw);
    HW_AUTO_FREE char *text = HEADWATER(0, "get", "nodes", "--json");
    HW_AUTO_JSON json_t *found = parse(text);
    json_t *item;
    size_t i;
    json_array_foreach(json_object_get(expected, "items"), i, item)
        json_object_set_new(item, "kind", json_string("node")); /* and no other member is added */
    ck_assert(json_equal(expected, found));
    test_answer_free(&raw);
    EXPECT(0, "items:\n", "get", "nodes", "-o", "yaml");
}
END_TEST

/* What a table shows of a label is what a selector takes. */
START_TEST(test_labels_tell_numbers_from_strings)
{
    free(test_sql(&pg, "INSERT INTO headwater.node (name, labels) VALUES "
                       "('number', '{\"slot\": 3}'), ('string', '{\"slot\": \"3\"}'), "
                       "('words', '{\"a\": \"x,y\", \"b\": \"true\", \"c\": \"\", \"d\": \"u v\", "
                       "\"e\": \"\\\"\"}')"));
    HW_AUTO_FREE char *table = HEADWATER(0, "get", "nodes");
    expect_in(table, " slot=3 ");
    expect_in(table, " slot=\"3\" ");
    expect_in(table, " a=\"x,y\",b=\"true\",c=,d=u v,e=\"\\\"\" ");
    HW_AUTO_FREE char *both = HEADWATER(0, "get", "nodes", "--selector", "slot=3", "-o", "name");
    ck_assert_str_eq(both, "number\nstring\n");
    HW_AUTO_FREE char *one = HEADWATER(0, "get", "nodes", "--selector", "slot=\"3\"", "-o", "name");
    ck_assert_str_eq(one, "string\n");
    HW_AUTO_FREE char *words = HEADWATER(0, "get", "nodes", "-o", "name", "--selector",
                                         "a=\"x,y\",b=\"true\",c=,d=u v,e=\"\\\"\"");
    ck_assert_str_eq(words, "words\n");
    HW_AUTO_FREE char *wrong = HEADWATER(5, "fleet", "--selector", "slot:3");
    expect_in(wrong, "is not label=value, such as site=north,slot=3");
}
END_TEST

START_TEST(test_all_pages_are_fetched)
{
    make_fleet(2345);
    HW_AUTO_FREE char *text = HEADWATER(0, "fleet", "-o", "json");
    HW_AUTO_JSON json_t *fleet = parse(text);
    ck_assert_uint_eq(json_array_size(json_object_get(fleet, "items")), 2345);
    ck_assert(json_is_null(json_object_get(fleet, "next")));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(fleet, "counts"), "unknown")), 2345);
    HW_AUTO_FREE char *some = HEADWATER(0, "get", "nodes", "--json", "--limit", "1500");
    HW_AUTO_JSON json_t *page = parse(some);
    ck_assert_uint_eq(json_array_size(json_object_get(page, "items")), 1500);
    ck_assert(json_is_string(json_object_get(page, "next")));
}
END_TEST

START_TEST(test_one_resource_and_its_content)
{
    make_fleet(1);
    EXPECT(0, "revision    1\n", "get", "config", "base");
    EXPECT(0, "labels       {\"site\":\"south\"}\n", "get", "node", "n1");
    EXPECT(0, "selector    {}\n", "get", "assignment", "everyone");
    static const char content[] = "{\"rate_hz\": 1000, \"limits\": {\"high\": 7}}";
    HW_AUTO_FREE char *config = HEADWATER(0, "get", "config", "base", "--content");
    ck_assert_str_eq(config, content);
    HW_AUTO_FREE char *node = HEADWATER(0, "get", "node", "n1", "--content");
    ck_assert_str_eq(node, content);
    EXPECT(0, "revision    1\n", "get", "desired", "n1");
    EXPECT(3, "not reported yet", "get", "reported", "n1");
    report_nodes("n1", true);
    EXPECT(0, "applied\n", "get", "reported", "n1");
    EXPECT(3, "no-such-resource", "get", "node", "n2");
    free(HEADWATER(0, "set", "base", "rate_hz=1"));
    HW_AUTO_FREE char *old = HEADWATER(0, "get", "config", "base", "--content", "--revision", "1");
    ck_assert_str_eq(old, content);
}
END_TEST

START_TEST(test_binary_content_is_exact)
{
    static const char bytes[] = "\x1b\xff\x00\n\xC2\x9b";
    struct test_answer put =
        test_http(api.port, "PUT", "/v1/configs/wave", "Content-Type: application/octet-stream\r\n",
                  bytes, sizeof(bytes));
    ck_assert_int_eq(put.status, 201);
    test_answer_free(&put);
    HW_AUTO_FREE char *command =
        hw_sprintf("${HW_BUILD_DIR:-build}/headwater --server %s get config wave --content | "
                   "sha256sum",
                   server);
    HW_AUTO_FREE char *sum = NULL;
    ck_assert_int_eq(
        test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL}, NULL, NULL, &sum),
        0);
    HW_AUTO_FREE char *digest = test_sql(&pg, "SELECT substr(digest, 8) FROM "
                                              "headwater.config_revision WHERE config = 'wave'");
    ck_assert_msg(strncmp(sum, digest, 64) == 0, "%s %s", sum, digest);
}
END_TEST

START_TEST(test_fleet)
{
    make_fleet(3);
    report_nodes("n1", true);
    report_nodes("n2", false);
    HW_AUTO_FREE char *fleet = HEADWATER(0, "fleet");
    expect_in(fleet, "1 in_sync  0 pending  1 failed  0 unassigned  0 conflict  1 unknown");
    expect_in(fleet, "no such \\u001b[31mcrate"); /* what a node says is no order to a terminal */
    ck_assert_ptr_null(strchr(fleet, '\x1b'));
    HW_AUTO_FREE char *failed = HEADWATER(0, "get", "fleet", "--state", "failed", "-o", "name");
    ck_assert_str_eq(failed, "n2\n");
    EXPECT(5, "state:", "fleet", "--state", "asleep");
}
END_TEST

/* ---- writing ---- */

static char *content_of(const char *config)
{
    return HEADWATER(0, "get", "config", config, "--content");
}

START_TEST(test_set)
{
    make_fleet(1);
    EXPECT(0, "config base is at revision 2", "set", "base", "rate_hz=2000", "limits.low=-0.1",
           "/name=daq 1", "limits.high-", "-m", "new limits");
    HW_AUTO_FREE char *content = content_of("base");
    ck_assert_str_eq(content, "{\"rate_hz\":2000,\"limits\":{\"low\":-0.1},\"name\":\"daq 1\"}");
    EXPECT(0, "new limits", "history", "base");
    EXPECT(3, "nothing is there to remove", "set", "base", "nowhere-");
    EXPECT(5, "neither object nor array", "set", "base", "rate_hz.x=1");
    EXPECT(2, "not valid JSON", "set", "base", "x={");
    EXPECT(3, "no-such-resource", "set", "other", "x=1");
    EXPECT(4, "precondition-failed", "set", "base", "x=1", "--if-match", "1");
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content, media_type) "
                       "VALUES ('text', 'hello', 'text/plain')"));
    EXPECT(5, "set changes JSON only", "set", "text", "x=1");
}
END_TEST

/* Of many who change one document at once, nobody's change is lost. */
START_TEST(test_set_loses_nothing)
{
    enum { WRITERS = 4 };
    make_fleet(1);
    struct test_program writers[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        HW_AUTO_FREE char *change = hw_sprintf("w%d=%d", i, i);
        const char *const argv[] = {"headwater", "set", "base", change, NULL};
        test_program_start(&writers[i], argv, NULL);
    }
    int done = 0;
    for (int i = 0; i < WRITERS; i++) {
        test_wait_for(!test_program_running(&writers[i]), 60);
        const int status = test_program_stop(&writers[i], 0);
        ck_assert(WIFEXITED(status));
        ck_assert(WEXITSTATUS(status) == CLI_EXIT_OK || WEXITSTATUS(status) == CLI_EXIT_CONFLICT);
        HW_AUTO_FREE char *content = content_of("base");
        HW_AUTO_FREE char *member = hw_sprintf("\"w%d\":%d", i, i);
        ck_assert((strstr(content, member) != NULL) == (WEXITSTATUS(status) == CLI_EXIT_OK));
        done += WEXITSTATUS(status) == CLI_EXIT_OK;
    }
    ck_assert_int_ge(done, 1);
}
END_TEST

START_TEST(test_delete_rollback_history)
{
    make_fleet(1);
    free(HEADWATER(0, "set", "base", "rate_hz=5"));
    EXPECT(0, "config base is at revision 3", "rollback", "base", "1", "-m", "back");
    EXPECT(0, "back", "history", "base", "--limit", "1");
    EXPECT(3, "no such revision", "rollback", "base", "9");
    EXPECT(2, "is no revision", "rollback", "base", "x");
    EXPECT(4, "conflict", "delete", "config", "base");
    EXPECT(4, "precondition-failed", "delete", "assignment", "everyone", "--if-match", "0");
    EXPECT(0, "assignment everyone is deleted", "delete", "assignment", "everyone");
    EXPECT(0, "config base is deleted", "delete", "config", "base");
    EXPECT(0, "back", "history", "base");
    EXPECT(3, "no-such-resource", "delete", "config", "base");
    EXPECT(2, "delete pod", "delete", "pod", "base");
}
END_TEST

START_TEST(test_wait)
{
    make_fleet(2);
    report_nodes("n%", true);
    free(HEADWATER(0, "set", "base", "rate_hz=6"));
    EXPECT(7, "2 of 2 nodes are pending: n1, n2", "wait", "--last", "--timeout", "10ms");
    report_nodes("n%", true);
    EXPECT(0, "2 of 2 nodes applied, 0 failed, 0 pending", "wait", "--last");
    HW_AUTO_FREE char *text = HEADWATER(0, "wait", "--last", "--json");
    HW_AUTO_JSON json_t *result = parse(text);
    HW_AUTO_FREE char *change =
        hw_sprintf("%lld", json_integer_value(json_object_get(result, "change")));
    EXPECT(0, "2 of 2", "wait", change);
    HW_AUTO_FREE char *lsn = test_sql(&pg, "SELECT pg_current_wal_insert_lsn()");
    EXPECT(0, "2 of 2", "wait", lsn);
    free(HEADWATER(0, "set", "base", "rate_hz=7"));
    report_nodes("n1", true);
    report_nodes("n2", false);
    HW_AUTO_FREE char *failed = HEADWATER(1, "wait", "--last");
    expect_in(failed, "1 of 2 nodes applied, 1 failed, 0 pending");
    expect_in(failed, "n2           3  apply  no such \\u001b[31mcrate");
    EXPECT(5, "position-ahead", "wait", "FFFFFF/0");
    EXPECT(2, "wait", "wait", "yesterday");
    EXPECT(2, "a change, a position", "wait");
    EXPECT(2, "a change, a position", "wait", "0/1", "--last");
}
END_TEST

/* A node that is dead, or failed, does not matter to changes that do not touch it. */
START_TEST(test_wait_past_dead_nodes)
{
    make_fleet(3);
    report_nodes("n1", true);
    report_nodes("n2", false);
    HW_AUTO_FREE char *mine = cli_file("mine.json", "{\"mine\":1}");
    free(HEADWATER(0, "put", "mine", "-f", mine));
    HW_AUTO_FREE char *file =
        cli_file("mine.yaml", "kind: assignment\nname: mine\nconfig: mine\nnode: n1\n");
    EXPECT(7, "1 of 1 nodes are pending: n1", "apply", "-f", file, "--wait", "--timeout", "2s");
    EXPECT(0, "nothing was changed", "apply", "-f", file, "--wait");
    report_nodes("n1", true);
    EXPECT(0, "1 of 1 nodes applied", "wait", "--last");
    EXPECT(0, "0 of 0 nodes applied", "put", "loose", "-f", mine, "--wait");
    /* Each command that writes waits for its own change: n1 alone is told something. */
    EXPECT(7, "1 of 1 nodes are pending: n1", "set", "mine", "mine=2", "--wait", "--timeout", "1s");
    EXPECT(7, "1 of 1 nodes are pending: n1", "rollback", "mine", "1", "--wait", "--timeout", "1s");
    EXPECT(7, "1 of 1 nodes are pending: n1", "delete", "assignment", "mine", "--wait", "--timeout",
           "1s");
    report_nodes("n1", true);
    EXPECT(0, "1 of 1 nodes applied", "wait", "--last");
    EXPECT(0, "0 of 0 nodes applied", "delete", "config", "mine", "--wait");
    EXPECT(0, "0 of 0 nodes applied", "delete", "node", "n3", "--wait");
    /* One that it does touch and that fails is never a success. */
    free(HEADWATER(0, "set", "base", "rate_hz=8"));
    report_nodes("n1", true);
    report_nodes("n2", false);
    EXPECT(1, "1 of 2 nodes applied, 1 failed", "wait", "--last");
}
END_TEST

START_TEST(test_write_and_wait)
{
    make_fleet(2);
    report_nodes("n%", true);
    const char *const argv[] = {"headwater", "set",       "base", "rate_hz=8",
                                "--wait",    "--timeout", "60s",  NULL};
    struct test_program program;
    test_program_start(&program, argv, NULL);
    test_wait_for(({
                      HW_AUTO_FREE char *revision = test_sql(
                          &pg, "SELECT min(revision) FROM headwater.desired WHERE node LIKE 'n%%'");
                      strcmp(revision, "2") == 0;
                  }),
                  60);
    ck_assert(test_program_running(&program));
    report_nodes("n%", true);
    test_wait_for(!test_program_running(&program), 60);
    ck_assert_int_eq(test_program_stop(&program, 0), 0);
    HW_AUTO_FREE char *log = test_read_file(program.log);
    expect_in(log, "2 of 2 nodes applied");
}
END_TEST

/* ---- usage, names, unreachable servers ---- */

START_TEST(test_usage)
{
    static const char *const lines[][4] = {
        {"get"},
        {"get", "pods"},
        {"get", "node"},
        {"get", "nodes", "n1"},
        {"get", "nodes", "--content"},
        {"get", "config", "base", "--revision=1"},
        {"get", "configs", "--selector=a=b"},
        {"get", "config", "base", "--at=0/1"},
        {"apply"},
        {"set", "base"},
        {"set", "base", "x"},
        {"fleet", "extra"},
        {"fleet", "--wait"},
        {"delete", "node"},
        {"token", "list", "x"},
        {"token", "create", "x"},
        {"token", "melt", "x"},
        {"token", "list", "--role=admin"},
        {"watch", "--count=0"},
        {"fleet", "--limit=0"},
        {"fleet", "--cert=x"},
        {"fleet", "--server=ftp://x"},
        {"fleet", "--server=http://user:secret@x"},
        {"fleet", "--server=http://x/?a"},
        {"fleet", "--server=nonsense nonsense"},
        {"fleet", "--token-file=/nowhere"},
        {"delete", "node", "n1", "--if-match=a\nX: y"},
        {"delete", "node", "n1", "--idempotency-key="},
        {"delete", "node", "n1", "--message=\xff"},
    };
    for (size_t i = 0; i < HW_COUNT(lines); i++) {
        HW_AUTO_FREE char *output =
            HEADWATER(2, lines[i][0], lines[i][1], lines[i][2], lines[i][3]);
        expect_in(output, "--help");
        ck_assert_ptr_null(strstr(output, "secret"));
    }
    HW_AUTO_FREE char *token = HEADWATER_WITH(2, "HEADWATER_TOKEN=a\nb", "fleet");
    expect_in(token, "a character that no token has");
    HW_AUTO_FREE char *flag = HEADWATER(2, "fleet", "--token", "x");
    expect_in(flag, "--token: no such option");
}
END_TEST

START_TEST(test_hostile_names)
{
    static const char *const names[] = {"",     ".",       "..",       "../nodes", "a/b",
                                        "a..b", ".a",      "a.",       "a b",      "a?x=y",
                                        "a#b",  "a%2fb",   "\x1b[2J",  "a\nb",     "\xC3\xA4",
                                        "a;b",  "'; DROP", "\xff\xfe", "a\\b",     "a:b"};
    make_fleet(1);
    for (size_t i = 0; i < HW_COUNT(names); i++) {
        HW_AUTO_FREE char *output = HEADWATER(5, "get", "node", names[i]);
        expect_in(output, "is no name");
        ck_assert_ptr_null(strchr(output, '\x1b'));
        free(HEADWATER(5, "delete", "config", names[i]));
        free(HEADWATER(5, "set", names[i], "x=1"));
        free(HEADWATER(5, "history", names[i]));
        free(HEADWATER(5, "explain", names[i]));
        free(HEADWATER(5, "token", "revoke", names[i]));
    }
    HW_AUTO_FREE char *count = test_sql(&pg, "SELECT count(*) FROM headwater.config");
    ck_assert_str_eq(count, "1");
    /* A query is a query, whatever is in it. */
    EXPECT(0, "NAME", "get", "nodes", "--selector", "a=b&limit=x");
    EXPECT(0, "NAME", "get", "nodes", "--selector", "{\"a\":\"b&c=d#e\"}");
}
END_TEST

START_TEST(test_nobody_there)
{
    HW_AUTO_FREE char *closed = hw_sprintf("http://127.0.0.1:%d", test_free_port());
    EXPECT(7, "Failed to connect", "--server", closed, "fleet");
    EXPECT(7, "Failed to connect", "--server", closed, "delete", "node", "n1");
    EXPECT(7, "Failed to connect", "--server", closed, "watch");
    EXPECT(7, "Failed to connect", "--server", closed, "wait", "0/1");
    EXPECT(7, "resolve", "--server", "http://nowhere.invalid", "fleet");
    HW_AUTO_FREE char *elsewhere = hw_sprintf("%s/elsewhere/", server);
    EXPECT(8, "no such route", "--server", elsewhere, "fleet");
}
END_TEST

START_TEST(test_output_that_cannot_be_written)
{
    make_fleet(1);
    HW_AUTO_FREE char *command = hw_sprintf("${HW_BUILD_DIR:-build}/headwater fleet >/dev/full");
    HW_AUTO_FREE char *output = NULL;
    ck_assert_int_eq(test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL}, NULL,
                                      NULL, &output),
                     CLI_EXIT_FAULT);
    expect_in(output, "writing to standard output");
}
END_TEST

START_TEST(test_proposals)
{
    make_fleet(2);
    free(test_sql(&pg, "SELECT headwater.propose((SELECT jsonb_agg(jsonb_build_object('node', 'n1',"
                       " 'ref', r, 'config', 'base', 'base_revision', 1, 'content', c, 'encoding',"
                       " 'utf-8', 'message', 'as measured')) FROM (VALUES ('a', '{\"gain\": 2}'),"
                       " ('b', '{}'), ('c', '{')) AS v (r, c)))"));
    EXPECT(0, "as measured", "proposals", "--state", "pending", "--node", "n1");
    EXPECT(0, "not valid JSON", "proposals", "3");
    HW_AUTO_FREE char *ids = HEADWATER(0, "proposals", "-o", "name", "--state", "pending");
    ck_assert_str_eq(ids, "2\n1\n");
    HW_AUTO_FREE char *content = HEADWATER(0, "proposals", "1", "--content");
    ck_assert_str_eq(content, "{\"gain\": 2}");
    EXPECT(0, "2 nodes would change", "approve", "1", "--dry-run");
    EXPECT(0, "proposal 1 is approved: config base is at revision 2", "approve", "1", "-m", "fine");
    EXPECT(4, "which is at revision 2", "reject", "2");
    EXPECT(4, "proposal 1 is approved already", "approve", "1");
    EXPECT(3, "no proposal \"99\"", "approve", "99");
    EXPECT(3, "not kept", "proposals", "3", "--content");
    EXPECT(2, "is no proposal", "approve", "x");
    EXPECT(2, "--content is of one", "proposals", "--content");
    EXPECT(0, "approve", "audit", "proposal");
    free(test_sql(&pg, "SELECT headwater.propose('[{\"node\": \"n2\", \"ref\": \"d\", "
                       "\"config\": \"base\", \"base_revision\": 2, \"content\": \"{}\", "
                       "\"encoding\": \"utf-8\"}]')"));
    EXPECT(0, "proposal 4 is rejected", "reject", "4", "-m", "not now");
    HW_AUTO_FREE char *reason = test_sql(&pg, "SELECT reason FROM headwater.proposal WHERE id = 4");
    ck_assert_str_eq(reason, "not now");
}
END_TEST

/* The completion offers what the program has. */
START_TEST(test_completion)
{
    static const char script[] =
        "PATH=${HW_BUILD_DIR:-build}:$PATH\n. cli/completion/headwater\n"
        "try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _headwater; "
        "echo \"[${COMPREPLY[*]}]\"; }\n"
        "try headwater ro\ntry headwater get --conten\ntry headwater -o j\ntry headwater delete c\n"
        "try headwater --log-level d\ntry headwater get config b\n"
        "try headwater --server http://127.0.0.1:1 get config b\ntry headwater get desired n\n"
        "try headwater fleet --state un\ntry headwater accept --labels a=b s\n";
    make_fleet(2);
    free(test_sql(&pg, "SELECT headwater.hear('{n1,stranger}', 1000)"));
    HW_AUTO_FREE char *env = hw_sprintf("HEADWATER_SERVER=%s", server);
    HW_AUTO_FREE char *output = NULL;
    ck_assert_int_eq(test_program_run((const char *const[]){"/bin/bash", "-c", script, NULL},
                                      (const char *const[]){env, NULL}, NULL, &output),
                     0);
    ck_assert_str_eq(output, "[rollback]\n[--content]\n[json]\n[config]\n[debug]\n[base]\n[]\n"
                             "[n1 n2]\n[unassigned unknown]\n[stranger]\n");
}
END_TEST

/* ---- apply and what goes with it ---- */

static const char site[] = "kind: assignment\nname: everyone\nconfig: base\nselector: {}\n"
                           "---\nkind: config\nname: base\ncontent: {rate_hz: 0.1, on: yes}\n"
                           "---\n- {kind: node, name: n1, labels: {site: north}}\n"
                           "- {kind: node, name: n2}\n";

START_TEST(test_apply)
{
    HW_AUTO_FREE char *dry = HEADWATER_IN(0, site, "apply", "-f", "-", "--dry-run");
    expect_in(dry, "2 nodes would change");
    HW_AUTO_FREE char *nothing = test_sql(&pg, "SELECT count(*) FROM headwater.node");
    ck_assert_str_eq(nothing, "0");
    HW_AUTO_FREE char *created = HEADWATER_IN(0, site, "apply", "-f", "-", "-m", "the site");
    expect_in(created, "assignment  everyone  created");
    HW_AUTO_FREE char *content = HEADWATER(0, "get", "node", "n1", "--content");
    HW_AUTO_JSON json_t *document = parse(content);
    HW_AUTO_JSON json_t *expected = parse("{\"rate_hz\":0.1,\"on\":\"yes\"}");
    ck_assert(json_equal(document, expected));
    ck_assert_ptr_nonnull(strstr(content, "0.1"));
    ck_assert_ptr_null(strstr(content, "0.1000"));
    HW_AUTO_FREE char *again = HEADWATER_IN(0, site, "apply", "-f", "-", "-o", "json");
    HW_AUTO_JSON json_t *results = parse(again);
    size_t i;
    const json_t *result;
    ck_assert_uint_eq(json_array_size(json_object_get(results, "results")), 4);
    json_array_foreach(json_object_get(results, "results"), i, result)
        ck_assert_str_eq(json_string_value(json_object_get(result, "result")), "unchanged");
    HW_AUTO_FREE char *message =
        test_sql(&pg, "SELECT message FROM headwater.config_revision WHERE config = 'base'");
    ck_assert_str_eq(message, "the site");
}
END_TEST

START_TEST(test_apply_is_all_or_nothing)
{
    HW_AUTO_FREE char *path = cli_file(
        "site.yaml", "kind: node\nname: n1\n---\nkind: assignment\nname: a\nconfig: nowhere\n"
                     "selector: {}\n---\nkind: config\nname: c\ncontent: 1\npriority: 9\n");
    HW_AUTO_FREE char *output = HEADWATER(5, "apply", "-f", path);
    expect_in(output, "site.yaml:9: config \"c\": ");
    HW_AUTO_FREE char *nothing = test_sql(&pg, "SELECT count(*) FROM headwater.node");
    ck_assert_str_eq(nothing, "0");
    HW_AUTO_FREE char *stale =
        HEADWATER_IN(4, "kind: node\nname: n1\nif_match: \"7\"\n", "apply", "-f", "-");
    expect_in(stale, "stdin:1: node \"n1\"");
}
END_TEST

START_TEST(test_apply_deletes)
{
    make_fleet(1);
    HW_AUTO_FREE char *output = HEADWATER_IN(
        0,
        "kind: config\nname: base\ndelete: true\n---\nkind: assignment\nname: everyone\n"
        "delete: true\n",
        "apply", "-f", "-");
    expect_in(output, "config      base      deleted");
    EXPECT(3, "no-such-resource", "get", "config", "base");
}
END_TEST

START_TEST(test_diff)
{
    make_fleet(3);
    HW_AUTO_FREE char *same =
        HEADWATER_IN(0,
                     "kind: config\nname: base\nmedia_type: application/json\ntext: '{\"rate_hz\": "
                     "1000, \"limits\": {\"high\": 7}}'\n",
                     "diff", "-f", "-");
    expect_in(same, "0 nodes would change");
    HW_AUTO_FREE char *other =
        HEADWATER_IN(1, "kind: config\nname: base\ncontent: {rate_hz: 2000, limits: {high: 7}}\n",
                     "diff", "-f", "-");
    expect_in(other, "n1 and 2 more (n2, n3): update\n--- node revision 1  sha256:");
    expect_in(other, "@@ /rate_hz\n-1000\n+2000\n");
    expect_in(other, "3 nodes would change");
    HW_AUTO_FREE char *json =
        HEADWATER_IN(1, "kind: node\nname: n2\ndelete: true\n", "diff", "-f", "-", "--json");
    HW_AUTO_JSON json_t *plan = parse(json);
    ck_assert_int_eq(json_integer_value(json_object_get(plan, "nodes")), 1);
}
END_TEST

/* There is a difference whenever apply would change something, also where no node would notice. */
START_TEST(test_diff_of_resources)
{
    static const struct {
        const char *file, *line, *sum;
    } cases[] = {
        {"kind: node\nname: n9\n", "node n9: create\n", ", 1 resource would be created\n"},
        {"kind: node\nname: n1\nlabels: {site: south}\ndescription: rack 7\n", "node n1: change\n",
         "0 nodes would change, 1 resource would be changed\n"},
        {"kind: config\nname: loose\ncontent: {a: 1}\n", "config loose: create\n",
         ", 1 resource would be created\n"},
        {"kind: config\nname: base\nmedia_type: application/json\ntext: '{\"rate_hz\": 1000, "
         "\"limits\": {\"high\": 7}}'\nschema: {type: object}\n",
         "config base: change\n", "0 nodes would change, 1 resource would be changed\n"},
        {"kind: assignment\nname: everyone\nconfig: base\nselector: {}\npriority: 5\n",
         "assignment everyone: change\n", ", 1 resource would be changed\n"},
        {"kind: assignment\nname: other\nconfig: base\nselector: {site: moon}\n",
         "assignment other: create\n", ", 1 resource would be created\n"},
        {"kind: node\nname: n2\ndelete: true\n", "node n2: remove\n",
         "1 node would change, 1 resource would be removed\n"},
    };

    make_fleet(2);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *differs = HEADWATER_IN(1, cases[i].file, "diff", "-f", "-");
        expect_in(differs, cases[i].line);
        expect_in(differs, cases[i].sum);
        free(HEADWATER_IN(1, cases[i].file, "diff", "-f", "-", "-o", "json"));
        free(HEADWATER_IN(0, cases[i].file, "apply", "-f", "-"));
        HW_AUTO_FREE char *same = HEADWATER_IN(0, cases[i].file, "diff", "-f", "-");
        ck_assert_str_eq(same, "0 nodes would change\n");
    }
}
END_TEST

START_TEST(test_dry_run)
{
    make_fleet(3);
    HW_AUTO_FREE char *dry = HEADWATER(0, "set", "base", "rate_hz=1", "--dry-run");
    expect_in(dry, "3 nodes would change");
    EXPECT(0, "3 nodes would change", "delete", "assignment", "everyone", "--dry-run");
    HW_AUTO_FREE char *content = content_of("base");
    expect_in(content, "1000");
    expect_in(dry, "n1 and 2 more (n2, n3): update\n--- node revision 1  sha256:");
    expect_in(dry, "@@ /rate_hz\n-1000\n+1\n");
    EXPECT(0, "n1: remove\n", "delete", "node", "n1", "--dry-run");
    EXPECT(0, "0 nodes would change", "rollback", "base", "1", "--dry-run");
}
END_TEST

/* One key, one change: what was answered once is answered again. */
START_TEST(test_idempotency_key)
{
    make_fleet(1);
    free(HEADWATER(0, "set", "base", "rate_hz=1"));
    EXPECT(0, "revision 3", "rollback", "base", "1", "--idempotency-key", "k1");
    free(HEADWATER(0, "set", "base", "rate_hz=2"));
    EXPECT(0, "revision 3", "rollback", "base", "1", "--idempotency-key", "k1");
    EXPECT(5, "idempotency-key-reused", "rollback", "base", "2", "--idempotency-key", "k1");
}
END_TEST

START_TEST(test_explain)
{
    make_fleet(1);
    HW_AUTO_FREE char *output = HEADWATER(0, "explain", "n1");
    expect_in(output, "PRIORITY  ASSIGNMENT  CONFIG  CONFIG REV");
    expect_in(output, "/rate_hz");
    EXPECT(0, "/limits/high", "explain", "n1", "/limits/high");
    EXPECT(3, "no-such-resource", "explain", "nobody");
}
END_TEST

START_TEST(test_as_of)
{
    make_fleet(1);
    HW_AUTO_FREE char *before = test_sql(&pg, "SELECT pg_current_wal_insert_lsn()");
    free(HEADWATER(0, "set", "base", "rate_hz=2"));
    HW_AUTO_FREE char *then = HEADWATER(0, "get", "node", "n1", "--content", "--at", before);
    expect_in(then, "1000");
    EXPECT(0, "revision    1\n", "get", "desired", "n1", "--at", before);
    EXPECT(5, "at", "get", "desired", "n1", "--at", "last tuesday");
}
END_TEST

START_TEST(test_watch)
{
    make_fleet(1);
    const char *const argv[] = {"headwater", "watch",   "--types", "desired",
                                "--json",    "--count", "2",       NULL};
    struct test_program program;
    test_program_start(&program, argv, NULL);
    /* It is there when the first event arrives; changes go on until it is. */
    test_wait_for(({
                      free(HEADWATER(0, "rollback", "base", "1"));
                      free(HEADWATER(0, "set", "base", "rate_hz=2"));
                      !test_program_running(&program);
                  }),
                  120);
    ck_assert_int_eq(test_program_stop(&program, 0), 0);
    HW_AUTO_FREE char *log = test_read_file(program.log);
    HW_AUTO_FREE char *line = hw_strndup(log, strcspn(log, "\n"));
    HW_AUTO_JSON json_t *event = parse(line);
    ck_assert_str_eq(json_string_value(json_object_get(event, "type")), "desired");
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(event, "data"), "node")),
                     "n1");
    EXPECT(5, "types", "watch", "--types", "nonsense");
}
END_TEST

START_TEST(test_audit)
{
    make_fleet(1);
    free(HEADWATER(0, "set", "base", "rate_hz=3", "-m", "because"));
    HW_AUTO_FREE char *output = HEADWATER(0, "audit", "config", "base", "--limit", "1");
    expect_in(output, "AT ");
    expect_in(output, "because");
    EXPECT(2, "kind", "audit", "pod");
}
END_TEST

START_TEST(test_tokens)
{
    make_fleet(1);
    HW_AUTO_FREE char *path = hw_sprintf("%s/token", home);
    HW_AUTO_FREE char *command =
        hw_sprintf("${HW_BUILD_DIR:-build}/headwater --server %s token create boss --role admin "
                   ">%s 2>/dev/null",
                   server, path);
    free(HEADWATER(2, "token", "create", "boss"));
    ck_assert_int_eq(
        test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL}, NULL, NULL, NULL),
        0);
    EXPECT(6, "HEADWATER_TOKEN", "fleet");
    EXPECT(0, "n1", "fleet", "--token-file", path);
    HW_AUTO_FREE char *json = HEADWATER(0, "token", "create", "reader", "--role", "viewer",
                                        "--expires-in", "30d", "--json", "--token-file", path);
    HW_AUTO_JSON json_t *answer = parse(json);
    HW_AUTO_FREE char *env =
        hw_sprintf("HEADWATER_TOKEN=%s", json_string_value(json_object_get(answer, "token")));
    free(HEADWATER_WITH(0, env, "fleet"));
    HW_AUTO_FREE char *refused = HEADWATER_WITH(6, env, "set", "base", "rate_hz=9");
    expect_in(refused, "forbidden");
    EXPECT(0, "reader", "token", "list", "--token-file", path);
    EXPECT(0, "token reader is revoked", "token", "revoke", "reader", "--token-file", path);
    HW_AUTO_FREE char *revoked = HEADWATER_WITH(6, env, "fleet");
    expect_in(revoked, "unauthenticated");
    EXPECT(5, "role", "token", "create", "x", "--role", "king", "--token-file", path);
}
END_TEST

/* ---- TLS ---- */

static char *tls_file(const char *name)
{
    return hw_sprintf("%s/%s", home, name);
}

static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd \"$0\"; for ca in one two; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key "
        "-out $ca.pem -subj /CN=$ca -days 2; done; for name in server alice; do "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key "
        "-out csr -subj /CN=$name; printf 'subjectAltName=IP:127.0.0.1\\n' > ext; "
        "openssl x509 -req -in csr -CA one.pem -CAkey one.key -CAcreateserial -extfile ext "
        "-out $name.pem -days 2; done";
    char *output;
    const int status = test_program_run((const char *const[]){"/bin/sh", "-c", script, home, NULL},
                                        NULL, NULL, &output);

    ck_assert_msg(status == 0, "%s", output);
    free(output);
}

START_TEST(test_tls)
{
    make_certificates();
    make_fleet(1);
    HW_AUTO_FREE char *one = tls_file("one.pem"), *two = tls_file("two.pem");
    HW_AUTO_FREE char *cert = tls_file("server.pem"), *key = tls_file("server.key");
    HW_AUTO_FREE char *alice = tls_file("alice.pem"), *alice_key = tls_file("alice.key");
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", test_free_port());
    HW_AUTO_FREE char *url = hw_sprintf("https://%s", listen);
    HW_AUTO_FREE char *plain = hw_sprintf("http://%s", listen);
    struct test_program secure;
    test_program_start(&secure,
                       (const char *const[]){"headwater-api", "--database", pg.api_url, "--listen",
                                             listen, "--tls-cert", cert, "--tls-key", key,
                                             "--tls-client-ca", one, "--tls-client-role", "viewer",
                                             NULL},
                       NULL);
    const char *const ask[] = {"headwater", "--server", url,       "--ca-file", one,     "--cert",
                               alice,       "--key",    alice_key, "get",       "nodes", NULL};
    test_wait_for(test_program_run(ask, NULL, NULL, NULL) == 0, 60); /* once it is ready */
    EXPECT(0, "n1", "--server", url, "--ca-file", one, "--cert", alice, "--key", alice_key, "get",
           "nodes");
    EXPECT(6, "forbidden", "--server", url, "--ca-file", one, "--cert", alice, "--key", alice_key,
           "set", "base", "rate_hz=1");
    EXPECT(6, "certificate", "--server", url, "--ca-file", two, "--cert", alice, "--key", alice_key,
           "fleet");
    EXPECT(6, "certificate", "--server", url, "fleet");
    EXPECT(7, url, "--server", url, "--ca-file", one, "fleet");
    EXPECT(7, "--cert and --key", "--server", url, "--ca-file", one, "fleet");
    EXPECT(6, "--ca-file (HEADWATER_CA_FILE) names the authority", "--server", url, "fleet");
    /* One protocol where the other one is spoken. */
    EXPECT(7, plain, "--server", plain, "fleet");
    EXPECT(7, "speaks HTTPS there: write https:// in --server (HEADWATER_SERVER)", "--server",
           plain, "fleet");
    HW_AUTO_FREE char *over = hw_sprintf("https%s", server + strlen("http"));
    EXPECT(7, "speaks plain HTTP there: write http:// in --server (HEADWATER_SERVER)", "--server",
           over, "--ca-file", one, "fleet");
    ck_assert_int_eq(test_program_stop(&secure, SIGTERM), 0);
    /* Nobody there, and no such host. */
    EXPECT(7, "connection refused: is headwater-api running there? --server or HEADWATER_SERVER",
           "--server", plain, "fleet");
    EXPECT(7, "correct the host in --server or HEADWATER_SERVER", "--server",
           "http://no-such-host.invalid:8080", "fleet");
}
END_TEST

/* ---- terminals ---- */

/* What a terminal would get. */
static char *on_terminal(const char *env, const char *arguments)
{
    HW_AUTO_FREE char *command = hw_sprintf("${HW_BUILD_DIR:-build}/headwater %s", arguments);
    char *output;
    const int status =
        test_program_run((const char *const[]){"script", "-qec", command, "/dev/null", NULL},
                         (const char *const[]){env, NULL}, NULL, &output);

    ck_assert_msg(status == 0, "%s: %d\n%s", arguments, status, output);
    return output;
}

START_TEST(test_terminal)
{
    make_fleet(2);
    report_nodes("n1", true);
    report_nodes("n2", false);
    HW_AUTO_FREE char *colours = on_terminal("TERM=xterm", "fleet");
    expect_in(colours, "\x1b[31mfailed\x1b[0m");
    expect_in(colours, "no such \\u001b[31mcrate");
    HW_AUTO_FREE char *plain = on_terminal("NO_COLOR=1", "fleet");
    ck_assert_ptr_null(strchr(plain, '\x1b'));
    free(test_sql(&pg, "UPDATE headwater.config SET content = E'\\x1b[2J\\tevil\\n', "
                       "media_type = 'text/plain'"));
    HW_AUTO_FREE char *content = on_terminal("TERM=xterm", "get config base --content");
    ck_assert_str_eq(content, "\\u001b[2J\tevil\r\n");
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, TEST_S);
    tcase_add_unchecked_fixture(tcase, start_cluster, stop_cluster);
    tcase_add_checked_fixture(tcase, start, stop);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    const TTest *const basic[] = {test_lists,
                                  test_labels_tell_numbers_from_strings,
                                  test_all_pages_are_fetched,
                                  test_one_resource_and_its_content,
                                  test_binary_content_is_exact,
                                  test_fleet,
                                  test_set,
                                  test_set_loses_nothing,
                                  test_delete_rollback_history,
                                  test_wait,
                                  test_wait_past_dead_nodes,
                                  test_write_and_wait,
                                  test_usage,
                                  test_hostile_names,
                                  test_nobody_there,
                                  test_output_that_cannot_be_written,
                                  test_proposals,
                                  test_completion,
                                  test_terminal};
    const TTest *const applying[] = {
        test_apply,          test_apply_is_all_or_nothing, test_apply_deletes,
        test_diff,           test_diff_of_resources,       test_dry_run,
        test_idempotency_key};
    const TTest *const reading[] = {test_explain, test_as_of, test_watch};
    const TTest *const access[] = {test_audit, test_tokens, test_tls};
    const struct {
        const char *name;
        const TTest *const *tests;
        size_t count;
    } cases[] = {
        {"resources", basic, HW_COUNT(basic)},
        {"apply", applying, HW_COUNT(applying)},
        {"explain and events", reading, HW_COUNT(reading)},
        {"access", access, HW_COUNT(access)},
    };
    Suite *suite = suite_create("cli");

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        TCase *tcase = add_case(suite, cases[i].name);
        for (size_t j = 0; j < cases[i].count; j++)
            tcase_add_test(tcase, cases[i].tests[j]);
    }
    return test_suite_finish(suite);
}
