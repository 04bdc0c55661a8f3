#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

enum hw_status cli_misused(struct cli *cli, struct hw_error *err, const char *fmt, ...)
{
    char message[HW_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    cli->misused = true;
    return hw_fail(err, HW_EINVAL, "%s", message);
}
