#include "nats/error.h"

#include <stdarg.h>
#include <stdio.h>

/* Numbers of JetStream's errors, as the server's file server/errors.json has them. */
enum {
    JS_WRONG_LAST_SEQUENCE = 10071,
    JS_NO_MESSAGE = 10037,
    JS_STREAM_NOT_FOUND = 10059,
    JS_INSUFFICIENT_RESOURCES = 10023,
    JS_STORAGE_EXCEEDED = 10047,
    JS_MESSAGE_TOO_LARGE = 10054, /* for the bucket */
};

static enum hw_status status_of(natsStatus s, jsErrCode code)
{
    switch ((int)code) {
    case 0:
        break;
    case JS_WRONG_LAST_SEQUENCE:
        return HW_ECONFLICT;
    case JS_NO_MESSAGE:
    case JS_STREAM_NOT_FOUND:
        return HW_ENOENT;
    case JS_MESSAGE_TOO_LARGE:
        return HW_ELIMIT;
    case JS_INSUFFICIENT_RESOURCES: /* the server's storage is full, which passes */
    case JS_STORAGE_EXCEEDED:
        return HW_EUNAVAIL;
    default:
        return HW_EPROTO;
    }
    switch (s) {
    case NATS_OK:
        return HW_OK;
    case NATS_TIMEOUT:
        return HW_ETIMEOUT;
    case NATS_NOT_FOUND:
        return HW_ENOENT;
    case NATS_NOT_PERMITTED:
    case NATS_CONNECTION_AUTH_FAILED:
        return HW_EDENIED;
    case NATS_MAX_PAYLOAD:
        return HW_ELIMIT;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
        return HW_EINVAL;
    case NATS_PROTOCOL_ERROR:
    case NATS_ERR: /* headers that libnats cannot parse */
        return HW_EPROTO;
    default:
        return HW_EUNAVAIL;
    }
}

enum hw_status hw_nats_fail(struct hw_error *err, natsStatus s, jsErrCode code, const char *fmt,
                            ...)
{
    const enum hw_status status = status_of(s, code);
    char doing[HW_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(doing, sizeof(doing), fmt, args);
    va_end(args);
    if (s == NATS_NO_RESPONDERS)
        return hw_fail(err, HW_EUNAVAIL,
                       "%s: nobody answers; the bucket is missing or JetStream is off", doing);
    if (code != 0)
        return hw_fail(err, status, "%s: %s (JetStream error %d)", doing, natsStatus_GetText(s),
                       (int)code);
    return hw_fail(err, status, "%s: %s", doing, natsStatus_GetText(s));
}

void hw_nats_fail_also(struct hw_error *err, const char *trouble)
{
    if (err == NULL || err->status != HW_ETIMEOUT || *trouble == '\0')
        return;
    const struct hw_error before = *err;

    hw_fail(err, before.status, "%s (the server also said: %s)", before.message, trouble);
}
