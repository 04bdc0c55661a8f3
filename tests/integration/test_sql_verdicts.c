/*
 * Verdicts of schemas against what others say: the official test suite of JSON Schema 2020-12, and
 * the patterns of an engine of ECMA-262. Each verdict is theirs, or the schema is refused.
 *
 * The suite is in the source package of jsonschema, which pip fetches, or in the directory that
 * JSON_SCHEMA_TEST_SUITE names (a checkout); the engine is Node.js. Skipped, with a sentence, where
 * both are missing; a part whose help is missing says so.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/sql.h"

enum { SKIPPED = 77, PATTERNS = 1500 };

static char *suite_dir; /* its files of this draft */

static void prepare(void)
{
    RUN("CREATE FUNCTION public.verdict(schema text, content text) RETURNS text "
        "LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM headwater.check_schema(schema::jsonb); "
        "RETURN (SELECT (v.problem IS NULL)::text FROM headwater.judge(content::jsonb, "
        "schema::jsonb, schema::jsonb, '', '', 0, 0) AS v); "
        "EXCEPTION WHEN check_violation OR untranslatable_character THEN RETURN 'refused'; "
        "END $$");
    RUN("CREATE FUNCTION public.translated(pattern text) RETURNS text "
        "LANGUAGE plpgsql AS $$ BEGIN RETURN headwater.regex_of(pattern, ''); "
        "EXCEPTION WHEN check_violation THEN RETURN NULL; END $$");
}

/* Judges a file of the suite; adds up how many verdicts were theirs and how many were refused. NUL
 * is in no text of PostgreSQL, so another character stands for it. */
static void judge_file(const char *path, int *right, int *refused)
{
    HW_AUTO_FREE char *text = test_read_file(path);

    prepare();
    RUN("CREATE TABLE public.judged AS SELECT g ->> 'description' AS what, "
        "t ->> 'description' AS test, t ->> 'valid' AS expected, "
        "public.verdict((g -> 'schema')::text, (t -> 'data')::text) AS verdict "
        "FROM json_array_elements("
        "replace($suite$%s$suite$, E'\\\\u0000', E'\\\\u0001')::json) AS g, json_array_elements(g "
        "-> 'tests') AS t",
        text);
    HW_AUTO_FREE char *wrong =
        test_value(db.conn, "SELECT string_agg(concat_ws(': ', what, test, verdict), E'\n') "
                            "FROM public.judged WHERE verdict NOT IN (expected, 'refused')");

    ck_assert_msg(strcmp(wrong, "(null)") == 0, "%s:\n%s", path, wrong);
    HW_AUTO_FREE char *same =
        test_value(db.conn, "SELECT count(*) FROM public.judged WHERE verdict = expected");
    HW_AUTO_FREE char *others =
        test_value(db.conn, "SELECT count(*) FROM public.judged WHERE verdict = 'refused'");

    *right += (int)strtol(same, NULL, 10);
    *refused += (int)strtol(others, NULL, 10);
    RUN("DROP TABLE public.judged; DROP FUNCTION public.verdict, public.translated");
}

START_TEST(test_official_suite)
{
    /* Tests of "format" as a rule are left out: here it checks nothing, as is its default. */
    static const char *const patterns[] = {"*.json", "optional/*.json"};
    int right = 0, refused = 0;

    for (size_t i = 0; i < HW_COUNT(patterns); i++) {
        char pattern[4096];
        glob_t files = {0};

        snprintf(pattern, sizeof(pattern), "%s/%s", suite_dir, patterns[i]);
        ck_assert_msg(glob(pattern, 0, NULL, &files) == 0, "%s: no file", pattern);
        for (size_t k = 0; k < files.gl_pathc; k++)
            judge_file(files.gl_pathv[k], &right, &refused);
        globfree(&files);
    }
    printf("official suite: %d verdicts right, %d schemas refused\n", right, refused);
    ck_assert_int_gt(right, 700); /* to refuse everything would be right as well */
}
END_TEST

START_TEST(test_patterns_of_an_engine)
{
    const char *given = getenv("HW_SEED");
    HW_AUTO_FREE char *seed = given != NULL ? hw_strdup(given) : hw_sprintf("%d", (int)getpid());
    HW_AUTO_FREE char *count = hw_sprintf("%d", PATTERNS);
    char *printed = NULL;
    const int status = test_program_run(
        (const char *const[]){"node", "tests/integration/patterns.mjs", seed, count, NULL}, NULL,
        NULL, &printed);

    printf("patterns: HW_SEED=%s\n", seed);
    ck_assert_msg(status == 0, "node ended with %d:\n%s", status, printed);
    prepare();
    RUN("CREATE TABLE public.tried AS SELECT p.value ->> 'pattern' AS pattern, "
        "(p.value ->> 'legal')::boolean AS legal, p.value -> 'strings' AS strings, "
        "public.translated(p.value ->> 'pattern') AS regex "
        "FROM json_array_elements($patterns$%s$patterns$) AS p",
        printed);
    EXPECT("none", "SELECT coalesce(string_agg(to_json(pattern)::text, E'\n'), 'none') "
                   "FROM public.tried WHERE NOT legal AND regex IS NOT NULL");
    /* Refused are references and properties, and nothing else that is legal. */
    EXPECT("none", "SELECT coalesce(string_agg(to_json(pattern)::text, E'\n'), 'none') "
                   "FROM public.tried WHERE legal AND regex IS NULL AND pattern !~ '\\\\[pPk1-9]'");
    EXPECT("none", "SELECT coalesce(string_agg(concat_ws(' ', to_json(pattern), s.value), E'\n'), "
                   "'none') FROM public.tried, json_array_elements(strings) AS s "
                   "WHERE legal AND regex IS NOT NULL AND "
                   "(s.value ->> 0 ~ regex) IS DISTINCT FROM (s.value ->> 1)::boolean");
    EXPECT("t", "SELECT count(*) FILTER (WHERE legal AND regex IS NOT NULL) > count(*) / 2 "
                "FROM public.tried");
    free(printed);
}
END_TEST

/* Is the suite there, or can it be fetched for this run? */
static bool find_suite(void)
{
    static const char fetch[] =
        "cd \"$1\" && python3 -m pip download --quiet --disable-pip-version-check --no-deps "
        "--no-binary jsonschema --timeout 15 --retries 1 jsonschema==4.23.0 && "
        "tar -xzf jsonschema-4.23.0.tar.gz";
    const char *checkout = getenv("JSON_SCHEMA_TEST_SUITE");
    char *output = NULL;

    if (checkout != NULL) {
        suite_dir = hw_sprintf("%s/tests/draft2020-12", checkout);
        return true;
    }
    HW_AUTO_FREE char *dir = test_temp_dir();

    if (test_program_run((const char *const[]){"sh", "-c", fetch, "sh", dir, NULL}, NULL, NULL,
                         &output) != 0)
        printf("the official suite is skipped: pip cannot fetch it:\n%s", output);
    else
        suite_dir = hw_sprintf("%s/jsonschema-4.23.0/json/tests/draft2020-12", dir);
    free(output);
    return suite_dir != NULL;
}

static bool find_engine(void)
{
    const bool found =
        test_program_run((const char *const[]){"node", "--version", NULL}, NULL, NULL, NULL) == 0;

    if (!found)
        puts("patterns are skipped: Node.js is not installed");
    return found;
}

int main(void)
{
    const TTest *tests[2];
    size_t count = 0;

    if (find_suite())
        tests[count++] = test_official_suite;
    if (find_engine())
        tests[count++] = test_patterns_of_an_engine;
    if (count == 0)
        return SKIPPED;
    Suite *suite = suite_create("sql_verdicts");

    test_sql_add(suite, 240, start_server, create_database, tests, count);
    const int result = test_suite_finish(suite);

    free(suite_dir);
    return result;
}
