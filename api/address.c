#include "api/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

enum hw_status api_address_parse(const char *text, struct api_address *address,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *copy = hw_strdup(text);
    char *port = strrchr(copy, ':');
    char *host = copy;
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found = NULL;

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
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, &hints, &found) != 0)
        return hw_fail(err, HW_EINVAL, "\"%s\": not a numeric address and a port", text);
    memcpy(&address->sockaddr, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return HW_OK;
}

bool api_address_is_loopback(const struct api_address *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->sockaddr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->sockaddr;

    if (address->sockaddr.ss_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}
