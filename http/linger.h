/*
 * Ends of refused uploads. When a request is answered before its body was read and its socket then
 * closed, the kernel sends a reset for the bytes that still come, and the reset can overtake the
 * answer: the client sees a broken connection instead of "413". So a second descriptor keeps such a
 * socket for a moment and drops what arrives, until the client has closed (RFC 9112 section 9.6).
 * Bounded in number, bytes and time.
 */
#ifndef HTTP_LINGER_H
#define HTTP_LINGER_H

#include "common/loop.h"

struct http_lingers;
struct http_lingers *http_lingers_new(struct hw_loop *loop);
void http_lingers_free(struct http_lingers *lingers); /* NULL is fine */

/* fd stays the caller's, to close as always. Nothing happens when too many linger already. */
void http_linger(struct http_lingers *lingers, int fd);

#endif
