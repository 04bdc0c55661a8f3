/*
 * A client that is generated from what the service says of itself: its types are made, the ten
 * usual calls of client.mts compile with them, and a real service answers these calls. Skipped,
 * with a sentence, where Node.js, npm or its registry is missing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/database.h"
#include "tests/support/node.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { SKIPPED = 77 };

static struct test_postgres pg;
static struct test_database db;
static struct test_api api;
static char *node_dir, *token;

/* Runs a line of the shell in the directory with the packages; $1 is where the API is, $2 the
 * token. What it printed. */
static char *run(const char *line)
{
    HW_AUTO_FREE char *url = hw_sprintf("http://127.0.0.1:%d", api.port);
    HW_AUTO_FREE char *script = hw_sprintf("cd '%s' && %s", node_dir, line);
    char *printed = NULL;
    const int status = test_program_run(
        (const char *const[]){"sh", "-c", script, "sh", url, token, NULL}, NULL, NULL, &printed);

    ck_assert_msg(status == 0, "%s: ended with %d:\n%s", line, status, printed);
    return printed;
}

START_TEST(test_typescript)
{
    HW_AUTO_FREE char *made =
        run("node_modules/.bin/openapi-typescript \"$1/openapi.json\" --output api.d.ts");
    HW_AUTO_FREE char *compiled =
        run("node_modules/.bin/tsc --strict --target es2022 --module nodenext --skipLibCheck "
            "client.mts");
    HW_AUTO_FREE char *said = run("node client.mjs \"$1\" \"$2\"");

    ck_assert_str_eq(said, "all calls were answered\n");
}
END_TEST

static void start(void)
{
    char url[128];

    test_postgres_start(&pg, true, NULL);
    test_database_create(&pg, &db);
    token = test_value(db.conn, "SELECT headwater.create_token('client', 'admin')");
    snprintf(url, sizeof(url), "postgresql://headwater_api@127.0.0.1:%d/%s", pg.port, db.name);
    test_api_start(&api, url, NULL);
}

static void stop(void)
{
    test_api_stop(&api);
    test_database_drop(&pg, &db);
    test_postgres_remove(&pg);
    free(token);
}

int main(void)
{
    node_dir = test_node_dir("openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3",
                             (const char *const[]){"tests/integration/client.mts", NULL});
    if (node_dir == NULL)
        return SKIPPED;
    Suite *suite = suite_create("api_clients");
    TCase *tcase = tcase_create("api_clients");

    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_test(tcase, test_typescript);
    suite_add_tcase(suite, tcase);
    const int result = test_suite_finish(suite);

    free(node_dir);
    return result;
}
