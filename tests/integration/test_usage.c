/*
 * Command lines that are not understood: every program says what was wrong with which word, and
 * what to write instead. None of it needs a server.
 */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define DATABASE "--database=postgresql://127.0.0.1:1/none"

START_TEST(test_words)
{
    static const struct {
        const char *argv[7];
        const char *words;
    } cases[] = {
        {{"headwater", "aply"}, "aply: no such command; did you mean apply?"},
        {{"headwater"}, "a command is missing, such as get, apply or fleet"},
        {{"headwater", "\xE2\x80\x94json", "fleet"}, "a dash where hyphens belong"},
        {{"headwater-api", "migrat"}, "did you mean migrate?"},
        {{"headwater-api", "start"},
         "there are: serve, migrate, permissions, token; without one the service runs"},
        {{"headwater-api"}, "--database (or HEADWATER_DATABASE_URL) is missing"},
        {{"headwater-api", DATABASE, "--listn=x"}, "did you mean --listen?"},
        {{"headwater-api", DATABASE, "--listen"}, "a value is missing: --listen HOST:PORT"},
        {{"headwater-reconciler"}, "--database or HEADWATER_DATABASE_URL is needed"},
        {{"headwater-reconciler", "verfy"}, "did you mean verify?"},
        {{"headwater-reconciler", "run"}, "without one the service runs"},
        {{"headwater-reconciler", DATABASE, "--bucket=a.b"},
         "--bucket: \"a.b\" is not a bucket name: letters, digits, - and _"},
        {{"headwater-cdc"}, "a command is missing: tail, preflight"},
        {{"headwater-cdc", "drop"}, "drop: no such command; there are: "},
        {{"headwater-cdc", "statsu"}, "did you mean status?"},
        {{"headwater-agent", "--outptu=x"}, "did you mean --output?"},
        {{"headwater-agent", "start"}, "there are: hold, propose, release, status"},
        {{"scripts/demo", "--kep"}, "demo: --kep: not understood"},
        {{"scripts/demo", "--stop"}, "demo: --stop: which directory?"},
    };
    const char *const env[] = {"HEADWATER_DATABASE_URL=", "HEADWATER_OUTPUT=", NULL};

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char *said;
        const int status = test_program_run(cases[i].argv, env, NULL, &said);

        ck_assert_msg(status == 2 && strstr(said, cases[i].words) != NULL,
                      "%s %s: %d, and no \"%s\" in:\n%s", cases[i].argv[0],
                      cases[i].argv[1] != NULL ? cases[i].argv[1] : "", status, cases[i].words,
                      said);
        free(said);
    }
}
END_TEST

TEST_MAIN("usage", 60, test_words)
