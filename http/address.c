#include "http/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"

enum hw_status hw_address_parse(const char *text, struct hw_address *address, struct hw_error *err)
{
    HW_AUTO_FREE char *copy = hw_strdup(text);
    char *port = strrchr(copy, ':');
    char *host = copy;
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found = NULL;
    char loopback[] = "127.0.0.1";
    struct in_addr v4;

    if (port == NULL || port == host || strspn(port + 1, "0123456789") != strlen(port + 1) ||
        strlen(port + 1) > 5 || strtol(port + 1, NULL, 10) > 65535 || port[1] == '\0')
        return hw_fail(err, HW_EINVAL,
                       "\"%s\": an address is written host:port, [host]:port for IPv6", text);
    *port++ = '\0';
    if (host[0] == '[' && port[-2] == ']') {
        host++;
        port[-2] = '\0';
        hints.ai_family = AF_INET6;
    } else {
        hints.ai_family = AF_INET;
    }
    if (strcmp(host, "localhost") == 0)
        host = loopback;
    /* getaddrinfo would take what inet_aton(3) does: 127.1, and 010.0.0.1 for 8.0.0.1. */
    if ((hints.ai_family == AF_INET && inet_pton(AF_INET, host, &v4) != 1) ||
        getaddrinfo(host, port, &hints, &found) != 0)
        return hw_fail(err, HW_EINVAL, "\"%s\": not a numeric address and a port", text);
    memcpy(&address->sockaddr, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return HW_OK;
}

bool hw_address_is_loopback(const struct hw_address *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->sockaddr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->sockaddr;

    if (address->sockaddr.ss_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static void format(const struct sockaddr *sockaddr, socklen_t len, char out[static HW_ADDRESS_MAX])
{
    char host[INET6_ADDRSTRLEN + 16], port[8];

    out[0] = '\0';
    if (getnameinfo(sockaddr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(out, HW_ADDRESS_MAX, sockaddr->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
                 port);
}

/* Our own listening socket: errors then say what failed, and the port that the system chose is
 * known. */
enum hw_status hw_address_listen(const struct hw_address *address, int *listen_fd,
                                 struct hw_error *err)
{
    const struct sockaddr *sockaddr = (const struct sockaddr *)&address->sockaddr;
    const int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    char name[HW_ADDRESS_MAX];

    format(sockaddr, address->len, name);
    if (fd < 0)
        return hw_fail_errno(err, "listening on %s: making a socket", name);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, sockaddr, address->len) != 0 || listen(fd, SOMAXCONN) != 0) {
        const enum hw_status status =
            hw_fail_errno(err, "listening on %s (choose another address)", name);

        close(fd);
        return status;
    }
    *listen_fd = fd;
    return HW_OK;
}

void hw_address_format_bound(int fd, char out[static HW_ADDRESS_MAX])
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);

    out[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        format((const struct sockaddr *)&bound, len, out);
}

bool hw_address_is_local_host(const char *host)
{
    const char *end = host + strcspn(host, ":");
    const size_t len = (size_t)(end - host);
    char name[64];
    struct in_addr v4;

    if (host[0] == '[' || memchr(host, '.', len) == NULL)
        return true;
    if (len >= sizeof(name))
        return false;
    memcpy(name, host, len);
    name[len] = '\0';
    return inet_pton(AF_INET, name, &v4) == 1 ||
           (len > 10 && strcasecmp(name + len - 10, ".localhost") == 0);
}
