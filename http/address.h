/* Where to listen: "127.0.0.1:8080", "[::1]:8080", "localhost:8080" (which is 127.0.0.1). */
#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/status.h"

#define HW_ADDRESS_MAX 80 /* room for any address as text, and a NUL */

struct hw_address {
    struct sockaddr_storage sockaddr;
    socklen_t len;
};

/* Numbers only: no name is looked up. Port 0: any free one. */
enum hw_status hw_address_parse(const char *text, struct hw_address *address,
                                struct hw_error *err) HW_CHECKED;
bool hw_address_is_loopback(const struct hw_address *address);

/* A listening TCP socket, non-blocking; it is the caller's. */
enum hw_status hw_address_listen(const struct hw_address *address, int *listen_fd,
                                 struct hw_error *err) HW_CHECKED;
/* "127.0.0.1:45123", "[::1]:45123": what a socket is bound to; "" when it is not. */
void hw_address_format_bound(int fd, char out[static HW_ADDRESS_MAX]);

/*
 * May a request to a loopback service carry this Host field? Where no token is asked for, whoever
 * reaches the port may do everything. A web page must not: a name of its own that it points at this
 * address (DNS rebinding) is told by the Host field, which then holds that name. Addresses and
 * names without a dot are nobody's web page.
 */
bool hw_address_is_local_host(const char *host);

#endif
