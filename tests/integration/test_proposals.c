/*
 * Proposals, the whole way: a node proposes, people decide, and the file on the node changes; by
 * the daemon and its command, and by the library inside a program.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/library/headwater_agent.h"
#include "base/file.h"
#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

static struct test_pipeline p;
static struct test_program agent;
static char *dir, *state, *output, *file;

static void setup(void)
{
    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    pipeline_make_nodes(&p, 2);
    dir = test_temp_dir();
    state = hw_sprintf("%s/state", dir);
    output = hw_sprintf("%s/output.json", dir);
    file = hw_sprintf("%s/proposal.json", dir);
}

static void teardown(void)
{
    pipeline_stop(&p);
    pipeline_close(&p);
}

static void start_agent(void)
{
    test_program_start(&agent,
                       (const char *const[]){"headwater-agent", "--nats", p.nats.url, "--node",
                                             "n1", "--output", output, "--state-dir", state,
                                             "--poll", "1h", NULL},
                       NULL);
}

static bool file_is(const char *content)
{
    HW_AUTO_FREE char *data = NULL;
    size_t len;

    return hw_file_read(output, 1 << 20, &data, &len, NULL) == HW_OK && strcmp(data, content) == 0;
}

/* Writes content into a file and proposes it; more: one further flag with its value, or NULL. */
static int propose(const char *content, const char *flag, const char *value, char **said)
{
    struct hw_error err;

    ck_assert_int_eq(hw_file_replace(file, content, strlen(content), 0600, &err), HW_OK);
    return test_program_run((const char *const[]){"headwater-agent", "propose", "--node", "n1",
                                                  "--state-dir", state, "--config", "c", "--file",
                                                  file, flag, value, NULL},
                            NULL, NULL, said);
}

/* The agent reports what it runs before it has written down what that is made of. */
static void wait_until_base_is_kept(void)
{
    HW_AUTO_FREE char *hex =
        test_sql(&p.pg, "SELECT substr(digest, 8) FROM headwater.desired WHERE node = 'n1'");
    HW_AUTO_FREE char *path = hw_sprintf("%s/blob/%s.sources", state, hex);

    test_wait_for(access(path, F_OK) == 0, 60);
}

static void propose_in_vain(const char *flag, const char *value, const char *why)
{
    HW_AUTO_FREE char *said = NULL;

    ck_assert_int_eq(propose("{}", flag, value, &said), 1);
    ck_assert_msg(strstr(said, why) != NULL, "%s", said);
}

static bool counted(const char *expected)
{
    return test_sql_is(
        &p.pg, expected,
        "SELECT coalesce(string_agg(concat_ws(' ', state, base_revision, nullif(message, '')), "
        "',' ORDER BY id), '') FROM headwater.proposal");
}

START_TEST(test_whole_way)
{
    struct test_program waiting;
    int status;

    propose_in_vain(NULL, NULL, "no agent has ever");
    start_agent();
    test_wait_for(file_is("{\"a\":0}"), 60);
    test_wait_for(propose("{\"a\":1}", "--message", "as measured", NULL) == 0, 60);
    test_wait_for(counted("pending 1 as measured"), 60);
    ck_assert(file_is("{\"a\":0}"));
    free(test_sql(&p.pg, "SELECT headwater.approve(1, 'fine')"));
    test_wait_for(file_is("{\"a\":1}"), 60);

    /* The base is what the node runs, and who waits hears the end of it. */
    test_wait_for(
        test_sql_is(&p.pg, "in_sync", "SELECT state FROM headwater.fleet WHERE node = 'n1'"), 60);
    wait_until_base_is_kept();
    test_program_start(&waiting,
                       (const char *const[]){"headwater-agent", "propose", "--node", "n1",
                                             "--state-dir", state, "--config", "c", "--file", file,
                                             "--wait", NULL},
                       NULL);
    test_wait_for(counted("approved 1 as measured,pending 2"), 60);
    free(test_sql(&p.pg, "SELECT headwater.reject(2, 'not now')"));
    ck_assert(test_reap(waiting.pid, 60, &status));
    ck_assert_int_eq(WEXITSTATUS(status), 1);

    /* What is refused where it is proposed. */
    propose_in_vain("--config", "other", "is not made of config other");
    propose_in_vain("--config", "no name", "config: \"no name\" is no name");
    ck_assert_int_eq(propose("{}", "--base-revision", "1", NULL), 0); /* and where it arrives */
    test_wait_for(counted("approved 1 as measured,rejected 2,conflict 1"), 60);
    test_program_stop(&agent, SIGTERM);
}
END_TEST

/* Proposed while everything is away, and sent by an agent that is killed: there once. */
START_TEST(test_offline)
{
    char content[32];

    start_agent();
    test_wait_for(file_is("{\"a\":0}"), 60);
    test_wait_for(propose("{\"first\":1}", NULL, NULL, NULL) == 0, 60);
    test_wait_for(counted("pending 1"), 60);
    pipeline_kill_nats(&p);
    for (int i = 0; i < 3; i++) {
        snprintf(content, sizeof(content), "{\"i\":%d}", i);
        ck_assert_int_eq(propose(content, NULL, NULL, NULL), 0);
    }
    test_program_stop(&agent, SIGKILL);
    start_agent();
    pipeline_restart_nats(&p);
    for (int i = 0; i < 3; i++) {
        usleep(50000);
        test_program_stop(&agent, SIGKILL);
        start_agent();
    }
    test_wait_for(counted("pending 1,pending 1,pending 1,pending 1"), 120);
    ck_assert(test_sql_is(&p.pg, "{\"first\":1} {\"i\":0} {\"i\":1} {\"i\":2}",
                          "SELECT string_agg(content, ' ' ORDER BY id) FROM headwater.proposal"));
    /* NATS loses all of it: what was taken is known, what was decided comes. */
    pipeline_kill_nats(&p);
    test_nats_wipe(&p.nats);
    pipeline_restart_nats(&p);
    free(test_sql(&p.pg, "SELECT headwater.approve(4)"));
    test_wait_for(file_is("{\"i\":2}"), 120);
    ck_assert(counted("conflict 1,conflict 1,conflict 1,approved 1"));
    test_program_stop(&agent, SIGTERM);
}
END_TEST

/* ---- the library ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char heard[1024];

static enum headwater_agent_result apply(void *arg, const struct headwater_agent_document *document,
                                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    (void)arg, (void)document, (void)error;
    return HEADWATER_AGENT_OK;
}

static void decided(void *arg, const struct headwater_agent_decision *d)
{
    char line[256];

    (void)arg;
    snprintf(line, sizeof(line), "%s %s %lld\n", d->config, d->state, (long long)d->revision);
    pthread_mutex_lock(&lock);
    strncat(heard, line, sizeof(heard) - strlen(heard) - 1);
    pthread_mutex_unlock(&lock);
}

static bool heard_is(const char *text)
{
    pthread_mutex_lock(&lock);
    const bool is = strcmp(heard, text) == 0;
    pthread_mutex_unlock(&lock);
    return is;
}

static struct headwater_agent *open_library(void)
{
    struct headwater_agent_options options;
    char error[HEADWATER_AGENT_ERROR_MAX];
    struct headwater_agent *a;

    headwater_agent_options_init(&options);
    options.nats_url = p.nats.url;
    options.node = "n2";
    options.state_dir = state;
    options.poll_ms = 3600000;
    options.apply = apply;
    options.decided = decided;
    ck_assert_msg(headwater_agent_new(&options, &a, error) == 0, "%s", error);
    ck_assert_int_eq(headwater_agent_start_thread(a), 0);
    return a;
}

static bool runs(struct headwater_agent *a, int64_t revision)
{
    struct headwater_agent_status s;

    headwater_agent_get_status(a, &s, sizeof(s));
    return s.running == revision && s.phase == HEADWATER_AGENT_IDLE;
}

START_TEST(test_library)
{
    static const char binary[] = {0, 1, (char)0xFF, '"'};
    struct headwater_agent_proposal proposal;
    char error[HEADWATER_AGENT_ERROR_MAX];
    char ref[HEADWATER_AGENT_REF_MAX];
    struct headwater_agent *a = open_library();
    HW_AUTO_FREE char *large = hw_alloc(524289);

    headwater_agent_proposal_init(&proposal);
    proposal.config = "c";
    proposal.data = binary;
    proposal.data_size = sizeof(binary);
    proposal.media_type = "application/octet-stream";
    test_wait_for(runs(a, 1), 60);
    test_wait_for(headwater_agent_propose(a, &proposal, ref, error) == 0, 60);
    /* As large as may be, and such that text would take six times its size. */
    memset(large, 1, 524288);
    proposal.data = large;
    proposal.data_size = 524288;
    proposal.media_type = "text/plain";
    ck_assert_msg(headwater_agent_propose(a, &proposal, NULL, error) == 0, "%s", error);
    proposal.data_size++;
    ck_assert_int_eq(headwater_agent_propose(a, &proposal, NULL, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "at most 524288"));
    proposal.size = 1;
    ck_assert_int_eq(headwater_agent_propose(a, &proposal, NULL, error), -1);

    test_wait_for(test_sql_is(&p.pg, "2",
                              "SELECT count(*) FROM headwater.proposal WHERE state = "
                              "'pending' AND node = 'n2'"),
                  60);
    ck_assert(test_sql_is(&p.pg, ref, "SELECT ref FROM headwater.proposal WHERE id = 1"));
    ck_assert(
        test_sql_is(&p.pg, "AAH/Ig==", "SELECT content FROM headwater.proposal WHERE id = 1"));
    ck_assert(
        test_sql_is(&p.pg, "t",
                    "SELECT b = decode(repeat('01', 524288), 'hex') "
                    "FROM headwater.proposal, LATERAL headwater.bytes_of(content, encoding) AS b "
                    "WHERE id = 2"));
    free(test_sql(&p.pg, "SELECT headwater.approve(1)"));
    test_wait_for(heard_is("c approved 2\nc conflict 0\n"), 60);
    test_wait_for(runs(a, 2), 60);

    /* What was told is not told again, and the base is the new revision. */
    headwater_agent_free(a);
    a = open_library();
    headwater_agent_proposal_init(&proposal);
    proposal.config = "c";
    proposal.data = "{}";
    proposal.data_size = 2;
    ck_assert_msg(headwater_agent_propose(a, &proposal, NULL, error) == 0, "%s", error);
    test_wait_for(test_sql_is(&p.pg, "pending 2 application/octet-stream",
                              "SELECT concat_ws(' ', state, base_revision, media_type) FROM "
                              "headwater.proposal WHERE id = 3"),
                  60);
    free(test_sql(&p.pg, "SELECT headwater.reject(3)"));
    test_wait_for(heard_is("c approved 2\nc conflict 0\nc rejected 0\n"), 60);
    headwater_agent_free(a);
}
END_TEST

TEST_MAIN_BETWEEN("proposals", 300, setup, teardown, test_whole_way, test_offline, test_library)
