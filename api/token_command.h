/* headwater-api token: makes, lists and revokes tokens; it needs nothing but access to the
 * database. Blocks. */
#ifndef API_TOKEN_COMMAND_H
#define API_TOKEN_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct api_token_options {
    const char *name, *role;
    int64_t expires_ms; /* 0: never */
};

/* Is what one of the actions, and are the options that it needs given? */
enum hw_status api_token_check(const char *what, const struct api_token_options *options,
                               struct hw_error *err) HW_CHECKED;

/* "create" prints the token, alone, on standard output, and what to know of it on standard error;
 * "list" a line each. */
enum hw_status api_token_command(const char *conninfo, const char *what,
                                 const struct api_token_options *options,
                                 struct hw_error *err) HW_CHECKED;

/* Is there a token that is good now? *active is false as well where the schema is missing. */
enum hw_status api_token_any_active(const char *conninfo, bool *active,
                                    struct hw_error *err) HW_CHECKED;

#endif
