#include "http/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"

enum { LINGERS_MAX = 64, LINGER_MS = 5000, LINGER_BYTES = 64 << 20 };

struct lingerer {
    LIST_ENTRY(lingerer) link;
    struct http_lingers *all;
    struct hw_io *io;
    struct hw_timer timer;
    int fd;
    size_t bytes;
};

struct http_lingers {
    struct hw_loop *loop;
    LIST_HEAD(, lingerer) list;
    int count;
};

struct http_lingers *http_lingers_new(struct hw_loop *loop)
{
    struct http_lingers *lingers = hw_alloc(sizeof(*lingers));

    lingers->loop = loop;
    LIST_INIT(&lingers->list);
    return lingers;
}

static void end(void *arg)
{
    struct lingerer *linger = arg;

    LIST_REMOVE(linger, link);
    linger->all->count--;
    hw_io_remove(linger->io);
    hw_timer_stop(&linger->timer);
    close(linger->fd);
    free(linger);
}

void http_lingers_free(struct http_lingers *lingers)
{
    if (lingers == NULL)
        return;
    for (struct lingerer *linger = LIST_FIRST(&lingers->list), *next; linger != NULL;
         linger = next) {
        next = LIST_NEXT(linger, link);
        end(linger);
    }
    free(lingers);
}

static void drop_input(void *arg, short revents)
{
    static char dropped[16 << 10];
    struct lingerer *linger = arg;
    const ssize_t got = recv(linger->fd, dropped, sizeof(dropped), MSG_DONTWAIT);

    (void)revents;
    if (got > 0)
        linger->bytes += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        linger->bytes = LINGER_BYTES;
    if (linger->bytes >= LINGER_BYTES)
        end(linger);
}

void http_linger(struct http_lingers *lingers, int fd)
{
    struct lingerer *linger;
    const int copy = lingers->count < LINGERS_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    if (copy < 0)
        return;
    linger = hw_alloc(sizeof(*linger));
    linger->all = lingers;
    linger->fd = copy;
    linger->io = hw_io_add(lingers->loop, copy, POLLIN, drop_input, linger);
    hw_timer_start(lingers->loop, &linger->timer, LINGER_MS, end, linger);
    LIST_INSERT_HEAD(&lingers->list, linger, link);
    lingers->count++;
}
