/* The service manager's end of a NOTIFY_SOCKET: what a program tells it, a datagram a time. */
#ifndef TEST_NOTIFY_H
#define TEST_NOTIFY_H

#include <stdbool.h>

struct test_notify {
    int fd;
    char path[160];
    char variable[192]; /* "NOTIFY_SOCKET=…" */
    char message[512];  /* the last one */
};
void test_notify_open(struct test_notify *notify);
void test_notify_close(struct test_notify *notify);

/* The next message comes to lie in notify->message; false: none within the time. */
bool test_notify_next(struct test_notify *notify, int timeout_ms);

/* Waits for a message with this line ("READY=1"), or one that begins so ("STATUS=serving "), and
 * fails the test when one with the line never comes before it (NULL: anything may come). */
void test_notify_expect(struct test_notify *notify, const char *line, const char *never);

/* Does the last message have this line, or one that begins so? */
bool test_notify_has(const struct test_notify *notify, const char *line);

#endif
