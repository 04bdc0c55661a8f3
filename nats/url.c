#include "nats/url.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define EXAMPLE "a server of NATS is written nats://HOST:4222, or tls://HOST:4222"

/* Behind the colon; a URL without a port has none, and then libnats takes 4222. */
static bool is_port(const char *text)
{
    const size_t len = strlen(text);

    return len > 0 && len <= 5 && strspn(text, "0123456789") == len &&
           strtol(text, NULL, 10) >= 1 && strtol(text, NULL, 10) <= 65535;
}

/* A name, or an IPv4 address. Names of hosts have underscores in some networks. */
static bool is_host(const char *text)
{
    const size_t len = strlen(text);

    return len > 0 && len <= 253 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len;
}

/* place: what is behind the user, without the scheme: "host:4222", "[::1]:4222". */
static enum hw_status check_place(char *place, struct hw_error *err)
{
    const char *port = NULL;
    struct in6_addr v6;
    bool host;

    place[strcspn(place, "/?#")] = '\0';
    if (place[0] == '[' && strchr(place, ']') != NULL) {
        char *const end = strchr(place, ']');

        *end = '\0';
        place++;
        port = end[1] == ':' ? end + 2 : end[1] == '\0' ? NULL : "";
        place[strcspn(place, "%")] = '\0'; /* an interface: [fe80::1%eth0] */
        host = inet_pton(AF_INET6, place, &v6) == 1;
    } else {
        char *const colon = strchr(place, ':');

        if (colon != NULL) {
            *colon = '\0';
            port = colon + 1;
        }
        host = is_host(place);
    }
    if (!host)
        return hw_fail(err, HW_EINVAL, "\"%.100s\" is no host; " EXAMPLE, place);
    if (port != NULL && !is_port(port))
        return hw_fail(err, HW_EINVAL,
                       "\"%.100s\" is no port, which is a number from 1 to 65535; " EXAMPLE, port);
    return HW_OK;
}

static enum hw_status check_server(const char *text, struct hw_error *err)
{
    const char *const scheme_end = strstr(text, "://");
    const size_t scheme = scheme_end != NULL ? (size_t)(scheme_end - text) : 0;
    const char *const authority = scheme_end != NULL ? scheme_end + 3 : text;
    const char *const at = strrchr(authority, '@');
    HW_AUTO_FREE char *place = hw_strdup(at != NULL ? at + 1 : authority);

    if (scheme_end != NULL && strncmp(text, "nats://", 7) != 0 && strncmp(text, "tls://", 6) != 0)
        return hw_fail(err, HW_EINVAL, "NATS is not reached by \"%.*s://\"; " EXAMPLE,
                       (int)(scheme < 20 ? scheme : 20), text);
    return check_place(place, err);
}

enum hw_status hw_nats_url_check(const char *url, struct hw_error *err)
{
    HW_AUTO_FREE char *copy = hw_strdup(url);
    char *save = NULL;
    size_t count = 0;

    if (strchr(url, ' ') != NULL && strchr(url, ',') == NULL && strstr(url, "://") == NULL)
        return hw_fail(err, HW_EINVAL, "this is no URL; " EXAMPLE);
    for (char *s = strtok_r(copy, ", ", &save); s != NULL; s = strtok_r(NULL, ", ", &save)) {
        const enum hw_status status = check_server(s, err);

        if (status != HW_OK)
            return status;
        if (++count > HW_NATS_SERVERS_MAX)
            return hw_fail(err, HW_EINVAL, "at most %d servers are taken", HW_NATS_SERVERS_MAX);
    }
    return count > 0 ? HW_OK : hw_fail(err, HW_EINVAL, "no server is named; " EXAMPLE);
}
