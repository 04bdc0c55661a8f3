#include "agent/instance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    HOST_MOST = 64, /* characters of the machine's name that are shown */
    BYTES = 6,      /* of chance: two of one node are the same once in 2^48 */
};

/* What a name may not contain becomes '-', and so does a dot, which may not stand everywhere. */
static void read_host(char host[static HOST_MOST + 1])
{
    if (gethostname(host, HOST_MOST) != 0)
        *host = '\0';
    host[HOST_MOST] = '\0';
    for (char *p = host; *p != '\0'; p++)
        if (strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", *p) == NULL)
            *p = '-';
    if (*host == '\0')
        strcpy(host, "unnamed");
}

void agent_instance_draw(char instance[static HW_NAME_MOST + 1])
{
    unsigned char bytes[BYTES];
    char host[HOST_MOST + 1];
    int len;

    /* The kernel's own chance is renewed in a copy of a virtual machine; that of the C library is
     * copied with the memory. */
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        arc4random_buf(bytes, sizeof(bytes));
    read_host(host);
    len = snprintf(instance, HW_NAME_MOST + 1, "%s-", host);
    for (size_t i = 0; i < sizeof(bytes); i++)
        len += snprintf(instance + len, 3, "%02x", bytes[i]);
}
