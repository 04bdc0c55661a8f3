/* What verify is to compare. Strings are borrowed. */
#ifndef RECONCILER_COMPARE_VERIFY_CONFIG_H
#define RECONCILER_COMPARE_VERIFY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "nats/connection.h"
#include "protocol/statement.h"

struct rec_verify_config {
    const char *database; /* libpq URI or connection string; a role that may read is enough */
    const char *nats;
    struct hw_nats_files nats_files;
    const char *bucket;
    int64_t timeout_ms;     /* to wait for the checkpoint */
    bool json;              /* one JSON object instead of lines */
    struct hw_trust *trust; /* one of these keys must have signed each entry; or NULL */
};

#endif
