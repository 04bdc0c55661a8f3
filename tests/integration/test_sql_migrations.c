/* The migrations: that each is applied once, and what they need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
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

TEST_SQL_MAIN("sql migrations", 120, test_migrations_run_once, test_migrations_need_utf8,
              test_migrations_by_an_owner)
