/*
 * The migrations: that each is applied once, never changes, and what they need; and that the files
 * in sql/schema/, which show the schema whole, make the same database as the migrations do.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/migrate.h"
#include "base/digest.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/sql.h"

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

/* The bytes of each are those of sql/migrations/SHA256SUMS: a database that has a migration refuses
 * one of other bytes, so that a change is a new migration. */
START_TEST(test_migrations_never_change)
{
    HW_AUTO_FREE char *sums = test_read_file("sql/migrations/SHA256SUMS");
    size_t lines = 0;

    for (const char *p = sums; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    for (size_t i = 0; i < api_migrations_count; i++) {
        const struct api_migration *m = &api_migrations[i];
        struct hw_digest digest;
        char hex[HW_DIGEST_HEX_MAX];

        hw_digest_of(m->sql, m->size, &digest);
        HW_AUTO_FREE char *line =
            hw_sprintf("%s  %04d_%s.sql\n", hw_digest_hex(&digest, hex), m->version, m->name);
        ck_assert_msg(strstr(sums, line) != NULL,
                      "%04d_%s.sql is not what sql/migrations/SHA256SUMS says: a change is a new "
                      "migration, whose line in that file is\n%s",
                      m->version, m->name, line);
    }
    ck_assert_uint_eq(lines, api_migrations_count);
}
END_TEST

/* ---- the schema whole ------------------------------------------------------------------------ */

static int compare(const char *url, char **differences)
{
    return test_program_run((const char *[]){"scripts/schema-diff", db.url, url, NULL}, NULL, NULL,
                            differences);
}

START_TEST(test_schema_is_what_migrations_make)
{
    char url[256];
    char *said, *differences;
    glob_t files = {0};

    make_database("", "postgres", url);
    ck_assert_int_eq(glob("sql/schema/*.sql", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        int status;

        said = psql(url, files.gl_pathv[i], &status);
        ck_assert_msg(status == 0, "%s", said);
        free(said);
    }
    globfree(&files);
    const int status = compare(url, &differences);
    ck_assert_msg(
        status == 0,
        "sql/migrations (the first) and sql/schema (the second) make different databases; "
        "docs/development.md, How to add a migration, says what to do:\n%s",
        differences);
    free(differences);
}
END_TEST

/* Configs that the checks of schemas refuse since patterns are translated stop the migration, which
 * names them all and leaves the database as it was; after they are mended it goes through. */
START_TEST(test_schemas_are_looked_at)
{
    static const char own[] = "sql/migrations/0020_patterns.sql";
    char url[256];
    int status;
    glob_t files = {0};

    make_database("", "postgres", url);
    ck_assert_int_eq(glob("sql/migrations/*.sql", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc && strcmp(files.gl_pathv[i], own) < 0; i++) {
        HW_AUTO_FREE char *said = psql(url, files.gl_pathv[i], &status);

        ck_assert_msg(status == 0, "%s", said);
    }
    globfree(&files);
    PGconn *conn = PQconnectdb(url);

    test_run(conn, "INSERT INTO headwater.config (name, content, schema) VALUES "
                   "('fits', '\"a1\"', '{\"pattern\": \"^\\\\w\\\\d$\"}'), "
                   "('no-equal', '\"aa\"', '{\"allOf\": [{\"pattern\": \"(a)\\\\1\"}]}'), "
                   "('no-title', '{}', '{\"title\": 1}'), "
                   "('unfit', '{\"k\": \"\u00e9\"}', "
                   "'{\"properties\": {\"k\": {\"pattern\": \"^\\\\w$\"}}}')");
    HW_AUTO_FREE char *refused = psql(url, own, &status);

    ck_assert_int_ne(status, 0);
    ck_assert_msg(strstr(refused, "3 of the configs") != NULL &&
                      strstr(refused, "config \"no-equal\": schema at \"/allOf/0/pattern\"") !=
                          NULL &&
                      strstr(refused, "config \"no-title\": schema at \"/title\"") != NULL &&
                      strstr(refused, "config \"unfit\": content at \"/k\"") != NULL &&
                      strstr(refused, "\"fits\"") == NULL,
                  "%s", refused);
    test_expect(conn, "0", "SELECT count(*) FROM headwater.migration WHERE name = 'patterns'");
    test_run(conn, "UPDATE headwater.config SET schema = NULL WHERE name <> 'fits'");
    HW_AUTO_FREE char *taken = psql(url, own, &status);

    ck_assert_msg(status == 0, "%s", taken);
    test_expect(conn, "1", "SELECT count(*) FROM headwater.pattern");
    PQfinish(conn);
}
END_TEST

/* The comparison above would be worth nothing if it found nothing. */
START_TEST(test_differences_are_found)
{
    static const struct {
        const char *change, *said;
    } cases[] = {
        {"SELECT", NULL},
        {"CREATE OR REPLACE FUNCTION headwater.author() RETURNS text LANGUAGE sql STABLE RETURN "
         "session_user",
         "Name: author()"},
        {"ALTER FUNCTION headwater.hear(text[], bigint, text[]) RESET jit", "Name: hear("},
        {"CREATE OR REPLACE VIEW headwater.own_rev AS SELECT 1::bigint AS rev", "Name: own_rev"},
        {"ALTER TABLE headwater.config ADD COLUMN more int", "more integer"},
        {"ALTER TABLE headwater.node ALTER COLUMN description SET DEFAULT 'x'", "DEFAULT 'x'"},
        {"CREATE INDEX more ON headwater.node (description)", "more"},
        {"ALTER TABLE headwater.node DISABLE TRIGGER before_row", "before_row"},
        {"ALTER TABLE headwater.node OWNER TO postgres", "OWNER TO postgres"},
        {"COMMENT ON TABLE headwater.node IS 'another'", "another"},
        {"REVOKE SELECT ON headwater.fleet FROM headwater_viewer", "headwater_viewer"},
        {"GRANT EXECUTE ON FUNCTION headwater.recompute() TO headwater_viewer", "headwater_viewer"},
        {"ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
         "PUBLIC"},
        {"UPDATE headwater.setting SET silence = '1 hour'", "01:00:00"},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        struct test_database copy = {.conn = NULL};
        char *differences;

        RUN("DROP DATABASE IF EXISTS %s_new", db.name);
        RUN("CREATE DATABASE %s_new TEMPLATE headwater", db.name);
        snprintf(copy.url, sizeof(copy.url), "postgresql://postgres@127.0.0.1:%d/%s_new",
                 server.port, db.name);
        copy.conn = test_database_connect(&copy, NULL);
        test_run(copy.conn, "%s", cases[i].change);
        PQfinish(copy.conn);
        const int status = compare(copy.url, &differences);
        ck_assert_msg(status == (cases[i].said != NULL) &&
                          (cases[i].said == NULL || strstr(differences, cases[i].said) != NULL),
                      "%s: %s", cases[i].change, differences);
        free(differences);
    }
}
END_TEST

/* What others than the owner may use says, in the catalog, what it is. */
START_TEST(test_what_is_granted_has_a_comment)
{
    EXPECT("", "SELECT coalesce(string_agg(o.name, ', ' ORDER BY o.name), '') FROM ("
               "SELECT c.oid::regclass::text AS name, c.relowner AS owner, c.relacl AS acl, "
               "obj_description(c.oid, 'pg_class') AS comment FROM pg_class AS c "
               "WHERE c.relnamespace = 'headwater'::regnamespace AND c.relkind IN ('r', 'v') "
               "UNION ALL SELECT p.oid::regprocedure::text, p.proowner, "
               "coalesce(p.proacl, acldefault('f', p.proowner)), obj_description(p.oid, 'pg_proc') "
               "FROM pg_proc AS p WHERE p.pronamespace = 'headwater'::regnamespace) AS o "
               "WHERE o.comment IS NULL AND EXISTS (SELECT FROM aclexplode(o.acl) AS a "
               "WHERE a.grantee <> o.owner)");
    EXPECT("t", "SELECT count(*) > 20 FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE "
                "c.relnamespace = 'headwater'::regnamespace AND a.grantee = "
                "'headwater_viewer'::regrole AND a.privilege_type = 'SELECT'");
}
END_TEST

TEST_SQL_MAIN("sql migrations", 240, test_migrations_run_once, test_migrations_need_utf8,
              test_migrations_by_an_owner, test_migrations_never_change,
              test_schema_is_what_migrations_make, test_schemas_are_looked_at,
              test_differences_are_found, test_what_is_granted_has_a_comment)
