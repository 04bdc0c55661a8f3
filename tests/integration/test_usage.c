/*
 * Command lines that are not understood: every program says what was wrong with which word, and
 * what to write instead. None of it needs a server.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "nats/url.h"
#include "pg/conninfo.h"
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

/* Where a server is said to be that can be nowhere: no program waits for it. */
START_TEST(test_urls_that_can_never_work)
{
    static const char *const nats[] = {"not a url",
                                       "http://x",
                                       "nats://user:sesame@h:99999",
                                       "ws://x:4222",
                                       "nats://",
                                       ",",
                                       "nats://:4222",
                                       "nats://h:99999",
                                       "nats://h:0",
                                       "nats://h:",
                                       "nats://h:x",
                                       "nats://h/x:y@",
                                       "nats://::1:4222",
                                       "nats://[::1",
                                       "nats://[h]:4222",
                                       "nats://h:4222,http://x",
                                       "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
    static const char *const databases[] = {"not a url",
                                            "http://x",
                                            "postgresql://h:99999/d",
                                            "postgresql://h:1,i:99999/d",
                                            "postgresql://user:sesame@h:x/d",
                                            "postgresql://h/d?sslmode=sesam",
                                            "host=h port=0",
                                            "host=h password=sesame bad=1"};
    static const char *const servers[] = {"not a url",      "ftp://x",    "http://",
                                          "http://h:99999", "http://h:0", "http://:80"};
    static const char *const listens[] = {"not a url", "http://x", "127.0.0.1:99999"};
    const struct {
        const char *argv[4]; /* the option comes behind it */
        const char *option;
        const char *const *values;
        size_t count;
    } cases[] = {
        {{"headwater-agent", "--output=x"}, "--nats", nats, HW_COUNT(nats)},
        {{"headwater-reconciler", DATABASE}, "--nats", nats, HW_COUNT(nats)},
        {{"headwater-api", DATABASE}, "--nats", nats, HW_COUNT(nats)},
        {{"headwater-api"}, "--database", databases, HW_COUNT(databases)},
        {{"headwater-api", "migrate"}, "--database", databases, HW_COUNT(databases)},
        {{"headwater-reconciler"}, "--database", databases, HW_COUNT(databases)},
        {{"headwater-cdc", "status"}, "--database", databases, HW_COUNT(databases)},
        {{"headwater", "get", "nodes"}, "--server", servers, HW_COUNT(servers)},
        {{"headwater-api", DATABASE}, "--listen", listens, HW_COUNT(listens)},
        {{"headwater-agent", "--output=x"}, "--monitor", listens, HW_COUNT(listens)},
        {{"headwater-reconciler", DATABASE}, "--monitor", listens, HW_COUNT(listens)},
    };
    const char *const env[] = {"HEADWATER_DATABASE_URL=", "HEADWATER_OUTPUT=", NULL};
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(nats); i++)
        ck_assert_msg(hw_nats_url_check(nats[i], &err) == HW_EINVAL, "%s", nats[i]);
    for (size_t i = 0; i < HW_COUNT(databases); i++)
        ck_assert_msg(hw_conninfo_check(databases[i], &err) == HW_EINVAL, "%s", databases[i]);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        for (size_t j = 0; j < cases[i].count; j++) {
            HW_AUTO_FREE char *option = hw_sprintf("%s=%s", cases[i].option, cases[i].values[j]);
            const char *argv[6] = {NULL};
            size_t count = 0;
            char *said;

            for (; cases[i].argv[count] != NULL; count++)
                argv[count] = cases[i].argv[count];
            argv[count] = option;
            const int status = test_program_run(argv, env, NULL, &said);
            ck_assert_msg(status == 2 && strstr(said, cases[i].option) != NULL &&
                              strstr(said, "sesame") == NULL,
                          "%s %s: %d, and:\n%s", argv[0], option, status, said);
            free(said);
        }
    }
}
END_TEST

/* And those that may work. */
START_TEST(test_urls_that_may_work)
{
    static const char *const nats[] = {"nats://127.0.0.1:4222",
                                       "h",
                                       "h:1",
                                       "tls://a_b.example.org",
                                       "nats://u:p@h",
                                       "nats://token@h:65535",
                                       "a,b",
                                       "nats://a nats://b",
                                       "nats://[::1]:4222",
                                       "[fe80::1%eth0]",
                                       "nats://u:p/?#@h:1/",
                                       "a, b, c"};
    static const char *const databases[] = {
        "postgresql://",
        "postgres://u:p@h/d?sslmode=verify-full",
        "dbname=x",
        "host=/run port=5433",
        "postgresql://h:1,i:2,j/d?target_session_attrs=read-write",
        ""};
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(nats); i++)
        ck_assert_msg(hw_nats_url_check(nats[i], &err) == HW_OK, "%s: %s", nats[i], err.message);
    for (size_t i = 0; i < HW_COUNT(databases); i++)
        ck_assert_msg(hw_conninfo_check(databases[i], &err) == HW_OK, "%s: %s", databases[i],
                      err.message);
}
END_TEST

TEST_MAIN("usage", 120, test_words, test_urls_that_can_never_work, test_urls_that_may_work)
