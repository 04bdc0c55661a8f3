/*
 * A brake for callers who guess tokens: it counts how often callers of an address were refused
 * within a minute. For IPv6 it counts the /64 network, because whoever has one can choose among all
 * its addresses (RFC 4291 section 2.5.4). The table is bounded: where many addresses fail at once,
 * those that began longest ago are forgotten.
 */
#ifndef API_ACCESS_THROTTLE_H
#define API_ACCESS_THROTTLE_H

#include <stdint.h>
#include <sys/socket.h>

enum {
    API_THROTTLE_MOST = 20, /* failures of an address within API_THROTTLE_MS */
    API_THROTTLE_MS = 60000,
    API_THROTTLE_SETS = 256, /* sets of API_THROTTLE_WAYS addresses; a hash gives the set */
    API_THROTTLE_WAYS = 4,
};

struct api_throttled {
    unsigned char address[16];
    int64_t since; /* of the first failure, in the caller's milliseconds */
    int count;     /* 0: free */
};

/* Zero-initialised it is empty. */
struct api_throttle {
    struct api_throttled sets[API_THROTTLE_SETS][API_THROTTLE_WAYS];
};

/* A caller failed. 0: this was counted. Otherwise there were too many failures already, and the
 * result says for how many milliseconds more that will be so. */
int64_t api_throttle_failed(struct api_throttle *throttle, const struct sockaddr *peer,
                            int64_t now);

#endif
