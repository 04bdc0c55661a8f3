/* The pair of keys of docs/protocol.md's test vector, for targets that check signatures. */
#ifndef FUZZ_KEYS_H
#define FUZZ_KEYS_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/statement.h"

/* A file in memory that only we may read, by a name that lives as long as it; never closed. */
static inline char *fuzz_file(const char *text)
{
    const int fd = memfd_create("key", 0);

    if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    return hw_sprintf("/proc/self/fd/%d", fd);
}

static inline void fuzz_keys(struct hw_signer **signer, struct hw_trust **trust)
{
    HW_AUTO_FREE char *private =
        fuzz_file("-----BEGIN PRIVATE KEY-----\n"
                  "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                  "-----END PRIVATE KEY-----\n");
    HW_AUTO_FREE char *public =
        fuzz_file("-----BEGIN PUBLIC KEY-----\n"
                  "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
                  "-----END PUBLIC KEY-----\n");
    struct hw_error err;

    if (hw_signer_open(private, signer, &err) != HW_OK ||
        hw_trust_open(public, trust, &err) != HW_OK)
        abort();
}

#endif
