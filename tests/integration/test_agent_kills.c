/*
 * headwater-agent killed at every point of an apply: those of base/points.h, where the build has
 * them, and in the midst of each command. Each time: the output is the old document or the new one,
 * whole; a start without NATS makes output, state and what the node was told last agree; and with
 * NATS the node gets to where it should be, and says so. HW_KILLS says how often each; `make
 * agent-kills` does it a hundred times.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define NODE   "edge-1"
#define WAIT_S 60
#define SIZE   70000 /* bytes of a document: more than one write */

static const struct kill {
    const char *point; /* of base/points.h, or */
    const char *word;  /* the command to die in: "old" or "new" says for which document */
    bool bad;          /* the new document is refused */
    int counts;        /* which passage of the point: 1 to this */
    bool bare;         /* no commands, and a directory of generations */
} kills[] = {
#ifdef HW_FAULTS
    {.point = "fetched", .counts = 1},
    {.point = "validating", .counts = 1},
    {.point = "temp-written", .counts = 4}, /* copy, state, output, state */
    {.point = "renamed", .counts = 4},
    {.point = "applying", .counts = 1},
    {.point = "checking", .counts = 1},
    {.point = "recorded", .counts = 1},
    {.point = "rolling-back", .bad = true, .counts = 1},
    {.point = "temp-written", .counts = 5, .bare = true}, /* copy, state, generation, link, state */
    {.point = "renamed", .counts = 5, .bare = true},
    {.point = "temp-written", .bad = true, .counts = 5}, /* and the output again, and the verdict */
    {.point = "renamed", .bad = true, .counts = 5},
#endif
    {.word = "validate new", .counts = 1},
    {.word = "apply new", .counts = 1},
    {.word = "health new", .counts = 1},
    {.word = "apply old", .bad = true, .counts = 1},
};

static struct agent_program a;

static int kills_each(void)
{
    const char *text = getenv("HW_KILLS");
    return text != NULL ? (int)strtol(text, NULL, 10) : 2;
}

static char *validate, *apply, *health, *deadly, *out_dir;

/* The commands die with the agent where the file "deadly" says so, and refuse what begins with bad.
 */
static void make_scripts(void)
{
    static const char body[] =
        "if [ \"$(cat '%s' 2> /dev/null)\" = \"%s $HEADWATER_REVISION\" ]; then\n"
        "rm '%s'; kill -9 $PPID; sleep 600; fi\n"
        "%s\n";
    static const char refuse[] =
        "if [ \"$(head -c 3 \"$HEADWATER_FILE\")\" = bad ]; then exit 1; fi";
    static const char *const names[] = {"validate", "apply", "health"};
    char **const commands[] = {&validate, &apply, &health};
    for (size_t i = 0; i < HW_COUNT(names); i++) {
        char *text = hw_sprintf(body, deadly, names[i], deadly, i == 1 ? refuse : "");
        *commands[i] = agent_program_script(&a, names[i], text);
        free(text);
    }
}

static void start(const struct kill *k, const char *url, const char *point)
{
    const char *const with_commands[] = {
        "headwater-agent", "--nats",    url,        "--node",   NODE,
        "--state-dir",     a.state_dir, "--output", a.output,   "--validate",
        validate,          "--apply",   apply,      "--health", health,
        "--log-level",     "debug",     NULL};
    const char *const without[] = {
        "headwater-agent", "--nats",       url,     "--node",      NODE,    "--state-dir",
        a.state_dir,       "--output-dir", out_dir, "--log-level", "debug", NULL};
    const char *const *const argv = k->bare ? without : with_commands;
    char *armed = hw_sprintf("HEADWATER_POINT=%s", point);
    test_program_start(&a.program, argv, (const char *const[]){armed, NULL});
    free(armed);
}

static char *document(int revision, bool bad)
{
    char *text = hw_alloc(SIZE + 1);
    const int len = snprintf(text, SIZE, "%s%d ", bad ? "bad" : "good", revision);
    memset(text + len, 'a' + revision % 26, SIZE - (size_t)len);
    return text;
}

static bool log_has(const char *text)
{
    char *log = test_read_file(a.program.log);
    const bool has = strstr(log, text) != NULL;
    free(log);
    return has;
}

/* The document that apply was last called with. */
static char *last_applied(void)
{
    char *runs = test_read_file(a.runs), *at = runs, *last = NULL;
    for (char *line = strtok(runs, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "apply ", 6) == 0)
            last = strchr(line + 6, ' ') + 1;
    }
    char *text = hw_strdup(last != NULL ? last : "");
    free(at);
    return text;
}

/* Output, state, and what the node was told last are one document: old or new. */
static void expect_agreement(const struct kill *k, const char *old, const char *new)
{
    char *found = test_read_file(a.output);
    char *told = last_applied();
    char *said;
    if (strcmp(found, old) != 0 && strcmp(found, new) != 0)
        test_fail("the output is neither document: %zu bytes, %.12s", strlen(found), found);
    if (!k->bare && strcmp(told, found) != 0)
        test_fail("the output is %.12s, the node was told %.12s", found, told);
    ck_assert_int_eq(
        agent_program_command(
            &a, (const char *const[]){"status", "--json", "--output", a.output, NULL}, &said),
        0);
    if (strstr(said, "\"drift\"") != NULL)
        test_fail("the output is not what the state says: %s", said);
    free(said);
    free(told);
    free(found);
}

START_TEST(test_kill)
{
    const struct kill *k = &kills[_i];
    const int rounds = kills_each() * k->counts;
    agent_program_open(&a, NODE);
    deadly = hw_sprintf("%s/deadly", a.dir);
    make_scripts();
    out_dir = hw_sprintf("%s/out", a.dir);
    if (k->bare) {
        free(a.output);
        a.output = hw_sprintf("%s/current", out_dir);
    }
    int running = 1;
    char *old = document(1, false);
    upstream_desire(&a.up, NODE, 1, old);
    start(k, a.up.server.url, "");
    upstream_expect_applied(&a.up, NODE, 1);
    agent_program_stop(&a);

    for (int round = 0; round < rounds; round++) {
        const int next = 2 + round;
        char *new = document(next, k->bad);
        char *point =
            k->point != NULL ? hw_sprintf("%s:%d", k->point, 1 + round % k->counts) : hw_strdup("");
        if (k->word != NULL) {
            const bool of_old = strstr(k->word, "old") != NULL;
            char *line =
                hw_sprintf("%.*s %d", (int)strcspn(k->word, " "), k->word, of_old ? running : next);
            agent_program_write(deadly, line);
            free(line);
        }
        /* Before the start, which would try once more what failed in the round before. */
        upstream_desire(&a.up, NODE, next, new);
        start(k, a.up.server.url, point);
        for (const double until = test_deadline(WAIT_S); test_program_running(&a.program);) {
            if (test_now() > until)
                test_fail("%s was not reached", k->point != NULL ? point : k->word);
            upstream_turn(&a.up, 5);
        }
        ck_assert(WIFSIGNALED(test_program_stop(&a.program, 0)));
        char *found = test_read_file(a.output);
        if (strcmp(found, old) != 0 && strcmp(found, new) != 0)
            test_fail("killed at %s: the output is neither document: %zu bytes, %.12s", point,
                      strlen(found), found);
        free(found);

        start(k, "nats://127.0.0.1:1", "");
        for (const double until = test_deadline(WAIT_S);
             !log_has("runs already") && !log_has("the last known good runs again");) {
            if (test_now() > until)
                test_fail("killed at %s: it did not come to rest", point);
            test_pause();
        }
        agent_program_stop(&a);
        expect_agreement(k, old, new);

        start(k, a.up.server.url, "");
        if (k->bad) {
            /* The verdict may be known already; the start tries once more all the same. */
            agent_program_wait_log(&a, "the last known good runs again");
            json_t *report;
            for (const double until = test_deadline(WAIT_S);;) {
                report = upstream_expect(&a.up, NODE, "failed", running, "apply");
                const json_int_t failed = json_integer_value(
                    json_object_get(json_object_get(report, "failed"), "revision"));
                json_decref(report);
                if (failed == next)
                    break;
                ck_assert(test_now() < until);
            }
        } else {
            upstream_expect_applied(&a.up, NODE, next);
            running = next;
            free(old);
            old = hw_strdup(new);
        }
        agent_program_stop(&a);
        ck_assert(agent_program_file_is(a.output, old));
        expect_agreement(k, old, old);
        unlink(a.runs);
        free(point);
        free(new);
        char *line = hw_sprintf("apply %d %s\n", running, old);
        agent_program_write(a.runs, line); /* what the node was told last, for the next round */
        free(line);
    }
    printf("%s: %d kills\n", k->point != NULL ? k->point : k->word, rounds);
    free(old);
    agent_program_close(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agent kills");
    TCase *tcase = tcase_create("agent kills");
    tcase_set_timeout(tcase, 120 + 60 * kills_each());
    tcase_add_loop_test(tcase, test_kill, 0, (int)HW_COUNT(kills));
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
