#include "common/notify.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/number.h"

enum {
    START_TICK_MS = 10000, /* between signs of life during the start, where there is no watchdog */
    SEND_MOST_S = 1,
    STATUS_MAX = 256,
};

struct hw_notify {
    struct hw_loop *loop;
    int fd;
    struct sockaddr_un address;
    socklen_t address_size;
    struct hw_timer timer;
    int64_t watchdog_ms; /* 0: nobody waits for signs of life */
    bool ready;
    char status[STATUS_MAX];
};

static void send_text(const struct hw_notify *n, const char *text, int flags)
{
    const ssize_t sent = sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | flags,
                                (const struct sockaddr *)&n->address, n->address_size);

    /* A send that fails is passed over, as the header says. */
    (void)sent;
}

static void tick(void *arg)
{
    struct hw_notify *n = arg;
    const int64_t period_ms = n->watchdog_ms > 0 ? n->watchdog_ms : 2 * (int64_t)START_TICK_MS;

    if (n->ready && n->watchdog_ms == 0)
        return;
    if (n->ready) {
        send_text(n, "WATCHDOG=1", MSG_DONTWAIT);
    } else {
        HW_AUTO_FREE char *text = hw_sprintf("EXTEND_TIMEOUT_USEC=%lld", 1000LL * period_ms);

        send_text(n, text, MSG_DONTWAIT);
    }
    hw_timer_start(n->loop, &n->timer, period_ms / 2, tick, n);
}

/* ---- opening ---- */

/* The value of an environment variable, which is removed from the environment; NULL where it is
 * absent or empty. */
static char *take_variable(const char *name)
{
    const char *const value = getenv(name);
    char *const copy = value != NULL && *value != '\0' ? hw_strdup(value) : NULL;

    unsetenv(name);
    return copy;
}

static enum hw_status set_address(struct hw_notify *n, const char *path, struct hw_error *err)
{
    const size_t len = strlen(path);

    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(n->address.sun_path))
        return hw_fail(err, HW_EINVAL,
                       "NOTIFY_SOCKET: \"%s\" is neither an absolute path nor @ and a name, of at "
                       "most %zu characters",
                       path, sizeof(n->address.sun_path) - 1);
    n->address.sun_family = AF_UNIX;
    memcpy(n->address.sun_path, path, len + 1);
    n->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (path[0] == '@')
        n->address.sun_path[0] = '\0';
    else
        n->address_size++;
    return HW_OK;
}

static enum hw_status parse_positive(const char *name, const char *text, uint64_t *value,
                                     struct hw_error *err)
{
    if (!hw_number_parse(text, value) || *value == 0 || *value > INT64_MAX)
        return hw_fail(err, HW_EINVAL, "%s: \"%s\" is not a positive number", name, text);
    return HW_OK;
}

static enum hw_status set_watchdog(struct hw_notify *n, struct hw_error *err)
{
    HW_AUTO_FREE char *usec = take_variable("WATCHDOG_USEC");
    HW_AUTO_FREE char *pid = take_variable("WATCHDOG_PID");
    const uint64_t own = (uint64_t)getpid();
    uint64_t time, whose = own;
    enum hw_status status = HW_OK;

    if (pid != NULL)
        status = parse_positive("WATCHDOG_PID", pid, &whose, err);
    if (status != HW_OK || usec == NULL || whose != own)
        return status;
    status = parse_positive("WATCHDOG_USEC", usec, &time, err);
    if (status == HW_OK)
        n->watchdog_ms = time < 2000 ? 2 : (int64_t)(time / 1000);
    return status;
}

enum hw_status hw_notify_open(struct hw_loop *loop, struct hw_notify **notify, struct hw_error *err)
{
    const struct timeval patience = {.tv_sec = SEND_MOST_S};
    HW_AUTO_FREE char *path = take_variable("NOTIFY_SOCKET");
    struct hw_notify *n = hw_alloc(sizeof(*n));
    enum hw_status status;

    n->loop = loop;
    n->fd = -1;
    status = set_watchdog(n, err);
    if (status == HW_OK && path != NULL)
        status = set_address(n, path, err);
    if (status != HW_OK || path == NULL) {
        free(n);
        if (status == HW_OK)
            *notify = NULL;
        return status;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (n->fd < 0 || setsockopt(n->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0) {
        hw_fail_errno(err, "making a socket for the service manager");
        hw_notify_close(n);
        return HW_EIO;
    }
    tick(n);
    *notify = n;
    return HW_OK;
}

/* ---- telling ---- */

/* Adds the status line to the message. A newline in it would end it. */
static void tell(struct hw_notify *n, const char *what, const char *status)
{
    HW_AUTO_FREE char *text = NULL;

    snprintf(n->status, sizeof(n->status), "%s", status);
    for (char *c = n->status; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    text = hw_sprintf("%sSTATUS=%s", what, n->status);
    send_text(n, text, 0);
}

void hw_notify_ready(struct hw_notify *n, const char *status)
{
    if (n == NULL)
        return;
    tell(n, "READY=1\n", status);
    n->ready = true;
    tick(n);
}

void hw_notify_status(struct hw_notify *n, const char *status)
{
    if (n != NULL && strncmp(n->status, status, sizeof(n->status) - 1) != 0)
        tell(n, "", status);
}

void hw_notify_reloading(struct hw_notify *n)
{
    HW_AUTO_FREE char *text = NULL;
    struct timespec now;

    if (n == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    text =
        hw_sprintf("RELOADING=1\nMONOTONIC_USEC=%lld", 1000000LL * now.tv_sec + now.tv_nsec / 1000);
    send_text(n, text, 0);
}

void hw_notify_stopping(struct hw_notify *n)
{
    if (n != NULL)
        tell(n, "STOPPING=1\n", "stopping");
}

void hw_notify_close(struct hw_notify *n)
{
    if (n == NULL)
        return;
    hw_timer_stop(&n->timer);
    if (n->fd >= 0)
        close(n->fd);
    free(n);
}
