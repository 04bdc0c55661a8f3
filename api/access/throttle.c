#include "api/access/throttle.h"

#include <netinet/in.h>
#include <string.h>

static void address_of(const struct sockaddr *peer, unsigned char address[static 16])
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;

    memset(address, 0, 16);
    if (peer->sa_family == AF_INET)
        memcpy(address, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    else if (peer->sa_family == AF_INET6)
        memcpy(address, &v6->sin6_addr, IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) ? 16 : 8);
}

static struct api_throttled *set_of(struct api_throttle *throttle,
                                    const unsigned char address[static 16])
{
    uint32_t hash = 0;

    for (int i = 0; i < 16; i++)
        hash = hash * 31 + address[i];
    return throttle->sets[hash % API_THROTTLE_SETS];
}

/* The address's own place, otherwise a free one, otherwise the oldest. */
static struct api_throttled *place_of(struct api_throttled *set,
                                      const unsigned char address[static 16])
{
    struct api_throttled *place = set;

    for (int i = 0; i < API_THROTTLE_WAYS; i++) {
        if (set[i].count > 0 && memcmp(set[i].address, address, 16) == 0)
            return &set[i];
        if (place->count > 0 && (set[i].count == 0 || set[i].since < place->since))
            place = &set[i];
    }
    return place;
}

int64_t api_throttle_failed(struct api_throttle *throttle, const struct sockaddr *peer, int64_t now)
{
    unsigned char address[16];
    struct api_throttled *place;

    address_of(peer, address);
    place = place_of(set_of(throttle, address), address);
    if (place->count == 0 || memcmp(place->address, address, sizeof(address)) != 0 ||
        now - place->since >= API_THROTTLE_MS) {
        *place = (struct api_throttled){.since = now};
        memcpy(place->address, address, sizeof(address));
    }
    if (place->count == API_THROTTLE_MOST)
        return place->since + API_THROTTLE_MS - now;
    place->count++;
    return 0;
}
