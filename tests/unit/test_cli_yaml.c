/* The command line's parts: YAML in and out, paths into documents, server-sent events, text. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "cli/client/events.h"
#include "cli/pointer.h"
#include "cli/resources.h"
#include "cli/text.h"
#include "cli/yaml.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct hw_error err;

/* ---- YAML ---- */

struct documents {
    json_t *list;
    size_t lines[16];
};

static enum hw_status collect(void *arg, json_t *document, size_t line, struct hw_error *e)
{
    struct documents *documents = arg;
    (void)e;
    documents->lines[json_array_size(documents->list)] = line;
    json_array_append_new(documents->list, document);
    return HW_OK;
}

/* All documents of a text as JSON text, malloc'ed; NULL when it was refused. */
static char *read_yaml(const char *text)
{
    struct documents documents = {.list = json_array()};
    char *json = NULL;
    err = (struct hw_error){0};
    if (cli_yaml_read("x.yaml", text, strlen(text), collect, &documents, &err) == HW_OK)
        json = cli_json_text(documents.list, false);
    json_decref(documents.list);
    return json;
}

static void expect_yaml(const char *text, const char *json)
{
    HW_AUTO_FREE char *found = read_yaml(text);
    ck_assert_msg(found != NULL, "%s: %s", text, err.message);
    ck_assert_str_eq(found, json);
}

START_TEST(test_scalars_of_the_core_schema)
{
    expect_yaml("[null, Null, NULL, ~, !!null , true, True, FALSE]",
                "[[null,null,null,null,null,true,true,false]]");
    expect_yaml("[0, -1, +12, 0123, 0o17, 0xfF, 9223372036854775807, -9223372036854775808]",
                "[[0,-1,12,123,15,255,9223372036854775807,-9223372036854775808]]");
    expect_yaml("[9223372036854775808, -007.50, +.5e400, 2.e-9, -0, 00]",
                "[[9223372036854775808,-7.50,0.5e400,2.0e-9,-0,0]]");
    expect_yaml("[1.5, -.5, 1., 1e3, 6.02E+23, 0.1]", "[[1.5,-0.5,1.0,1e3,6.02E+23,0.1]]");
    expect_yaml(
        "[yes, no, on, off, y, TRue, nul, 1_000, 0b1, 12:30, 2026-01-31, 0x, 0o8, -, 1e]",
        "[[\"yes\",\"no\",\"on\",\"off\",\"y\",\"TRue\",\"nul\",\"1_000\",\"0b1\",\"12:30\","
        "\"2026-01-31\",\"0x\",\"0o8\",\"-\",\"1e\"]]");
    expect_yaml("['1', \"true\", 'null', \"~\", '']", "[[\"1\",\"true\",\"null\",\"~\",\"\"]]");
    expect_yaml("[!!str 1, !!int \"7\", !!float 1, !!bool 'true', !!null '', ! 12]",
                "[[\"1\",7,1.0,true,null,\"12\"]]");
    expect_yaml("text: |\n  a\n  b\nfolded: >-\n  a\n  b\n",
                "[{\"text\":\"a\\nb\\n\",\"folded\":\"a b\"}]");
    expect_yaml("1: a\ntrue: b\n'<<': c\nnull: d\n",
                "[{\"1\":\"a\",\"true\":\"b\",\"<<\":\"c\",\"null\":\"d\"}]");
}
END_TEST

START_TEST(test_several_documents_and_their_lines)
{
    static const char text[] = "# nothing\n---\na: 1\n...\n---\n\n\nb: 2\n---\n---\nc\n";
    struct documents documents = {.list = json_array()};
    ck_assert_int_eq(cli_yaml_read("x", text, strlen(text), collect, &documents, &err), HW_OK);
    HW_AUTO_FREE char *json = cli_json_text(documents.list, false);
    ck_assert_str_eq(json, "[{\"a\":1},{\"b\":2},null,\"c\"]");
    ck_assert_uint_eq(documents.lines[0], 3);
    ck_assert_uint_eq(documents.lines[1], 8);
    json_decref(documents.list);
    expect_yaml("a:\n", "[{\"a\":null}]");
    expect_yaml("", "[]");
    expect_yaml("\n# only a comment\n", "[]");
}
END_TEST

START_TEST(test_aliases)
{
    expect_yaml("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n",
                "[{\"a\":{\"k\":[1,2]},\"b\":{\"k\":[1,2]},"
                "\"c\":[{\"k\":[1,2]},{\"k\":[1,2]}]}]");
    expect_yaml("[&x 1, *x, &x 2, *x]", "[[1,1,2,2]]");
}
END_TEST

START_TEST(test_refusals_say_where)
{
    static const struct {
        const char *text, *place;
    } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "x.yaml:3:1: "},
        {"a: {b: 1, b: 2}", "x.yaml:1:11: "},
        {"a: [1, 2", "x.yaml:2:1: "},
        {"a: b: c", "x.yaml:1:5: "},
        {"\ta: 1", "x.yaml:1:"},
        {"a: .inf", "x.yaml:1:4: "},
        {"a: -.INF", "x.yaml:1:4: "},
        {"a: .nan", "x.yaml:1:4: "},
        {"a: 0xffffffffffffffff", "x.yaml:1:4: "},
        {"a: *nowhere", "x.yaml:1:4: "},
        {"&x [*x]", "x.yaml:1:5: "},
        {"--- &x 1\n--- *x\n", "x.yaml:2:"},
        {"base: &b {a: 1}\nc:\n  <<: *b\n", "x.yaml:3:3: "},
        {"? [a, b]\n: 1\n", "x.yaml:1:3: "},
        {"? {a: b}\n: 1\n", "x.yaml:1:3: "},
        {": 1", "x.yaml:1:1: "},
        {"a: !secret x", "x.yaml:1:4: "},
        {"a: !!binary aGk=", "x.yaml:1:4: "},
        {"a: !!timestamp 2026-01-31", "x.yaml:1:4: "},
        {"a: !!set {}", "x.yaml:1:4: "},
        {"a: !!map []", "x.yaml:1:4: "},
        {"a: !!int x", "x.yaml:1:4: "},
        {"a: \"x\\0y\"", "x.yaml:1:4: "},
        {"\"a\\0\": 1", "x.yaml:1:1: "},
        {"a: \"\\ud800\"", "x.yaml:1:"},
        {"a: \xff", "x.yaml: byte 3: "},
        {"a: \x01", "x.yaml: byte 3: "},
        {"%TAG ! tag:x:\n---\na: !y 1", "x.yaml:3:4: "},
    };
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        HW_AUTO_FREE char *json = read_yaml(bad[i].text);
        ck_assert_msg(json == NULL, "took %s as %s", bad[i].text, json);
        ck_assert_int_eq(err.status, HW_EINVAL);
        ck_assert_msg(strncmp(err.message, bad[i].place, strlen(bad[i].place)) == 0,
                      "%s: expected %s…, got: %s", bad[i].text, bad[i].place, err.message);
    }
}
END_TEST

START_TEST(test_bounds)
{
    struct hw_buf text = {0};
    /* Nine levels of nine: more values than there are grains of sand in a sack. */
    hw_buf_puts(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 9; i++) {
        hw_buf_printf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++)
            hw_buf_printf(&text, "%s*a%d", j > 0 ? ", " : "", i - 1);
        hw_buf_puts(&text, "]\n");
    }
    ck_assert_ptr_null(read_yaml(text.data));
    ck_assert_ptr_nonnull(strstr(err.message, "too much"));

    for (int depth = CLI_YAML_DEPTH - 1; depth <= CLI_YAML_DEPTH + 1; depth++) {
        hw_buf_reset(&text);
        for (int i = 0; i < depth; i++)
            hw_buf_putc(&text, '[');
        for (int i = 0; i < depth; i++)
            hw_buf_putc(&text, ']');
        HW_AUTO_FREE char *json = read_yaml(text.data);
        ck_assert_msg((json != NULL) == (depth <= CLI_YAML_DEPTH), "%d: %s", depth, err.message);
    }
    /* An alias does not make it deeper than that either. */
    hw_buf_reset(&text);
    hw_buf_puts(&text, "a: &a [[[[[[[[[[]]]]]]]]]]\nb: ");
    for (int i = 0; i < CLI_YAML_DEPTH - 5; i++)
        hw_buf_putc(&text, '[');
    hw_buf_puts(&text, "*a");
    for (int i = 0; i < CLI_YAML_DEPTH - 5; i++)
        hw_buf_putc(&text, ']');
    ck_assert_ptr_null(read_yaml(text.data));
    ck_assert_ptr_nonnull(strstr(err.message, "too deep"));
    hw_buf_free(&text);
}
END_TEST

static void expect_round_trip(const json_t *value)
{
    struct documents documents = {.list = json_array()};
    HW_AUTO_FREE char *yaml = cli_yaml_text(value);
    HW_AUTO_FREE char *json = cli_json_text(value, false);
    err = (struct hw_error){0};
    ck_assert_msg(cli_yaml_read("x", yaml, strlen(yaml), collect, &documents, &err) == HW_OK,
                  "%s\n%s\n%s", json, yaml, err.message);
    ck_assert_uint_eq(json_array_size(documents.list), 1);
    HW_AUTO_FREE char *again = cli_json_text(json_array_get(documents.list, 0), false);
    ck_assert_msg(strcmp(json, again) == 0, "%s\n%s\n%s", json, yaml, again);
    ck_assert(json_equal(value, json_array_get(documents.list, 0)));
    json_decref(documents.list);
}

START_TEST(test_round_trip)
{
    static const char *const texts[] = {
        "{\"a\":{\"b\":[1,-2,0.1,1e+20,true,false,null,{},[]]},\"\":\"\"}",
        "[\"1\",\"0x1f\",\"1e3\",\"true\",\"Yes\",\"off\",\"~\",\"null\",\"\",\" \",\"- a\",\"a: "
        "b\"]",
        "[\"12:30\",\"2026-01-31\",\"0777\",\"1_000\",\".5\",\"+1\",\"=\",\"<<\",\".inf\",\"#x\"]",
        "[\"line\\nline\",\"\\nline\",\"line\\n\\n\",\"  indented\\nline\",\"a\\rb\",\"\\t\",\"a "
        "\\nb\"]",
        "[\"\\u0001\",\"\\u007f\",\"\\u0085\",\"\\u2028\",\"\\u00e4\\u20ac\\ud83d\\ude00\","
        "\"\\ufeff\"]",
        "[\"'\",\"\\\"\",\"\\\\\",\"&a\",\"*a\",\"!t\",\"%d\",\"@\",\"`\",\"{\",\"]\",\"? "
        "x\",\"---\"]",
        "{\"a\\nb\":1,\"yes\":2,\"<<\":3,\"1\":4,\"- x\":5,\"x: y\":6}",
        "[-9223372036854775808,9223372036854775807,1.7976931348623157e+308,5e-324,-0.0]",
        "[1e400,0.10,18446744073709551616,\"1e400\",-0]",
        "[[[]],[{}],{\"a\":[[{\"b\":[]}]]}]",
    };
    for (size_t i = 0; i < HW_COUNT(texts); i++) {
        HW_AUTO_JSON json_t *value = hw_json_load(texts[i], strlen(texts[i]), 0, NULL);
        ck_assert_ptr_nonnull(value);
        expect_round_trip(value);
    }
    HW_AUTO_JSON json_t *scalar = json_string("two\nlines\n");
    expect_round_trip(scalar);
    HW_AUTO_FREE char *yaml = cli_yaml_text(scalar);
    ck_assert_ptr_nonnull(strstr(yaml, "|"));
}
END_TEST

/* Strings of what is awkward, put together by chance; the same ones every time. */
START_TEST(test_round_trip_of_random_strings)
{
    static const char *const pieces[] = {"a",  " ",  "\n", ":",  "#",    "-",        "'",  "\"",
                                         "\\", "\t", "0",  ".",  "~",    "\xC3\xA4", "\r", "|",
                                         "[",  "}",  ",",  "<<", "\x1b", "\xC2\x85", "%",  "yes"};
    unsigned seed = 1;
    for (int round = 0; round < 3000; round++) {
        struct hw_buf text = {0};
        hw_buf_puts(&text, "");
        for (int i = rand_r(&seed) % 8; i > 0; i--)
            hw_buf_puts(&text, pieces[(size_t)rand_r(&seed) % HW_COUNT(pieces)]);
        HW_AUTO_JSON json_t *value = json_pack("{s:s, s:[s]}", "k", text.data, "l", text.data);
        json_object_set_new(value, text.data, json_integer(round));
        expect_round_trip(value);
        hw_buf_free(&text);
    }
}
END_TEST

/* ---- text ---- */

static void expect_safe(const char *text, const char *safe, size_t columns)
{
    struct hw_buf out = {0};
    ck_assert_uint_eq(cli_text_add(&out, text, strlen(text), false), columns);
    ck_assert_str_eq(hw_buf_str(&out), safe);
    hw_buf_free(&out);
}

START_TEST(test_text_is_harmless)
{
    ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
    expect_safe("daq-1", "daq-1", 5);
    expect_safe("\x1b[2J", "\\u001b[2J", 9);
    expect_safe("a\nb\tc\x7f", "a\\u000ab\\u0009c\\u007f", 21);
    expect_safe("\xC2\x9b"
                "31m",
                "\\u009b31m", 9);
    expect_safe("\xE2\x80\xAE\xE2\x81\xA6", "\\u202e\\u2066", 12);
    expect_safe("\xff\xC3", "\xEF\xBF\xBD\xEF\xBF\xBD", 2);
    expect_safe("\xC3\xA4\xE6\xBC\xA2", "\xC3\xA4\xE6\xBC\xA2", 3); /* a wide one takes two */
    expect_safe("e\xCC\x81", "e\xCC\x81", 1);

    HW_AUTO_JSON json_t *value = json_pack("{s:s}", "k", "\x1b\xC2\x9b\xC2\xA7\x7f");
    HW_AUTO_FREE char *json = cli_json_text(value, false);
    ck_assert_str_eq(json, "{\"k\":\"\\u001b\\u009b\xC2\xA7\\u007f\"}");
}
END_TEST

/* ---- paths ---- */

START_TEST(test_pointer)
{
    static const struct {
        const char *assignment, *json; /* NULL: refused */
    } cases[] = {
        {"a=2", "{\"a\":2,\"b\":{\"c\":[1,2]}}"},
        {"/a=x", "{\"a\":\"x\",\"b\":{\"c\":[1,2]}}"},
        {"a=\"2\"", "{\"a\":\"2\",\"b\":{\"c\":[1,2]}}"},
        {"a=", "{\"a\":\"\",\"b\":{\"c\":[1,2]}}"},
        {"a=x=y", "{\"a\":\"x=y\",\"b\":{\"c\":[1,2]}}"},
        {"b.c.0=9", "{\"a\":1,\"b\":{\"c\":[9,2]}}"},
        {"/b/c/-=[3]", "{\"a\":1,\"b\":{\"c\":[1,2,[3]]}}"},
        {"/b/c/2=3", "{\"a\":1,\"b\":{\"c\":[1,2,3]}}"},
        {"b.d.e=null", "{\"a\":1,\"b\":{\"c\":[1,2],\"d\":{\"e\":null}}}"},
        {"/x.y=1", "{\"a\":1,\"b\":{\"c\":[1,2]},\"x.y\":1}"},
        {"/x~1y~0=1", "{\"a\":1,\"b\":{\"c\":[1,2]},\"x/y~\":1}"},
        {"b={\"z\":0}", "{\"a\":1,\"b\":{\"z\":0}}"},
        {"a-", "{\"b\":{\"c\":[1,2]}}"},
        {"b.c.0-", "{\"a\":1,\"b\":{\"c\":[2]}}"},
        {"b.c.3=1", NULL},
        {"b.c.x=1", NULL},
        {"b.c.01=1", NULL},
        {"a.b=1", NULL},
        {"c-", NULL},
        {"c.d-", NULL},
        {"b.c.2-", NULL},
        {"a", NULL},
        {"=1", NULL},
        {"a={", NULL},
        {"a=\"x", NULL},
        {"a=99999999999999999999", "{\"a\":99999999999999999999,\"b\":{\"c\":[1,2]}}"},
        {"a=\xff", NULL},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_JSON json_t *document = json_loads("{\"a\":1,\"b\":{\"c\":[1,2]}}", 0, NULL);
        HW_AUTO_JSON json_t *value = NULL;
        HW_AUTO_FREE char *path = NULL;
        enum hw_status st = cli_pointer_split(cases[i].assignment, &path, &value, &err);
        if (st == HW_OK)
            st = cli_pointer_set(document, path, value, &err);
        ck_assert_msg((st == HW_OK) == (cases[i].json != NULL), "%s: %s", cases[i].assignment,
                      st == HW_OK ? "taken" : err.message);
        if (st != HW_OK)
            continue;
        HW_AUTO_FREE char *json = cli_json_text(document, false);
        ck_assert_str_eq(json, cases[i].json);
    }
}
END_TEST

/* ---- events ---- */

static bool take_event(void *arg, const struct cli_event *event)
{
    hw_buf_printf(arg, "[%s|%s|%s]", event->id, event->type, event->data);
    return strcmp(event->data, "stop") != 0;
}

START_TEST(test_events)
{
    static const char stream[] = "\xEF\xBB\xBF: hello\n\nid: 1\nevent: desired\ndata: {\"a\":\n"
                                 "data:1}\n\ndata\n\nid: 2\r\ndata: x\r\n\r\nevent: nothing\n\n"
                                 "retry: 250\nid: a\tb\ndata: y\r\rdata: cut off";
    static const char expected[] = "[1|desired|{\"a\":\n1}][1|message|][2|message|x][2|message|y]";
    /* In pieces of every size it is the same. */
    for (size_t step = 1; step < sizeof(stream); step++) {
        struct hw_buf seen = {0};
        struct cli_events events;
        cli_events_init(&events, take_event, &seen);
        ck_assert_ptr_null(cli_events_last_id(&events));
        for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
            const size_t left = sizeof(stream) - 1 - at;
            ck_assert(cli_events_feed(&events, stream + at, left < step ? left : step));
        }
        ck_assert_str_eq(hw_buf_str(&seen), expected);
        ck_assert_str_eq(cli_events_last_id(&events), "2");
        ck_assert_int_eq(events.retry_ms, 250);
        /* What was begun ends with its connection. */
        cli_events_reconnect(&events);
        ck_assert(!cli_events_feed(&events, "\nid: 3\ndata: stop\n\ndata: more\n\n", 35));
        ck_assert_ptr_nonnull(strstr(seen.data, "[3|message|stop]"));
        ck_assert_ptr_null(strstr(seen.data, "cut off"));
        cli_events_free(&events);
        hw_buf_free(&seen);
    }
    struct hw_buf seen = {0};
    struct cli_events events;
    HW_AUTO_FREE char *huge = hw_alloc(CLI_EVENT_MOST + 16);
    memset(huge, 'x', CLI_EVENT_MOST + 15);
    cli_events_init(&events, take_event, &seen);
    ck_assert(!cli_events_feed(&events, huge, CLI_EVENT_MOST + 15));
    ck_assert(events.too_large);
    cli_events_free(&events);
    hw_buf_free(&seen);
}
END_TEST

/* ---- resources ---- */

static char *write_file(const char *directory, const char *name, const char *text)
{
    char *path = hw_sprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    return path;
}

/* The resources of one path as JSON; NULL when they were refused. */
static char *read_resources(char *path)
{
    struct cli_resources resources;
    err = (struct hw_error){0};
    if (cli_resources_read(&path, 1, &resources, &err) != HW_OK)
        return NULL;
    char *json = cli_json_text(resources.list, false);
    cli_resources_free(&resources);
    return json;
}

START_TEST(test_resources_are_put_in_order)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    free(write_file(dir, "b.yaml",
                    "kind: assignment\nname: all\nconfig: base\nselector: {}\n---\n"
                    "kind: config\nname: old\ndelete: true\n---\nkind: assignment\nname: old\n"
                    "delete: true\n"));
    free(write_file(dir, "a.json",
                    "[{\"kind\":\"config\",\"name\":\"base\",\"file\":\"data/wave.bin\","
                    "\"media_type\":\"text/plain\"}]\n{\"kind\":\"node\",\"name\":\"n1\"}"));
    free(write_file(dir, "ignored.txt", "kind: nonsense"));
    HW_AUTO_FREE char *data = hw_sprintf("%s/data", dir);
    ck_assert_int_eq(hw_file_mkdirs(data, 0700, NULL), HW_OK);
    free(write_file(data, "wave.bin", "l\xC3\xA4rm\n"));
    HW_AUTO_FREE char *json = read_resources(dir);
    ck_assert_msg(json != NULL, "%s", err.message);
    ck_assert_str_eq(
        json, "[{\"kind\":\"node\",\"name\":\"n1\"},{\"kind\":\"config\",\"name\":\"base\","
              "\"media_type\":\"text/plain\",\"text\":\"l\xC3\xA4rm\\n\"},"
              "{\"kind\":\"assignment\",\"name\":\"all\",\"config\":\"base\",\"selector\":{}},"
              "{\"kind\":\"assignment\",\"name\":\"old\",\"delete\":true},"
              "{\"kind\":\"config\",\"name\":\"old\",\"delete\":true}]");
    free(write_file(data, "wave.bin", "\xff\xfe"));
    HW_AUTO_FREE char *binary = read_resources(dir);
    ck_assert_ptr_nonnull(strstr(binary, "\"base64\":\"//4=\""));
}
END_TEST

START_TEST(test_resources_are_refused)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "no resource"},
        {"--- \n---\n", "no resource"},
        {"just text", "x.yaml:1: a resource must be"},
        {"name: a", "x.yaml:1: kind is missing"},
        {"\n\nkind: pod\nname: a", "x.yaml:3: kind: \"pod\""},
        {"kind: node", "name is missing"},
        {"kind: node\nname: 12", "put it in quotes"},
        {"kind: node\nname: a\ndelete: 1", "delete must be"},
        {"kind: node\nname: a\n---\nkind: node\nname: a\n",
         "x.yaml:4: node \"a\" is there already"},
        {"kind: config\nname: a\nfile: 1", "file must be a string"},
        {"kind: config\nname: a\nfile: /etc/passwd\nmedia_type: text/plain", "below the directory"},
        {"kind: config\nname: a\nfile: x/../../y\nmedia_type: text/plain", "below the directory"},
        {"kind: config\nname: a\nfile: ..\nmedia_type: text/plain", "below the directory"},
        {"kind: config\nname: a\nfile: nowhere.json", "No such file"},
        {"kind: config\nname: a\nfile: nowhere.bin", "media_type is missing"},
        {"kind: config\nname: a\nfile: x.json\ntext: y", "exclude each other"},
        {"{\"kind\": \"node\", \"name\": \"a\"} x", "x.yaml:1:"},
        {"{\"kind\": \"node\", \"name\": \"a\", \"name\": \"b\"}", "twice"},
    };
    HW_AUTO_FREE char *dir = test_temp_dir();
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        HW_AUTO_FREE char *path = write_file(dir, "x.yaml", bad[i].text);
        ck_assert_msg(read_resources(path) == NULL, "took %s", bad[i].text);
        ck_assert_int_eq(err.status, HW_EINVAL);
        ck_assert_msg(strstr(err.message, bad[i].message) != NULL, "%s: %s", bad[i].text,
                      err.message);
    }
    HW_AUTO_FREE char *json = write_file(dir, "x.json", "{\"kind\": \"node\",\n \"name\": a}");
    ck_assert_ptr_null(read_resources(json));
    ck_assert_ptr_nonnull(strstr(err.message, "x.json:2:"));
    ck_assert_ptr_null(read_resources((char[]){"/nowhere/at/all"}));
    ck_assert_int_eq(err.status, HW_EINVAL);
}
END_TEST

TEST_MAIN("cli_yaml", 120, test_scalars_of_the_core_schema, test_several_documents_and_their_lines,
          test_aliases, test_refusals_say_where, test_bounds, test_round_trip,
          test_round_trip_of_random_strings, test_text_is_harmless, test_pointer, test_events,
          test_resources_are_put_in_order, test_resources_are_refused)
