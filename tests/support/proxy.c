#include "tests/support/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

enum { LINKS_MOST = 256, PIPE_SIZE = 1 << 16, TICK_MS = 5 };

/* One direction of a connection: the bytes that were read and not yet written. */
struct half {
    char data[PIPE_SIZE];
    size_t from, to;
    double due; /* the time before which they are not written */
    bool ended; /* the sender has ended, and the receiver was told so */
};

struct link {
    int fd[2];           /* client, server */
    struct half half[2]; /* half[i] holds what came from fd[i] */
    bool forgotten;      /* left open, and never read again */
};

struct proxy {
    int listener, wake, port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the members below, which other threads set */
    bool stop, cut, reset, forget;
    int target, delay_ms;
    double delay_until, hole_until;
    /* Only the proxy's thread uses these. */
    struct link *links[LINKS_MOST];
    int count;
};

static void set_options(int fd)
{
    const int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

static struct sockaddr_in address_of(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void close_link(struct proxy *p, int i, bool reset)
{
    const struct linger abort = {.l_onoff = 1, .l_linger = 0};

    for (int side = 0; side < 2; side++) {
        if (reset)
            setsockopt(p->links[i]->fd[side], SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
        close(p->links[i]->fd[side]);
    }
    free(p->links[i]);
    p->links[i] = p->links[--p->count];
}

static void accept_one(struct proxy *p, int target)
{
    const struct sockaddr_in address = address_of(target);
    const int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    int server = -1;

    if (client < 0)
        return;
    if (p->count < LINKS_MOST)
        server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || connect(server, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    set_options(client);
    set_options(server);
    struct link *link = hw_alloc(sizeof(*link));
    link->fd[0] = client;
    link->fd[1] = server;
    p->links[p->count++] = link;
}

/* Moves bytes in one direction, as many as can be moved. False when the connection is over. */
static bool pump(struct half *half, int from, int to, bool readable, double delay)
{
    if (readable && half->from == half->to && !half->ended) {
        const ssize_t n = recv(from, half->data, sizeof(half->data), 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n == 0) {
            half->ended = true;
            shutdown(to, SHUT_WR);
        }
        if (n > 0) {
            half->from = 0;
            half->to = (size_t)n;
            half->due = test_now() + delay;
        }
    }
    if (half->from < half->to && half->due <= test_now()) {
        const ssize_t n = send(to, half->data + half->from, half->to - half->from, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0)
            half->from += (size_t)n;
    }
    return true;
}

static void *run(void *arg)
{
    struct proxy *p = arg;

    for (;;) {
        struct pollfd poller[2 + 2 * LINKS_MOST] = {{.fd = p->wake, .events = POLLIN},
                                                    {.fd = p->listener, .events = POLLIN}};
        uint64_t woken;

        pthread_mutex_lock(&p->lock);
        const double now = test_now();
        const bool hole = now < p->hole_until, stop = p->stop, cut = p->cut, reset = p->reset;
        const bool forget = p->forget;
        const int target = p->target;
        const double delay = now < p->delay_until ? p->delay_ms / 1000.0 : 0;
        p->cut = p->forget = false;
        pthread_mutex_unlock(&p->lock);
        for (int i = p->count; (cut || stop) && i-- > 0;)
            close_link(p, i, reset);
        if (stop)
            return NULL;
        for (int i = 0; i < p->count; i++)
            p->links[i]->forgotten |= forget;

        bool waiting = hole;
        for (int i = 0; i < p->count && !hole; i++)
            for (int side = 0; side < 2; side++) {
                const struct half *in = &p->links[i]->half[side];
                const struct half *out = &p->links[i]->half[1 - side];
                const bool due = out->from < out->to && out->due <= now;

                if (p->links[i]->forgotten) {
                    poller[2 + 2 * i + side].fd = -1; /* which poll(2) passes over */
                    continue;
                }
                waiting |= out->from < out->to && !due;
                poller[2 + 2 * i + side] = (struct pollfd){
                    .fd = p->links[i]->fd[side],
                    .events = (short)((in->from == in->to && !in->ended ? POLLIN : 0) |
                                      (due ? POLLOUT : 0))};
            }
        const int polled = hole ? 0 : p->count;
        poll(poller, hole ? 1 : (nfds_t)(2 + 2 * polled), waiting ? TICK_MS : -1);
        if (poller[0].revents != 0 && read(p->wake, &woken, sizeof(woken)) < 0)
            continue;
        for (int i = polled; i-- > 0;) {
            struct link *link = p->links[i];
            bool alive = true;

            for (int side = 0; side < 2 && alive && !link->forgotten; side++)
                alive = pump(&link->half[side], link->fd[side], link->fd[1 - side],
                             poller[2 + 2 * i + side].revents != 0, delay);
            if (!alive || (link->half[0].ended && link->half[1].ended))
                close_link(p, i, !alive);
        }
        if (!hole && poller[1].revents != 0)
            accept_one(p, target);
    }
}

struct proxy *proxy_start(int target)
{
    struct proxy *p = hw_alloc(sizeof(*p));

    p->target = target;
    pthread_mutex_init(&p->lock, NULL);
    p->wake = eventfd(0, EFD_CLOEXEC);
    for (int attempt = 0;; attempt++) {
        p->port = test_free_port();
        const struct sockaddr_in address = address_of(p->port);
        p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(p->listener, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
            listen(p->listener, LINKS_MOST) == 0)
            break;
        close(p->listener);
        if (attempt == 3)
            test_fail("the proxy finds no port");
    }
    fcntl(p->listener, F_SETFL, O_NONBLOCK);
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        test_fail("cannot start a thread");
    return p;
}

static void wake(struct proxy *p)
{
    const uint64_t one = 1;

    if (write(p->wake, &one, sizeof(one)) < 0)
        test_fail("cannot wake the proxy: %s", strerror(errno));
}

void proxy_stop(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_mutex_unlock(&p->lock);
    wake(p);
    pthread_join(p->thread, NULL);
    close(p->listener);
    close(p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int proxy_port(const struct proxy *p)
{
    return p->port;
}

void proxy_cut(struct proxy *p, bool reset)
{
    pthread_mutex_lock(&p->lock);
    p->cut = true;
    p->reset = reset;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

void proxy_delay(struct proxy *p, int delay_ms, double seconds)
{
    pthread_mutex_lock(&p->lock);
    p->delay_ms = delay_ms;
    p->delay_until = test_now() + seconds;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

void proxy_blackhole(struct proxy *p, double seconds)
{
    pthread_mutex_lock(&p->lock);
    p->hole_until = test_now() + seconds;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

void proxy_forget(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->forget = true;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

void proxy_aim(struct proxy *p, int target)
{
    pthread_mutex_lock(&p->lock);
    p->target = target;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

void proxy_heal(struct proxy *p)
{
    pthread_mutex_lock(&p->lock);
    p->hole_until = p->delay_until = 0;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}
