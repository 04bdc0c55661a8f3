/*
 * An agent whose server refuses it starts all the same and puts back the output that is gone: as a
 * program and as a library, whatever the server has against it. A refusal takes effect on a thread
 * of libnats at any moment of the start, so each way of refusing is tried several times;
 * HW_STARTS=200 of each is `make refused-starts`.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/library/headwater_agent.h"
#include "base/memory.h"
#include "nats/nkey.h"
#include "tests/support/agent_program.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { STARTS = 2, WAIT_S = 60, DAY_S = 86400 };
#define NODE    "edge-1"
#define CONTENT "{\"rate_hz\": 1}"

/* One way of refusing. The texts name files below the directory of the test. */
struct refusal {
    const char *name;
    const char *scheme;
    const char *certificate; /* of the server; NULL: it has no TLS */
    bool users;              /* the server wants to know who comes */
    const char *option, *file;
    const char *why; /* as the agent says it */
};

static const struct refusal refusals[] = {
    {"wrong CA", "tls", "server", false, "--nats-ca", "other.pem", "not of an authority"},
    {"TLS port by nats://", "nats", "server", false, NULL, NULL, "requires TLS"},
    {"no credentials", "nats", NULL, true, NULL, NULL, "refuses this client"},
    {"unknown nkey", "nats", NULL, true, "--nats-nkey", "stranger.nk", "refuses this client"},
    {"certificate not valid yet", "tls", "later", false, "--nats-ca", "ca.pem", "not valid yet"},
};

static struct agent_program a;

static char *below(const char *name)
{
    return hw_sprintf("%s/%s", a.dir, name);
}

static int starts(void)
{
    const char *text = getenv("HW_STARTS");

    return text != NULL ? (int)strtol(text, NULL, 10) : STARTS;
}

/* The node has run something, and NATS is gone. */
static void setup(void)
{
    agent_program_open(&a, NODE);
    HW_AUTO_FREE char *known = below("known.nk"), *stranger = below("stranger.nk");

    test_nats_certificates(a.dir);
    test_nats_certificate(a.dir, "later", "server.key", DAY_S, 2L * DAY_S);
    test_nats_seed(known);
    test_nats_seed(stranger);
    upstream_desire(&a.up, NODE, 1, CONTENT);
    agent_program_start(&a, (const char *const[]){"--output", a.output, NULL}, NULL);
    upstream_expect_applied(&a.up, NODE, 1);
    agent_program_stop(&a);
}

static void teardown(void)
{
    agent_program_close(&a);
}

static void start_server(struct test_nats *server, const struct refusal *refusal)
{
    HW_AUTO_FREE char *known = below("known.nk");
    char public_key[HW_NKEY_PUBLIC_MAX];
    struct hw_error err;

    if (hw_nkey_public_of_file(known, public_key, &err) != HW_OK)
        test_fail("%s", err.message);
    HW_AUTO_FREE char *tls =
        refusal->certificate != NULL
            ? hw_sprintf("tls {cert_file: \"%s/%s.pem\", key_file: \"%s/server.key\"}\n", a.dir,
                         refusal->certificate, a.dir)
            : hw_strdup("");
    HW_AUTO_FREE char *users = refusal->users
                                   ? hw_sprintf("authorization {users: [{nkey: %s}]}\n", public_key)
                                   : hw_strdup("");
    HW_AUTO_FREE char *text = hw_sprintf("%s%s", tls, users);

    test_nats_start(server);
    server->config = below("nats.conf");
    agent_program_write(server->config, text);
    test_nats_stop(server);
    test_nats_restart(server);
}

static void remove_server(struct test_nats *server)
{
    test_nats_remove(server);
    free(server->config);
}

static bool is_there(void)
{
    return agent_program_file_is(a.output, CONTENT);
}

static bool says(const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(a.program.log);

    return strstr(log, text) != NULL;
}

/* It has found out why, too: so it has lived through the refusal, and not only up to it. */
static void start_programs(const struct refusal *refusal, const char *url)
{
    HW_AUTO_FREE char *file = refusal->file != NULL ? below(refusal->file) : NULL;
    const char *const argv[] = {
        "headwater-agent", "--nats",   url,      "--node",        NODE, "--state-dir",
        a.state_dir,       "--output", a.output, refusal->option, file, NULL};
    int lost = 0;

    for (int i = 0; i < starts(); i++) {
        unlink(a.output);
        test_program_start(&a.program, argv, NULL);
        test_wait_for((is_there() && says(refusal->why)) || !test_program_running(&a.program),
                      WAIT_S);
        if (!test_program_running(&a.program)) {
            HW_AUTO_FREE char *log = test_read_file(a.program.log);

            lost++;
            fprintf(stderr, "%s: start %d: %s", refusal->name, i + 1, log);
        }
        lost += !is_there();
        (void)test_program_stop(&a.program, SIGTERM);
        a.program.pid = 0;
    }
    ck_assert_msg(lost == 0, "%s: %d lives or outputs were lost", refusal->name, lost);
}

static void start_libraries(const struct refusal *refusal, const char *url)
{
    HW_AUTO_FREE char *file = refusal->file != NULL ? below(refusal->file) : NULL;
    const bool is_ca = file != NULL && strcmp(refusal->option, "--nats-ca") == 0;
    struct headwater_agent_options options;
    struct headwater_agent_status status;
    struct headwater_agent *agent;
    char error[HEADWATER_AGENT_ERROR_MAX];
    int lost = 0;

    headwater_agent_options_init(&options);
    options.nats_url = url;
    options.node = NODE;
    options.state_dir = a.state_dir;
    options.output = a.output;
    options.nats_ca = is_ca ? file : NULL;
    options.nats_nkey = is_ca ? NULL : file;
    for (int i = 0; i < starts(); i++) {
        unlink(a.output);
        if (headwater_agent_new(&options, &agent, error) != 0) {
            lost++;
            fprintf(stderr, "%s: start %d: %s\n", refusal->name, i + 1, error);
            continue;
        }
        test_wait_for(is_there(), WAIT_S);
        test_wait_for((headwater_agent_get_status(agent, &status, sizeof(status)),
                       strstr(status.nats_error, refusal->why) != NULL),
                      WAIT_S);
        headwater_agent_free(agent);
    }
    ck_assert_msg(lost == 0, "%s: %d starts were lost", refusal->name, lost);
}

static void refuse(const struct refusal *refusal)
{
    struct test_nats server;

    start_server(&server, refusal);
    HW_AUTO_FREE char *url = hw_sprintf("%s://localhost:%d", refusal->scheme, server.port);

    start_programs(refusal, url);
    start_libraries(refusal, url);
    remove_server(&server);
}

START_TEST(test_refused)
{
    refuse(&refusals[_i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refused");

    for (size_t i = 0; i < HW_COUNT(refusals); i++) {
        TCase *tcase = tcase_create(refusals[i].name);

        tcase_set_timeout(tcase, 120 + 6 * starts());
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_loop_test(tcase, test_refused, (int)i, (int)i + 1);
        suite_add_tcase(suite, tcase);
    }
    return test_suite_finish(suite);
}
