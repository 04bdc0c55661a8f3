#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MOST = 128 };

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

/* [A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*: no such name can be a path with steps of its own. */
enum hw_status cli_check_name(const char *name, struct hw_error *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *p = name;
    size_t len = strspn(p, letters);

    while (len > 0 && p[len] == '.') {
        p += len + 1;
        len = strspn(p, letters);
    }
    if (len == 0 || p[len] != '\0' || strlen(name) > NAME_MOST)
        return hw_fail(
            err, HW_EINVAL,
            "\"%.200s\" is no name: 1 to %d letters, digits, _ and -, in parts separated "
            "by single dots",
            name, NAME_MOST);
    return HW_OK;
}
