#include "cli/follow.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/client/stream.h"
#include "common/log.h"
#include "common/loop.h"

enum { PAUSE_MS = 1000, PAUSE_MOST_MS = 30000, INTERRUPTED = 128 + SIGINT };

static int interrupts = -1; /* an eventfd that counts ^C */
static volatile sig_atomic_t was_interrupted;

/* A signal handler may do little: it notes the signal and adds to the eventfd, which ends the
 * poll. A second ^C ends the program at once. */
static void on_interrupt(int signo)
{
    const uint64_t one = 1;

    (void)signo;
    if (was_interrupted != 0 || write(interrupts, &one, sizeof(one)) != (ssize_t)sizeof(one))
        _exit(INTERRUPTED);
    was_interrupted = 1;
}

static enum hw_status await_interrupts(struct hw_error *err)
{
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};

    interrupts = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupts < 0 || sigaction(SIGINT, &action, NULL) != 0)
        return hw_fail_errno(err, "waiting for ^C");
    return HW_OK;
}

struct following {
    const struct cli_follower *to;
    struct cli_events events;
};

static bool on_bytes(void *arg, const char *bytes, size_t len)
{
    struct following *following = arg;

    return cli_events_feed(&following->events, bytes, len);
}

static bool on_rest(void *arg)
{
    const struct following *following = arg;

    return following->to->rest == NULL || following->to->rest(following->to->arg);
}

/* Follows over one connection, until it ends. *established: it was made. */
static enum hw_status connect_once(struct cli *cli, struct following *following, const char *path,
                                   int64_t deadline_ms, bool *established, struct hw_error *err)
{
    const struct cli_stream stream = {.take = on_bytes,
                                      .rest = on_rest,
                                      .arg = following,
                                      .stop_fd = interrupts,
                                      .deadline_ms = deadline_ms};
    struct cli_events *events = &following->events;
    int status;

    cli_events_reconnect(events);
    const enum hw_status st =
        cli_stream_follow(cli->http, path, cli_events_last_id(events), &stream, &status, err);
    *established = status == 200;
    if (events->too_large)
        return hw_fail(err, HW_ELIMIT, "an event is larger than %zu MiB", CLI_EVENT_MOST >> 20);
    return st;
}

/* Waits, but not beyond the deadline, and not after ^C. */
static void take_pause(int64_t pause_ms, int64_t deadline_ms)
{
    struct pollfd stop = {.fd = interrupts, .events = POLLIN};
    const int64_t left = deadline_ms > 0 ? deadline_ms - hw_loop_now() : pause_ms;

    poll(&stop, 1, (int)(left < 0 ? 0 : left < pause_ms ? left : pause_ms));
}

static bool is_over(int64_t deadline_ms)
{
    return deadline_ms > 0 && hw_loop_now() >= deadline_ms;
}

enum hw_status cli_follow(struct cli *cli, const char *path, const struct cli_follower *follower,
                          bool *over, struct hw_error *err)
{
    const int64_t deadline_ms = cli->o->by_flag.timeout ? hw_loop_now() + cli->o->timeout : 0;
    struct following following = {.to = follower};
    bool ever = false, established;
    int64_t pause = PAUSE_MS;
    enum hw_status st = await_interrupts(err);

    *over = false;
    if (st != HW_OK)
        return st;
    cli_events_init(&following.events, follower->event, follower->arg);
    for (;;) {
        st = connect_once(cli, &following, path, deadline_ms, &established, err);
        ever |= established;
        if ((st != HW_EUNAVAIL && st != HW_ETIMEOUT) || !ever || is_over(deadline_ms))
            break;
        pause = established ? PAUSE_MS : pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
        const int64_t wished = following.events.retry_ms;
        if (established && wished >= 0)
            pause = wished < PAUSE_MOST_MS ? wished : PAUSE_MOST_MS;
        hw_log_info("reconnecting", HW_I("pause_ms", pause), HW_E(err));
        take_pause(pause, deadline_ms);
        if (was_interrupted != 0)
            break;
    }
    cli_events_free(&following.events);
    close(interrupts);
    if (was_interrupted != 0)
        return HW_OK;
    *over = ever && is_over(deadline_ms) && (st == HW_ETIMEOUT || st == HW_EUNAVAIL);
    if (*over)
        return HW_OK;
    if (st == HW_ETIMEOUT && is_over(deadline_ms))
        return hw_fail(err, st, "%s: no answer within --timeout", cli->o->server);
    return st;
}
