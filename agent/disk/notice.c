#include "agent/disk/notice.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/backoff.h"

#define PLACES    4
#define SETTLE_MS 20 /* between a change and the look: one change is several events */
#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE |            \
     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct place {
    char *dir, *name; /* name NULL: everything in dir */
    int watch;        /* -1: not watched; every look tries it again */
};

struct agent_notice {
    struct hw_loop *loop;
    int64_t every_ms;
    agent_notice_fn *look;
    void *arg;
    int fd; /* -1: inotify is not wanted, or the system has no instance left; then only the timer
               works */
    struct hw_io *io;
    struct place places[PLACES];
    size_t count;
    struct hw_timer timer;
};

/* A directory that does not exist, or has been replaced, cannot be watched; it is tried again
 * with every look. */
static void watch(struct agent_notice *n)
{
    for (size_t i = 0; i < n->count && n->fd >= 0; i++)
        if (n->places[i].watch < 0)
            n->places[i].watch = inotify_add_watch(n->fd, n->places[i].dir, EVENTS);
}

/* The look at an interval finds what inotify cannot see: changes on a network file system, and
 * those made while a directory was not watched. */
static void on_timer(void *arg)
{
    struct agent_notice *n = arg;

    hw_timer_start(n->loop, &n->timer, hw_jitter_ms(n->every_ms), on_timer, n);
    watch(n);
    n->look(n->arg);
}

void agent_notice_soon(struct agent_notice *n)
{
    if (n->timer.due > hw_loop_now() + SETTLE_MS)
        hw_timer_start(n->loop, &n->timer, SETTLE_MS, on_timer, n);
}

/* Several events belong to one change (create, write, close, rename), so the look is made a
 * moment after the first one. */
static void take(struct agent_notice *n, const struct inotify_event *event)
{
    if ((event->mask & IN_Q_OVERFLOW) != 0)
        agent_notice_soon(n);
    for (size_t i = 0; i < n->count; i++) {
        struct place *p = &n->places[i];

        if (p->watch != event->wd)
            continue;
        if ((event->mask & IN_MOVE_SELF) != 0)
            inotify_rm_watch(n->fd, p->watch); /* another directory may have that name now */
        if ((event->mask & (IN_IGNORED | IN_MOVE_SELF)) != 0)
            p->watch = -1;
        if (p->name == NULL || event->len == 0 || strcmp(event->name, p->name) == 0)
            agent_notice_soon(n);
    }
}

static void on_events(void *arg, short revents)
{
    struct agent_notice *n = arg;
    _Alignas(struct inotify_event) char bytes[4096];
    const ssize_t len = read(n->fd, bytes, sizeof(bytes));

    (void)revents;
    for (ssize_t at = 0; at < len;) {
        const struct inotify_event *event =
            (const struct inotify_event *)(const void *)(bytes + at);

        take(n, event);
        at += (ssize_t)(sizeof(*event) + event->len);
    }
}

struct agent_notice *agent_notice_new(struct hw_loop *loop, int64_t every_ms, bool inotify,
                                      agent_notice_fn *look, void *arg)
{
    struct agent_notice *n = hw_alloc(sizeof(*n));

    *n = (struct agent_notice){.loop = loop, .every_ms = every_ms, .look = look, .arg = arg};
    n->fd = inotify ? inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1;
    if (n->fd >= 0)
        n->io = hw_io_add(loop, n->fd, POLLIN, on_events, n);
    hw_timer_start(loop, &n->timer, 0, on_timer, n);
    return n;
}

void agent_notice_add(struct agent_notice *n, const char *dir, const char *name)
{
    if (n->count == PLACES)
        return;
    n->places[n->count++] =
        (struct place){hw_strdup(dir), name != NULL ? hw_strdup(name) : NULL, -1};
    watch(n);
}

void agent_notice_free(struct agent_notice *n)
{
    if (n == NULL)
        return;
    hw_timer_stop(&n->timer);
    hw_io_remove(n->io);
    if (n->fd >= 0)
        close(n->fd);
    for (size_t i = 0; i < n->count; i++) {
        free(n->places[i].dir);
        free(n->places[i].name);
    }
    free(n);
}
