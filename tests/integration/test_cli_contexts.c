/* Where headwater goes, and with what: contexts, flags, the environment. Its tokens; put. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static const char *home;
static char *server;

static void start(void)
{
    start_service();
    home = cli_home(0);
    server = hw_sprintf("http://127.0.0.1:%d", api.port);
}

static void stop(void)
{
    stop_service();
    free(server);
}

/* A script that the shell runs, with the programs of this build in its path. */
static char *shell(int status, const char *script)
{
    HW_AUTO_FREE char *all = hw_sprintf("PATH=${HW_BUILD_DIR:-build}:$PATH\n%s", script);
    char *output;
    const int found =
        test_program_run((const char *const[]){"/bin/bash", "-c", all, NULL}, NULL, NULL, &output);

    ck_assert_msg(found == status, "expected %d, got %d:\n%s", status, found, output);
    return output;
}

/* ---- contexts ---- */

START_TEST(test_the_file)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/headwater/contexts", home);
    struct stat st;

    EXPECT(0, "NAME", "context", "list");
    EXPECT(3, "headwater context add lab --server URL", "context", "use", "lab");
    HW_AUTO_FREE char *added =
        HEADWATER_WITH(0, "HEADWATER_TOKEN=hwt_s3cret", "context", "add", "lab", "--server", server,
                       "--token-file", "lab.token", "--ca-file", "/etc/ca.pem");
    expect_in(added, "headwater context use lab");
    expect_in(added, "HEADWATER_TOKEN is not kept");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    HW_AUTO_FREE char *text = test_read_file(path);
    ck_assert_ptr_null(strstr(text, "s3cret"));
    HW_AUTO_FREE char *here = getcwd(NULL, 0);
    HW_AUTO_FREE char *token_file = hw_sprintf("\"token_file\": \"%s/lab.token\"", here);
    expect_in(text, token_file);
    expect_in(text, "\"ca_file\": \"/etc/ca.pem\"");

    EXPECT(4, "already", "context", "add", "lab", "--server", server);
    EXPECT(2, "--server is missing", "context", "add", "site");
    EXPECT(2, "neither http:// nor https://", "context", "add", "site", "--server", "ftp://x");
    EXPECT(2, "--cert and --key", "context", "add", "site", "--server", server, "--cert", "x");
    EXPECT(5, "is no name", "context", "add", "a/b", "--server", server);
    EXPECT(2, "list, add NAME", "context", "show");
    EXPECT(2, "a name is missing", "context", "use");
    EXPECT_WITH(0, "is added", "HEADWATER_SERVER=http://127.0.0.1:1", "context", "add", "site");
    EXPECT(0, "context lab is in use: http", "context", "use", "lab");
    HW_AUTO_FREE char *list = HEADWATER(0, "context", "list");
    expect_in(list, "yes     lab ");
    expect_in(list, "-       site");
    EXPECT_WITH(0, "yes     site", "HEADWATER_CONTEXT=site", "context", "list");
    EXPECT_WITH(0, "HEADWATER_SERVER is set, and goes before it", "HEADWATER_SERVER=http://x",
                "context", "use", "lab");
    HW_AUTO_FREE char *names = HEADWATER(0, "context", "list", "-o", "name");
    ck_assert_str_eq(names, "lab\nsite\n");
    EXPECT(0, "none is", "context", "remove", "lab");
    EXPECT(3, "no context", "context", "remove", "lab");
    HW_AUTO_FREE char *left = HEADWATER(0, "context", "list", "--json");
    expect_in(left, "\"current\": false");

    /* Others must not choose where tokens go, and what is broken says where. */
    ck_assert_int_eq(chmod(path, 0622), 0);
    EXPECT(6, "others may write it", "fleet", "--context", "site");
    EXPECT(6, "others may write it", "context", "list");
    ck_assert_int_eq(chmod(path, 0600), 0);
    free(cli_file("headwater/contexts", "{\"contexts\": {\"x\": {}}}"));
    EXPECT(2, "context \"x\" names no server", "fleet");
    free(cli_file("headwater/contexts", "{"));
    EXPECT(2, "headwater/contexts", "fleet");
    EXPECT_WITH(0, "in_sync", "HEADWATER_CONTEXT=any", "fleet", "--server", server);
}
END_TEST

/* Nobody is at these: the message says which one was asked. */
START_TEST(test_what_goes_before_what)
{
    free(HEADWATER(0, "context", "add", "one", "--server", "http://127.0.0.1:1"));
    free(HEADWATER(0, "context", "add", "two", "--server", "http://127.0.0.1:2"));
    EXPECT(7, "http://127.0.0.1:8080: ", "fleet");
    free(HEADWATER(0, "context", "use", "one"));
    EXPECT(7, "http://127.0.0.1:1: ", "fleet");
    EXPECT_WITH(7, "http://127.0.0.1:2: ", "HEADWATER_CONTEXT=two", "fleet");
    EXPECT(7, "http://127.0.0.1:2: ", "fleet", "--context", "two");
    EXPECT_WITH(7, "http://127.0.0.1:2: ", "HEADWATER_CONTEXT=one", "fleet", "--context", "two");
    EXPECT_WITH(7, "http://127.0.0.1:3: ", "HEADWATER_SERVER=http://127.0.0.1:3", "fleet");
    EXPECT_WITH(7, "http://127.0.0.1:2: ", "HEADWATER_SERVER=http://127.0.0.1:3", "fleet",
                "--context", "two");
    EXPECT_WITH(7, "http://127.0.0.1:4: ", "HEADWATER_SERVER=http://127.0.0.1:3", "fleet",
                "--context", "two", "--server", "http://127.0.0.1:4");
    EXPECT(3, "no context \"three\"", "fleet", "--context", "three");
    EXPECT_WITH(3, "no context \"three\"", "HEADWATER_CONTEXT=three", "fleet");
}
END_TEST

/* What lets one in at a server is shown to that server. */
START_TEST(test_tokens_of_contexts)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/boss", home);
    HW_AUTO_FREE char *script =
        hw_sprintf("headwater --server %s token create boss --role admin > %s", server, path);
    HW_AUTO_FREE char *said = shell(0, script);

    expect_in(said, "from now on every call needs a token");
    expect_in(said, "headwater token create NAME --role");
    free(HEADWATER(0, "context", "add", "lab", "--server", server, "--token-file", path));
    free(HEADWATER(0, "context", "use", "lab"));
    HW_AUTO_FREE char *second =
        HEADWATER(0, "token", "create", "--name", "eyes", "--role", "viewer");
    ck_assert_ptr_null(strstr(second, "from now on"));
    EXPECT(0, "in_sync", "fleet");
    EXPECT(6, "unauthenticated", "fleet", "--server", server);
    HW_AUTO_FREE char *variable = hw_sprintf("HEADWATER_SERVER=%s", server);
    EXPECT_WITH(6, "unauthenticated", variable, "fleet");
    EXPECT_WITH(0, "in_sync", variable, "fleet", "--token-file", path);
    const char *eyes = strstr(second, "hwt_");
    ck_assert_ptr_nonnull(eyes);
    HW_AUTO_FREE char *wrong = hw_strndup(eyes, strcspn(eyes, "\n"));
    HW_AUTO_FREE char *token = hw_sprintf("HEADWATER_TOKEN=%s", wrong);
    /* A viewer's may not list tokens: which one was shown? */
    EXPECT_WITH(6, "forbidden", token, "token", "list");
    EXPECT_WITH(0, "boss", token, "token", "list", "--context", "lab");
    EXPECT(2, "twice", "token", "revoke", "eyes", "--name", "eyes");
    EXPECT(0, "token eyes is revoked", "token", "revoke", "--name", "eyes");
    EXPECT(2, "a name is missing", "token", "revoke");
    EXPECT(2, "list, create", "token", "list", "--name", "eyes");
}
END_TEST

START_TEST(test_wait_last_and_completion)
{
    static const char script[] =
        ". cli/completion/headwater\n"
        "try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _headwater; "
        "echo \"[${COMPREPLY[*]}]\"; }\n"
        "try headwater --context l\ntry headwater context use s\ntry headwater context re\n"
        "try headwater --context lab get config b\ntry headwater edit b\n"
        "try headwater describe assign\n";

    free(HEADWATER(0, "context", "add", "lab", "--server", server));
    free(HEADWATER(0, "context", "add", "site", "--server", "http://127.0.0.1:1"));
    free(HEADWATER(0, "context", "use", "lab"));
    HW_AUTO_FREE char *file = cli_file("base.json", "{}");
    free(HEADWATER(0, "put", "base", "-f", file));
    EXPECT(0, "0 of 0 nodes applied", "wait", "--last");
    EXPECT(0, "0 of 0 nodes applied", "wait", "--last", "--server", server);
    EXPECT(3, "no change on http://127.0.0.1:1", "wait", "--last", "--context", "site");
    HW_AUTO_FREE char *output = shell(0, script);
    ck_assert_str_eq(output, "[lab]\n[site]\n[remove]\n[base]\n[base]\n[assignment]\n");
}
END_TEST

/* ---- put ---- */

/* A file is whatever can be read: what the shell makes of <(command), a FIFO, standard input by its
 * name. What cannot be read is 5, also from standard input. */
START_TEST(test_files_that_are_none)
{
    static const char script[] =
        "set -e\n"
        "headwater apply -f <(printf 'kind: node\\nname: piped\\n')\n"
        "headwater diff <(printf 'kind: node\\nname: piped\\n')\n"
        "printf 'kind: node\\nname: named\\n' | headwater apply -f /dev/stdin\n"
        "headwater put base -f <(printf '{\"a\":1}') --media-type application/json\n"
        "printf '{\"a\":2}' | headwater put base -f /dev/stdin --media-type application/json\n"
        "headwater get config base --content\n"
        "head -c 50000000 /dev/zero | headwater put base -f - --media-type a/b && exit 1\n"
        "test ${PIPESTATUS[1]} = 5\n"
        "headwater put base -f <(head -c 50000000 /dev/zero) --media-type a/b || test $? = 5\n"
        "headwater put base -f / --media-type a/b || test $? = 5\n"
        "headwater apply -f /nowhere || test $? = 5\n";

    setenv("HEADWATER_SERVER", server, 1);
    HW_AUTO_FREE char *output = shell(0, script);
    expect_in(output, "node  piped  created");
    expect_in(output, "0 nodes would change\n");
    expect_in(output, "node  named  created");
    expect_in(output, "config base is at revision 1");
    expect_in(output, "config base is at revision 2");
    expect_in(output, "{\"a\":2}");
}
END_TEST

START_TEST(test_put)
{
    setenv("HEADWATER_SERVER", server, 1);
    HW_AUTO_FREE char *json = cli_file("base.json", "{ \"rate_hz\":1000 }");
    HW_AUTO_FREE char *bytes = cli_file("wave.bin", "\x1b\xff\xfe\n\n");
    EXPECT(0, "config base is at revision 1", "put", "base", "-f", json, "-m", "from the lab");
    EXPECT(0, "from the lab", "history", "base");
    HW_AUTO_FREE char *content = HEADWATER(0, "get", "config", "base", "--content");
    ck_assert_str_eq(content, "{ \"rate_hz\":1000 }");
    check_sql("application/json", "SELECT media_type FROM headwater.config WHERE name = 'base'");
    EXPECT(4, "there is a config \"base\" already", "put", "base", "-f", json, "--create");
    EXPECT(2, "what is in", "put", "wave", "-f", bytes);
    EXPECT(0, "config wave is at revision 1", "put", "config", "wave", "-f", bytes, "--media-type",
           "application/octet-stream", "--create");
    check_sql("t", "SELECT digest = 'sha256:' || encode(sha256('\\x1bfffe0a0a'), 'hex') "
                   "FROM headwater.config_revision WHERE config = 'wave'");
    HW_AUTO_FREE char *text =
        cli_run(0, "hello\n", NULL,
                (const char *const[]){"put", "notes", "-f", "-", "--media-type", "text/plain",
                                      "--wait", NULL});
    expect_in(text, "config notes is at revision 1");
    check_sql("text/plain", "SELECT media_type FROM headwater.config WHERE name = 'notes'");

    ck_assert_int_eq(call("PUT", "/v1/nodes/n1", JSON, "{}"), 201);
    ck_assert_int_eq(
        call("PUT", "/v1/assignments/all", JSON, "{\"config\":\"base\",\"selector\":{}}"), 201);
    HW_AUTO_FREE char *other = cli_file("other.json", "{\"rate_hz\":2000}");
    EXPECT(0, "+2000", "put", "base", "-f", other, "--dry-run");
    check_sql("1", "SELECT revision FROM headwater.config WHERE name = 'base'");
    EXPECT(4, "precondition-failed", "put", "base", "-f", other, "--if-match", "99");
    EXPECT(0, "config base is at revision 2", "put", "base", "-f", other);
    HW_AUTO_FREE char *broken = cli_file("broken.json", "{");
    EXPECT(5, "config \"base\"", "put", "base", "-f", broken);
    EXPECT(5, "/nowhere.json", "put", "base", "-f", "/nowhere.json");
    EXPECT(2, "-f FILE", "put", "base");
    EXPECT(2, "takes one config", "put", "node", "n1", "-f", json);
    EXPECT(2, "exclude each other", "put", "base", "-f", json, "--create", "--if-match", "1");
}
END_TEST

/* ---- a letter ---- */

START_TEST(test_selector_by_its_letter)
{
    setenv("HEADWATER_SERVER", server, 1);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n1", JSON, "{\"labels\":{\"site\":\"north\"}}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n2", JSON, "{\"labels\":{\"site\":\"south\"}}"), 201);
    HW_AUTO_FREE char *nodes = HEADWATER(0, "get", "nodes", "-l", "site=north", "-o", "name");
    ck_assert_str_eq(nodes, "n1\n");
    HW_AUTO_FREE char *fleet = HEADWATER(0, "fleet", "-lsite=south", "-o", "name");
    ck_assert_str_eq(fleet, "n2\n");
    HW_AUTO_FREE char *one = HEADWATER(0, "fleet", "--node", "n1", "-o", "name");
    ck_assert_str_eq(one, "n1\n");
    EXPECT(7, "0 of 1 events came", "watch", "-l", "site=north", "-n", "1", "--timeout", "200ms");
}
END_TEST

TEST_MAIN_BETWEEN("cli contexts", 240, start, stop, test_the_file, test_what_goes_before_what,
                  test_tokens_of_contexts, test_wait_last_and_completion, test_files_that_are_none,
                  test_put, test_selector_by_its_letter)
