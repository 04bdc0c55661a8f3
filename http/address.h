/* Addresses to listen on, as text: "127.0.0.1:8080", "[::1]:8080", or "localhost:8080", which
 * stands for 127.0.0.1. */
#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/status.h"

#define HW_ADDRESS_MAX 80 /* room for any address as text, and a NUL */

struct hw_address {
    struct sockaddr_storage sockaddr;
    socklen_t len;
};

/* Takes numbers only, since no name is looked up. Port 0 stands for any free one. */
enum hw_status hw_address_parse(const char *text, struct hw_address *address,
                                struct hw_error *err) HW_CHECKED;
bool hw_address_is_loopback(const struct hw_address *address);

/* A listening TCP socket, non-blocking; it is the caller's. */
enum hw_status hw_address_listen(const struct hw_address *address, int *listen_fd,
                                 struct hw_error *err) HW_CHECKED;
/* The address that a socket is bound to, such as "127.0.0.1:45123" or "[::1]:45123"; "" when it is
 * not bound. */
void hw_address_format_bound(int fd, char out[static HW_ADDRESS_MAX]);

/*
 * May a request to a loopback service carry this Host field? A service that asks for no token lets
 * everyone do everything who reaches the port, but a web page in a browser on this machine must
 * not. Such a page can give a name of its own the address 127.0.0.1 (DNS rebinding); the browser's
 * requests then carry that name in Host. So only addresses and names without a dot are let in: no
 * web page has such a name.
 */
bool hw_address_is_local_host(const char *host);

#endif
