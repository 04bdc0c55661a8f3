/*
 * Who guesses: how often callers of an address were refused within a minute. Of IPv6 the address is
 * its /64 network, whose hosts are one's to choose (RFC 4291 section 2.5.4). The table is bounded:
 * where many addresses fail at once, those that began longest ago are forgotten.
 */
#ifndef API_ACCESS_THROTTLE_H
#define API_ACCESS_THROTTLE_H

#include <stdint.h>
#include <sys/socket.h>

enum {
    API_THROTTLE_MOST = 20, /* failures of an address within this time: */
    API_THROTTLE_MS = 60000,
    API_THROTTLE_SETS = 256, /* of addresses, found by a hash, each of this many: */
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

/* A caller failed. 0: it counts; otherwise it was too often, for so many milliseconds more. */
int64_t api_throttle_failed(struct api_throttle *throttle, const struct sockaddr *peer,
                            int64_t now);

#endif
