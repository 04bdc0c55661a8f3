/* headwater-api token: tokens made, listed and ended with the database's rights alone. Blocks. */
#ifndef API_TOKEN_COMMAND_H
#define API_TOKEN_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

struct api_token_options {
    const char *name, *role;
    int64_t expires_ms; /* 0: never */
};

/* Is what a command, and has it the options that it needs? */
enum hw_status api_token_check(const char *what, const struct api_token_options *options,
                               struct hw_error *err) HW_CHECKED;

/* "create" prints the token, alone, on standard output, and what to know of it on standard error;
 * "list" a line each. */
enum hw_status api_token_command(const char *conninfo, const char *what,
                                 const struct api_token_options *options,
                                 struct hw_error *err) HW_CHECKED;

/* Is there a token with which one may call? *active is false as well where the schema is missing.
 */
enum hw_status api_token_any_active(const char *conninfo, bool *active,
                                    struct hw_error *err) HW_CHECKED;

#endif
