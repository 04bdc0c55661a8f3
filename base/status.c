#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message that filled its buffer is cut at a UTF-8 character boundary. */
static void cut_cleanly(char *message)
{
    size_t len = strlen(message);

    if (len < HW_ERROR_MAX - 1)
        return;
    while (len > 0 && ((unsigned char)message[len - 1] & 0xC0) == 0x80)
        len--;
    if (len > 0 && ((unsigned char)message[len - 1] & 0x80) != 0)
        len--;
    message[len] = '\0';
}

static void fill(struct hw_error *err, enum hw_status status, const char *fmt, va_list args)
    HW_PRINTF(3, 0);
static void fill(struct hw_error *err, enum hw_status status, const char *fmt, va_list args)
{
    err->status = status;
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    cut_cleanly(err->message);
}

enum hw_status hw_fail(struct hw_error *err, enum hw_status status, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;

        va_start(args, fmt);
        fill(err, status, fmt, args);
        va_end(args);
    }
    return status;
}

/* A text that becomes too long is cut at its end, where the details are. */
enum hw_status hw_fail_in(struct hw_error *err, const char *fmt, ...)
{
    char context[HW_ERROR_MAX];
    char inner[HW_ERROR_MAX];
    va_list args;

    if (err == NULL)
        return HW_EINVAL;
    va_start(args, fmt);
    vsnprintf(context, sizeof(context), fmt, args);
    va_end(args);
    memcpy(inner, err->message, sizeof(inner));
    return hw_fail(err, err->status, "%s: %s", context, inner);
}

enum hw_status hw_fail_errno(struct hw_error *err, const char *fmt, ...)
{
    const int code = errno;
    const enum hw_status status = code == ENOENT                    ? HW_ENOENT
                                  : code == EACCES || code == EPERM ? HW_EDENIED
                                                                    : HW_EIO;
    char doing[HW_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(doing, sizeof(doing), fmt, args);
    va_end(args);
    return hw_fail(err, status, "%s: %s", doing, strerror(code));
}

const char *hw_status_name(enum hw_status status)
{
    switch (status) {
    case HW_OK:
        return "ok";
    case HW_EINVAL:
        return "invalid";
    case HW_ENOENT:
        return "not-found";
    case HW_ECONFLICT:
        return "conflict";
    case HW_ELIMIT:
        return "limit";
    case HW_ECORRUPT:
        return "corrupt";
    case HW_EPROTO:
        return "protocol";
    case HW_EDENIED:
        return "denied";
    case HW_ETIMEOUT:
        return "timeout";
    case HW_EUNAVAIL:
        return "unavailable";
    case HW_EIO:
        return "io";
    case HW_ESTOPPED:
        return "stopped";
    }
    return "unknown";
}
