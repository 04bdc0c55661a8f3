/* Where to listen: "127.0.0.1:8080", "[::1]:8080", "localhost:8080" (which is 127.0.0.1). */
#ifndef API_ADDRESS_H
#define API_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/status.h"

struct api_address {
    struct sockaddr_storage sockaddr;
    socklen_t len;
};

/* Numbers only: no name is looked up. Port 0: any free one. */
enum hw_status api_address_parse(const char *text, struct api_address *address,
                                 struct hw_error *err) HW_CHECKED;
bool api_address_is_loopback(const struct api_address *address);

#endif
