/* headwater edit: what the user typed reaches the server as it is, or a file that a message names.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

#define CONTENT "{\n  \"rate_hz\": 1000\n}\n"

static const char *home;

static void start(void)
{
    start_service();
    home = cli_home(api.port);
    ck_assert_int_eq(call("PUT", "/v1/nodes/n1", JSON, "{\"labels\":{\"site\":\"north\"}}"), 201);
    ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, CONTENT), 201);
    ck_assert_int_eq(
        call("PUT", "/v1/assignments/everyone", JSON, "{\"config\":\"base\",\"selector\":{}}"),
        201);
}

/* An editor that is a script; the file is its last argument. */
static void use_editor(const char *script)
{
    HW_AUTO_FREE char *text = hw_sprintf("#!/bin/sh\nset -e\n%s\n", script);
    HW_AUTO_FREE char *path = cli_file("editor", text);

    setenv("EDITOR", path, 1);
}

static void expect_content(const char *expected)
{
    HW_AUTO_FREE char *content = HEADWATER(0, "get", "config", "base", "--content");

    ck_assert_str_eq(content, expected);
}

/* The only file that edit left, malloc'ed; NULL: there is none. */
static char *kept_file(void)
{
    HW_AUTO_FREE char *list = NULL;
    const char *const find[] = {"/usr/bin/find", home, "-path", "*/headwater-edit-*",
                                "-type",         "f",  NULL};

    ck_assert_int_eq(test_program_run(find, NULL, NULL, &list), 0);
    const size_t len = strcspn(list, "\n");
    ck_assert_msg(list[len] == '\0' || list[len + 1] == '\0', "more than one: %s", list);
    return len > 0 ? hw_strndup(list, len) : NULL;
}

static void expect_nothing_kept(void)
{
    HW_AUTO_FREE char *path = kept_file();

    ck_assert_msg(path == NULL, "%s is left", path);
}

/* It is kept, and the output names it; malloc'ed. */
static char *expect_kept(const char *output, const char *text)
{
    char *path = kept_file();

    ck_assert_ptr_nonnull(path);
    expect_in(output, path);
    HW_AUTO_FREE char *found = test_read_file(path);
    ck_assert_str_eq(found, text);
    return path;
}

START_TEST(test_without_a_terminal)
{
    use_editor("true");
    EXPECT(2, "--yes", "edit", "base");
    EXPECT(0, "not changed", "edit", "base", "--yes");
    check_sql("1", "SELECT revision FROM headwater.config WHERE name = 'base'");
    use_editor("sed -i s/1000/2000/ \"$1\"");
    EXPECT(0, "config base is at revision 2", "edit", "config", "base", "--yes", "-m", "faster");
    expect_content("{\n  \"rate_hz\": 2000\n}\n");
    EXPECT(0, "faster", "history", "base");
    use_editor("sed -i s/2000/3000/ \"$1\"");
    HW_AUTO_FREE char *plan = HEADWATER(0, "edit", "base", "--yes");
    expect_in(plan, "@@ /rate_hz\n-2000\n+3000\n");
    EXPECT(2, "it takes config", "edit", "pod", "base", "--yes");
    EXPECT(2, "goes with --yes", "edit", "base", "--json");
    EXPECT(3, "headwater put other -f FILE", "edit", "other", "--yes");
    EXPECT(5, "is no name", "edit", "../base", "--yes");
    expect_nothing_kept();
}
END_TEST

/* Editors put a line feed at the end; where there was none, there is none afterwards. */
START_TEST(test_bytes)
{
    ck_assert_int_eq(call("PUT", "/v1/configs/base", "Content-Type: text/plain\r\n", "a\nb"), 200);
    use_editor("sed -i s/b/c/ \"$1\"; case \"$1\" in *.txt) ;; *) exit 9 ;; esac");
    free(HEADWATER(0, "edit", "base", "--yes"));
    expect_content("a\nc");
    ck_assert_int_eq(call("PUT", "/v1/configs/base", JSON, "{\"a\":1,\"b\":[2]}"), 200);
    use_editor("sed -i 's/\"a\": 1/\"a\": 5/' \"$1\"; case \"$1\" in *.json) ;; *) exit 9 ;; esac");
    free(HEADWATER(0, "edit", "base", "--yes"));
    expect_content("{\n  \"a\": 5,\n  \"b\": [\n    2\n  ]\n}");
    ck_assert_int_eq(
        call("PUT", "/v1/configs/base", "Content-Type: application/octet-stream\r\n", "\xff\xfe"),
        200);
    EXPECT(5, "it is no text", "edit", "base", "--yes");
    expect_nothing_kept();
}
END_TEST

START_TEST(test_no_editor)
{
    unsetenv("EDITOR");
    unsetenv("VISUAL");
    EXPECT_WITH(5, "VISUAL or EDITOR", "PATH=/nowhere", "edit", "base", "--yes");
    use_editor("echo 1 > \"$1\"; exit 3");
    HW_AUTO_FREE char *output = HEADWATER(5, "edit", "base", "--yes");
    expect_in(output, "status 3");
    free(expect_kept(output, "1\n"));
    expect_content(CONTENT);
}
END_TEST

START_TEST(test_plan_and_answer)
{
    struct cli_terminal terminal;

    use_editor("sed -i s/1000/2000/ \"$1\"");
    ON_TERMINAL(&terminal, "edit", "base");
    cli_terminal_expect(&terminal, "+2000");
    cli_terminal_expect(&terminal, "1 node would change");
    cli_terminal_expect(&terminal, "Write it?");
    cli_terminal_type(&terminal, "n\n");
    int status = cli_terminal_end(&terminal);
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    HW_AUTO_FREE char *kept = expect_kept(terminal.text, "{\n  \"rate_hz\": 2000\n}\n");
    expect_content(CONTENT);
    unlink(kept);
    free(terminal.text);

    ON_TERMINAL(&terminal, "edit", "base");
    cli_terminal_expect(&terminal, "Write it?");
    cli_terminal_type(&terminal, "\x03");
    status = cli_terminal_end(&terminal);
    ck_assert(WIFSIGNALED(status));
    HW_AUTO_FREE char *interrupted = expect_kept(terminal.text, "{\n  \"rate_hz\": 2000\n}\n");
    unlink(interrupted);
    free(terminal.text);

    ON_TERMINAL(&terminal, "edit", "base");
    cli_terminal_expect(&terminal, "Write it?");
    cli_terminal_type(&terminal, "y\n");
    cli_terminal_expect(&terminal, "config base is at revision 2");
    status = cli_terminal_end(&terminal);
    ck_assert_int_eq(status, 0);
    free(terminal.text);
    expect_content("{\n  \"rate_hz\": 2000\n}\n");
    expect_nothing_kept();
}
END_TEST

/* A mistake is edited again, with the text as it was typed. */
START_TEST(test_mistakes)
{
    struct cli_terminal terminal;

    use_editor("if grep -q 1000 \"$1\"; then sed -i 's/1000/2000,/' \"$1\"\n"
               "else grep -q 2000, \"$1\"; sed -i 's/2000,/3000/' \"$1\"; fi");
    ON_TERMINAL(&terminal, "edit", "base");
    cli_terminal_expect(&terminal, "base.json:3:");
    cli_terminal_expect(&terminal, "Edit it again?");
    cli_terminal_type(&terminal, "\n");
    cli_terminal_expect(&terminal, "+3000");
    cli_terminal_type(&terminal, "y\n");
    ck_assert_int_eq(cli_terminal_end(&terminal), 0);
    free(terminal.text);
    expect_content("{\n  \"rate_hz\": 3000\n}\n");
    expect_nothing_kept();

    /* Nobody there to ask, or no: it is kept. */
    use_editor("echo '{' > \"$1\"");
    HW_AUTO_FREE char *output = HEADWATER(5, "edit", "base", "--yes");
    HW_AUTO_FREE char *kept = expect_kept(output, "{\n");
    expect_in(output, "base.json:2:");
    unlink(kept);
    ON_TERMINAL(&terminal, "edit", "base");
    cli_terminal_expect(&terminal, "Edit it again?");
    cli_terminal_type(&terminal, "n\n");
    ck_assert_int_eq(WEXITSTATUS(cli_terminal_end(&terminal)), 5);
    HW_AUTO_FREE char *again = expect_kept(terminal.text, "{\n");
    unlink(again);
    free(terminal.text);

    /* What the server refuses is the same. */
    ck_assert_int_eq(call("PUT", "/v1/configs/base/schema", JSON,
                          "{\"properties\":{\"rate_hz\":{\"maximum\":5000}}}"),
                     200);
    use_editor("sed -i s/3000/9999/ \"$1\"");
    HW_AUTO_FREE char *refused = HEADWATER(5, "edit", "base", "--yes");
    expect_in(refused, "/rate_hz");
    free(expect_kept(refused, "{\n  \"rate_hz\": 9999\n}\n"));
}
END_TEST

START_TEST(test_someone_else_was_faster)
{
    HW_AUTO_FREE char *script = hw_sprintf(
        "sed -i s/1000/2000/ \"$1\"\n${HW_BUILD_DIR:-build}/headwater set base other=1 >/dev/null");

    use_editor(script);
    HW_AUTO_FREE char *output = HEADWATER(4, "edit", "base", "--yes");
    HW_AUTO_FREE char *kept = expect_kept(output, "{\n  \"rate_hz\": 2000\n}\n");
    expect_in(output, "someone else was there first");
    expect_in(output, "headwater get config base");
    expect_content("{\n  \"rate_hz\": 1000,\n  \"other\": 1\n}");
    /* The command that it names goes on. */
    const char *way = strstr(output, "headwater put base -f ");
    ck_assert_ptr_nonnull(way);
    HW_AUTO_FREE char *command =
        hw_sprintf("${HW_BUILD_DIR:-build}/%.*s", (int)strcspn(way, "\n"), way);
    ck_assert_int_eq(
        test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL}, NULL, NULL, NULL),
        0);
    expect_content("{\n  \"rate_hz\": 2000\n}\n");
}
END_TEST

static void make_slow_editor(void)
{
    HW_AUTO_FREE char *script = hw_sprintf(
        "echo typed > \"$1\"; echo $$ > %s/pid; while ! [ -e %s/go ]; do sleep 0.05; done", home,
        home);
    use_editor(script);
}

static pid_t await_editor(void)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/pid", home);
    HW_AUTO_FREE char *text = NULL;

    test_wait_for(({
                      free(text);
                      text = test_read_file(path);
                      strchr(text, '\n') != NULL;
                  }),
                  60);
    unlink(path);
    return (pid_t)strtol(text, NULL, 10);
}

/* Whatever the signal, what was typed is there, and said to be. */
START_TEST(test_signals)
{
    static const int signals[] = {SIGTERM, SIGHUP};

    make_slow_editor();
    for (size_t i = 0; i < HW_COUNT(signals); i++) {
        struct cli_terminal terminal;

        ON_TERMINAL(&terminal, "edit", "base");
        const pid_t editor = await_editor();
        kill(terminal.pid, signals[i]);
        const int status = cli_terminal_end(&terminal);
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), signals[i]);
        HW_AUTO_FREE char *kept = expect_kept(terminal.text, "typed\n");
        ck_assert(test_reap(editor, 60, NULL)); /* it does not stay behind on the terminal */
        unlink(kept);
        free(terminal.text);
    }
    expect_content(CONTENT);
}
END_TEST

START_TEST(test_server_is_gone)
{
    struct test_program program;

    make_slow_editor();
    ck_assert_int_eq(call("PUT", "/v1/configs/base", "Content-Type: text/plain\r\n", "x"), 200);
    test_program_start(
        &program,
        (const char *const[]){"headwater", "edit", "base", "--yes", "--timeout", "1s", NULL}, NULL);
    await_editor();
    test_api_stop(&api);
    free(cli_file("go", ""));
    test_wait_for(!test_program_running(&program), 60);
    ck_assert_int_eq(WEXITSTATUS(test_program_stop(&program, 0)), 7);
    HW_AUTO_FREE char *output = test_read_file(program.log);
    HW_AUTO_FREE char *kept = expect_kept(output, "typed\n");
    expect_in(output, "headwater put base -f ");
    test_api_start(&api, pg.api_url, NULL);
}
END_TEST

START_TEST(test_dry_run)
{
    use_editor("sed -i s/1000/2000/ \"$1\"");
    HW_AUTO_FREE char *output = HEADWATER(0, "edit", "base", "--dry-run");
    expect_in(output, "1 node would change");
    free(expect_kept(output, "{\n  \"rate_hz\": 2000\n}\n"));
    expect_content(CONTENT);
}
END_TEST

START_TEST(test_nodes_and_assignments)
{
    use_editor("cp \"$1\" \"$TMPDIR/seen\"; sed -i s/north/south/ \"$1\"");
    EXPECT(0, "node n1 is changed", "edit", "node", "n1", "--yes", "-m", "moved");
    check_sql("south", "SELECT labels->>'site' FROM headwater.node WHERE name = 'n1'");
    check_sql("moved", "SELECT message FROM headwater.audit WHERE kind = 'node' "
                       "ORDER BY id DESC LIMIT 1");
    HW_AUTO_FREE char *path = hw_sprintf("%s/seen", home);
    HW_AUTO_FREE char *seen = test_read_file(path);
    expect_in(seen, "kind: node\nname: n1\nlabels:\n  site: north\n");
    use_editor("sed -i 's/priority: 0/priority: 7/' \"$1\"");
    HW_AUTO_FREE char *plan = HEADWATER(0, "edit", "assignment", "everyone", "--yes");
    expect_in(plan, "would change");
    check_sql("7", "SELECT priority FROM headwater.assignment");
    EXPECT(0, "not changed", "edit", "assignment", "everyone", "--yes");

    /* Another one is not edited by accident, and YAML that is none is kept. */
    use_editor("sed -i s/n1/n2/ \"$1\"");
    HW_AUTO_FREE char *other = HEADWATER(5, "edit", "node", "n1", "--yes");
    expect_in(other, "it must stay the one node \"n1\"");
    HW_AUTO_FREE char *kept = kept_file();
    ck_assert_ptr_nonnull(kept);
    unlink(kept);
    use_editor("echo 'labels: [' >> \"$1\"");
    HW_AUTO_FREE char *broken = HEADWATER(5, "edit", "node", "n1", "--yes");
    expect_in(broken, "n1.yaml:");
    expect_in(broken, "headwater apply -f ");
    check_sql("1", "SELECT count(*) FROM headwater.node");

    HW_AUTO_FREE char *second = kept_file();
    unlink(second);
    HW_AUTO_FREE char *script =
        hw_sprintf("sed -i s/south/west/ \"$1\"\n${HW_BUILD_DIR:-build}/headwater apply -f "
                   "\"$TMPDIR/seen\" >/dev/null");
    use_editor(script);
    EXPECT(4, "someone else was there first", "edit", "node", "n1", "--yes");
    check_sql("north", "SELECT labels->>'site' FROM headwater.node WHERE name = 'n1'");
}
END_TEST

TEST_MAIN_BETWEEN("cli edit", 240, start, stop_service, test_without_a_terminal, test_bytes,
                  test_no_editor, test_plan_and_answer, test_mistakes, test_someone_else_was_faster,
                  test_signals, test_server_is_gone, test_dry_run, test_nodes_and_assignments)
