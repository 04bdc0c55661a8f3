/*
 * Hang-ups of clients whose connection sleeps. The HTTP library does not look at a socket while its
 * connection is suspended, so nobody would notice that a client which waits for minutes has left. A
 * second epoll set watches the sockets of such clients for the end of their side (EPOLLRDHUP). It
 * is edge-triggered: a client is reported once, and watching costs nothing while nothing happens.
 */
#ifndef HTTP_HANGUP_H
#define HTTP_HANGUP_H

#include "base/status.h"
#include "common/loop.h"

/* gone is called on the loop's thread with the arg of the socket that was hung up. It may forget
 * sockets. */
struct http_hangups;
enum hw_status http_hangups_new(struct hw_loop *loop, void (*gone)(void *arg),
                                struct http_hangups **hangups, struct hw_error *err) HW_CHECKED;
void http_hangups_free(struct http_hangups *hangups); /* NULL is fine */

/* One arg for one socket, until it is forgotten; this must happen before the socket is closed. */
void http_hangups_watch(struct http_hangups *hangups, int fd, void *arg);
void http_hangups_forget(struct http_hangups *hangups, int fd);

#endif
