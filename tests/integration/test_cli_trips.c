/*
 * Round trips of headwater, the command line: what get prints, apply takes; what export writes, is
 * the same in another database; and named sets, of which files that were removed are removed.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"
#include "tests/support/cli_program.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

enum { TEST_S = 240 };

static char *dir;

static void start(void)
{
    start_on_copy();
    cli_home(api.port);
    dir = test_temp_dir();
}

/* The service on an empty database instead. */
static void move_to_empty_database(void)
{
    stop_on_copy();
    start_on_copy();
    cli_server(api.port);
}

static char *in_dir(const char *name)
{
    return hw_sprintf("%s/%s", dir, name);
}

static void write_file(const char *name, const char *text)
{
    HW_AUTO_FREE char *path = in_dir(name);

    ck_assert_int_eq(hw_file_replace(path, text, strlen(text), 0600, NULL), HW_OK);
}

static char *read_file(const char *name)
{
    HW_AUTO_FREE char *path = in_dir(name);

    return test_read_file(path);
}

static bool is_there(const char *name)
{
    HW_AUTO_FREE char *path = in_dir(name);
    struct stat st;

    return lstat(path, &st) == 0;
}

static void shell(const char *command)
{
    HW_AUTO_FREE char *output = NULL;
    HW_AUTO_FREE char *line = hw_sprintf("cd %s && %s", dir, command);
    const int status =
        test_program_run((const char *const[]){"/bin/sh", "-c", line, NULL}, NULL, NULL, &output);

    ck_assert_msg(status == 0, "%s: %s", command, output);
}

/* ---- what it is about ---- */

/* Whatever may get lost on the way: layouts, numbers, bytes, types, schemas, names. */
static void make_fleet(void)
{
    free(test_sql(
        &pg,
        "INSERT INTO headwater.node (name, labels, description) VALUES "
        "('daq-1', '{\"site\": \"north\", \"slot\": 3, \"rate\": 0.1, \"yes\": \"no\", \"n\": "
        "null}', "
        "E'first\\n  line: \"two\"\\n'), "
        "('DAQ-1', '{\"site\": \"south\", \"slot\": \"3\"}', ''), ('a.b', '{}', ' # no comment')"));
    free(test_sql(
        &pg, "INSERT INTO headwater.config (name, content, encoding, media_type, schema, message) "
             "VALUES "
             "('base', '{\"rate_hz\":1000,\"limits\":{\"high\":7.5},\"on\":\"yes\"}', 'utf-8', "
             "'application/json', '{\"required\": [\"rate_hz\"]}', 'first light'), "
             "('Base', E'{\\r\\n  \"rate_hz\": 1.50,\\t\"big\": "
             "123456789012345678901234567890\\r\\n}\\n', "
             "'utf-8', 'application/json', NULL, ''), "
             "('twice', '{\"a\": 1, \"a\": 2}', 'utf-8', 'application/vnd.x+json; v=1', NULL, ''), "
             "('text', E'  lead\\n\\ttab \\n\\n', 'utf-8', 'text/plain', NULL, ''), "
             "('nothing', '', 'utf-8', 'text/plain', NULL, ''), "
             "('wave', 'AAH/Cg==', 'base64', 'application/octet-stream', NULL, ''), "
             "('latin', '5PY=', 'base64', 'text/plain; charset=latin1', NULL, ''), "
             "('hidden', encode('{\"x\":1}', 'base64'), 'base64', 'application/json', NULL, ''), "
             "('yaml', E'a: 1\\nb: \\302\\205 \\342\\200\\250\\n', 'utf-8', 'application/yaml', "
             "NULL, ''), "
             "('deep', repeat('[', 80) || repeat(']', 80), 'utf-8', 'application/json', NULL, ''), "
             "('con', 'true', 'utf-8', 'application/json', 'true', '')"));
    free(test_sql(
        &pg, "INSERT INTO headwater.assignment (name, config, node, selector, priority) VALUES "
             "('everyone', 'base', NULL, '{}', -5), ('typed', 'Base', NULL, '{\"slot\": 3}', 7), "
             "('one', 'latin', 'DAQ-1', NULL, 100), ('two', 'wave', 'a.b', NULL, 0)"));
}

/* All that nodes are to run, and all that says so. */
static char *picture(void)
{
    return test_sql(
        &pg, "SELECT concat((SELECT json_agg((node, digest, media_type) ORDER BY node) "
             "FROM headwater.desired), (SELECT json_agg((name, labels, description) ORDER BY name) "
             "FROM headwater.node), (SELECT json_agg((c.name, c.media_type, r.digest, c.schema) "
             "ORDER BY c.name) FROM headwater.config AS c JOIN headwater.config_revision AS r "
             "ON (r.config, r.revision) = (c.name, c.revision)), (SELECT json_agg((name, config, "
             "node, selector, priority, revision) ORDER BY name) FROM headwater.assignment))");
}

static void expect_picture(const char *expected)
{
    HW_AUTO_FREE char *found = picture();

    ck_assert_str_eq(found, expected);
}

/* ---- get ---- */

START_TEST(test_what_get_prints_apply_takes)
{
    static const char *const kinds[] = {"nodes", "configs", "assignments"};
    static const char *const forms[] = {"json", "yaml"};
    char *printed[HW_COUNT(kinds)][HW_COUNT(forms)];

    make_fleet();
    HW_AUTO_FREE char *expected = picture();
    HW_AUTO_FREE char *rev = test_sql(&pg, "SELECT rev FROM headwater.changelog_head");
    for (size_t k = 0; k < HW_COUNT(kinds); k++)
        for (size_t f = 0; f < HW_COUNT(forms); f++) {
            printed[k][f] = HEADWATER(0, "get", kinds[k], "-o", forms[f]);
            HW_AUTO_FREE char *same = HEADWATER_IN(0, printed[k][f], "apply", "-f", "-");
            ck_assert_ptr_null(strstr(same, " changed "));
            ck_assert_ptr_null(strstr(same, "created"));
            expect_in(same, "unchanged");
        }
    check_sql(rev, "SELECT rev FROM headwater.changelog_head");
    for (size_t f = 0; f < HW_COUNT(forms); f++) {
        move_to_empty_database();
        for (size_t k = 0; k < HW_COUNT(kinds); k++)
            free(HEADWATER_IN(0, printed[k][f], "apply", "-f", "-"));
        expect_picture(expected);
    }
    for (size_t k = 0; k < HW_COUNT(kinds); k++)
        for (size_t f = 0; f < HW_COUNT(forms); f++)
            free(printed[k][f]);
}
END_TEST

START_TEST(test_what_get_prints_of_one)
{
    static const char *const names[][2] = {
        {"node", "daq-1"},       {"node", "DAQ-1"},     {"node", "a.b"},
        {"config", "base"},      {"config", "Base"},    {"config", "twice"},
        {"config", "text"},      {"config", "nothing"}, {"config", "wave"},
        {"config", "latin"},     {"config", "hidden"},  {"config", "yaml"},
        {"config", "deep"},      {"config", "con"},     {"assignment", "everyone"},
        {"assignment", "typed"}, {"assignment", "one"}, {"assignment", "two"},
    };
    struct hw_buf documents = {0};

    make_fleet();
    HW_AUTO_FREE char *expected = picture();
    for (size_t i = 0; i < HW_COUNT(names); i++) {
        HW_AUTO_FREE char *yaml = HEADWATER(0, "get", names[i][0], names[i][1], "-o", "yaml");
        hw_buf_printf(&documents, "---\n%s", yaml);
    }
    /* What is written as we write it is a tree, for people to change; everything else is bytes. */
    expect_in(documents.data, "content:\n  rate_hz: 1000\n");
    expect_in(documents.data, "base64: AAH/Cg==\n");
    expect_in(documents.data, "schema:\n  required:\n");
    move_to_empty_database();
    free(HEADWATER_IN(0, documents.data, "apply", "-f", "-"));
    expect_picture(expected);
    hw_buf_free(&documents);
    /* What else get prints is the answer as it was. */
    HW_AUTO_FREE char *desired = HEADWATER(0, "get", "desired", "daq-1", "--json");
    ck_assert_ptr_null(strstr(desired, "\"kind\""));
    /* A typing error is one still. */
    HW_AUTO_FREE char *typo =
        HEADWATER_IN(5, "kind: node\nname: x\nlables: {}\n", "apply", "-f", "-");
    expect_in(typo, "no such member");
    HW_AUTO_FREE char *pin =
        HEADWATER_IN(5, "kind: assignment\nname: x\nconfig: base\nselector: {}\nrevision: 99\n",
                     "apply", "-f", "-");
    expect_in(pin, "x\": config \"base\" has no revision 99");
}
END_TEST

/* Contents that are too large for one answer are left out, and that is said. */
START_TEST(test_contents_that_are_left_out)
{
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content, media_type) "
                       "SELECT 'c' || i, repeat('x', 12 * 1024 * 1024), 'text/plain' "
                       "FROM generate_series(1, 3) AS i"));
    HW_AUTO_FREE char *all = HEADWATER(0, "get", "configs", "-o", "json");
    expect_in(all, "the contents are left out");
    expect_in(all, "\"revision\": 1");
    ck_assert_ptr_null(strstr(all, "\"text\""));
    HW_AUTO_FREE char *two = HEADWATER(0, "get", "configs", "-o", "json", "--limit", "2");
    expect_in(two, "\"text\": \"xxx");
}
END_TEST

/* ---- export ---- */

START_TEST(test_export_and_back)
{
    make_fleet();
    HW_AUTO_FREE char *expected = picture();
    HW_AUTO_FREE char *out = in_dir("out");
    EXPECT(0, "3 nodes, 11 configs, 4 assignments\n", "export", out);
    HW_AUTO_FREE char *base = read_file("out/configs/base.json");
    ck_assert_str_eq(base, "{\"rate_hz\":1000,\"limits\":{\"high\":7.5},\"on\":\"yes\"}");
    HW_AUTO_FREE char *text = read_file("out/configs/text.txt");
    ck_assert_str_eq(text, "  lead\n\ttab \n\n");
    /* A file system that does not tell Base from base has room for both. */
    ck_assert(!is_there("out/configs/Base.json"));
    shell("test $(ls out/configs | tr A-Z a-z | sort -u | wc -l) = 11");
    HW_AUTO_FREE char *same = HEADWATER(0, "apply", "-f", out);
    ck_assert_ptr_null(strstr(same, "created"));
    ck_assert_ptr_null(strstr(same, " changed"));
    EXPECT(0, "0 nodes would change", "diff", "-f", out);

    move_to_empty_database();
    free(HEADWATER(0, "apply", "-f", out));
    expect_picture(expected);
    /* The same again is the same to the byte. */
    shell("cp -r out before");
    free(HEADWATER(0, "export", out));
    shell("diff -r out before");
}
END_TEST

/* As large as contents may be, and more of them and of nodes than one apply takes. */
START_TEST(test_export_of_much)
{
    HW_AUTO_FREE char *out = in_dir("out");
    static const char *const parts[] = {"nodes.yaml",     "nodes-2.yaml",   "configs.yaml",
                                        "configs-2.yaml", "configs-3.yaml", "assignments.yaml"};

    free(test_sql(&pg, "INSERT INTO headwater.node (name) SELECT 'n' || i "
                       "FROM generate_series(1, 10001) AS i"));
    free(test_sql(&pg,
                  "INSERT INTO headwater.config (name, content, encoding, media_type) VALUES "
                  "('wave', encode(decode(repeat('00ff', 8 * 1024 * 1024), 'hex'), 'base64'), "
                  "'base64', 'application/octet-stream'), "
                  "('text', repeat(chr(92) || chr(10), 8 * 1024 * 1024), 'utf-8', 'text/plain'), "
                  "('more', 'x', 'utf-8', 'text/plain')"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, node) "
                       "VALUES ('wave', 'wave', 'n1'), ('text', 'text', 'n2')"));
    HW_AUTO_FREE char *expected = picture();
    free(HEADWATER(0, "export", out));
    move_to_empty_database();
    EXPECT(5, "too-large", "apply", "-f", out);
    HW_AUTO_FREE char *first = hw_sprintf("%s/nodes.yaml", out);
    HW_AUTO_FREE char *second = hw_sprintf("%s/nodes-2.yaml", out);
    EXPECT(5, "more than 10000 resources", "apply", first, second);
    for (size_t i = 0; i < HW_COUNT(parts); i++) {
        HW_AUTO_FREE char *part = hw_sprintf("%s/%s", out, parts[i]);

        free(HEADWATER(0, "apply", "-f", part, "--timeout", "100s"));
    }
    expect_picture(expected);
}
END_TEST

/* A pin's number means nothing elsewhere: what it holds is a config of its own. */
START_TEST(test_export_of_pins)
{
    make_fleet();
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"rate_hz\": 2}' "
                       "WHERE name = 'base'"));
    free(test_sql(&pg, "UPDATE headwater.assignment SET revision = 1 WHERE name = 'everyone'"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, node, revision) "
                       "VALUES ('too', 'base', 'a.b', 1), ('latest', 'base', 'daq-1', 2)"));
    HW_AUTO_FREE char *desired =
        test_sql(&pg, "SELECT json_agg((node, digest, media_type) ORDER BY node) "
                      "FROM headwater.desired");
    HW_AUTO_FREE char *out = in_dir("out");
    EXPECT(0, "(2 of the configs are revisions that assignments stay on)", "export", out);
    HW_AUTO_FREE char *old = read_file("out/configs/base.revision-1.json");
    expect_in(old, "1000");
    move_to_empty_database();
    free(HEADWATER(0, "apply", "-f", out));
    check_sql(desired, "SELECT json_agg((node, digest, media_type) ORDER BY node) "
                       "FROM headwater.desired");
    check_sql("base.revision-1", "SELECT config FROM headwater.assignment WHERE name = 'too'");
    /* They stay where they are when the config goes on, as the pin did. */
    free(HEADWATER(0, "set", "base", "rate_hz=9"));
    check_sql(desired, "SELECT json_agg((node, digest, media_type) ORDER BY node) "
                       "FROM headwater.desired");
    /* Who has that name is refused, unless it is the same. */
    free(test_sql(&pg, "UPDATE headwater.assignment SET config = 'base', revision = 1 "
                       "WHERE name = 'latest'"));
    EXPECT(4, "assignment \"latest\"", "export", out);
    free(test_sql(&pg, "UPDATE headwater.config AS c SET content = r.content FROM "
                       "headwater.config_revision AS r WHERE c.name = 'base.revision-1' AND "
                       "r.config = 'base' AND r.revision = 1"));
    free(HEADWATER(0, "export", out));
    free(test_sql(&pg, "WITH c AS (INSERT INTO headwater.config (name, content) "
                       "VALUES (repeat('x', 120), '1')) SELECT"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, selector, revision) "
                       "VALUES ('long', repeat('x', 120), '{}', 1)"));
    EXPECT(5, "assignment \"long\"", "export", out);
    /* What was there is there: the change that came since is taken back by it. */
    HW_AUTO_FREE char *since = HEADWATER(1, "diff", "-f", out);
    expect_in(since, "assignment latest: change\n"
                     "0 nodes would change, 1 resource would be changed\n");
}
END_TEST

/* What is not the export's own is neither replaced nor removed. */
START_TEST(test_export_into_what_is_there)
{
    HW_AUTO_FREE char *out = in_dir("out");
    HW_AUTO_FREE char *file = in_dir("file");

    make_fleet();
    shell("mkdir out other && echo mine > out/notes && echo x > file && echo y > other/z");
    EXPECT(5, "out is not empty (notes)", "export", out);
    EXPECT(8, "a file is in its place", "export", file);
    EXPECT(2, "no name", "export", "");
    EXPECT(2, "an operand is missing", "export");
    shell("rm out/notes && mkdir out/.git && echo ref > out/.git/HEAD && "
          "echo '* -text' > out/.gitattributes");
    free(HEADWATER(0, "export", out));
    shell("echo mine > out/README.md && echo mine > out/configs/mine.json && mkdir out/sub");
    free(test_sql(&pg, "DELETE FROM headwater.assignment WHERE name = 'two'"));
    free(test_sql(&pg, "DELETE FROM headwater.config WHERE name = 'wave'"));
    free(HEADWATER(0, "export", out));
    ck_assert(!is_there("out/configs/wave.bin"));
    shell("grep -q mine out/README.md && grep -q mine out/configs/mine.json && test -d out/sub && "
          "grep -q ref out/.git/HEAD && test -f out/.gitattributes");
    ck_assert(!is_there("out/.headwater-export.next"));
    /* In the way of a new content. */
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content) VALUES ('mine', '1')"));
    EXPECT(5, "configs/mine.json is in the way", "export", out);
    shell("grep -q mine out/configs/mine.json && rm out/configs/mine.json");
    free(HEADWATER(0, "export", out));
    /* A link is not followed. */
    shell("mv out/configs elsewhere && ln -s ../elsewhere out/configs && cp -r elsewhere before");
    EXPECT(5, "configs is no directory", "export", out);
    shell("diff -r elsewhere before && rm out/configs && mv elsewhere out/configs");
    /* Nor what a list says that no export wrote. */
    shell("sed -i 's|\"nodes.yaml\"|\"../file\"|' out/.headwater-export");
    EXPECT(5, "lists what no export writes", "export", out);
    shell("test -f file && echo '{' > out/.headwater-export");
    EXPECT(5, "is none that an export wrote", "export", out);
    /* One at a time. */
    HW_AUTO_FREE char *fresh = in_dir("fresh");
    free(HEADWATER(0, "export", fresh));
    const int fd = open(fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    EXPECT(4, "another export is being written", "export", fresh);
    close(fd);
    /* All that was exported is gone when all is gone. */
    free(test_sql(&pg, "TRUNCATE headwater.node, headwater.assignment, headwater.config"));
    EXPECT(0, "0 nodes, 0 configs, 0 assignments", "export", fresh);
    shell("test \"$(ls -A fresh)\" = .headwater-export");
    EXPECT(5, "no file in it", "apply", "-f", fresh);
}
END_TEST

#ifdef HW_FAULTS
static void start_export(struct test_program *program, const char *out, const char *point)
{
    HW_AUTO_FREE char *armed = hw_sprintf("HEADWATER_POINT=%s", point);

    test_program_start(program, (const char *const[]){"headwater", "export", out, NULL},
                       (const char *const[]){armed, NULL});
}

static bool is_stopped(const struct test_program *program)
{
    int status;

    return waitpid(program->pid, &status, WNOHANG | WUNTRACED) == program->pid &&
           WIFSTOPPED(status);
}

START_TEST(test_export_is_of_one_moment)
{
    HW_AUTO_FREE char *out = in_dir("out");
    struct test_program program;

    make_fleet();
    start_export(&program, out, "export-read:1:stop");
    test_wait_for(is_stopped(&program), 60);
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"rate_hz\": 77}' "
                       "WHERE name = 'base'"));
    kill(program.pid, SIGCONT);
    test_wait_for(!test_program_running(&program), 60);
    ck_assert_int_eq(test_program_stop(&program, 0), 0);
    HW_AUTO_FREE char *base = read_file("out/configs/base.json");
    ck_assert_str_eq(base, "{\"rate_hz\": 77}");

    /* Who never holds still is not exported, and what was there stays. There is so much to read
     * that a writer comes in between. */
    shell("cp -r out before");
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content) SELECT 'c' || i, '1' "
                       "FROM generate_series(1, 300) AS i"));
    struct test_program writer;
    test_program_start(&writer,
                       (const char *const[]){"psql", "-X", "-q", "-d", pg.url, "-c",
                                             "DO $$ BEGIN FOR i IN 1..1000000 LOOP UPDATE "
                                             "headwater.node SET labels = jsonb_build_object('i', "
                                             "i) WHERE name = 'a.b'; COMMIT; END LOOP; END $$",
                                             NULL},
                       NULL);
    test_wait_for(test_sql_is(&pg, "t",
                              "SELECT labels ? 'i' FROM headwater.node "
                              "WHERE name = 'a.b'"),
                  60);
    EXPECT(7, "nothing was written", "export", out);
    test_program_stop(&writer, SIGTERM);
    shell("diff -r out before");
}
END_TEST

START_TEST(test_export_that_is_cut_short)
{
    HW_AUTO_FREE char *out = in_dir("out");
    struct test_program program;

    make_fleet();
    free(HEADWATER(0, "export", out));
    free(HEADWATER(0, "set", "base", "rate_hz=5"));
    free(test_sql(&pg, "DELETE FROM headwater.config WHERE name = 'text'"));
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content) VALUES ('new', '1')"));
    for (int moved = 1; moved <= 13; moved += 4) {
        HW_AUTO_FREE char *point = hw_sprintf("export-moved:%d", moved);

        start_export(&program, out, point);
        test_wait_for(!test_program_running(&program), 60);
        ck_assert_int_eq(test_program_stop(&program, 0), SIGKILL);
        EXPECT(5, "was cut short", "apply", "-f", out);
    }
    /* While it is read nothing is touched. */
    free(HEADWATER(0, "export", out));
    shell("cp -r out before");
    free(HEADWATER(0, "set", "base", "limits.high=6"));
    start_export(&program, out, "export-read:1");
    test_wait_for(!test_program_running(&program), 60);
    ck_assert_int_eq(test_program_stop(&program, 0), SIGKILL);
    EXPECT(1, "@@ /limits/high\n-6\n+7.5\n", "diff", "-f", out);
    shell("rm -r out/.headwater-export.next && diff -r out before");
    free(HEADWATER(0, "export", out));
    EXPECT(0, "0 nodes would change", "diff", "-f", out);
    ck_assert(!is_there("out/configs/text.txt"));
    ck_assert(!is_there("out/.headwater-export.next"));
}
END_TEST

#endif

/* ---- files ---- */

START_TEST(test_files_that_lead_elsewhere)
{
    HW_AUTO_FREE char *site = in_dir("site");

    shell("mkdir site site/in && echo secret > outside && ln -s ../outside site/link && "
          "echo '{}' > site/in/real && ln -s in/real site/inside && ln -s .. site/up && "
          "ln -s nowhere site/gone");
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: link\n");
    EXPECT(5, "a.yaml:1: file: \"link\" must be a path below the directory", "apply", "-f", site);
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: up/outside\n");
    EXPECT(5, "a link leads out", "apply", "-f", site);
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: ../outside\n");
    EXPECT(5, "must be a path below", "apply", "-f", site);
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: gone\n");
    EXPECT(5, "No such file", "apply", "-f", site);
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: in\n");
    EXPECT(5, "it is a directory, not a file", "apply", "-f", site);
    write_file("site/a.yaml", "kind: config\nname: c\nmedia_type: text/plain\nfile: inside\n");
    shell("ln -s nothing site/b.yaml");
    EXPECT(5, "b.yaml: No such file", "apply", "-f", site);
    shell("rm site/b.yaml");
    write_file("site/b.yaml", "kind: pod\nname: x\n");
    EXPECT(5, "b.yaml:1: kind: \"pod\" is none of", "apply", "-f", site);
    check_sql("0", "SELECT count(*) FROM headwater.config");
    shell("rm site/b.yaml");
    EXPECT(0, "created", "apply", "-f", site);
    /* The same twice is said, wherever. */
    write_file("site/b.yaml", "items: [{kind: config, name: c, content: 1}]\nnext: null\n");
    EXPECT(5, "a.yaml:1", "apply", "-f", site);
}
END_TEST

/* ---- sets ---- */

START_TEST(test_prune)
{
    HW_AUTO_FREE char *site = in_dir("site");

    shell("mkdir site");
    write_file("site/a.yaml", "kind: node\nname: n1\n---\nkind: config\nname: a\ncontent: 1\n---\n"
                              "kind: assignment\nname: a\nconfig: a\nselector: {}\n");
    write_file("site/b.yaml", "kind: config\nname: b\ncontent: 1\n---\nkind: config\nname: c\n"
                              "content: 1\n---\nkind: node\nname: n2\n");
    free(HEADWATER(0, "apply", "-f", site, "--set", "site"));
    free(HEADWATER_IN(0, "kind: config\nname: other\ncontent: 1\n", "apply", "-f", "-", "--set",
                      "elsewhere"));
    free(HEADWATER(0, "apply", "-f", site, "--set", "site", "--prune", "--yes"));
    check_sql("4", "SELECT count(*) FROM headwater.config");
    shell("rm site/b.yaml");
    /* Shown, and not done. */
    HW_AUTO_FREE char *diff = HEADWATER(1, "diff", "-f", site, "--set", "site", "--prune");
    expect_in(diff, "n2: remove\n");
    expect_in(diff, "config b: remove\nconfig c: remove\nnode n2: remove\n");
    expect_in(diff, "1 node would change, 3 resources would be removed\n");
    EXPECT(0, "config b: remove", "apply", "-f", site, "--set", "site", "--prune", "--dry-run");
    EXPECT(0, "0 nodes would change\n", "diff", "-f", site, "--set", "site");
    EXPECT(2, "--yes agrees", "apply", "-f", site, "--set", "site", "--prune");
    EXPECT(2, "--set NAME", "apply", "-f", site, "--prune", "--yes");
    EXPECT(2, "is no name", "apply", "-f", site, "--set", "a b");
    EXPECT(4, "the set \"site\", so the set \"more\"", "apply", "-f", site, "--set", "more");
    check_sql("4", "SELECT count(*) FROM headwater.config");
    /* Changed by hand, so it is somebody's. */
    free(test_sql(&pg, "UPDATE headwater.config SET content = '2' WHERE name = 'c'"));
    EXPECT(1, "config c: keep, others changed it", "diff", "-f", site, "--set", "site", "--prune");
    HW_AUTO_FREE char *done =
        HEADWATER(0, "apply", "-f", site, "--set", "site", "--prune", "--yes", "-m", "less");
    expect_in(done, "config      b     deleted");
    expect_in(done, "config      c     kept");
    EXPECT(0, "pruned from the set \"site\": less", "audit", "config", "b");
    check_sql("a c other", "SELECT string_agg(name, ' ' ORDER BY name) FROM headwater.config");
    EXPECT(0, "config c: keep", "diff", "-f", site, "--set", "site", "--prune");
    /* What is used elsewhere stays, and all else with it. */
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, selector) "
                       "VALUES ('mine', 'a', '{}')"));
    write_file("site/a.yaml", "kind: node\nname: n1\n");
    EXPECT(4, "the assignment \"mine\"", "apply", "-f", site, "--set", "site", "--prune", "--yes");
    check_sql("a mine", "SELECT string_agg(name, ' ' ORDER BY name) FROM headwater.assignment");
}
END_TEST

/* A list that was cut off names too little. */
START_TEST(test_prune_of_a_partial_list)
{
    free(HEADWATER_IN(0, "[{kind: node, name: a}, {kind: node, name: b}, {kind: node, name: c}]",
                      "apply", "-f", "-", "--set", "s"));
    HW_AUTO_FREE char *all = HEADWATER(0, "get", "nodes", "-o", "yaml");
    HW_AUTO_FREE char *some = HEADWATER(0, "get", "nodes", "-o", "yaml", "--limit", "2");
    HW_AUTO_FREE char *refused =
        HEADWATER_IN(5, some, "apply", "-f", "-", "--set", "s", "--prune", "--yes");
    expect_in(refused, "would remove the others");
    free(HEADWATER_IN(0, some, "apply", "-f", "-", "--set", "s"));
    free(HEADWATER_IN(0, all, "apply", "-f", "-", "--set", "s", "--prune", "--yes"));
    check_sql("3", "SELECT count(*) FROM headwater.node");
}
END_TEST

/* Runs apply --prune on a terminal, where somebody types this. */
static char *answer_with(const char *typed, int status)
{
    HW_AUTO_FREE char *command =
        hw_sprintf("printf '%s' | script -qec \"$HW_BUILD_DIR/headwater apply -f %s/site.yaml "
                   "--set s --prune\" /dev/null",
                   typed, dir);
    HW_AUTO_FREE char *env = hw_sprintf(
        "HW_BUILD_DIR=%s", getenv("HW_BUILD_DIR") != NULL ? getenv("HW_BUILD_DIR") : "build");
    char *output;
    const int found = test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL},
                                       (const char *const[]){env, NULL}, NULL, &output);

    ck_assert_msg(found == status, "expected %d, got %d:\n%s", status, found, output);
    return output;
}

START_TEST(test_prune_asks)
{
    free(HEADWATER_IN(0, "[{kind: node, name: a}, {kind: node, name: b}]", "apply", "-f", "-",
                      "--set", "s"));
    write_file("site.yaml", "kind: node\nname: a\n");
    HW_AUTO_FREE char *no = answer_with("n\\n", 1);
    expect_in(no, "node b: remove");
    expect_in(no, "nothing was done");
    free(answer_with("\\n", 1));
    check_sql("2", "SELECT count(*) FROM headwater.node");
    HW_AUTO_FREE char *yes = answer_with("y\\n", 0);
    expect_in(yes, "node b: remove");
    expect_in(yes, "deleted");
    check_sql("1", "SELECT count(*) FROM headwater.node");
}
END_TEST

int main(void)
{
    const TTest *const get[] = {test_what_get_prints_apply_takes, test_what_get_prints_of_one,
                                test_contents_that_are_left_out};
    const TTest *const export[] = {test_export_and_back,          test_export_of_much,
                                   test_export_of_pins,
#ifdef HW_FAULTS
                                   test_export_is_of_one_moment,  test_export_that_is_cut_short,
#endif
                                   test_export_into_what_is_there};
    const TTest *const sets[] = {test_files_that_lead_elsewhere, test_prune,
                                 test_prune_of_a_partial_list, test_prune_asks};
    const struct {
        const char *name;
        const TTest *const *tests;
        size_t count;
    } cases[] = {
        {"get", get, HW_COUNT(get)},
        {"export", export, HW_COUNT(export)},
        {"files and sets", sets, HW_COUNT(sets)},
    };
    Suite *suite = suite_create("cli trips");

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        TCase *tcase = tcase_create(cases[i].name);

        tcase_set_timeout(tcase, TEST_S);
        tcase_add_unchecked_fixture(tcase, start_cluster, stop_cluster);
        tcase_add_checked_fixture(tcase, start, stop_on_copy);
        for (size_t j = 0; j < cases[i].count; j++)
            tcase_add_test(tcase, cases[i].tests[j]);
        suite_add_tcase(suite, tcase);
    }
    return test_suite_finish(suite);
}
