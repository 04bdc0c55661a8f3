#include "tests/support/notify.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/process.h"
#include "tests/support/servers.h"

#define PATIENCE_S 60

void test_notify_open(struct test_notify *notify)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *notify = (struct test_notify){0};
    test_new_path(notify->path, sizeof(notify->path), "notify");
    if (strlen(notify->path) >= sizeof(address.sun_path))
        test_fail("%s is too long for a socket", notify->path);
    memcpy(address.sun_path, notify->path, strlen(notify->path) + 1);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0 || bind(notify->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        test_fail("binding %s: %m", notify->path);
    snprintf(notify->variable, sizeof(notify->variable), "NOTIFY_SOCKET=%s", notify->path);
}

void test_notify_close(struct test_notify *notify)
{
    close(notify->fd);
    unlink(notify->path);
}

bool test_notify_next(struct test_notify *notify, int timeout_ms)
{
    struct pollfd one = {.fd = notify->fd, .events = POLLIN};
    ssize_t size;

    if (poll(&one, 1, timeout_ms) != 1)
        return false;
    size = recv(notify->fd, notify->message, sizeof(notify->message) - 1, 0);
    if (size < 0)
        test_fail("receiving from %s: %m", notify->path);
    notify->message[size] = '\0';
    return true;
}

bool test_notify_has(const struct test_notify *notify, const char *line)
{
    for (const char *at = notify->message; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, line, strlen(line)) == 0)
            return true;
    }
    return false;
}

void test_notify_expect(struct test_notify *notify, const char *line, const char *never)
{
    const double until = test_deadline(PATIENCE_S);

    while (test_now() < until && test_notify_next(notify, test_patient_ms(PATIENCE_S * 1000))) {
        if (test_notify_has(notify, line))
            return;
        if (never != NULL && test_notify_has(notify, never))
            test_fail("%s before %s", notify->message, line);
    }
    test_fail("%s did not come; the last message was: %s", line, notify->message);
}
