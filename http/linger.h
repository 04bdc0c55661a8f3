/*
 * Ends of refused uploads. When a request is answered before its body was read, and its socket is
 * then closed, the kernel sends a reset for the bytes that still come. The reset can overtake the
 * answer: the client sees a broken connection instead of "413". So a second descriptor keeps such a
 * socket open for a moment, and drops the bytes that arrive, until the client has closed its side
 * (RFC 9112 section 9.6). At most 64 sockets linger, each for 5 s and 64 MiB.
 */
#ifndef HTTP_LINGER_H
#define HTTP_LINGER_H

#include "common/loop.h"

struct http_lingers;
struct http_lingers *http_lingers_new(struct hw_loop *loop);
void http_lingers_free(struct http_lingers *lingers); /* NULL is fine */

/* The caller still closes fd as always. Nothing happens when too many sockets linger already. */
void http_linger(struct http_lingers *lingers, int fd);

#endif
