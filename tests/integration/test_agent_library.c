/*
 * libheadwater-agent as a program sees it: driven on the program's own loop and on a thread of the
 * library's, with callbacks that answer at once, later, and from elsewhere; and installed, with the
 * example and headers compiled against what was installed.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/library/headwater_agent.h"
#include "base/memory.h"
#include "common/version.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"
#include "tests/support/upstream.h"

#define WAIT_S 60

static struct upstream up;

/* A program with an agent in it. Its fields are the calling thread's, under the lock. */
struct host {
    struct headwater_agent *agent;
    struct headwater_agent_options options;
    pthread_mutex_t lock;
    char *dir;
    char calls[4096]; /* "validate 1 one\n" … */
    char log[65536];
    pthread_t callers[1]; /* the thread that callbacks came on */
    bool on_one_thread;
    int changes;
    struct headwater_agent_status last;

    /* What it answers. */
    _Atomic int bad;      /* revision that is refused … */
    const char *bad_in;   /* … by this callback */
    bool later;           /* answers come from a thread of their own */
    bool never;           /* no answer comes */
    _Atomic int underway; /* threads that answer */
};

struct answer {
    struct host *host;
    enum headwater_agent_result result;
};

static void *answer_later(void *arg)
{
    struct answer *answer = arg;
    headwater_agent_finish(answer->host->agent, answer->result,
                           answer->result == HEADWATER_AGENT_OK ? NULL : "no, said later");
    answer->host->underway--;
    free(answer);
    return NULL;
}

static enum headwater_agent_result called(struct host *h, const char *what,
                                          const struct headwater_agent_document *d, char *error)
{
    char line[512];
    struct stat st;
    ck_assert_uint_eq(strlen(d->data), d->size);
    ck_assert_uint_eq(strlen(d->digest), 71);
    ck_assert_uint_eq(d->epoch, 1);
    ck_assert_int_eq(stat(d->file, &st), 0);
    ck_assert_int_eq(st.st_size, (off_t)d->size);
    snprintf(line, sizeof(line), "%s %lld %s%s\n", what, (long long)d->revision,
             (const char *)d->data, d->going_back ? " back" : "");
    pthread_mutex_lock(&h->lock);
    strncat(h->calls, line, sizeof(h->calls) - strlen(h->calls) - 1);
    if (h->callers[0] == 0)
        h->callers[0] = pthread_self();
    h->on_one_thread &= pthread_equal(h->callers[0], pthread_self()) != 0;
    pthread_mutex_unlock(&h->lock);

    const bool refuse = d->revision == h->bad && strcmp(what, h->bad_in) == 0 && !d->going_back;
    if (h->never)
        return HEADWATER_AGENT_PENDING;
    if (!h->later) {
        if (refuse)
            strcpy(error, "no, said at once");
        return refuse ? HEADWATER_AGENT_REFUSED : HEADWATER_AGENT_OK;
    }
    struct answer *answer = hw_alloc(sizeof(*answer));
    pthread_t thread;
    *answer = (struct answer){h, refuse ? HEADWATER_AGENT_REFUSED : HEADWATER_AGENT_OK};
    h->underway++;
    ck_assert_int_eq(pthread_create(&thread, NULL, answer_later, answer), 0);
    pthread_detach(thread);
    return HEADWATER_AGENT_PENDING;
}

static enum headwater_agent_result validate(void *arg, const struct headwater_agent_document *d,
                                            char error[HEADWATER_AGENT_ERROR_MAX])
{
    return called(arg, "validate", d, error);
}

static enum headwater_agent_result apply(void *arg, const struct headwater_agent_document *d,
                                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    return called(arg, "apply", d, error);
}

static enum headwater_agent_result health(void *arg, const struct headwater_agent_document *d,
                                          char error[HEADWATER_AGENT_ERROR_MAX])
{
    return called(arg, "health", d, error);
}

static void changed(void *arg, const struct headwater_agent_status *status)
{
    struct host *h = arg;
    pthread_mutex_lock(&h->lock);
    h->changes++;
    h->last = *status;
    pthread_mutex_unlock(&h->lock);
}

static void on_log(void *arg, enum headwater_agent_level level, const char *message,
                   const struct headwater_agent_document *about, const char *detail)
{
    struct host *h = arg;
    pthread_mutex_lock(&h->lock);
    ck_assert_int_le(level, h->options.log_level);
    const size_t used = strlen(h->log);
    snprintf(h->log + used, sizeof(h->log) - used, "%s %s %s\n", message,
             about != NULL ? about->digest : "-", detail != NULL ? detail : "-");
    pthread_mutex_unlock(&h->lock);
}

static void host_init(struct host *h, const char *node)
{
    memset(h, 0, sizeof(*h));
    pthread_mutex_init(&h->lock, NULL);
    h->dir = test_temp_dir();
    h->on_one_thread = true;
    h->bad_in = "";
    headwater_agent_options_init(&h->options);
    h->options.nats_url = up.server.url;
    h->options.node = node;
    h->options.state_dir = h->dir;
    h->options.validate = validate;
    h->options.apply = apply;
    h->options.health = health;
    h->options.changed = changed;
    h->options.log = on_log;
    h->options.log_level = HEADWATER_AGENT_LOG_DEBUG;
    h->options.arg = h;
}

static void host_start(struct host *h)
{
    char error[HEADWATER_AGENT_ERROR_MAX];
    if (headwater_agent_new(&h->options, &h->agent, error) != 0)
        test_fail("headwater_agent_new: %s", error);
}

static void host_end(struct host *h)
{
    headwater_agent_free(h->agent);
    free(h->dir);
}

/* The program's own loop, for up to 20 ms. */
static void host_turn(struct host *h)
{
    struct pollfd fd = {.fd = headwater_agent_fd(h->agent), .events = POLLIN};
    if (poll(&fd, 1, 20) == 1)
        headwater_agent_dispatch(h->agent);
}

static bool has_called(struct host *h, const char *calls)
{
    pthread_mutex_lock(&h->lock);
    const bool same = strcmp(h->calls, calls) == 0;
    pthread_mutex_unlock(&h->lock);
    return same;
}

static void expect_calls(struct host *h, bool turn, const char *calls)
{
    const double until = test_deadline(WAIT_S);
    while (!has_called(h, calls)) {
        if (test_now() > until)
            test_fail("the calls are:\n%sinstead of:\n%s", h->calls, calls);
        if (turn)
            host_turn(h);
        else
            test_pause();
    }
}

static struct headwater_agent_status status_of(struct host *h)
{
    struct headwater_agent_status status;
    headwater_agent_get_status(h->agent, &status, sizeof(status));
    return status;
}

static void expect_running(struct host *h, bool turn, int64_t revision, const char *state)
{
    struct headwater_agent_status status = status_of(h);
    const double until = test_deadline(WAIT_S);
    while (status.running != revision || strcmp(status.state, state) != 0 ||
           status.phase != HEADWATER_AGENT_IDLE) {
        if (test_now() > until)
            test_fail("runs %lld, %s, %s (%s)", (long long)status.running, status.state,
                      headwater_agent_phase_name(status.phase), status.failed_error);
        if (turn)
            host_turn(h);
        else
            test_pause();
        status = status_of(h);
    }
}

/* ---- both ways ------------------------------------------------------------------------------- */

/* One document that is well, one that each callback refuses, and another one that is well. _i: by
 * the program's own loop, or a thread of the library's; with answers at once, or later. */
START_TEST(test_documents_go_through_the_callbacks)
{
    static const char *const stages[] = {"validate", "apply", "health"};
    const bool turn = (_i & 1) == 0;
    struct host h;
    upstream_open(&up);
    host_init(&h, "n1");
    h.later = (_i & 2) != 0;
    host_start(&h);
    if (!turn)
        ck_assert_int_eq(headwater_agent_start_thread(h.agent), 0);

    test_wait_for(status_of(&h).nothing_desired, WAIT_S);
    upstream_desire(&up, "n1", 1, "one");
    expect_calls(&h, turn, "validate 1 one\napply 1 one\nhealth 1 one\n");
    expect_running(&h, turn, 1, "applied");
    ck_assert(!status_of(&h).nothing_desired);
    upstream_expect_applied(&up, "n1", 1);
    for (int i = 0; i < 3; i++) {
        pthread_mutex_lock(&h.lock);
        h.calls[0] = '\0';
        h.bad_in = stages[i];
        h.bad = 2 + i;
        pthread_mutex_unlock(&h.lock);
        char content[16];
        snprintf(content, sizeof(content), "bad %d", i);
        upstream_desire(&up, "n1", 2 + i, content);
        static const char *const expected[] = {
            "validate 2 bad 0\n", "validate 3 bad 1\napply 3 bad 1\napply 1 one back\n",
            "validate 4 bad 2\napply 4 bad 2\nhealth 4 bad 2\napply 1 one back\n"};
        expect_calls(&h, turn, expected[i]);
        expect_running(&h, turn, 1, i == 0 ? "rejected" : "failed");
        const struct headwater_agent_status status = status_of(&h);
        ck_assert_str_eq(status.failed_stage, stages[i]);
        ck_assert_int_eq(status.failed, 2 + i);
        ck_assert_ptr_nonnull(strstr(status.failed_error, "no, said"));
        json_t *report = upstream_expect(&up, "n1", i == 0 ? "rejected" : "failed", 1, stages[i]);
        json_decref(report);
    }
    pthread_mutex_lock(&h.lock);
    h.calls[0] = '\0';
    pthread_mutex_unlock(&h.lock);
    upstream_desire(&up, "n1", 5, "five");
    expect_calls(&h, turn, "validate 5 five\napply 5 five\nhealth 5 five\n");
    expect_running(&h, turn, 5, "applied");
    upstream_expect_applied(&up, "n1", 5);
    const struct headwater_agent_status end = status_of(&h);
    ck_assert_uint_eq(end.connects, 1);
    ck_assert_uint_eq(end.applies, 2);
    ck_assert_uint_eq(end.failures, 3);
    ck_assert_uint_eq(end.rollbacks, 2);
    test_wait_for(h.underway == 0, WAIT_S); /* an answer counts before its thread has returned */
    headwater_agent_free(h.agent);

    ck_assert(h.on_one_thread);
    ck_assert_int_eq(pthread_equal(h.callers[0], pthread_self()) != 0, turn);
    ck_assert_int_ge(h.changes, 5);
    ck_assert_ptr_nonnull(strstr(h.log, "connected to NATS"));
    free(h.dir);
    upstream_close(&up);
}
END_TEST

/* Nothing runs before it is dispatched, and what waits is never lost. */
START_TEST(test_callbacks_wait_for_the_dispatch)
{
    struct host h;
    upstream_open(&up);
    host_init(&h, "n1");
    host_start(&h);
    upstream_desire(&up, "n1", 1, "one");
    const double until = test_deadline(WAIT_S);
    while (status_of(&h).phase != HEADWATER_AGENT_VALIDATING) {
        ck_assert(test_now() < until);
        test_pause();
    }
    ck_assert_str_eq(h.calls, "");
    ck_assert_int_eq(h.changes, 0);
    while (!has_called(&h, "validate 1 one\n"))
        host_turn(&h);
    expect_calls(&h, true, "validate 1 one\napply 1 one\nhealth 1 one\n");
    /* An answer that nobody waits for. */
    headwater_agent_finish(h.agent, HEADWATER_AGENT_REFUSED, "late");
    expect_running(&h, true, 1, "applied");
    while (headwater_agent_dispatch(h.agent) > 0)
        continue;
    host_end(&h);
    upstream_close(&up);
}
END_TEST

/* Freed in the midst of an apply: the next start gives the program the last known good. */
START_TEST(test_an_interrupted_apply_is_gone_back_from)
{
    struct host h;
    upstream_open(&up);
    host_init(&h, "n1");
    host_start(&h);
    upstream_desire(&up, "n1", 1, "one");
    expect_running(&h, true, 1, "applied");
    h.options.validate = NULL;
    headwater_agent_free(h.agent);
    h.never = true;
    h.calls[0] = '\0';
    host_start(&h);
    expect_calls(&h, true, "apply 1 one back\n");
    headwater_agent_finish(h.agent, HEADWATER_AGENT_OK, NULL);
    expect_running(&h, true, 1, "applied");
    upstream_desire(&up, "n1", 2, "two");
    expect_calls(&h, true, "apply 1 one back\napply 2 two\n");
    headwater_agent_free(h.agent);

    upstream_stop(&up);
    h.never = false;
    h.calls[0] = '\0';
    host_start(&h);
    expect_calls(&h, true, "apply 1 one back\n");
    expect_running(&h, true, 1, "applied");
    upstream_restart(&up);
    expect_calls(&h, true, "apply 1 one back\napply 2 two\nhealth 2 two\n");
    expect_running(&h, true, 2, "applied");
    upstream_expect_applied(&up, "n1", 2);
    host_end(&h);
    upstream_close(&up);
}
END_TEST

START_TEST(test_agents_share_nothing)
{
    enum { COUNT = 6 };
    static const char *const nodes[COUNT] = {"a", "b", "c", "d", "e", "f"};
    static struct host hosts[COUNT];
    upstream_open(&up);
    for (int i = 0; i < COUNT; i++) {
        host_init(&hosts[i], nodes[i]);
        host_start(&hosts[i]);
        if (i % 2 == 1)
            ck_assert_int_eq(headwater_agent_start_thread(hosts[i].agent), 0);
    }
    for (int revision = 1; revision <= 3; revision++) {
        for (int i = 0; i < COUNT; i++) {
            char content[32];
            snprintf(content, sizeof(content), "%d of %s", revision, nodes[i]);
            upstream_desire(&up, nodes[i], revision, content);
        }
        for (int i = 0; i < COUNT; i++)
            expect_running(&hosts[i], i % 2 == 0, revision, "applied");
    }
    for (int i = 0; i < COUNT; i++) {
        char last[64];
        snprintf(last, sizeof(last), "health 3 3 of %s\n", nodes[i]);
        ck_assert_ptr_nonnull(strstr(hosts[i].calls, last));
        host_end(&hosts[i]);
    }
    upstream_close(&up);
}
END_TEST

START_TEST(test_hold_and_release)
{
    char error[HEADWATER_AGENT_ERROR_MAX];
    struct host h;
    upstream_open(&up);
    host_init(&h, "n1");
    host_start(&h);
    upstream_desire(&up, "n1", 1, "one");
    expect_running(&h, true, 1, "applied");
    ck_assert_int_eq(headwater_agent_hold(h.agent, "run 42", error), 0);
    upstream_desire(&up, "n1", 2, "two");
    const double until = test_deadline(WAIT_S);
    while (status_of(&h).held == 0 || status_of(&h).desired != 2) {
        ck_assert(test_now() < until);
        host_turn(&h);
    }
    ck_assert_int_eq(status_of(&h).running, 1);
    json_t *report = upstream_expect_member(&up, "n1", "held", true);
    ck_assert_str_eq(upstream_text(report, "held", "reason"), "run 42");
    json_decref(report);
    ck_assert_int_eq(headwater_agent_release(h.agent, error), 0);
    expect_running(&h, true, 2, "applied");
    json_decref(upstream_expect_member(&up, "n1", "held", false));
    host_end(&h);
    upstream_close(&up);
}
END_TEST

static atomic_bool meddled;

static void *meddle(void *arg)
{
    struct host *h = arg;
    char error[HEADWATER_AGENT_ERROR_MAX];
    while (!meddled) {
        if (headwater_agent_hold(h->agent, "for a moment", error) != 0 ||
            headwater_agent_release(h->agent, error) != 0)
            test_fail("hold and release: %s", error);
        headwater_agent_retry(h->agent);
        headwater_agent_finish(h->agent, HEADWATER_AGENT_OK, NULL);
        ck_assert_int_ge(headwater_agent_fd(h->agent), 0);
        ck_assert_int_le(status_of(h).running, 5);
        test_pause();
    }
    return NULL;
}

/* What may be called from any thread is, by several at once, while documents come. _i: by the
 * program's own loop, or a thread of the library's. */
START_TEST(test_any_thread)
{
    const bool turn = _i == 0;
    char error[HEADWATER_AGENT_ERROR_MAX];
    pthread_t threads[3];
    struct host h;
    upstream_open(&up);
    host_init(&h, "n1");
    host_start(&h);
    if (!turn)
        ck_assert_int_eq(headwater_agent_start_thread(h.agent), 0);
    meddled = false;
    for (size_t i = 0; i < HW_COUNT(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, meddle, &h), 0);
    for (int revision = 1; revision <= 5; revision++) {
        char content[32];
        snprintf(content, sizeof(content), "content %d", revision);
        upstream_desire(&up, "n1", revision, content);
        expect_running(&h, turn, revision, "applied");
    }
    meddled = true;
    for (size_t i = 0; i < HW_COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(headwater_agent_release(h.agent, error), 0);
    expect_running(&h, turn, 5, "applied");
    ck_assert(h.on_one_thread);
    host_end(&h);
    upstream_close(&up);
}
END_TEST

START_TEST(test_options_are_checked)
{
    struct headwater_agent *agent = NULL;
    char error[HEADWATER_AGENT_ERROR_MAX];
    struct host h, other;
    up.server.url[0] = '\0';
    host_init(&h, "n1");
    h.options.nats_url = "nats://127.0.0.1:1";
    const struct headwater_agent_options good = h.options;
    struct {
        struct headwater_agent_options options;
        const char *says;
    } cases[10];
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        cases[i].options = good;
    cases[0].options.size = 0, cases[0].says = "headwater_agent_options_init";
    cases[1].options.node = NULL, cases[1].says = "node";
    cases[2].options.node = "a b", cases[2].says = "\"a b\" is no name";
    cases[3].options.bucket = "a.b", cases[3].says = "bucket";
    cases[4].options.state_dir = NULL, cases[4].says = "state_dir";
    cases[5].options.apply = NULL, cases[5].says = "nothing would get";
    cases[6].options.output = "x", cases[6].options.output_dir = "y", cases[6].says = "only one";
    cases[7].options.poll_ms = -1, cases[7].says = "must not be negative";
    cases[8].options.nats_url = "nats://h:99999", cases[8].says = "nats_url: \"99999\" is no port";
    HW_AUTO_FREE char *lock = hw_sprintf("%s/lock", good.state_dir);
    cases[9].options.output = lock, cases[9].says = "is the agent's own";
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        ck_assert_int_eq(headwater_agent_new(&cases[i].options, &agent, error), -1);
        ck_assert_msg(strstr(error, cases[i].says) != NULL, "%s", error);
        ck_assert_ptr_null(agent);
    }
    host_start(&h);
    host_init(&other, "n1");
    free(other.dir);
    other.options = good;
    ck_assert_int_eq(headwater_agent_new(&other.options, &agent, error), -1);
    ck_assert_ptr_nonnull(strstr(error, "in use by another agent"));
    host_end(&h);
}
END_TEST

START_TEST(test_version)
{
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", HEADWATER_AGENT_VERSION_MAJOR,
             HEADWATER_AGENT_VERSION_MINOR, HEADWATER_AGENT_VERSION_PATCH);
    ck_assert_str_eq(text, HW_VERSION);
    ck_assert_str_eq(text, headwater_agent_version_text());
    ck_assert_int_eq(headwater_agent_version(), HEADWATER_AGENT_VERSION);
    ck_assert_str_eq(headwater_agent_phase_name(HEADWATER_AGENT_ROLLING_BACK), "rolling back");
}
END_TEST

/* ---- installed ------------------------------------------------------------------------------- */

/* Runs a line of sh that must succeed. */
static void sh(const char *line)
{
    const char *const argv[] = {"/bin/sh", "-ec", line, NULL};
    char *said;
    const int status = test_program_run(argv, NULL, NULL, &said);
    if (status != 0)
        test_fail("exit status %d of: %s\n%s", status, line, said);
    free(said);
}

static bool log_says(const struct test_program *p, const char *text)
{
    char *log = test_read_file(p->log);
    const bool says = strstr(log, text) != NULL;
    free(log);
    return says;
}

START_TEST(test_installed)
{
#if defined(__SANITIZE_ADDRESS__)
    static const char build[] = "SANITIZER=address", flags[] = "-fsanitize=address,undefined";
#elif defined(__SANITIZE_THREAD__)
    static const char build[] = "SANITIZER=thread", flags[] = "-fsanitize=thread";
#elif defined(HW_FAULTS)
    static const char build[] = "FAULTS=1", flags[] = "";
#else
    static const char build[] = "", flags[] = "";
#endif
    char *dir = test_temp_dir();
    upstream_open(&up);
    char *line = hw_sprintf(
        "make -s install DESTDIR='%s' PREFIX=/usr %s\n"
        "cd '%s'\n"
        "export PKG_CONFIG_PATH=$PWD/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$PWD\n"
        "test \"$(pkg-config --modversion headwater-agent)\" = " HW_VERSION "\n"
        "ls usr/include | grep -vx headwater_agent.h && exit 1\n"
        "cp usr/share/doc/headwater/examples/daq-sampler.c .\n"
        "cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-missing-field-initializers"
        " daq-sampler.c $(pkg-config --cflags --libs headwater-agent) %s -o sampler\n"
        "cc -std=c11 -D_GNU_SOURCE daq-sampler.c $(pkg-config --cflags headwater-agent)"
        " usr/lib/libheadwater-agent.a -lnats -ljansson -lssl -lcrypto -pthread %s -o "
        "static-sampler\n"
        "printf '#include <headwater_agent.h>\\nint main()"
        " { return headwater_agent_version() == HEADWATER_AGENT_VERSION ? 0 : 1; }\\n' > smoke.cc\n"
        "c++ -std=c++11 -pedantic -Wall -Wextra -Werror smoke.cc"
        " $(pkg-config --cflags --libs headwater-agent) %s -o smoke\n"
        "LD_LIBRARY_PATH=usr/lib ./smoke\n"
        "nm -D --defined-only usr/lib/libheadwater-agent.so | grep -v ' headwater_agent_'"
        " | grep -v ' HEADWATER_AGENT_0$' | grep -v asan | grep -v odr && exit 1\n"
        "nm -g --defined-only usr/lib/libheadwater-agent.a | grep ' [A-Z] ' | grep -v "
        "' headwater_agent_' && exit 1\n"
        "exit 0\n",
        dir, build, dir, flags, flags, flags);
    sh(line);
    free(line);

    for (int i = 0; i < 2; i++) {
        char *program = hw_sprintf("%s/%s", dir, i == 0 ? "sampler" : "static-sampler");
        char *library = hw_sprintf("LD_LIBRARY_PATH=%s/usr/lib", dir);
        char *state = hw_sprintf("%s/state-%d", dir, i);
        const char *node = i == 0 ? "daq-1" : "daq-2";
        const char *const argv[] = {program, up.server.url, node, state, NULL};
        const char *const env[] = {library, NULL};
        struct test_program sampler;
        upstream_desire(&up, node, 1, "{\"rate_hz\": 100}");
        test_program_start(&sampler, argv, env);
        upstream_expect_applied(&up, node, 1);
        test_wait_for(log_says(&sampler, "revision 1: sampling at 100 Hz"), WAIT_S);
        upstream_desire(&up, node, 2, "{\"rate_hz\": 2000}");
        upstream_expect_applied(&up, node, 2);
        test_wait_for(log_says(&sampler, "revision 2: sampling at 2000 Hz"), WAIT_S);
        upstream_desire(&up, node, 3, "{\"rate_hz\": 0}");
        json_t *report = upstream_expect(&up, node, "rejected", 2, "validate");
        ck_assert_ptr_nonnull(
            strstr(upstream_text(report, "failed", "error"), "a number from 1 to"));
        json_decref(report);
        const int status = test_program_stop(&sampler, SIGTERM);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        ck_assert(log_says(&sampler, "samples at 2000 Hz"));
        free(program);
        free(library);
        free(state);
    }
    free(dir);
    upstream_close(&up);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_callbacks_wait_for_the_dispatch,
                                  test_an_interrupted_apply_is_gone_back_from,
                                  test_agents_share_nothing,
                                  test_hold_and_release,
                                  test_options_are_checked,
                                  test_version,
                                  test_installed};
    Suite *suite = suite_create("agent library");
    TCase *tcase = tcase_create("agent library");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, test_documents_go_through_the_callbacks, 0, 4);
    tcase_add_loop_test(tcase, test_any_thread, 0, 2);
    for (size_t i = 0; i < HW_COUNT(tests); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
