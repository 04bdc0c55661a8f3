#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/loop.h"
#include "tests/support/patience.h"
#include "tests/support/suite.h"

static struct hw_loop *loop;
static char trace[256]; /* what ran, a character each */

static void note(char c)
{
    const size_t len = strlen(trace);
    ck_assert_uint_lt(len, sizeof(trace) - 1);
    trace[len] = c;
    trace[len + 1] = '\0';
}

static void new_loop(void)
{
    struct hw_error err = {0};
    ck_assert_msg(hw_loop_new(&loop, &err) == HW_OK, "%s", err.message);
    trace[0] = '\0';
}

static void run(void)
{
    struct hw_error err = {0};
    ck_assert_msg(hw_loop_run(loop, &err) == HW_OK, "%s", err.message);
}

static void note_and_go_on(void *arg)
{
    note(*(const char *)arg);
}

static void stop(void *arg)
{
    (void)arg;
    hw_loop_stop(loop);
}

static struct hw_timer turning;
static int turns_left;

static void count_down(void *arg)
{
    if (--turns_left > 0)
        hw_timer_start(loop, &turning, 0, count_down, arg);
    else
        hw_loop_stop(loop);
}

/* However long they take: what is ready now has its turn in the first one. */
static void run_turns(int turns)
{
    turns_left = turns;
    hw_timer_start(loop, &turning, 0, count_down, NULL);
    run();
}

/* ---- timers ---- */

START_TEST(test_timers_run_by_due_time)
{
    static const struct {
        int64_t after;
        const char *mark;
    } cases[] = {{30, "0"}, {0, "1"}, {20, "2"}, {40, "3"}, {10, "4"}};
    struct hw_timer timers[HW_COUNT(cases)] = {0}, last = {0};
    int64_t due[HW_COUNT(cases)];
    new_loop();
    const int64_t begin = hw_loop_now();
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        hw_timer_start(loop, &timers[i], cases[i].after, note_and_go_on,
                       (void *)(uintptr_t)cases[i].mark);
        due[i] = timers[i].due; /* where the machine was slow, in another order than after */
        ck_assert_int_ge(due[i], begin + cases[i].after);
    }
    hw_timer_start(loop, &last, 50, stop, NULL);
    run();
    ck_assert_uint_eq(strlen(trace), HW_COUNT(cases));
    for (size_t i = 1; i < HW_COUNT(cases); i++) {
        ck_assert_ptr_null(strchr(trace + i, trace[i - 1]));
        ck_assert_int_le(due[trace[i - 1] - '0'], due[trace[i] - '0']);
    }
    ck_assert_int_ge(hw_loop_now() - begin, 50);
    for (size_t i = 0; i < HW_COUNT(cases); i++)
        ck_assert(!hw_timer_running(&timers[i]));
    hw_loop_free(loop);
}
END_TEST

static int fired[500];

static void count_timer(void *arg)
{
    ++*(int *)arg;
}

/* Against a plain list: started, moved and stopped in a pseudo-random order. */
START_TEST(test_many_timers_moved_and_stopped)
{
    static struct hw_timer timers[500];
    static bool wanted[500];
    struct hw_timer last = {0};
    unsigned random_state = 1;
    new_loop();
    for (int i = 0; i < 5000; i++) {
        random_state = random_state * 1103515245 + 12345;
        const unsigned which = random_state >> 8 & 511, after = random_state >> 20 & 15;
        if (which >= HW_COUNT(timers))
            continue;
        wanted[which] = i % 3 != 0;
        if (wanted[which])
            hw_timer_start(loop, &timers[which], after, count_timer, &fired[which]);
        else
            hw_timer_stop(&timers[which]);
        ck_assert(hw_timer_running(&timers[which]) == wanted[which]);
    }
    hw_timer_start(loop, &last, 20, stop, NULL);
    run();
    for (size_t i = 0; i < HW_COUNT(timers); i++)
        ck_assert_int_eq(fired[i], wanted[i]);
    hw_loop_free(loop);
}
END_TEST

static struct hw_timer self, other;

static void stop_other_and_restart(void *arg)
{
    note('s');
    hw_timer_stop(&other);
    if (strlen(trace) < 3)
        hw_timer_start(loop, &self, 0, stop_other_and_restart, arg);
    else
        hw_loop_stop(loop);
}

START_TEST(test_timer_callbacks_change_timers)
{
    new_loop();
    hw_timer_start(loop, &self, 0, stop_other_and_restart, NULL);
    hw_timer_start(loop, &other, 1, note_and_go_on, (void *)(uintptr_t) "o");
    run();
    ck_assert_str_eq(trace, "sss");
    hw_timer_stop(&other);
    hw_timer_stop(&(struct hw_timer){0});
    hw_loop_free(loop);
}
END_TEST

static void again_at_once(void *arg)
{
    hw_timer_start(loop, &self, 0, again_at_once, arg);
}

static void stop_on_input(void *arg, short revents)
{
    (void)arg;
    ck_assert_int_eq(revents & POLLIN, POLLIN);
    hw_loop_stop(loop);
}

START_TEST(test_restless_timer_starves_nobody)
{
    int ends[2];
    new_loop();
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    hw_timer_start(loop, &self, 0, again_at_once, NULL);
    struct hw_io *io = hw_io_add(loop, ends[0], POLLIN, stop_on_input, NULL);
    run();
    hw_io_remove(io);
    hw_loop_free(loop);
    ck_assert(!hw_timer_running(&self)); /* the loop let go of it */
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* ---- descriptors ---- */

struct end {
    int fd;
    struct hw_io *io;
    char mark;
    struct end *remove; /* NULL, or whom to remove when called */
};

static void on_readable(void *arg, short revents)
{
    struct end *end = arg;
    char byte;
    ck_assert_int_eq(revents & POLLIN, POLLIN);
    ck_assert_int_eq(read(end->fd, &byte, 1), 1);
    note(end->mark);
    if (end->remove != NULL) {
        hw_io_remove(end->remove->io);
        end->remove->io = NULL;
    }
}

/* Three are readable at once; each in turn removes one of the three, itself included. */
START_TEST(test_descriptors_removed_while_they_are_ready)
{
    for (int remover = 0; remover < 3; remover++) {
        for (int removed = 0; removed < 3; removed++) {
            struct end ends[3];
            int writers[3];
            new_loop();
            memset(trace, 0, sizeof(trace));
            for (int i = 0; i < 3; i++) {
                int pair[2];
                ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
                writers[i] = pair[1];
                ends[i] = (struct end){.fd = pair[0], .mark = (char)('0' + i)};
                ends[i].io = hw_io_add(loop, pair[0], POLLIN, on_readable, &ends[i]);
                ck_assert_int_eq(write(writers[i], "x", 1), 1);
            }
            ends[remover].remove = &ends[removed];
            run_turns(5);
            /* Everyone ran once, but for who was removed before its turn. */
            for (int i = 0; i < 3; i++) {
                const char *at = strchr(trace, '0' + i);
                ck_assert(at != NULL || (i == removed && i != remover));
                ck_assert(at == NULL || strchr(at + 1, '0' + i) == NULL);
                hw_io_remove(ends[i].io);
                close(ends[i].fd);
                close(writers[i]);
            }
            hw_io_remove(NULL);
            hw_loop_free(loop);
        }
    }
}
END_TEST

static struct hw_io *writable;

static void on_writable(void *arg, short revents)
{
    (void)arg;
    ck_assert_int_eq(revents, POLLOUT);
    note('w');
    if (strlen(trace) == 3)
        hw_io_set(writable, 0);
}

START_TEST(test_interest_can_change)
{
    int ends[2];
    new_loop();
    ck_assert_int_eq(pipe(ends), 0);
    writable = hw_io_add(loop, ends[1], POLLOUT, on_writable, NULL);
    run_turns(10);
    ck_assert_str_eq(trace, "www");
    hw_loop_free(loop); /* with a descriptor still on it, which stays ours */
    ck_assert_int_eq(close(ends[0]) + close(ends[1]), 0);
}
END_TEST

/* ---- other threads ---- */

enum { THREADS = 4, POSTS = 20000 };
struct posted {
    int thread, index;
};
static int next_index[THREADS], total;

static void on_post(void *arg)
{
    struct posted *posted = arg;
    ck_assert_int_eq(posted->index, next_index[posted->thread]++);
    free(posted);
    if (++total == THREADS * POSTS)
        hw_loop_stop(loop);
}

static void *post_many(void *arg)
{
    for (int i = 0; i < POSTS; i++) {
        struct posted *posted = hw_alloc(sizeof(*posted));
        *posted = (struct posted){.thread = (int)(intptr_t)arg, .index = i};
        hw_loop_post(loop, on_post, posted);
    }
    return NULL;
}

START_TEST(test_posts_of_threads_run_in_their_order)
{
    pthread_t threads[THREADS];
    new_loop();
    for (intptr_t t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, post_many, (void *)t), 0);
    run();
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    hw_loop_free(loop);
}
END_TEST

static void post_next(void *arg)
{
    note('p');
    if (strlen(trace) < 5)
        hw_loop_post(loop, post_next, arg);
    else
        hw_loop_stop(loop);
}

START_TEST(test_posting_from_a_post)
{
    new_loop();
    hw_loop_post(loop, post_next, NULL);
    run();
    ck_assert_str_eq(trace, "ppppp");
    hw_loop_post(loop, post_next, NULL); /* never runs: dropped */
    hw_loop_free(loop);
    ck_assert_str_eq(trace, "ppppp");
    hw_loop_free(NULL);
}
END_TEST

/* ---- signals ---- */

static void on_signal(void *arg, int signo)
{
    ck_assert_ptr_eq(arg, trace);
    note(signo == SIGHUP ? 'h' : signo == SIGUSR1 ? 'u' : '?');
    if (signo == SIGUSR1)
        hw_loop_stop(loop);
}

START_TEST(test_signals_arrive_on_the_loop)
{
    new_loop();
    ck_assert_int_eq(hw_loop_on_signal(loop, SIGHUP, on_signal, trace, NULL), HW_OK);
    ck_assert_int_eq(hw_loop_on_signal(loop, SIGUSR1, on_signal, trace, NULL), HW_OK);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGUSR1);
    ck_assert_str_eq(trace, "");
    run();
    ck_assert(strchr(trace, 'h') != NULL && strchr(trace, 'u') != NULL);
    ck_assert_uint_eq(strlen(trace), 2);
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_sigterm_and_sigint_stop)
{
    static const int stoppers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < HW_COUNT(stoppers); i++) {
        new_loop();
        ck_assert_int_eq(hw_loop_stop_on_signals(loop, NULL), HW_OK);
        kill(getpid(), stoppers[i]);
        run();
        hw_loop_free(loop);
    }
}
END_TEST

/* A program that drains for ever is ended by asking twice. */
static void drain(void *arg, short revents)
{
    (void)revents;
    static bool told;
    if (!told)
        ck_assert_int_eq(write(*(int *)arg, "s", 1), 1);
    told = true;
}

START_TEST(test_second_sigterm_exits_at_once)
{
    int ready[2], status;
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        const bool never = false;
        new_loop();
        if (hw_loop_stop_on_signals(loop, NULL) != HW_OK || write(ready[1], "r", 1) != 1)
            _exit(50);
        run();
        hw_io_add(loop, ready[1], POLLOUT, drain, &ready[1]);
        hw_loop_run_until(loop, &never, test_patient_ms(20000));
        _exit(51);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    kill(pid, SIGTERM);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1); /* it has stopped and drains */
    kill(pid, SIGTERM);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 1);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

START_TEST(test_sigpipe_is_ignored)
{
    int ends[2];
    new_loop();
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    ck_assert_int_eq(write(ends[1], "x", 1), -1);
    close(ends[1]);
    hw_loop_free(loop);
}
END_TEST

/* ---- running until ---- */

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

START_TEST(test_run_until)
{
    bool flag = false;
    struct hw_timer timer = {0};
    new_loop();
    const int64_t begin = hw_loop_now();
    ck_assert(!hw_loop_run_until(loop, &flag, 30));
    ck_assert_int_ge(hw_loop_now() - begin, 30);
    hw_timer_start(loop, &timer, 5, set_flag, &flag);
    ck_assert(hw_loop_run_until(loop, &flag, test_patient_ms(20000)));
    hw_loop_free(loop);
}
END_TEST

TEST_MAIN("loop", 60, test_timers_run_by_due_time, test_many_timers_moved_and_stopped,
          test_timer_callbacks_change_timers, test_restless_timer_starves_nobody,
          test_descriptors_removed_while_they_are_ready, test_interest_can_change,
          test_posts_of_threads_run_in_their_order, test_posting_from_a_post,
          test_signals_arrive_on_the_loop, test_sigterm_and_sigint_stop,
          test_second_sigterm_exits_at_once, test_sigpipe_is_ignored, test_run_until)
