#include "http/hangup.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/memory.h"

struct http_hangups {
    void (*gone)(void *arg);
    struct hw_io *io;
    int epoll_fd;
};

/* Events are taken one at a time: the callback for one client may forget another one, whose event
 * must not have been taken from the kernel by then. */
static void on_ready(void *arg, short revents)
{
    const struct http_hangups *hangups = arg;
    struct epoll_event event;

    (void)revents;
    if (epoll_wait(hangups->epoll_fd, &event, 1, 0) == 1)
        hangups->gone(event.data.ptr);
}

enum hw_status http_hangups_new(struct hw_loop *loop, void (*gone)(void *arg),
                                struct http_hangups **out, struct hw_error *err)
{
    const int fd = epoll_create1(EPOLL_CLOEXEC);
    struct http_hangups *hangups;

    if (fd < 0)
        return hw_fail(err, HW_EIO, "epoll_create1: %s", strerror(errno));
    hangups = hw_alloc(sizeof(*hangups));
    hangups->gone = gone;
    hangups->epoll_fd = fd;
    hangups->io = hw_io_add(loop, fd, POLLIN, on_ready, hangups);
    *out = hangups;
    return HW_OK;
}

void http_hangups_free(struct http_hangups *hangups)
{
    if (hangups == NULL)
        return;
    hw_io_remove(hangups->io);
    close(hangups->epoll_fd);
    free(hangups);
}

void http_hangups_watch(struct http_hangups *hangups, int fd, void *arg)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = arg};

    /* It fails only when the kernel lacks memory. Then nobody notices that this client hangs up, as
     * if there were no watch. */
    (void)epoll_ctl(hangups->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

void http_hangups_forget(struct http_hangups *hangups, int fd)
{
    (void)epoll_ctl(hangups->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}
