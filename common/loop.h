/*
 * The event loop: poll(2) over file descriptors, timers, signals, and work that other threads hand
 * over.
 *
 * A program has one thread of its own, which runs this loop, and everything of the program happens
 * there, one callback after another; so its data needs no locks. There are other threads: those of
 * libnats, one that looks why NATS is away, and those of a program that uses the agent's library.
 * They reach the loop in one way: hw_loop_post puts a function and its argument into a list under a
 * lock and wakes the loop by an eventfd; the loop's thread takes the list and runs the functions in
 * order. Every other function here belongs to the thread that runs the loop. A callback may add and
 * remove anything, itself included.
 */
#ifndef HW_LOOP_H
#define HW_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct hw_loop;

enum hw_status hw_loop_new(struct hw_loop **loop, struct hw_error *err) HW_CHECKED;
void hw_loop_free(struct hw_loop *loop); /* NULL is fine; posted work that never ran is dropped */

/* Runs until hw_loop_stop. A turn is: wait, then signals, posted work, timers, descriptors. */
enum hw_status hw_loop_run(struct hw_loop *loop, struct hw_error *err) HW_CHECKED;
/* Ends the loop: no other callback begins in this turn. From another thread it is only a hint; post
 * it (hw_loop_post) as well, or a loop that waits would miss it. */
void hw_loop_stop(struct hw_loop *loop);

/* Runs the loop until *flag is true or timeout_ms passed; returns *flag. For start-up and tests. */
bool hw_loop_run_until(struct hw_loop *loop, const bool *flag, int64_t timeout_ms);

/* Milliseconds of CLOCK_MONOTONIC, which does not jump. */
int64_t hw_loop_now(void);

/* ---- descriptors: events are POLLIN | POLLOUT; revents as poll(2) gave them ---- */
typedef void hw_io_fn(void *arg, short revents);
struct hw_io;
struct hw_io *hw_io_add(struct hw_loop *loop, int fd, short events, hw_io_fn *fn, void *arg);
void hw_io_set(struct hw_io *io, short events);
void hw_io_remove(struct hw_io *io); /* NULL is fine; the descriptor stays open, it is yours */

/* ---- timers: embedded in the owner, zero-initialised; one shot ---- */
typedef void hw_timer_fn(void *arg);
struct hw_timer {
    struct hw_loop *loop;
    int64_t due; /* hw_loop_now() milliseconds */
    int slot;    /* place in the heap plus one; 0: not running */
    hw_timer_fn *fn;
    void *arg;
};
void hw_timer_start(struct hw_loop *loop, struct hw_timer *timer, int64_t after_ms, hw_timer_fn *fn,
                    void *arg); /* a running one is moved */
void hw_timer_stop(struct hw_timer *timer);
static inline bool hw_timer_running(const struct hw_timer *timer)
{
    return timer->slot != 0;
}

/* ---- signals: SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD by signalfd. Blocks the signal
 * in the calling thread: call before other threads start. SIGPIPE is ignored by hw_loop_new. ----
 */
typedef void hw_signal_fn(void *arg, int signo);
enum hw_status hw_loop_on_signal(struct hw_loop *loop, int signo, hw_signal_fn *fn, void *arg,
                                 struct hw_error *err) HW_CHECKED;
/* Stops the loop on the first SIGTERM or SIGINT; the second one exits at once, with status 1. */
enum hw_status hw_loop_stop_on_signals(struct hw_loop *loop, struct hw_error *err) HW_CHECKED;
/* Logs SIGUSR1 and SIGUSR2 and goes on: a service must not die of a signal that was meant for
 * another one. A service for which one of them means something takes it afterwards. */
enum hw_status hw_loop_pass_over_signals(struct hw_loop *loop, struct hw_error *err) HW_CHECKED;

/* ---- other threads: fn(arg) runs on the loop's thread soon, in the order of posting ---- */
typedef void hw_post_fn(void *arg);
void hw_loop_post(struct hw_loop *loop, hw_post_fn *fn, void *arg);

#endif
