#include "common/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/log.h"

struct hw_io {
    struct hw_loop *loop;
    size_t place; /* in loop->ios and, plus FIXED, in loop->polls */
    hw_io_fn *fn;
    void *arg;
    bool removed;
    struct hw_io *next_dead;
};

struct post {
    hw_post_fn *fn;
    void *arg;
};

struct signal_handler {
    hw_signal_fn *fn;
    void *arg;
};

/* The first two descriptors that are polled are the loop's own. */
enum { POLL_WAKE, POLL_SIGNAL, FIXED };

enum { LONG_MS = 100 }; /* one callback may take so long, because some wait for a server's answer */

struct hw_loop {
    atomic_bool stopping;
    int wake_fd;
    int signal_fd;
    sigset_t signals;
    struct signal_handler handlers[NSIG];
    int stop_signals;

    struct hw_io **ios;
    struct pollfd *polls; /* FIXED + io_count of them, in the order of ios */
    size_t io_count, io_cap;
    struct hw_io *dead; /* removed in this turn, and freed when the turn is over */

    struct hw_timer **heap; /* binary heap by due */
    size_t heap_count, heap_cap;

    pthread_mutex_t lock; /* guards the posts alone */
    struct post *posts;
    size_t post_count, post_cap;
    struct post *spare; /* the array that ran last, to be filled next */
    size_t spare_cap;
};

int64_t hw_loop_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum hw_status hw_loop_new(struct hw_loop **out, struct hw_error *err)
{
    struct hw_loop *loop = hw_alloc(sizeof(*loop));

    loop->signal_fd = -1;
    sigemptyset(&loop->signals);
    pthread_mutex_init(&loop->lock, NULL);
    loop->polls = hw_alloc(FIXED * sizeof(*loop->polls));
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        hw_fail_errno(err, "making an event descriptor");
        hw_loop_free(loop);
        return HW_EIO;
    }
    loop->polls[POLL_WAKE] = (struct pollfd){.fd = loop->wake_fd, .events = POLLIN};
    loop->polls[POLL_SIGNAL] = (struct pollfd){.fd = -1, .events = POLLIN};
    signal(SIGPIPE, SIG_IGN);
    *out = loop;
    return HW_OK;
}

static void free_dead(struct hw_loop *loop)
{
    while (loop->dead != NULL) {
        struct hw_io *io = loop->dead;

        loop->dead = io->next_dead;
        free(io);
    }
}

void hw_loop_free(struct hw_loop *loop)
{
    if (loop == NULL)
        return;
    for (size_t i = 0; i < loop->heap_count; i++)
        loop->heap[i]->slot = 0;
    for (size_t i = 0; i < loop->io_count; i++)
        free(loop->ios[i]);
    free_dead(loop);
    free(loop->ios);
    free(loop->polls);
    free(loop->heap);
    free(loop->posts);
    free(loop->spare);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->signal_fd >= 0)
        close(loop->signal_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

/* ---- descriptors ---- */

struct hw_io *hw_io_add(struct hw_loop *loop, int fd, short events, hw_io_fn *fn, void *arg)
{
    struct hw_io *io = hw_alloc(sizeof(*io));

    if (loop->io_count == loop->io_cap) {
        loop->io_cap = loop->io_cap > 0 ? 2 * loop->io_cap : 16;
        loop->ios = hw_realloc(loop->ios, loop->io_cap * sizeof(*loop->ios));
        loop->polls = hw_realloc(loop->polls, (FIXED + loop->io_cap) * sizeof(*loop->polls));
    }
    *io = (struct hw_io){.loop = loop, .place = loop->io_count, .fn = fn, .arg = arg};
    loop->ios[io->place] = io;
    loop->polls[FIXED + io->place] = (struct pollfd){.fd = fd, .events = events};
    loop->io_count++;
    return io;
}

void hw_io_set(struct hw_io *io, short events)
{
    io->loop->polls[FIXED + io->place].events = events;
}

void hw_io_remove(struct hw_io *io)
{
    struct hw_loop *loop;

    if (io == NULL || io->removed)
        return;
    loop = io->loop;
    loop->io_count--;
    loop->ios[io->place] = loop->ios[loop->io_count];
    loop->ios[io->place]->place = io->place;
    loop->polls[FIXED + io->place] = loop->polls[FIXED + loop->io_count];
    io->removed = true;
    io->next_dead = loop->dead;
    loop->dead = io;
}

/*
 * Walks backwards. A removal puts the last entry, which has run already, in the place of the
 * removed one. An addition goes to the end and waits for the next turn, because its revents are 0.
 */
static void run_ios(struct hw_loop *loop)
{
    for (size_t i = loop->io_count; i-- > 0;) {
        if (i >= loop->io_count)
            continue;
        struct hw_io *io = loop->ios[i];
        const short revents = loop->polls[FIXED + i].revents;

        loop->polls[FIXED + i].revents = 0;
        if (revents != 0)
            io->fn(io->arg, revents);
    }
}

/* ---- timers: a binary heap, the earliest at 0 ---- */

static void heap_set(struct hw_loop *loop, size_t place, struct hw_timer *timer)
{
    loop->heap[place] = timer;
    timer->slot = (int)place + 1;
}

static void heap_up(struct hw_loop *loop, size_t place)
{
    struct hw_timer *timer = loop->heap[place];

    while (place > 0 && timer->due < loop->heap[(place - 1) / 2]->due) {
        heap_set(loop, place, loop->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_set(loop, place, timer);
}

static void heap_down(struct hw_loop *loop, size_t place)
{
    struct hw_timer *timer = loop->heap[place];

    for (;;) {
        size_t child = 2 * place + 1;

        if (child >= loop->heap_count)
            break;
        if (child + 1 < loop->heap_count && loop->heap[child + 1]->due < loop->heap[child]->due)
            child++;
        if (timer->due <= loop->heap[child]->due)
            break;
        heap_set(loop, place, loop->heap[child]);
        place = child;
    }
    heap_set(loop, place, timer);
}

void hw_timer_stop(struct hw_timer *timer)
{
    struct hw_loop *loop = timer->loop;
    size_t place;

    if (timer->slot == 0)
        return;
    place = (size_t)timer->slot - 1;
    timer->slot = 0;
    loop->heap_count--;
    if (place == loop->heap_count)
        return;
    heap_set(loop, place, loop->heap[loop->heap_count]);
    heap_up(loop, place);
    heap_down(loop, (size_t)loop->heap[place]->slot - 1);
}

void hw_timer_start(struct hw_loop *loop, struct hw_timer *timer, int64_t after_ms, hw_timer_fn *fn,
                    void *arg)
{
    hw_timer_stop(timer);
    timer->loop = loop;
    timer->due = hw_loop_now() + (after_ms > 0 ? after_ms : 0);
    timer->fn = fn;
    timer->arg = arg;
    if (loop->heap_count == loop->heap_cap) {
        loop->heap_cap = loop->heap_cap > 0 ? 2 * loop->heap_cap : 16;
        loop->heap = hw_realloc(loop->heap, loop->heap_cap * sizeof(*loop->heap));
    }
    heap_set(loop, loop->heap_count, timer);
    heap_up(loop, loop->heap_count++);
}

/* Runs the timers that are due at the start of the turn, so that a timer which restarts itself at
 * once does not starve the rest. After a callback that took long, because a server does not answer,
 * signals are looked at before the next one. */
static void run_timers(struct hw_loop *loop, bool was_stopping)
{
    const int64_t now = hw_loop_now();
    size_t most = loop->heap_count;

    while (loop->heap_count > 0 && most-- > 0 && loop->heap[0]->due <= now &&
           loop->stopping == was_stopping && hw_loop_now() - now < LONG_MS) {
        struct hw_timer *timer = loop->heap[0];

        hw_timer_stop(timer);
        timer->fn(timer->arg);
    }
}

/* ---- signals ---- */

enum hw_status hw_loop_on_signal(struct hw_loop *loop, int signo, hw_signal_fn *fn, void *arg,
                                 struct hw_error *err)
{
    int fd;

    sigaddset(&loop->signals, signo);
    if (pthread_sigmask(SIG_BLOCK, &loop->signals, NULL) != 0)
        return hw_fail(err, HW_EIO, "blocking signal %d", signo);
    fd = signalfd(loop->signal_fd, &loop->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return hw_fail_errno(err, "making a signal descriptor");
    loop->signal_fd = fd;
    loop->polls[POLL_SIGNAL].fd = fd;
    loop->handlers[signo] = (struct signal_handler){.fn = fn, .arg = arg};
    return HW_OK;
}

static void stop_on_signal(void *arg, int signo)
{
    struct hw_loop *loop = arg;

    (void)signo;
    if (++loop->stop_signals > 1)
        _exit(1);
    hw_loop_stop(loop);
}

enum hw_status hw_loop_stop_on_signals(struct hw_loop *loop, struct hw_error *err)
{
    const enum hw_status status = hw_loop_on_signal(loop, SIGTERM, stop_on_signal, loop, err);

    if (status != HW_OK)
        return status;
    return hw_loop_on_signal(loop, SIGINT, stop_on_signal, loop, err);
}

static void pass_over(void *arg, int signo)
{
    (void)arg;
    hw_log_warn("a signal came that means nothing here: passed over",
                HW_S("signal", signo == SIGUSR1 ? "SIGUSR1" : "SIGUSR2"));
}

enum hw_status hw_loop_pass_over_signals(struct hw_loop *loop, struct hw_error *err)
{
    const enum hw_status status = hw_loop_on_signal(loop, SIGUSR1, pass_over, NULL, err);

    return status == HW_OK ? hw_loop_on_signal(loop, SIGUSR2, pass_over, NULL, err) : status;
}

static void run_signals(struct hw_loop *loop)
{
    struct signalfd_siginfo info;

    while (read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        const struct signal_handler *handler = &loop->handlers[info.ssi_signo];

        if (handler->fn != NULL)
            handler->fn(handler->arg, (int)info.ssi_signo);
    }
}

/* ---- other threads ---- */

/* Called by threads of libraries. It puts the function into the list and wakes the poll by a
 * byte in the eventfd; it never waits for the loop. */
void hw_loop_post(struct hw_loop *loop, hw_post_fn *fn, void *arg)
{
    bool wake;

    pthread_mutex_lock(&loop->lock);
    if (loop->post_count == loop->post_cap) {
        loop->post_cap = loop->post_cap > 0 ? 2 * loop->post_cap : 64;
        loop->posts = hw_realloc(loop->posts, loop->post_cap * sizeof(*loop->posts));
    }
    wake = loop->post_count == 0;
    loop->posts[loop->post_count++] = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_unlock(&loop->lock);
    if (wake) {
        const uint64_t one = 1;

        /* EAGAIN means that the counter is full, so the loop is awake anyway. */
        if (write(loop->wake_fd, &one, sizeof(one)) < 0)
            return;
    }
}

/* The list is swapped for an empty one under the lock, and its functions run without the lock:
 * they may post again, and other threads never wait for a callback. */
static void run_posts(struct hw_loop *loop)
{
    struct post *posts;
    size_t count, cap;
    uint64_t wakes;

    if (read(loop->wake_fd, &wakes, sizeof(wakes)) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&loop->lock);
    posts = loop->posts;
    count = loop->post_count;
    cap = loop->post_cap;
    loop->posts = loop->spare;
    loop->post_cap = loop->spare_cap;
    loop->post_count = 0;
    loop->spare = NULL;
    loop->spare_cap = 0;
    pthread_mutex_unlock(&loop->lock);

    for (size_t i = 0; i < count; i++)
        posts[i].fn(posts[i].arg);

    pthread_mutex_lock(&loop->lock);
    if (loop->spare == NULL) {
        loop->spare = posts;
        loop->spare_cap = cap;
        posts = NULL;
    }
    pthread_mutex_unlock(&loop->lock);
    free(posts);
}

/* ---- turning ---- */

static enum hw_status turn(struct hw_loop *loop, int64_t at_most_ms, struct hw_error *err)
{
    const bool was_stopping = loop->stopping;
    int64_t wait = at_most_ms;
    int ready;

    if (loop->heap_count > 0) {
        const int64_t until_due = loop->heap[0]->due - hw_loop_now();

        if (wait < 0 || until_due < wait)
            wait = until_due > 0 ? until_due : 0;
    }
    ready = poll(loop->polls, FIXED + loop->io_count, wait > 60000 ? 60000 : (int)wait);
    if (ready < 0 && errno != EINTR)
        return hw_fail_errno(err, "waiting for events");
    if (ready < 0)
        for (size_t i = 0; i < FIXED + loop->io_count; i++)
            loop->polls[i].revents = 0;
    if (loop->polls[POLL_SIGNAL].revents != 0)
        run_signals(loop);
    if (loop->polls[POLL_WAKE].revents != 0)
        run_posts(loop);
    /* One of these has stopped the loop: other callbacks may block, and nobody needs them any
     * more. */
    if (loop->stopping == was_stopping) {
        run_timers(loop, was_stopping);
        if (ready > 0 && loop->stopping == was_stopping)
            run_ios(loop);
    }
    free_dead(loop);
    return HW_OK;
}

enum hw_status hw_loop_run(struct hw_loop *loop, struct hw_error *err)
{
    loop->stopping = false;
    while (!loop->stopping) {
        const enum hw_status status = turn(loop, -1, err);

        if (status != HW_OK)
            return status;
    }
    return HW_OK;
}

void hw_loop_stop(struct hw_loop *loop)
{
    loop->stopping = true;
}

bool hw_loop_run_until(struct hw_loop *loop, const bool *flag, int64_t timeout_ms)
{
    const int64_t until = hw_loop_now() + timeout_ms;

    while (!*flag) {
        const int64_t left = until - hw_loop_now();

        if (left <= 0 || turn(loop, left, NULL) != HW_OK)
            break;
    }
    return *flag;
}
