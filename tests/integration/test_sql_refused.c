/* What the schema refuses, whoever writes it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/sql.h"

#define LIMIT 16777216 /* bytes of a config, and of a merged document */

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

TEST_SQL_MAIN("sql refused", 120, test_names, test_digests, test_what_a_node_is,
              test_what_an_assignment_is, test_what_a_config_is, test_media_types, test_sizes,
              test_size_of_merged_documents, test_number_of_sources)
