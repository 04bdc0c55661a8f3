/* Addresses to listen at, and Host fields. */
#include <string.h>

#include "http/address.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    struct hw_address address = {0};

    if (hw_address_parse(text, &address, NULL) == HW_OK) {
        FUZZ_HOLDS(address.sockaddr.ss_family == AF_INET || address.sockaddr.ss_family == AF_INET6);
        FUZZ_HOLDS(address.len > 0 && address.len <= sizeof(address.sockaddr));
        /* What is an address is no web page's name. */
        FUZZ_HOLDS(hw_address_is_local_host(text));
        (void)hw_address_is_loopback(&address);
    }
    if (strchr(text, '.') == NULL)
        FUZZ_HOLDS(hw_address_is_local_host(text));
    (void)hw_address_is_local_host(text);
    return 0;
}
