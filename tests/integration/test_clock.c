/*
 * An agent whose clock jumps. The clock is this program's own: what is defined here stands in front
 * of libc's, also for libnats, which waits by the time of day.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/library/headwater_agent.h"
#include "base/memory.h"
#include "common/clock.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"
#include "tests/support/upstream.h"

#define NODE   "n1"
#define WAIT_S 60
#define DAY_S  86400

/* ---- the clock ------------------------------------------------------------------------------- */

static _Atomic time_t shift; /* seconds that the time of day is off */

int clock_gettime(clockid_t id, struct timespec *now)
{
    const int rc = (int)syscall(SYS_clock_gettime, id, now);

    if (rc == 0 && id == CLOCK_REALTIME)
        now->tv_sec += shift;
    return rc;
}

static bool has_come(clockid_t clock, const struct timespec *time)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec > time->tv_sec ||
           (now.tv_sec == time->tv_sec && now.tv_nsec >= time->tv_nsec);
}

/*
 * Condition variables, as the kernel has them: a wait lasts until that time of day has come,
 * whatever happens to it. It is waited in slices, so that a jump is seen, on a count of the signals
 * that a variable was given; one that comes between two slices is not lost, as it would be on
 * libc's, which knows of no waiter then. Waking more of them than was asked for is allowed.
 */
static _Atomic uint32_t *signals_of(const pthread_cond_t *cond)
{
    static _Atomic uint32_t signals[256];

    return &signals[((uintptr_t)cond >> 4) % HW_COUNT(signals)];
}

/* end: by that clock; NULL for ever. */
static int wait_until(const pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                      const struct timespec *end)
{
    static const struct timespec slice = {.tv_nsec = 10000000};
    _Atomic uint32_t *const signals = signals_of(cond);
    const uint32_t before = *signals;
    int rc = 0;

    pthread_mutex_unlock(mutex);
    while (*signals == before && rc == 0) {
        if (end != NULL && has_come(clock, end))
            rc = ETIMEDOUT;
        else
            syscall(SYS_futex, signals, FUTEX_WAIT_PRIVATE, before, &slice, NULL, 0);
    }
    pthread_mutex_lock(mutex);
    return rc;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *end)
{
    return wait_until(cond, mutex, CLOCK_REALTIME, end);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *end)
{
    return wait_until(cond, mutex, clock, end);
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return wait_until(cond, mutex, CLOCK_REALTIME, NULL);
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    _Atomic uint32_t *const signals = signals_of(cond);

    ++*signals;
    syscall(SYS_futex, signals, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    return 0;
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    return pthread_cond_broadcast(cond);
}

/* ---- the agent ------------------------------------------------------------------------------- */

static struct upstream up;
static struct headwater_agent *agent;
static char *dir;
static int heard;
static int64_t cuts_off; /* revision with which NATS ends */

static enum headwater_agent_result apply(void *arg, const struct headwater_agent_document *document,
                                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    (void)arg;
    (void)error;
    if (document->revision == cuts_off)
        kill(up.server.pid, SIGKILL);
    return HEADWATER_AGENT_OK;
}

static void on_beat(void *arg, natsMsg *msg)
{
    (void)arg;
    (void)msg;
    heard++;
}

static void start_agent(int64_t confirm_within_ms)
{
    struct headwater_agent_options options;
    char error[HEADWATER_AGENT_ERROR_MAX];

    headwater_agent_options_init(&options);
    options.nats_url = up.server.url;
    options.node = NODE;
    options.state_dir = dir;
    options.apply = apply;
    options.heartbeat_ms = 100;
    options.confirm_within_ms = confirm_within_ms;
    if (headwater_agent_new(&options, &agent, error) != 0)
        test_fail("%s", error);
    ck_assert_int_eq(headwater_agent_start_thread(agent), 0);
}

static struct headwater_agent_status status_of(void)
{
    struct headwater_agent_status status;

    headwater_agent_get_status(agent, &status, sizeof(status));
    return status;
}

static void setup(void)
{
    shift = 0;
    heard = 0;
    upstream_open(&up);
    dir = test_temp_dir();
}

static void teardown(void)
{
    headwater_agent_free(agent);
    upstream_close(&up);
    free(dir);
}

static void wait_for_beats(void)
{
    const int enough = heard + 3;

    for (const double until = test_deadline(WAIT_S); heard < enough && test_now() < until;)
        upstream_turn(&up, 10);
    ck_assert_int_ge(heard, enough);
}

START_TEST(test_while_connected)
{
    static const time_t jumps[] = {DAY_S, -DAY_S, 0};
    struct hw_nats_sub *sub;
    struct hw_error err;
    int revision = 1;

    ck_assert_int_eq(hw_nats_subscribe(up.nats, "headwater.alive." NODE, on_beat, NULL, &sub, &err),
                     HW_OK);
    start_agent(0);
    upstream_desire(&up, NODE, revision, "one");
    upstream_expect_applied(&up, NODE, revision);
    for (size_t i = 0; i < HW_COUNT(jumps); i++) {
        shift = jumps[i];
        upstream_desire(&up, NODE, ++revision, i % 2 == 0 ? "other" : "one");
        upstream_expect_applied(&up, NODE, revision);
        wait_for_beats();
    }
    ck_assert_uint_eq(status_of().applies, (uint64_t)revision);
}
END_TEST

/* A try to connect is waited for when the clock is set back. */
START_TEST(test_while_nats_is_away)
{
    start_agent(0);
    upstream_desire(&up, NODE, 1, "one");
    upstream_expect_applied(&up, NODE, 1);
    for (int round = 1; round <= 2; round++) {
        upstream_stop(&up);
        test_wait_for(!status_of().connected, WAIT_S);
        shift = round == 1 ? -DAY_S : DAY_S;
        upstream_restart(&up);
        upstream_desire(&up, NODE, round + 1, "other");
        upstream_expect_applied(&up, NODE, round + 1);
    }
}
END_TEST

/* An hour is an hour, not what the time of day makes of it. */
START_TEST(test_while_confirmation_is_owed)
{
    start_agent(3600000);
    upstream_desire(&up, NODE, 1, "one");
    upstream_expect_applied(&up, NODE, 1);
    cuts_off = 2;
    upstream_desire(&up, NODE, 2, "two");
    test_wait_for(status_of().applies == 2 && !status_of().connected, WAIT_S);
    ck_assert(status_of().unconfirmed);
    test_nats_kill(&up.server);
    shift = DAY_S;
    upstream_restart(&up);
    upstream_expect_applied(&up, NODE, 2);
    test_wait_for(!status_of().unconfirmed, WAIT_S);
    ck_assert_uint_eq(status_of().rollbacks, 0);
}
END_TEST

TEST_MAIN_BETWEEN("clock", 240, setup, teardown, test_while_connected, test_while_nats_is_away,
                  test_while_confirmation_is_owed)
