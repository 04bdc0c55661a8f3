/* headwater-api migrate, and what the server says of a schema that is not its own. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/migrate.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;

static void start(void)
{
    test_postgres_start(&pg, false, NULL);
}

static void stop(void)
{
    test_postgres_remove(&pg);
}

static char *output;

static int migrate(const char *database, const char *option)
{
    const char *const argv[] = {"headwater-api", "migrate", "--database", database, option, NULL};

    free(output);
    output = NULL;
    return test_program_run(argv, NULL, NULL, &output);
}

static int count_lines(const char *ending)
{
    int count = 0;

    for (const char *p = output; (p = strstr(p, ending)) != NULL; p++)
        count++;
    return count;
}

/* A new database, and its URL. */
static char *create_database(const char *name)
{
    free(test_sql(&pg, "CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0", name));
    return hw_sprintf("postgresql://postgres@127.0.0.1:%d/%s", pg.port, name);
}

/* As test_sql, in another database. */
static char *sql_in(const char *url, const char *sql)
{
    struct test_postgres other = pg;

    snprintf(other.url, sizeof(other.url), "%s", url);
    return test_sql(&other, "%s", sql);
}

START_TEST(test_whole)
{
    const int all = (int)api_migrations_count;
    HW_AUTO_FREE char *url = create_database("whole");

    ck_assert_int_eq(migrate(url, "--dry-run"), 0);
    ck_assert_int_eq(count_lines(" pending\n"), all);
    HW_AUTO_FREE char *none = sql_in(url, "SELECT to_regnamespace('headwater')");
    ck_assert_ptr_null(none);

    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_int_eq(count_lines(" applied\n"), all);
    HW_AUTO_FREE char *summed =
        sql_in(url, "SELECT count(*) FROM headwater.migration WHERE checksum ~ '^[0-9a-f]{64}$'");
    ck_assert_int_eq((int)strtol(summed, NULL, 10), all);

    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_int_eq(count_lines(" applied\n"), 0);
    ck_assert_int_eq(count_lines("nothing to do"), 1);
    ck_assert_int_eq(migrate(url, "--dry-run"), 0);
    ck_assert_int_eq(count_lines("nothing to do"), 1);
}
END_TEST

/* Two at once: one does it all, the other finds nothing left; which one is up to them. */
START_TEST(test_two_at_once)
{
    HW_AUTO_FREE char *url = create_database("twice");
    const char *const argv[] = {"headwater-api", "migrate", "--database", url, NULL};
    struct test_program programs[4];
    int applied = 0, idle = 0;

    for (size_t i = 0; i < HW_COUNT(programs); i++)
        test_program_start(&programs[i], argv, NULL);
    for (size_t i = 0; i < HW_COUNT(programs); i++) {
        test_wait_for(!test_program_running(&programs[i]), 60);
        const int status = test_program_stop(&programs[i], 0);

        free(output);
        output = test_read_file(programs[i].log);
        ck_assert_msg(status == 0, "%s", output);
        applied += count_lines(" applied\n");
        idle += count_lines("nothing to do");
    }
    ck_assert_int_eq(applied, (int)api_migrations_count);
    ck_assert_int_eq(idle, (int)HW_COUNT(programs) - 1);
}
END_TEST

/* What psql applied is taken over, and gets its checksums. */
START_TEST(test_after_psql)
{
    HW_AUTO_FREE char *url = create_database("by_psql");

    ck_assert_int_eq(migrate(url, NULL), 0);
    free(sql_in(url, "UPDATE headwater.migration SET checksum = NULL"));
    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_int_eq(count_lines("nothing to do"), 1);
    HW_AUTO_FREE char *missing =
        sql_in(url, "SELECT count(*) FROM headwater.migration WHERE checksum IS NULL");
    ck_assert_str_eq(missing, "0");
}
END_TEST

/* What a restore or a hand left otherwise than the migrations made it is named, and mended. */
START_TEST(test_defects)
{
    HW_AUTO_FREE char *url = create_database("defects");

    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_msg(strstr(output, "mended") == NULL, "%s", output);
    HW_AUTO_FREE char *always =
        sql_in(url, "SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid "
                    "WHERE relnamespace = 'headwater'::regnamespace AND tgenabled = 'A'");
    HW_AUTO_FREE char *rights = sql_in(url, "SELECT count(*) FROM headwater.privilege");

    /* As pg_restore --disable-triggers leaves them, pg_dump -n the privileges, and a hand the rest.
     */
    free(sql_in(
        url,
        "INSERT INTO headwater.config (name, content) VALUES ('c', '{}');"
        "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'headwater'::regnamespace LOOP "
        "EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t); "
        "UPDATE headwater.config SET revision = 3, content = '[]';"
        "EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', t); END LOOP; END $$;"
        "ALTER TABLE headwater.desired SET UNLOGGED;"
        "ALTER TABLE headwater.decided REPLICA IDENTITY NOTHING;"
        "REVOKE ALL ON ALL TABLES IN SCHEMA headwater FROM headwater_api;"
        "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA headwater FROM headwater_reconciler;"
        "REVOKE ALL ON SCHEMA headwater FROM headwater_viewer;"
        "REVOKE UPDATE (silence) ON headwater.setting FROM headwater_dba;"
        "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO PUBLIC;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner GRANT EXECUTE ON FUNCTIONS TO "
        "PUBLIC"));
    char *said = NULL;
    ck_assert_int_eq(
        test_program_run((const char *[]){"headwater-cdc", "preflight", "--database", url, NULL},
                         NULL, NULL, &said),
        1);
    ck_assert_msg(strstr(said, "FAIL  trigger    headwater.config.before_write: ") != NULL, "%s",
                  said);
    ck_assert_ptr_nonnull(strstr(said, "headwater_api does not have SELECT"));
    ck_assert_ptr_nonnull(strstr(said, "headwater-api migrate mends it"));
    free(said);
    ck_assert_int_eq(migrate(url, "--dry-run"), 0);
    ck_assert_msg(strstr(output, "defect: headwater.desired: it is unlogged") != NULL, "%s",
                  output);
    ck_assert_int_eq(migrate(url, NULL), 0);
    ck_assert_msg(strstr(output, "mended: headwater.desired: it is unlogged") != NULL, "%s",
                  output);
    ck_assert_msg(strstr(output, "not mended") == NULL, "%s", output);

    HW_AUTO_FREE char *left =
        sql_in(url, "SELECT string_agg(concat_ws(' ', object, problem), ', ') FROM "
                    "headwater.defects()");
    ck_assert_msg(left == NULL, "%s", left);
    HW_AUTO_FREE char *always_now =
        sql_in(url, "SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid "
                    "WHERE relnamespace = 'headwater'::regnamespace AND tgenabled = 'A'");
    HW_AUTO_FREE char *rights_now = sql_in(url, "SELECT count(*) FROM headwater.privilege");
    ck_assert_str_eq(always_now, always);
    ck_assert_str_eq(rights_now, rights);
    HW_AUTO_FREE char *kept =
        sql_in(url, "SELECT content FROM headwater.config_revision WHERE revision = 3");
    ck_assert_str_eq(kept, "[]");
}
END_TEST

START_TEST(test_refused)
{
    HW_AUTO_FREE char *url = create_database("refused");

    ck_assert_int_eq(migrate(url, NULL), 0);
    /* Something is pending, but what is there was made of other files: nothing is applied. */
    free(
        sql_in(url, "UPDATE headwater.migration SET checksum = repeat('0', 64) WHERE version = 2"));
    ck_assert_int_eq(migrate(url, NULL), 1);
    ck_assert_ptr_nonnull(strstr(output, "migration 2"));
    ck_assert_ptr_nonnull(strstr(output, "other contents"));
    free(sql_in(url, "UPDATE headwater.migration SET checksum = NULL WHERE version = 2"));

    free(sql_in(url, "INSERT INTO headwater.migration (version, name) VALUES (9999, 'later')"));
    ck_assert_int_eq(migrate(url, NULL), 1);
    ck_assert_ptr_nonnull(strstr(output, "9999"));
    ck_assert_ptr_nonnull(strstr(output, "newer"));
}
END_TEST

/* A database from before the migrations were numbered anew: 23 of them, and the first called
 * otherwise. */
START_TEST(test_old_numbering)
{
    HW_AUTO_FREE char *url = create_database("old_numbering");
    const char *const options[] = {NULL, "--dry-run"};

    free(sql_in(url, "CREATE SCHEMA headwater"));
    free(sql_in(url,
                "CREATE TABLE headwater.migration (version int PRIMARY KEY, name text NOT NULL, "
                "checksum text, applied_at timestamptz NOT NULL DEFAULT now())"));
    free(sql_in(url, "INSERT INTO headwater.migration (version, name, checksum) "
                     "SELECT v, CASE v WHEN 1 THEN 'roles_and_schema' ELSE 'old' END, "
                     "repeat('0', 64) FROM generate_series(1, 23) AS v"));
    for (size_t i = 0; i < HW_COUNT(options); i++) {
        ck_assert_int_eq(migrate(url, options[i]), 1);
        ck_assert_int_eq(count_lines("\n"), 1);
        ck_assert_ptr_nonnull(strstr(output, "from before the first release"));
        ck_assert_ptr_nonnull(strstr(output, "roles_and_schema"));
        ck_assert_ptr_nonnull(strstr(output, "headwater export"));
        ck_assert_ptr_nonnull(strstr(output, "migrate a new, empty database"));
    }
    HW_AUTO_FREE char *rows = sql_in(url, "SELECT count(*) FROM headwater.migration");
    ck_assert_str_eq(rows, "23");
}
END_TEST

START_TEST(test_no_database)
{
    HW_AUTO_FREE char *nobody =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/headwater", test_free_port());
    HW_AUTO_FREE char *nothing =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/no_such_database", pg.port);

    ck_assert_int_eq(migrate(nobody, NULL), 1);
    ck_assert_ptr_nonnull(strstr(output, "refused"));
    ck_assert_int_eq(migrate(nothing, NULL), 1);
    ck_assert_ptr_nonnull(strstr(output, "no_such_database"));
    ck_assert_int_eq(migrate("postgresql://[", NULL), 2);
}
END_TEST

/* A server that is still to come is waited for; one that is there and refuses is not. */
START_TEST(test_wait)
{
    HW_AUTO_FREE char *url = create_database("late");
    HW_AUTO_FREE char *nothing =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/no_such_database", pg.port);
    HW_AUTO_FREE char *nobody =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/late", test_free_port());
    const char *const argv[] = {"headwater-api", "migrate", "--database", url,
                                "--wait",        "5m",      NULL};
    struct test_program program;

    ck_assert_int_eq(migrate(nothing, "--wait=5m"), 1);
    ck_assert_ptr_nonnull(strstr(output, "no_such_database"));
    ck_assert_int_eq(migrate(nobody, "--wait=1s"), 1);
    ck_assert_ptr_nonnull(strstr(output, "refused"));

    test_postgres_stop(&pg);
    test_program_start(&program, argv, NULL);
    test_postgres_restart(&pg);
    test_wait_for(!test_program_running(&program), 60);
    ck_assert_int_eq(test_program_stop(&program, 0), 0);
    HW_AUTO_FREE char *applied = sql_in(url, "SELECT count(*) FROM headwater.migration");
    ck_assert_int_eq((int)strtol(applied, NULL, 10), (int)api_migrations_count);
}
END_TEST

/* A role that may do nothing changes nothing, and hears why. */
START_TEST(test_no_rights)
{
    HW_AUTO_FREE char *url = create_database("no_rights");
    HW_AUTO_FREE char *weak = hw_sprintf("postgresql://weak@127.0.0.1:%d/no_rights", pg.port);

    free(test_sql(&pg, "CREATE ROLE weak LOGIN"));
    ck_assert_int_eq(migrate(weak, NULL), 1);
    ck_assert_ptr_nonnull(strstr(output, "migration 1 (roles)"));
    HW_AUTO_FREE char *none = sql_in(url, "SELECT to_regnamespace('headwater')");
    ck_assert_ptr_null(none);
}
END_TEST

static int run(const char *const argv[])
{
    free(output);
    output = NULL;
    return test_program_run(argv, NULL, NULL, &output);
}

START_TEST(test_usage)
{
    ck_assert_int_eq(run((const char *[]){"headwater-api", "--listen", "127.0.0.1:0", NULL}), 2);
    ck_assert_ptr_nonnull(strstr(output, "HEADWATER_DATABASE_URL"));
    ck_assert_int_eq(
        run((const char *[]){"headwater-api", "--database", pg.url, "--listen", "0.0.0.0:0", NULL}),
        2);
    ck_assert_ptr_nonnull(strstr(output, "loopback"));
    ck_assert_int_eq(
        run((const char *[]){"headwater-api", "--database", pg.url, "--listen", "[::]:0", NULL}),
        2);
    ck_assert_int_eq(
        run((const char *[]){"headwater-api", "--database", pg.url, "--listen", "8080", NULL}), 2);
    ck_assert_int_eq(run((const char *[]){"headwater-api", "--database", pg.url, "fly", NULL}), 2);
    ck_assert_int_eq(
        run((const char *[]){"headwater-api", "--database", pg.url, "migrate", "now", NULL}), 2);
    ck_assert_int_eq(run((const char *[]){"headwater-api", "--database", "postgresql://[",
                                          "--listen", "127.0.0.1:0", NULL}),
                     2);
    ck_assert_int_eq(run((const char *[]){"headwater-api", "--help", NULL}), 0);
    ck_assert_ptr_nonnull(strstr(output, "migrate"));
}
END_TEST

static bool log_says(const struct test_program *program, const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(program->log);

    return strstr(log, text) != NULL;
}

/* The connection that answers the target is up: what is missing now is the schema. */
static bool lacks_schema(int port, const char *target)
{
    struct test_answer answer = test_http(port, "GET", target, NULL, NULL, 0);
    const bool lacks = strstr(answer.body, "headwater-api migrate") != NULL;

    test_answer_free(&answer);
    return lacks;
}

static bool is_ready(int port)
{
    struct test_answer answer = test_http(port, "GET", "/readyz", NULL, NULL, 0);
    const bool ready = answer.status == 200;

    test_answer_free(&answer);
    return ready;
}

/* Ready only with this program's schema; before that, every route says what to do. */
START_TEST(test_readiness)
{
    HW_AUTO_FREE char *url = create_database("readiness");
    struct test_program program;
    const int port = test_free_port();
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", port);
    const char *const argv[] = {"headwater-api", "--database", url, "--listen", listen, NULL};
    struct test_answer answer;

    test_program_start(&program, argv, NULL);
    test_wait_for(log_says(&program, "serving"), 30);
    test_wait_for(lacks_schema(port, "/readyz") && lacks_schema(port, "/v1/nodes"), 30);
    static const char *const targets[] = {"/readyz", "/v1/nodes", "/v1/fleet"};

    for (size_t i = 0; i < HW_COUNT(targets); i++) {
        answer = test_http(port, "GET", targets[i], NULL, NULL, 0);
        HW_AUTO_FREE char *problem = test_answer_problem(&answer);
        HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");

        ck_assert_int_eq(answer.status, 503);
        ck_assert_str_eq(problem, "not-ready");
        ck_assert_ptr_nonnull(retry);
        ck_assert_ptr_nonnull(strstr(answer.body, "headwater-api migrate"));
        test_answer_free(&answer);
    }
    answer = test_http(port, "GET", "/healthz", NULL, NULL, 0);
    ck_assert_int_eq(answer.status, 200);
    test_answer_free(&answer);

    ck_assert_int_eq(migrate(url, NULL), 0);
    test_wait_for(is_ready(port), 30);

    free(sql_in(url, "INSERT INTO headwater.migration (version, name) VALUES (9999, 'later')"));
    answer = test_http(port, "GET", "/readyz", NULL, NULL, 0);
    ck_assert_int_eq(answer.status, 503);
    ck_assert_ptr_nonnull(strstr(answer.body, "use a newer headwater-api"));
    test_answer_free(&answer);

    /* No newer program knows the old numbering, so that is not the advice there. */
    free(sql_in(url, "UPDATE headwater.migration SET name = 'roles_and_schema' WHERE version = 1"));
    answer = test_http(port, "GET", "/readyz", NULL, NULL, 0);
    ck_assert_int_eq(answer.status, 503);
    ck_assert_ptr_nonnull(strstr(answer.body, "from before the first release"));
    test_answer_free(&answer);
    ck_assert_int_eq(test_program_stop(&program, SIGTERM), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api migrate");
    TCase *all = tcase_create("migrate");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_whole);
    tcase_add_test(all, test_two_at_once);
    tcase_add_test(all, test_after_psql);
    tcase_add_test(all, test_defects);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_old_numbering);
    tcase_add_test(all, test_no_database);
    tcase_add_test(all, test_no_rights);
    tcase_add_test(all, test_usage);
    tcase_add_test(all, test_readiness);
    tcase_add_test(all, test_wait); /* last: the server that it starts again ends with it */
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
