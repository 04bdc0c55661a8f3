/*
 * The schema: what it refuses, what follows from what is written, and that no way of writing gets
 * round it. Each test has a migrated database of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "tests/support/database.h"
#include "tests/support/suite.h"

#define LIMIT 16777216 /* bytes of a config, and of a merged document */

static struct test_postgres server;
static struct test_database db;

static void start_server(void)
{
    test_postgres_start(&server, true, NULL);
}

static void remove_server(void)
{
    test_postgres_remove(&server);
}

static void create_database(void)
{
    test_database_create(&server, &db);
    test_run(db.conn, "SET search_path = headwater");
}

static void drop_database(void)
{
    test_database_drop(&server, &db);
}

#define RUN(...)    test_run(db.conn, __VA_ARGS__)
#define EXPECT(...) test_expect(db.conn, __VA_ARGS__)
#define REFUSE(...) test_refuse(db.conn, __VA_ARGS__)

/* What nodes should run, one line a node: name, revision, content (as text). */
#define DESIRED                                                                                    \
    "SELECT coalesce(string_agg(concat_ws(' ', d.node, d.revision, convert_from(bytes_of("         \
    "b.content, b.encoding), 'UTF8')), E'\\n' ORDER BY d.node), '') "                              \
    "FROM desired AS d JOIN blob AS b USING (digest)"

/* What a computation from scratch would change: nothing. */
static void expect_no_drift(void)
{
    EXPECT("0", "SELECT count(*) FROM desired_drift()");
    EXPECT("0", "SELECT recompute()");
}

/* Two sites of two nodes, a config for all and one for site b. */
static void make_fleet(void)
{
    RUN("INSERT INTO node (name, labels) VALUES ('n1', '{\"site\": \"a\"}'), ('n2', '{\"site\": "
        "\"a\"}'), ('n3', '{\"site\": \"b\"}'), ('n4', '{\"site\": \"b\"}')");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\":1,\"log\":{\"level\":3}}'), "
        "('site-b', '{\"log\":{\"level\":5}}')");
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
        "('everyone', 'base', '{}', 0), ('b', 'site-b', '{\"site\": \"b\"}', 10)");
}

#define FLEET                                                                                      \
    "n1 1 {\"rate\":1,\"log\":{\"level\":3}}\nn2 1 {\"rate\":1,\"log\":{\"level\":3}}\n"           \
    "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": 1}"

/* ---- migrations -------------------------------------------------------------------------------*/

static char *psql(const char *url, const char *file, int *status)
{
    char *output;
    *status = test_program_run(
        (const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", file, NULL},
        NULL, NULL, &output);
    return output;
}

/* All files, in order; stops at the first that fails and returns what it said. NULL: all went. */
static char *migrate(const char *url)
{
    char *files = test_value(db.conn, "SELECT string_agg(format('sql/migrations/%%s_%%s.sql', "
                                      "lpad(version::text, 4, '0'), name), ' ' ORDER BY version) "
                                      "FROM headwater.migration");
    char *rest = files, *said = NULL;
    for (const char *file; said == NULL && (file = strsep(&rest, " ")) != NULL;) {
        int status;
        said = psql(url, file, &status);
        if (status == 0) {
            free(said);
            said = NULL;
        }
    }
    free(files);
    return said;
}

static void make_database(const char *options, const char *owner, char url[256])
{
    RUN("CREATE DATABASE %s_new TEMPLATE template0 %s", db.name, options);
    snprintf(url, 256, "postgresql://%s@127.0.0.1:%d/%s_new", owner, server.port, db.name);
}

START_TEST(test_migrations_run_once)
{
    EXPECT("0", "SELECT count(*) FROM migration WHERE checksum IS NOT NULL");
    EXPECT("t", "SELECT count(*) > 1 AND min(version) = 1 FROM migration");
    char *versions = test_value(db.conn, "SELECT string_agg(format('sql/migrations/%%s_%%s.sql', "
                                         "lpad(version::text, 4, '0'), name), ' ') FROM migration");
    RUN("INSERT INTO node (name) VALUES ('n1')");
    char *rest = versions;
    for (const char *file; (file = strsep(&rest, " ")) != NULL;) {
        int status;
        char *output = psql(db.url, file, &status);
        ck_assert_int_ne(status, 0);
        ck_assert_msg(strstr(output, "migration_pkey") != NULL, "%s: %s", file, output);
        free(output);
    }
    free(versions);
    EXPECT("1", "SELECT count(*) FROM node");
}
END_TEST

START_TEST(test_migrations_need_utf8)
{
    char url[256];
    make_database("ENCODING 'LATIN1' LOCALE 'C'", "postgres", url);
    char *said = migrate(url);
    ck_assert_ptr_nonnull(said);
    ck_assert_msg(strstr(said, "is in LATIN1") != NULL, "%s", said);
    free(said);
}
END_TEST

START_TEST(test_migrations_by_an_owner)
{
    char url[256];
    RUN("CREATE ROLE plain LOGIN");
    make_database("OWNER plain", "plain", url);
    char *said = migrate(url);
    ck_assert_ptr_nonnull(said);
    ck_assert_msg(strstr(said, "GRANT headwater_owner TO plain") != NULL, "%s", said);
    free(said);

    RUN("GRANT headwater_owner TO plain");
    said = migrate(url);
    ck_assert_msg(said == NULL, "%s", said);
    RUN("DROP DATABASE %s_new", db.name);
    RUN("DROP ROLE plain");
}
END_TEST

/* ---- what is refused --------------------------------------------------------------------------*/

START_TEST(test_names)
{
    static const char *const legal[] = {"a", "A-1_b", "daq01.lab.example.org", "-", "_", "7"};
    static const char *const illegal[] = {"",    ".",   "a.",  ".a",   "a..b", "a b",
                                          "a/b", "a*b", "a>b", "a\tb", "a\nb", "a\n",
                                          "é",   "a:b", "$KV", "a\\b", "a\"b", "a''b"};
    char longest[130];
    memset(longest, 'x', 129);

    for (size_t i = 0; i < HW_COUNT(legal); i++)
        RUN("INSERT INTO node (name) VALUES ('%s')", legal[i]);
    longest[128] = '\0';
    RUN("INSERT INTO node (name) VALUES ('%s')", longest);

    RUN("INSERT INTO config (name, content) VALUES ('c', '{}')");
    for (size_t i = 0; i <= HW_COUNT(illegal); i++) {
        longest[128] = 'x';
        longest[129] = '\0';
        const char *name = i < HW_COUNT(illegal) ? illegal[i] : longest;
        REFUSE("23514", "node_name_is_legal", "1 to 128 characters",
               "INSERT INTO node (name) VALUES (E'%s')",
               name[0] == 'a' && name[1] == '\\' ? "a\\\\b" : name);
        REFUSE("23514", "config_name_is_legal", "1 to 128 characters",
               "INSERT INTO config (name, content) VALUES ('%s', '{}')", name);
        REFUSE("23514", "assignment_name_is_legal", "1 to 128 characters",
               "INSERT INTO assignment (name, config, selector) VALUES ('%s', 'c', '{}')", name);
    }
    REFUSE("23502", "", "name", "INSERT INTO node (name) VALUES (NULL)");
}
END_TEST

START_TEST(test_digests)
{
    static const struct {
        const char *digest, *legal;
    } digests[] = {
        {"'sha256:' || repeat('0123456789abcdef', 4)", "true"},
        {"'sha256:' || repeat('0', 63)", "false"},
        {"'sha256:' || repeat('0', 65)", "false"},
        {"'sha256:' || repeat('0', 63) || 'A'", "false"},
        {"'sha256:' || repeat('0', 63) || E'\\n'", "false"},
        {"E'\\nsha256:' || repeat('0', 63)", "false"},
        {"'sha512:' || repeat('0', 64)", "false"},
        {"repeat('0', 71)", "false"},
        {"''", "false"},
        {"NULL::text", "NULL"},
    };

    for (size_t i = 0; i < HW_COUNT(digests); i++)
        EXPECT("t", "SELECT is_digest(%s) IS NOT DISTINCT FROM %s", digests[i].digest,
               digests[i].legal);
}
END_TEST

START_TEST(test_what_a_node_is)
{
    static const char *const labels[] = {"[]", "1", "\"x\"", "null", "true"};
    for (size_t i = 0; i < HW_COUNT(labels); i++)
        REFUSE("23514", "node_labels_is_object", "An object such as '{\"site\": \"north\"}'",
               "INSERT INTO node (name, labels) VALUES ('n', '%s')", labels[i]);
    RUN("INSERT INTO node (name) VALUES ('n')");
    REFUSE("23505", "node_pkey", "already exists", "INSERT INTO node (name) VALUES ('n')");
    REFUSE("23514", "node_name_is_fixed", "cannot be renamed", "UPDATE node SET name = 'm'");
    REFUSE("23502", "", "labels", "UPDATE node SET labels = NULL");
    REFUSE("23502", "", "description", "UPDATE node SET description = NULL");
    EXPECT("1", "SELECT count(*) FROM changelog");
}
END_TEST

START_TEST(test_what_an_assignment_is)
{
    make_fleet();
    static const struct {
        const char *values; /* config, node, selector, revision */
        const char *sqlstate, *constraint, *text;
    } cases[] = {
        {"'base', NULL, NULL, NULL", "23514", "assignment_target_is_one", "neither"},
        {"'base', 'n1', '{}', NULL", "23514", "assignment_target_is_one", "both"},
        {"'base', NULL, '[]', NULL", "23514", "assignment_selector_is_object", "An object such as"},
        {"'base', NULL, 'null', NULL", "23514", "assignment_selector_is_object",
         "An object such as"},
        {"'none', NULL, '{}', NULL", "23503", "assignment_config_exists",
         "assignment \"a\": there is no config \"none\""},
        {"'none', NULL, '{}', NULL", "23503", "assignment_config_exists",
         "There are: \"base\", \"site-b\"."},
        {"'none', NULL, '{}', NULL", "23503", "assignment_config_exists",
         "Create the config first"},
        {"'base', 'n9', NULL, NULL", "23503", "assignment_node_exists",
         "assignment \"a\": there is no node \"n9\""},
        {"'base', 'n9', NULL, NULL", "23503", "assignment_node_exists", "give a selector instead"},
        {"'base', NULL, '{}', 2", "23503", "assignment_revision_exists",
         "config \"base\" has no revision 2"},
        {"'base', NULL, '{}', 2", "23503", "assignment_revision_exists", "revisions 1 to 1"},
        {"'base', NULL, '{}', 2", "23503", "assignment_revision_exists", "Leave the revision out"},
        {"'base', NULL, '{}', 0", "23503", "assignment_revision_exists",
         "config \"base\" has no revision 0"},
        {"NULL, NULL, '{}', NULL", "23502", "", "config"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        REFUSE(cases[i].sqlstate, cases[i].constraint, cases[i].text,
               "INSERT INTO assignment (name, config, node, selector, revision) VALUES ('a', %s)",
               cases[i].values);
    REFUSE("23514", "assignment_name_is_fixed", "cannot be renamed",
           "UPDATE assignment SET name = 'c' WHERE name = 'b'");
    REFUSE("23514", "assignment_target_is_one", "both", "UPDATE assignment SET node = 'n1'");
    REFUSE("23502", "", "priority", "UPDATE assignment SET priority = NULL");
    EXPECT(FLEET, DESIRED);
}
END_TEST

START_TEST(test_what_a_config_is)
{
    make_fleet();
    static const struct {
        const char *set, *sqlstate, *constraint, *text;
    } cases[] = {
        {"content = '{\"a\":}'", "23514", "config_content_is_json", "config \"base\""},
        {"content = '{\"a\":}'", "23514", "config_content_is_json", "but found \"}\""},
        {"content = E'{\\n\\n\"a\" 1}'", "23514", "config_content_is_json", "line 3"},
        {"content = ''", "23514", "config_content_is_json", "not valid JSON"},
        {"content = '{} {}'", "23514", "config_content_is_json", "not valid JSON"},
        {"content = '{\"a\": NaN}'", "23514", "config_content_is_json", "NaN"},
        {"content = '{\"a\": \"\\u0000\"}'", "23514", "config_content_is_json", "\\u0000"},
        {"content = '{\"a\": \"\\ud800\"}'", "23514", "config_content_is_json", "surrogate"},
        {"content = '{\"a\": 1e999999}'", "23514", "config_content_is_json", "not valid JSON"},
        {"content = repeat('[', 100000) || repeat(']', 100000)", "23514", "config_content_is_json",
         "stack depth"},
        {"content = 'x', media_type = 'application/vnd.daq+json; v=1'", "23514",
         "config_content_is_json", "application/vnd.daq+json; v=1"},
        {"content = '/w==', encoding = 'base64'", "23514", "config_content_is_json", "0xff"},
        {"encoding = 'base64'", "23514", "config_content_is_base64", "invalid symbol"},
        {"content = 'QQ', encoding = 'base64', media_type = 'a/b'", "23514",
         "config_content_is_base64", "base64"},
        {"content = 'Q=Q=', encoding = 'base64', media_type = 'a/b'", "23514",
         "config_content_is_base64", "base64"},
        {"encoding = 'utf8'", "23514", "config_encoding_is_known", "utf-8 is text as it is"},
        {"encoding = 'gzip'", "23514", "config_encoding_is_known", "encoding"},
        {"name = 'other'", "23514", "config_name_is_fixed", "cannot be renamed"},
        {"content = NULL", "23502", "", "content"},
        {"encoding = NULL", "23502", "", "encoding"},
        {"media_type = NULL", "23502", "", "media_type"},
        {"message = NULL", "23502", "", "message"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        REFUSE(cases[i].sqlstate, cases[i].constraint, cases[i].text,
               "UPDATE config SET %s WHERE name = 'base'", cases[i].set);
    REFUSE("23503", "assignment_config_exists",
           "config \"base\" is in use: assignment \"everyone\" refers to it",
           "DELETE FROM config WHERE name = 'base'");
    REFUSE("23503", "assignment_config_exists", "Delete what refers to it, or give it another",
           "DELETE FROM config WHERE name = 'base'");
    EXPECT(FLEET, DESIRED);
    EXPECT("2", "SELECT count(*) FROM config_revision");
}
END_TEST

START_TEST(test_media_types)
{
    static const struct {
        const char *media_type;
        bool is_legal, is_json;
    } cases[] = {
        {"application/json", true, true},
        {"Application/JSON", true, true},
        {"application/json;charset=utf-8", true, true},
        {"application/json ; charset=\"utf-8\"; v=2", true, true},
        {"application/merge-patch+json", true, true},
        {"image/svg+xml", true, false},
        {"text/plain", true, false},
        {"text/plain; x=\"a;b \\\" c\"", true, false},
        {"text/plain; x=\"+json\"", true, false},
        {"application/json5", true, false},
        {"application/x+json5", true, false},
        {"application/octet-stream", true, false},
        {"text/plain+", true, false},
        {"", false, false},
        {"json", false, false},
        {"/json", false, false},
        {"text/", false, false},
        {"text/pl ain", false, false},
        {" text/plain", false, false},
        {"text/plain ", false, false},
        {"text/plain;", false, false},
        {"text/plain; x", false, false},
        {"text/plain; x=", false, false},
        {"text/plain; x=\"a", false, false},
        {"text/plain\r\nX: y", false, false},
        {"text/plain, text/html", false, false},
        {"+json/x", false, false},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char *literal = PQescapeLiteral(db.conn, cases[i].media_type, strlen(cases[i].media_type));
        EXPECT(cases[i].is_legal ? "t" : "f", "SELECT is_media_type(%s)", literal);
        EXPECT(cases[i].is_json ? "t" : "f", "SELECT is_json_type(%s) AND is_media_type(%s)",
               literal, literal);
        if (!cases[i].is_legal)
            REFUSE("23514", "config_media_type_is_legal", "RFC 6838",
                   "INSERT INTO config (name, content, media_type) VALUES ('c', '1', %s)", literal);
        PQfreemem(literal);
    }
    EXPECT("t", "SELECT is_media_type('a/' || repeat('b', 127))");
    EXPECT("f", "SELECT is_media_type('a/' || repeat('b', 128))");
}
END_TEST

START_TEST(test_sizes)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content, media_type) VALUES ('c', '', 'text/plain')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('a', 'c', 'n')");
    EXPECT("0 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 text/plain",
           "SELECT concat_ws(' ', size, digest, media_type) FROM desired");

    static const int sizes[] = {1, 131071, 131072, 131073, LIMIT};
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        RUN("UPDATE config SET content = repeat('x', %d), encoding = 'utf-8'", sizes[i]);
        EXPECT("t",
               "SELECT d.size = %d AND b.size = %d AND b.content = repeat('x', %d) AND "
               "b.digest = 'sha256:' || encode(sha256(convert_to(repeat('x', %d), 'UTF8')), "
               "'hex') FROM desired AS d JOIN blob AS b USING (digest)",
               sizes[i], sizes[i], sizes[i], sizes[i]);
        RUN("UPDATE config SET encoding = 'base64', "
            "content = encode(decode(repeat('ff', %d), 'hex'), 'base64')",
            sizes[i]);
        EXPECT("t",
               "SELECT d.size = %d AND decode(b.content, 'base64') = decode(repeat('ff', %d), "
               "'hex') AND b.content !~ '\\s' "
               "FROM desired AS d JOIN blob AS b USING (digest)",
               sizes[i], sizes[i]);
    }

    REFUSE("54000", "config_size_limit", "16777217 bytes; the limit is 16 MiB (16777216 bytes)",
           "UPDATE config SET content = repeat('x', %d), encoding = 'utf-8'", LIMIT + 1);
    REFUSE("54000", "config_size_limit", "16777217 bytes; the limit is 16 MiB",
           "UPDATE config SET content = encode(decode(repeat('00', %d), 'hex'), 'base64')",
           LIMIT + 1);
    /* Bytes count, not characters. */
    REFUSE("54000", "config_size_limit", "16777218 bytes",
           "UPDATE config SET content = repeat('é', %d), encoding = 'utf-8'", LIMIT / 2 + 1);
    REFUSE("54000", "config_size_limit", "16777217 bytes",
           "INSERT INTO config (name, content) VALUES ('d', '\"' || repeat('x', %d) || '\"')",
           LIMIT - 1);
}
END_TEST

START_TEST(test_size_of_merged_documents)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) SELECT 'c' || i, "
        "format('{\"%%s\": \"%%s\"}', i, repeat('x', %d)) FROM generate_series(1, 2) AS i",
        LIMIT / 2 - 9); /* as one: {"1": "…", "2": "…"}, 18 bytes beside the x */
    RUN("INSERT INTO assignment (name, config, node) VALUES ('a', 'c1', 'n')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('b', 'c2', 'n')");
    EXPECT("16777216", "SELECT size FROM desired");
    EXPECT("t", "SELECT octet_length(content) = size FROM blob WHERE digest = (SELECT digest FROM "
                "desired)");
    REFUSE("54000", "desired_size_limit", "16777217 bytes; the limit is 16 MiB (16777216 bytes)",
           "UPDATE config SET content = format('{\"2\": \"%%s\"}', repeat('y', %d)) "
           "WHERE name = 'c2'",
           LIMIT / 2 - 8);
    EXPECT("1", "SELECT revision FROM config WHERE name = 'c2'");
    expect_no_drift();
}
END_TEST

START_TEST(test_number_of_sources)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) VALUES ('c', '{}')");
    RUN("INSERT INTO assignment (name, config, selector) "
        "SELECT 'a' || i, 'c', '{}' FROM generate_series(1, 1024) AS i");
    EXPECT("1024", "SELECT jsonb_array_length(sources) FROM desired");
    REFUSE("23514", "desired_sources_limit", "desired_sources_limit",
           "INSERT INTO assignment (name, config, node) VALUES ('b', 'c', 'n')");
    expect_no_drift();
}
END_TEST

/* ---- JSON Merge Patch ---------------------------------------------------------------------------
 */

START_TEST(test_merge_patch)
{
    /* RFC 7396, appendix A: original, patch, result; then more of our own. */
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"{\"a\":{\"x\":null}}", "{\"a\":{\"y\":{\"z\":1}}}",
         "{\"a\":{\"x\":null,\"y\":{\"z\":1}}}"},
        {"{\"a\":1}", "{\"a\":{\"b\":null,\"c\":[null]}}", "{\"a\":{\"c\":[null]}}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":{}}}", "{\"a\":{\"b\":{}}}"},
        {"{\"a\":[{\"b\":null}]}", "{\"c\":[{\"d\":null}]}",
         "{\"a\":[{\"b\":null}],\"c\":[{\"d\":null}]}"},
        {"null", "{\"a\":1}", "{\"a\":1}"},
        {"{\"n\":1.00}", "{\"m\":1e3}", "{\"n\":1.00,\"m\":1000}"},
    };
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) VALUES ('original', '0'), ('patch', '0')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('o', 'original', 'n', 1), "
        "('p', 'patch', 'n', 2)");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        EXPECT("t", "SELECT merge_patch('%s', '%s')::text = '%s'::jsonb::text", cases[i][0],
               cases[i][1], cases[i][2]);
        RUN("UPDATE config SET content = CASE name WHEN 'original' THEN '%s' ELSE '%s' END",
            cases[i][0], cases[i][1]);
        /* A patch that replaces is the only source, and comes as it was written. */
        EXPECT("t",
               "SELECT b.content = CASE WHEN jsonb_array_length(d.sources) = 1 THEN '%s' "
               "ELSE '%s'::jsonb::text END FROM desired AS d JOIN blob AS b USING (digest)",
               cases[i][1], cases[i][2]);
    }
    expect_no_drift();
}
END_TEST

START_TEST(test_merging_deep_documents)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) "
        "SELECT c, repeat('{\"a\":', 100) || format('{\"%%s\":1}', c) || repeat('}', 100) "
        "FROM unnest('{x,y}'::text[]) AS c");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('x', 'x', 'n'), ('y', 'y', 'n')");
    EXPECT("{\"x\": 1, \"y\": 1}", "SELECT content::jsonb #>> array_fill('a'::text, ARRAY[100]) "
                                   "FROM desired JOIN blob USING (digest)");
}
END_TEST

/* ---- resolution -------------------------------------------------------------------------------*/

START_TEST(test_resolution)
{
    make_fleet();
    EXPECT(FLEET, DESIRED);
    EXPECT("[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"everyone\"}, "
           "{\"config\": \"site-b\", \"revision\": 1, \"assignment\": \"b\"}]",
           "SELECT sources FROM desired WHERE node = 'n3'");
    EXPECT("application/json 32", "SELECT concat_ws(' ', media_type, size) FROM desired WHERE node "
                                  "= 'n3'");

    /* A node's own assignment, and one that is moved to another node. */
    RUN("INSERT INTO config (name, content) VALUES ('own', '{\"own\":true}')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('own', 'own', 'n1', 20)");
    EXPECT("{\"log\": {\"level\": 3}, \"own\": true, \"rate\": 1}",
           "SELECT content FROM desired JOIN blob USING (digest) WHERE node = 'n1'");
    RUN("UPDATE assignment SET node = 'n2' WHERE name = 'own'");
    EXPECT("n1 3 {\"rate\":1,\"log\":{\"level\":3}}\n"
           "n2 2 {\"log\": {\"level\": 3}, \"own\": true, \"rate\": 1}\n"
           "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": "
           "1}",
           DESIRED);

    /* A node that moves between sites; a selector that moves. */
    RUN("UPDATE node SET labels = '{\"site\": \"b\", \"rack\": 7}' WHERE name = 'n1'");
    EXPECT("4", "SELECT revision FROM desired WHERE node = 'n1'");
    RUN("UPDATE assignment SET selector = '{\"rack\": 7}' WHERE name = 'b'");
    EXPECT("n1,n2,n3,n4", "SELECT string_agg(node, ',' ORDER BY node) FROM desired");
    EXPECT("n1", "SELECT string_agg(node, ',') FROM desired WHERE sources @> '[{\"assignment\": "
                 "\"b\"}]'");
    RUN("DELETE FROM assignment WHERE name = 'everyone'");
    EXPECT("n1 5 {\"log\":{\"level\":5}}\nn2 3 {\"own\":true}", DESIRED);
    RUN("DELETE FROM assignment");
    EXPECT("", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_order_of_sources)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content) SELECT c, format('{\"who\":\"%%s\"}', c) "
        "FROM unnest('{one,two,three}'::text[]) AS c");
    /* Equal priorities go by the name of the assignment, byte by byte, whatever the locale. */
    RUN("INSERT INTO assignment (name, config, selector, priority) VALUES "
        "('a', 'one', '{}', 5), ('B', 'two', '{}', 5), ('C', 'three', '{}', -5)");
    EXPECT("C B a", "SELECT string_agg(s ->> 'assignment', ' ' ORDER BY i) FROM desired, "
                    "jsonb_array_elements(sources) WITH ORDINALITY AS e (s, i)");
    EXPECT("{\"who\": \"one\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    RUN("UPDATE assignment SET priority = 6 WHERE name = 'C'");
    EXPECT("{\"who\": \"three\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    RUN("UPDATE assignment SET priority = 2147483647 WHERE name = 'B'");
    EXPECT("{\"who\": \"two\"}", "SELECT content FROM desired JOIN blob USING (digest)");
    expect_no_drift();
}
END_TEST

START_TEST(test_media_types_decide_what_merges)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    RUN("INSERT INTO config (name, content, media_type, encoding) VALUES "
        "('json', '{ \"a\" : 1 }', 'application/json', 'utf-8'), "
        "('more', '{\"b\":2}', 'application/x+json', 'utf-8'), "
        "('coded', 'eyJjIjogM30=', 'application/json', 'base64'), "
        "('list', '[1,2]', 'application/json', 'utf-8'), "
        "('text', 'hello', 'text/plain', 'utf-8')");
    static const struct {
        const char *configs; /* lowest priority first */
        const char *content, *media_type, *sources;
    } cases[] = {
        {"json", "{ \"a\" : 1 }", "application/json", "json"},
        {"json,more", "{\"a\": 1, \"b\": 2}", "application/x+json", "json,more"},
        {"more,json", "{\"a\": 1, \"b\": 2}", "application/json", "more,json"},
        {"json,json", "{\"a\": 1}", "application/json", "json,json"},
        {"coded", "eyJjIjogM30=", "application/json", "coded"},
        {"json,coded", "{\"a\": 1, \"c\": 3}", "application/json", "json,coded"},
        {"json,text", "hello", "text/plain", "text"},
        {"text,json", "{ \"a\" : 1 }", "application/json", "json"},
        {"text,json,more", "{\"a\": 1, \"b\": 2}", "application/x+json", "json,more"},
        {"json,text,more,coded", "{\"b\": 2, \"c\": 3}", "application/json", "more,coded"},
        {"json,list", "[1,2]", "application/json", "list"},
        {"list,json", "{\"a\": 1}", "application/json", "list,json"},
        {"text,list,json", "{\"a\": 1}", "application/json", "list,json"},
        {"list,text,list", "[1,2]", "application/json", "list"},
        {"text,text", "hello", "text/plain", "text"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        RUN("DELETE FROM assignment");
        RUN("INSERT INTO assignment (name, config, node, priority) SELECT 'a' || i, c, 'n', i "
            "FROM unnest(string_to_array('%s', ',')) WITH ORDINALITY AS e (c, i)",
            cases[i].configs);
        EXPECT(cases[i].content, "SELECT content FROM desired JOIN blob USING (digest)");
        EXPECT(cases[i].media_type, "SELECT media_type FROM desired");
        EXPECT(cases[i].sources, "SELECT string_agg(s ->> 'config', ',' ORDER BY i) FROM desired, "
                                 "jsonb_array_elements(sources) WITH ORDINALITY AS e (s, i)");
        expect_no_drift();
    }
}
END_TEST

START_TEST(test_pinned_revisions)
{
    RUN("INSERT INTO node (name) VALUES ('n'), ('m')");
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('follows', 'c', 'n')");
    RUN("INSERT INTO assignment (name, config, node, revision) VALUES ('stays', 'c', 'm', 1)");
    RUN("UPDATE config SET content = '2'");
    EXPECT("m 1 1\nn 2 2", DESIRED);
    RUN("UPDATE assignment SET revision = 2 WHERE name = 'stays'");
    RUN("UPDATE assignment SET revision = 1 WHERE name = 'follows'");
    EXPECT("m 2 2\nn 3 1", DESIRED);
    RUN("UPDATE assignment SET revision = NULL");
    EXPECT("m 2 2\nn 4 2", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_same_bytes_are_one_blob)
{
    RUN("INSERT INTO node (name) VALUES ('n'), ('m')");
    RUN("INSERT INTO config (name, content, encoding, media_type) VALUES "
        "('c', 'hello', 'utf-8', 'text/plain'), ('d', 'aGVs\nbG8=', 'base64', 'text/plain')");
    RUN("INSERT INTO assignment (name, config, node) VALUES ('c', 'c', 'n'), ('d', 'd', 'm')");
    EXPECT("1", "SELECT count(*) FROM blob");
    EXPECT("1", "SELECT count(DISTINCT digest) FROM config_revision");
    EXPECT("aGVsbG8=", "SELECT content FROM config WHERE name = 'd'");
    /* Another media type is another revision, of the same blob. */
    RUN("UPDATE config SET media_type = 'text/html'");
    EXPECT("m 2 hello\nn 2 hello", DESIRED);
    EXPECT("1", "SELECT count(*) FROM blob");
}
END_TEST

/* ---- revisions, versions, and what changes nothing ----------------------------------------------
 */

START_TEST(test_revisions_of_a_config)
{
    RUN("INSERT INTO config (name, content, revision) VALUES ('c', '1', 77)");
    EXPECT("1", "SELECT revision FROM config");
    RUN("UPDATE config SET content = '2', revision = 9, version = 9, created_at = 'epoch', "
        "updated_at = 'epoch', updated_by = 'nobody'");
    EXPECT("2 2 postgres t", "SELECT concat_ws(' ', revision, version, updated_by, "
                             "least(created_at, updated_at) > now() - interval '1 h') FROM config");
    RUN("UPDATE config SET encoding = 'base64', content = 'Mg=='"); /* the same bytes */
    RUN("UPDATE config SET media_type = 'text/plain'");
    EXPECT("4", "SELECT revision FROM config");
    RUN("DELETE FROM config");
    RUN("INSERT INTO config (name, content) VALUES ('c', '1')");
    EXPECT("5 6", "SELECT revision || ' ' || version FROM config");
    EXPECT("1 2 3 4 5", "SELECT string_agg(revision::text, ' ' ORDER BY revision) "
                        "FROM config_revision WHERE config = 'c'");
    EXPECT("t", "SELECT bool_and(digest = digest_of(bytes_of(content, encoding)) AND size = "
                "length(bytes_of(content, encoding))) FROM config_revision");
    /* A rollback is a new revision. */
    RUN("UPDATE config AS c SET (content, encoding, media_type) = (SELECT r.content, r.encoding, "
        "r.media_type FROM config_revision AS r WHERE r.config = c.name AND r.revision = 3)");
    EXPECT("6 Mg== base64", "SELECT concat_ws(' ', revision, content, encoding) FROM config");
}
END_TEST

START_TEST(test_versions_are_never_used_again)
{
    RUN("INSERT INTO node (name) VALUES ('n')");
    EXPECT("1", "SELECT version FROM node");
    RUN("DELETE FROM node");
    RUN("INSERT INTO node (name, version) VALUES ('n', 1)");
    EXPECT("3", "SELECT version FROM node");
    RUN("UPDATE node SET version = 1, created_at = 'epoch'");
    EXPECT("3", "SELECT version FROM node");
    RUN("UPDATE node SET description = 'x'");
    EXPECT("4", "SELECT version FROM node");
    RUN("BEGIN; INSERT INTO config (name, content) VALUES ('c', '1'); INSERT INTO assignment "
        "(name, config, node) VALUES ('a', 'c', 'n'); COMMIT");
    EXPECT("5 5", "SELECT c.version || ' ' || a.version FROM config AS c, assignment AS a");
    EXPECT("5", "SELECT rev FROM changelog_head");
}
END_TEST

START_TEST(test_revisions_of_a_node)
{
    make_fleet();
    /* Other sources, the same bytes: the row says so, the revision stays. */
    RUN("INSERT INTO config (name, content) VALUES ('same', '{\"rate\": 1}')");
    RUN("INSERT INTO assignment (name, config, node, priority) VALUES ('same', 'same', 'n3', 50)");
    EXPECT("1 3", "SELECT revision || ' ' || jsonb_array_length(sources) FROM desired WHERE node = "
                  "'n3'");
    EXPECT("2", "SELECT count(*) FROM desired_history WHERE node = 'n3'");
    EXPECT("t", "SELECT d.changed_at = h.changed_at AND d.wal_lsn = h.wal_lsn FROM desired AS d "
                "JOIN desired_history AS h USING (node, revision) WHERE node = 'n3' ORDER BY h.id "
                "LIMIT 1");

    /* Gone and back, the revision goes on. */
    RUN("DELETE FROM node WHERE name = 'n1'");
    RUN("INSERT INTO node (name) VALUES ('n1')");
    EXPECT("2", "SELECT revision FROM desired WHERE node = 'n1'");
    EXPECT("1 f,1 t,2 f", "SELECT string_agg(concat_ws(' ', revision, digest IS NULL), ',' ORDER "
                          "BY id) FROM desired_history WHERE node = 'n1'");
    EXPECT("t", "SELECT bool_and(c.rev = h.rev) FROM desired_history AS h LEFT JOIN changelog AS c "
                "USING (rev)");
    expect_no_drift();
}
END_TEST

START_TEST(test_what_changes_nothing)
{
    make_fleet();
    static const char *const cases[] = {
        "UPDATE config SET content = content",
        "UPDATE config SET content = '{\"rate\":1,\"log\":{\"level\":3}}', revision = 8, "
        "version = 0, message = '' WHERE name = 'base'",
        "UPDATE config SET content = 'x' WHERE name = 'none'",
        "UPDATE node SET labels = labels, description = description",
        "UPDATE node SET labels = '{ \"site\":\"a\" }' WHERE name = 'n1'",
        "UPDATE assignment SET priority = priority + 0",
        "DELETE FROM node WHERE name = 'n9'",
        "DELETE FROM assignment WHERE false",
        "INSERT INTO node (name) SELECT name FROM node WHERE false",
        "INSERT INTO node (name) VALUES ('n1') ON CONFLICT DO NOTHING",
        "INSERT INTO config (name, content) VALUES ('base', '[]') ON CONFLICT DO NOTHING",
        "INSERT INTO assignment (name, config, node) VALUES ('b', 'base', 'n1') "
        "ON CONFLICT (name) DO NOTHING",
        "INSERT INTO node (name) VALUES ('n1') ON CONFLICT (name) DO UPDATE SET description = ''",
        "INSERT INTO config (name, content) VALUES ('site-b', '{\"log\":{\"level\":5}}') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content, "
        "media_type = excluded.media_type, encoding = excluded.encoding, "
        "revision = excluded.revision, version = excluded.version",
        "MERGE INTO node USING (VALUES ('n1'), ('n2')) AS v (name) ON node.name = v.name "
        "WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (name) VALUES (v.name)",
        "BEGIN; UPDATE config SET content = '{}'; DELETE FROM node; ROLLBACK",
        "BEGIN; SAVEPOINT s; UPDATE config SET content = '{}'; ROLLBACK TO s; "
        "UPDATE node SET description = ''; COMMIT",
        "BEGIN; SAVEPOINT s; TRUNCATE node CASCADE; ROLLBACK TO s; COMMIT",
        "DO $$ BEGIN INSERT INTO headwater.node (name) VALUES ('x'); "
        "INSERT INTO headwater.node (name) VALUES ('!'); EXCEPTION WHEN check_violation THEN END "
        "$$",
        "SELECT recompute()",
    };
    static const char state[] =
        "SELECT concat_ws(' ', (SELECT rev FROM changelog_head), (SELECT count(*) FROM changelog), "
        "(SELECT count(*) FROM desired_history), (SELECT count(*) FROM blob), "
        "(SELECT count(*) FROM config_revision), (SELECT string_agg(concat(d, d.ctid), '' ORDER BY "
        "node) FROM desired AS d), (SELECT string_agg(concat(name, version), '' ORDER BY name) "
        "FROM node))";
    char *before = test_value(db.conn, state);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        RUN("%s", cases[i]);
        char *after = test_value(db.conn, state);
        ck_assert_msg(strcmp(before, after) == 0, "%s: %s became %s", cases[i], before, after);
        free(after);
    }
    free(before);
    /* What was updated in vain still counts as found: the writer's row count and RETURNING. */
    EXPECT("n1", "UPDATE node SET labels = labels WHERE name = 'n1' RETURNING name");
}
END_TEST

START_TEST(test_a_change_that_reaches_nobody)
{
    make_fleet();
    RUN("UPDATE node SET description = 'rack 7' WHERE name = 'n1'");
    RUN("UPDATE config SET message = 'as agreed' WHERE name = 'base'");
    RUN("INSERT INTO config (name, content) VALUES ('unused', '0')");
    RUN("UPDATE config SET content = '1' WHERE name = 'unused'");
    RUN("DELETE FROM config WHERE name = 'unused'");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('none', 'base', '{\"site\": 0}')");
    RUN("UPDATE assignment SET priority = 3 WHERE name = 'none'");
    EXPECT("10", "SELECT count(*) FROM changelog"); /* they are changes of the configuration */
    EXPECT(FLEET, DESIRED);
    EXPECT("4", "SELECT count(*) FROM desired_history");
}
END_TEST

START_TEST(test_one_transaction_is_one_change)
{
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\": 1}'), ('b', '{}')");
    RUN("BEGIN; INSERT INTO node (name, labels) SELECT 'n' || i, jsonb_build_object('m', i %% 10) "
        "FROM generate_series(1, 1000) AS i; "
        "INSERT INTO assignment (name, config, selector) VALUES ('all', 'base', '{}'); COMMIT");
    EXPECT("2 1", "SELECT rev || ' ' || revision FROM changelog_head, config WHERE name = 'base'");
    EXPECT("1000 1000 2 2", "SELECT concat_ws(' ', count(*), count(DISTINCT node), min(rev), "
                            "max(rev)) FROM desired_history");

    RUN("UPDATE config SET content = '{\"rate\": 2}' WHERE name = 'base'");
    EXPECT("1000 1", "SELECT count(*) || ' ' || count(DISTINCT (digest, changed_at, wal_lsn)) FROM "
                     "desired_history WHERE rev = 3 AND revision = 2");
    EXPECT("2", "SELECT count(*) FROM blob");
    EXPECT("t", "SELECT bool_and(wal_lsn < pg_current_wal_lsn()) FROM desired");

    RUN("INSERT INTO assignment (name, config, selector) VALUES ('some', 'b', '{\"m\": 3}')");
    EXPECT("100", "SELECT count(*) FROM desired_history WHERE rev = 4");
    RUN("DELETE FROM node");
    EXPECT("0 1000", "SELECT concat_ws(' ', (SELECT count(*) FROM desired), (SELECT count(*) FROM "
                     "desired_history WHERE rev = 5 AND digest IS NULL))");
    EXPECT("5", "SELECT count(*) FROM changelog");
}
END_TEST

/* ---- every way of writing -----------------------------------------------------------------------
 */

START_TEST(test_copy)
{
    make_fleet();
    PQclear(PQexec(db.conn, "COPY node (name, labels) FROM STDIN"));
    static const char rows[] = "n5\t{\"site\": \"b\"}\nn6\t{}\n";
    ck_assert_int_eq(PQputCopyData(db.conn, rows, (int)strlen(rows)), 1);
    ck_assert_int_eq(PQputCopyEnd(db.conn, NULL), 1);
    for (PGresult *r; (r = PQgetResult(db.conn)) != NULL; PQclear(r))
        ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK, "%s", PQresultErrorMessage(r));
    EXPECT("6", "SELECT count(*) FROM desired");
    EXPECT("t", "SELECT (SELECT digest FROM desired WHERE node = 'n5') = (SELECT digest FROM "
                "desired WHERE node = 'n3')");
    expect_no_drift();
}
END_TEST

START_TEST(test_upsert_and_merge)
{
    make_fleet();
    RUN("INSERT INTO config (name, content) VALUES ('base', '{\"rate\":2}'), ('new', '{}') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content");
    EXPECT("2 1", "SELECT string_agg(revision::text, ' ' ORDER BY name) FROM config WHERE name IN "
                  "('base', 'new')");
    EXPECT("{\"rate\":2}",
           "SELECT content FROM desired JOIN blob USING (digest) WHERE node = 'n1'");
    RUN("MERGE INTO node USING (VALUES ('n1', '{\"site\": \"b\"}'::jsonb), ('n7', '{}'), "
        "('n2', NULL)) AS v (name, labels) ON node.name = v.name "
        "WHEN MATCHED AND v.labels IS NULL THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET labels = v.labels "
        "WHEN NOT MATCHED THEN INSERT (name, labels) VALUES (v.name, v.labels)");
    EXPECT("n1,n3,n4,n7", "SELECT string_agg(node, ',' ORDER BY node) FROM desired");
    EXPECT("1", "SELECT count(DISTINCT digest) FROM desired WHERE node IN ('n1', 'n3', 'n4')");
    EXPECT("5", "SELECT rev FROM changelog_head");
    RUN("WITH c AS (UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'), "
        "a AS (DELETE FROM assignment WHERE name = 'b') INSERT INTO node (name) VALUES ('n8')");
    EXPECT("n1 {\"rate\":3},n3 {\"rate\":3},n4 {\"rate\":3},n7 {\"rate\":3},n8 {\"rate\":3}",
           "SELECT string_agg(node || ' ' || content, ',' ORDER BY node) FROM desired JOIN blob "
           "USING (digest)");
    expect_no_drift();
}
END_TEST

START_TEST(test_savepoints)
{
    make_fleet();
    RUN("BEGIN");
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    RUN("SAVEPOINT s");
    RUN("DELETE FROM node WHERE name = 'n1'");
    EXPECT("3", "SELECT count(*) FROM desired");
    RUN("ROLLBACK TO s");
    RUN("SAVEPOINT t");
    RUN("UPDATE node SET labels = '{\"site\": \"b\"}' WHERE name = 'n2'");
    RUN("RELEASE t");
    RUN("COMMIT");
    EXPECT("4 4 4", "SELECT concat_ws(' ', rev, (SELECT count(*) FROM changelog), (SELECT count(*) "
                    "FROM desired)) FROM changelog_head");
    EXPECT("5", "SELECT count(*) FROM desired_history WHERE rev = 4");
    expect_no_drift();
}
END_TEST

START_TEST(test_truncate)
{
    make_fleet();
    RUN("SELECT report(jsonb_build_array('{\"kv_created\": \"2024-01-01T00:00:00Z\", "
        "\"kv_revision\": 1, \"value\": {\"node\": \"n1\", \"state\": \"applied\"}}'::jsonb))");
    REFUSE("0A000", "", "assignment", "TRUNCATE node");
    REFUSE("0A000", "", "assignment", "TRUNCATE config");
    RUN("TRUNCATE assignment");
    EXPECT("", DESIRED);
    RUN("TRUNCATE assignment");
    EXPECT("4", "SELECT rev FROM changelog_head");
    RUN("INSERT INTO assignment (name, config, selector) VALUES ('everyone', 'base', '{}')");
    EXPECT("4", "SELECT count(*) FROM desired");
    RUN("TRUNCATE node CASCADE");
    EXPECT("0 0 0 6", "SELECT concat_ws(' ', (SELECT count(*) FROM desired), (SELECT count(*) FROM "
                      "assignment), (SELECT count(*) FROM reported), rev) FROM changelog_head");
    RUN("TRUNCATE config CASCADE");
    RUN("INSERT INTO config (name, content) VALUES ('base', '{}')");
    EXPECT("2", "SELECT revision FROM config");
    expect_no_drift();
}
END_TEST

/* Not even this setting, which only a superuser has, turns the triggers off. */
START_TEST(test_replica_role)
{
    RUN("SET session_replication_role = replica");
    make_fleet();
    EXPECT(FLEET, DESIRED);
    REFUSE("23514", "config_content_is_json", "base", "UPDATE config SET content = 'x'");
    REFUSE("55000", "blob_is_kept", "Write to headwater.node", "DELETE FROM blob");
    /* Foreign keys are off then: what is left behind reaches nobody. */
    RUN("DELETE FROM config WHERE name = 'base'");
    EXPECT("n3 2 {\"log\":{\"level\":5}}\nn4 2 {\"log\":{\"level\":5}}", DESIRED);
    RUN("INSERT INTO assignment (name, config, node) VALUES ('n3', 'site-b', 'n3')");
    RUN("DELETE FROM node WHERE name = 'n3'");
    EXPECT("n4 2 {\"log\":{\"level\":5}}", DESIRED);
    expect_no_drift();
}
END_TEST

START_TEST(test_a_node_takes_its_assignments_along)
{
    make_fleet();
    RUN("INSERT INTO assignment (name, config, node) SELECT 'own-' || name, 'site-b', name "
        "FROM node");
    RUN("DELETE FROM node WHERE name IN ('n1', 'n2')");
    EXPECT("b everyone own-n3 own-n4",
           "SELECT string_agg(name, ' ' ORDER BY name) FROM assignment");
    EXPECT("5 2", "SELECT rev || ' ' || (SELECT count(*) FROM desired_history WHERE rev = 5) "
                  "FROM changelog_head");
    expect_no_drift();
}
END_TEST

START_TEST(test_history_is_kept)
{
    make_fleet();
    static const char *const tables[] = {"config_revision", "desired_history", "changelog", "blob"};
    for (int replica = 0; replica < 2; replica++) {
        for (size_t i = 0; i < HW_COUNT(tables); i++) {
            char constraint[40];
            snprintf(constraint, sizeof(constraint), "%s_is_kept", tables[i]);
            char *column =
                test_value(db.conn,
                           "SELECT attname FROM pg_attribute WHERE attrelid = '%s'::regclass AND "
                           "attnum = 2",
                           tables[i]);
            REFUSE("55000", constraint, "only grows", "DELETE FROM %s", tables[i]);
            REFUSE("55000", constraint, "only grows", "UPDATE %s SET %s = DEFAULT", tables[i],
                   column);
            REFUSE("55000", constraint, "only grows", "TRUNCATE %s CASCADE", tables[i]);
            free(column);
        }
        REFUSE("55000", "desired_is_kept", "follows", "TRUNCATE desired");
        REFUSE("55000", "changelog_head_is_kept", "wait", "DELETE FROM changelog_head");
        REFUSE("55000", "changelog_head_is_kept", "wait", "TRUNCATE changelog_head");
        RUN("SET session_replication_role = replica");
    }
    EXPECT(FLEET, DESIRED);
}
END_TEST

START_TEST(test_damage_is_found_and_repaired)
{
    make_fleet();
    RUN("UPDATE desired SET digest = 'sha256:' || repeat('0', 64) WHERE node = 'n1'");
    RUN("DELETE FROM desired WHERE node = 'n2'");
    RUN("UPDATE desired SET sources = '[]' WHERE node = 'n3'");
    RUN("INSERT INTO desired SELECT 'n5', revision, digest, size, media_type, sources, changed_at, "
        "wal_lsn FROM desired WHERE node = 'n4'");
    EXPECT("n1,n2,n3,n5", "SELECT string_agg(node, ',' ORDER BY node) FROM desired_drift()");
    EXPECT("4", "SELECT recompute()");
    EXPECT("n1 2 {\"rate\":1,\"log\":{\"level\":3}}\nn2 2 {\"rate\":1,\"log\":{\"level\":3}}\n"
           "n3 1 {\"log\": {\"level\": 5}, \"rate\": 1}\nn4 1 {\"log\": {\"level\": 5}, \"rate\": "
           "1}",
           DESIRED);
    EXPECT("4", "SELECT rev FROM changelog_head"); /* a repair is a change, too */
    expect_no_drift();
}
END_TEST

START_TEST(test_dump_and_restore)
{
    make_fleet();
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    char url[256], *dump, *output;
    make_database("", "postgres", url);
    ck_assert_int_eq(
        test_program_run((const char *[]){"pg_dump", "-d", db.url, NULL}, NULL, NULL, &dump), 0);
    ck_assert_msg(test_program_run((const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
                                                    "-d", url, NULL},
                                   NULL, dump, &output) == 0,
                  "%s", output);
    struct test_database copy = {.conn = NULL};
    snprintf(copy.url, sizeof(copy.url), "%s", url);
    copy.conn = test_database_connect(&copy, NULL);
    test_run(copy.conn, "SET search_path = headwater");
    test_expect(copy.conn, "0", "SELECT count(*) FROM desired_drift()");

    /* The history is the same up to the dump, and another one after it. */
    test_run(copy.conn, "UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    RUN("UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    char *ours = test_value(db.conn, "SELECT string_agg(nonce::text, ' ' ORDER BY rev) FROM "
                                     "changelog");
    char *theirs = test_value(copy.conn, "SELECT string_agg(nonce::text, ' ' ORDER BY rev) FROM "
                                         "changelog");
    ck_assert_uint_eq(strlen(ours), strlen(theirs));
    ck_assert_int_eq(strncmp(ours, theirs, strlen(ours) - 36), 0);
    ck_assert_str_ne(ours, theirs);
    test_expect(copy.conn, "3", "SELECT max(revision) FROM desired");
    test_expect(copy.conn, "0", "SELECT recompute()");
    test_refuse(copy.conn, "55000", "changelog_is_kept", "grows", "DELETE FROM changelog");
    free(ours);
    free(theirs);
    free(dump);
    free(output);
    PQfinish(copy.conn);
}
END_TEST

/* ---- who ----------------------------------------------------------------------------------------
 */

START_TEST(test_privileges)
{
    make_fleet();
    enum { dba = 1, api = 2, reconciler = 4, viewer = 8, stranger = 16 };
    static const char *const roles[] = {"headwater_dba", "headwater_api", "headwater_reconciler",
                                        "headwater_viewer", "stranger"};
    static const struct {
        const char *sql;
        int allowed;
    } cases[] = {
        {"INSERT INTO headwater.node (name) VALUES ('x')", dba | api},
        {"UPDATE headwater.node SET labels = '{\"site\": \"b\"}' WHERE name = 'n1'", dba | api},
        {"DELETE FROM headwater.node WHERE name = 'n1'", dba | api},
        {"INSERT INTO headwater.config (name, content) VALUES ('x', '{}')", dba | api},
        {"UPDATE headwater.config SET content = '{}' WHERE name = 'base'", dba | api},
        {"INSERT INTO headwater.assignment (name, config, node) VALUES ('x', 'base', 'n1')",
         dba | api},
        {"DELETE FROM headwater.assignment", dba | api},
        {"TRUNCATE headwater.node CASCADE", dba},
        {"SELECT * FROM headwater.node, headwater.config, headwater.assignment",
         dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.config_revision, headwater.desired, headwater.desired_history, "
         "headwater.blob, headwater.reported, headwater.changelog, headwater.changelog_head, "
         "headwater.migration",
         dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.fleet", dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.resolve(NULL)", dba | api | reconciler | viewer},
        {"SELECT * FROM headwater.desired_drift()", dba | api | reconciler | viewer},
        {"SELECT headwater.document(sources) FROM headwater.desired",
         dba | api | reconciler | viewer},
        {"SELECT headwater.recompute()", dba},
        {"SELECT headwater.resync()", dba | reconciler},
        {"SELECT headwater.replay('0/1')", dba | reconciler},
        {"SELECT headwater.heartbeat()", dba | reconciler},
        {"SELECT headwater.report('[]')", reconciler},
        {"SELECT headwater.take_reports('[]')", 0},
        {"SELECT headwater.materialise(NULL)", 0},
        {"SELECT headwater.lock_head()", 0},
        {"SELECT headwater.log_change()", 0},
        {"SELECT pg_logical_emit_message(true, 'headwater', '{}')", 0},
        {"SELECT pg_logical_emit_message(true, 'headwater', '{}'::bytea)", 0},
        {"INSERT INTO headwater.desired SELECT * FROM headwater.desired", 0},
        {"UPDATE headwater.desired SET revision = 1", 0},
        {"DELETE FROM headwater.desired", 0},
        {"INSERT INTO headwater.blob VALUES ('x', 'utf-8', '', 0)", 0},
        {"INSERT INTO headwater.changelog (rev) VALUES (99)", 0},
        {"UPDATE headwater.changelog_head SET rev = 99", 0},
        {"INSERT INTO headwater.config_revision (config) VALUES ('x')", 0},
        {"UPDATE headwater.reported SET state = 'applied'", 0},
        {"INSERT INTO headwater.reported (node) VALUES ('x')", 0},
        {"UPDATE headwater.migration SET checksum = ''", 0},
        {"SELECT * FROM headwater.set_member", dba | api | reconciler | viewer},
        {"DELETE FROM headwater.set_member", dba},
        {"UPDATE headwater.set_member SET version = 1", 0},
        {"SELECT headwater.apply('{\"resources\": []}', 'x', true)", dba | api},
        {"SELECT headwater.prune_set('x', '{}', '{}')", 0},
        {"CREATE TABLE headwater.mine ()", 0},
        {"ALTER TABLE headwater.node DISABLE TRIGGER ALL", 0},
        {"SET session_replication_role = replica", 0},
    };
    RUN("CREATE ROLE stranger");
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        for (size_t r = 0; r < HW_COUNT(roles); r++) {
            RUN("BEGIN; SET LOCAL ROLE %s", roles[r]);
            if (cases[i].allowed >> r & 1)
                RUN("%s", cases[i].sql);
            else
                REFUSE("42501", "", "", "%s", cases[i].sql);
            RUN("ROLLBACK");
        }
    EXPECT(FLEET, DESIRED);
    RUN("DROP ROLE stranger");
    EXPECT("headwater_api:f headwater_dba:f headwater_owner:f headwater_reconciler:t "
           "headwater_viewer:f",
           "SELECT string_agg(rolname || ':' || CASE WHEN rolreplication THEN 't' ELSE 'f' END, "
           "' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^headwater_' AND NOT rolsuper AND "
           "NOT rolcreaterole AND NOT rolcreatedb");
    EXPECT("0", "SELECT count(*) FROM pg_class WHERE relnamespace = 'headwater'::regnamespace AND "
                "relowner <> 'headwater_owner'::regrole");
    /* What runs with the owner's rights has a fixed search_path. */
    EXPECT("0", "SELECT count(*) FROM pg_proc WHERE pronamespace = 'headwater'::regnamespace AND "
                "(proowner <> 'headwater_owner'::regrole OR prosecdef AND (proconfig IS NULL OR "
                "NOT 'search_path=pg_catalog, headwater, pg_temp' = ANY (proconfig)))");
}
END_TEST

/* A writer's own objects do not get between: neither functions nor operators nor tables. */
START_TEST(test_search_path)
{
    make_fleet();
    RUN("SET search_path = trap, pg_catalog, headwater");
    RUN("CREATE SCHEMA trap");
    RUN("CREATE FUNCTION trap.merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT "
        "NULL::jsonb'");
    RUN("CREATE FUNCTION trap.contains(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT "
        "true'");
    RUN("CREATE OPERATOR trap.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = trap.contains)");
    RUN("CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'");
    RUN("CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal)");
    RUN("CREATE TABLE trap.assignment AS SELECT * FROM headwater.assignment");
    RUN("CREATE TEMP TABLE desired AS SELECT * FROM headwater.desired");
    RUN("UPDATE headwater.config SET content = '{\"log\":{\"level\":6}}' WHERE true");
    RUN("SET search_path = headwater");
    EXPECT("4 2", "SELECT count(*) || ' ' || count(DISTINCT digest) FROM headwater.desired WHERE "
                  "revision > 1");
    expect_no_drift();
}
END_TEST

START_TEST(test_authors_and_messages)
{
    PGconn *api = test_database_connect(&db, "headwater_api");
    test_run(api, "BEGIN; SET LOCAL headwater.author = 'alice'; "
                  "SET LOCAL headwater.message = 'more often'; "
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '1'); COMMIT");
    EXPECT("alice|more often|headwater_api",
           "SELECT concat_ws('|', author, message, "
           "(SELECT usename FROM pg_stat_activity WHERE pid = %d)) FROM changelog",
           PQbackendPID(api));
    EXPECT("alice|more often", "SELECT author || '|' || message FROM config_revision");
    EXPECT("alice|more often", "SELECT updated_by || '|' || message FROM config");
    /* Those settings were of that transaction. */
    test_run(api, "UPDATE headwater.config SET content = '2'");
    EXPECT("headwater_api|", "SELECT updated_by || '|' || message FROM config");
    EXPECT("headwater_api|(none)", "SELECT author || '|' || coalesce(message, '(none)') FROM "
                                   "changelog WHERE rev = 2");
    test_expect(api, "10s", "SHOW lock_timeout");
    PQfinish(api);

    /* Nobody else speaks for others. */
    RUN("CREATE ROLE bob LOGIN IN ROLE headwater_dba");
    PGconn *bob = test_database_connect(&db, "bob");
    test_run(bob, "SET application_name = 'psql'; SET headwater.author = 'alice'; "
                  "UPDATE headwater.config SET content = '3', message = 'by hand'");
    EXPECT("bob|by hand|bob|psql", "SELECT concat_ws('|', c.updated_by, c.message, l.author, "
                                   "l.application_name) FROM config AS c JOIN changelog AS l ON "
                                   "l.rev = c.version");
    /* A message describes its revision: it does not stay for the next, unless given again. */
    test_run(bob, "UPDATE headwater.config SET content = '4', message = 'by hand'");
    test_run(bob, "UPDATE headwater.config SET content = '5'");
    test_run(bob,
             "INSERT INTO headwater.config (name, content, message) VALUES ('c', '6', 'again') "
             "ON CONFLICT (name) DO UPDATE SET content = excluded.content, "
             "message = excluded.message");
    EXPECT("more often||by hand|by hand||again",
           "SELECT string_agg(message, '|' ORDER BY revision) FROM config_revision");
    PQfinish(bob);
    RUN("DROP ROLE bob");
}
END_TEST

/* ---- what goes into the stream ------------------------------------------------------------------
 */

#define STREAM                                                                                     \
    "FROM pg_logical_slot_get_changes('test', NULL, NULL, 'format-version', '2', 'add-tables', "   \
    "'headwater.desired,headwater.blob,headwater.changelog', 'include-transaction', 'false', "     \
    "'add-msg-prefixes', 'headwater')"

START_TEST(test_stream)
{
    make_fleet();
    RUN("SELECT pg_create_logical_replication_slot('test', 'wal2json')");

    /* In one transaction: the change, the blobs that nodes will need, then the nodes. */
    RUN("UPDATE config SET content = '{\"rate\":2}' WHERE name = 'base'");
    RUN("CREATE TEMP TABLE frame AS SELECT row_number() OVER () AS n, data::jsonb AS data " STREAM);
    EXPECT("changelog I 1,blob I 2,desired U 4",
           "SELECT string_agg(concat_ws(' ', name, action, n), ',' ORDER BY first) FROM (SELECT "
           "data ->> 'table' AS name, data ->> 'action' AS action, count(*) AS n, min(n) AS first "
           "FROM frame GROUP BY 1, 2) AS f");
    EXPECT("8", "SELECT DISTINCT jsonb_array_length(data -> 'columns') FROM frame "
                "WHERE data ->> 'table' = 'desired'");

    /* Sources that do not fit into a page are there as well, changed or not. */
    RUN("INSERT INTO config (name, content) SELECT 'c' || i || repeat('x', 100), '{}' FROM "
        "generate_series(1, 300) AS i");
    RUN("INSERT INTO assignment (name, config, selector) SELECT name, name, '{}' FROM config WHERE "
        "name ~ '^c'");
    RUN("UPDATE config SET content = '{\"rate\":3}' WHERE name = 'base'");
    RUN("UPDATE config SET content = '{\"x\":3}' WHERE name ~ '^c7'");
    RUN("UPDATE config SET media_type = 'application/json;v=2' WHERE name ~ '^c'");
    EXPECT("t", "SELECT count(*) >= 16 AND bool_and(jsonb_array_length(data::jsonb -> 'columns') = "
                "8) " STREAM " WHERE data::jsonb ->> 'table' = 'desired'");

    /* What changes nothing streams nothing. */
    RUN("UPDATE config SET content = content; UPDATE node SET labels = labels; SELECT recompute()");
    EXPECT("0", "SELECT count(*) " STREAM);

    RUN("SELECT headwater.resync()");
    RUN("BEGIN; SELECT headwater.resync(); ROLLBACK");
    RUN("SELECT headwater.replay('0/1A2B')");
    RUN("SELECT headwater.replay(to_lsn => '0/1a2c', from_lsn => '0/1a2b')");
    RUN("SELECT headwater.heartbeat()");
    REFUSE("22004", "", "needs a position", "SELECT headwater.replay(NULL, '0/1')");
    REFUSE("22023", "", "would begin", "SELECT headwater.replay('FFFF/0')");
    REFUSE("22023", "", "would end", "SELECT headwater.replay('0/1', 'FFFF/0')");
    REFUSE("22023", "", "before 0/3 where it begins", "SELECT headwater.replay('0/3', '0/2')");
    EXPECT(
        "t headwater {\"command\":\"resync\"},"
        "t headwater {\"command\":\"replay\",\"from\":\"0/1A2B\",\"to\":null},"
        "t headwater {\"command\":\"replay\",\"from\":\"0/1A2B\",\"to\":\"0/1A2C\"},"
        "t headwater {\"command\":\"heartbeat\"}",
        "SELECT string_agg(concat_ws(' ', CASE WHEN (data::jsonb ->> 'transactional')::bool THEN "
        "'t' END, data::jsonb ->> 'prefix', data::jsonb ->> 'content'), ',') " STREAM);
    RUN("SELECT pg_drop_replication_slot('test')");
}
END_TEST

/* ---- reports and the fleet ----------------------------------------------------------------------
 */

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

int main(void)
{
    const TTest *const tests[] = {
        test_migrations_run_once,
        test_migrations_need_utf8,
        test_migrations_by_an_owner,
        test_names,
        test_digests,
        test_what_a_node_is,
        test_what_an_assignment_is,
        test_what_a_config_is,
        test_media_types,
        test_sizes,
        test_size_of_merged_documents,
        test_number_of_sources,
        test_merge_patch,
        test_merging_deep_documents,
        test_resolution,
        test_order_of_sources,
        test_media_types_decide_what_merges,
        test_pinned_revisions,
        test_same_bytes_are_one_blob,
        test_revisions_of_a_config,
        test_versions_are_never_used_again,
        test_revisions_of_a_node,
        test_what_changes_nothing,
        test_a_change_that_reaches_nobody,
        test_one_transaction_is_one_change,
        test_copy,
        test_upsert_and_merge,
        test_savepoints,
        test_truncate,
        test_replica_role,
        test_a_node_takes_its_assignments_along,
        test_history_is_kept,
        test_damage_is_found_and_repaired,
        test_dump_and_restore,
        test_privileges,
        test_search_path,
        test_authors_and_messages,
        test_stream,
        test_reports,
        test_reports_notify,
        test_fleet,
    };
    Suite *suite = suite_create("sql");
    TCase *tcase = tcase_create("sql");
    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start_server, remove_server);
    tcase_add_checked_fixture(tcase, create_database, drop_database);
    for (size_t i = 0; i < HW_COUNT(tests); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
