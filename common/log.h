/*
 * Logs: one line an event, to stderr, from any thread. Nothing waits for the reader: a line that it
 * does not take in time is dropped and counted (common/stderr.h).
 *
 *     hw_log_info("published", HW_S("node", node), HW_L("lsn", lsn), HW_I("bytes", size));
 *
 * logfmt:  ts=2026-01-31T12:00:00.123Z level=info node=n1 lsn=0/16B3748 bytes=42 msg=published
 * json:    {"ts":"…","level":"info","node":"n1","lsn":"0/16B3748","bytes":42,"msg":"published"}
 *
 * The object comes first, the message last. Values are escaped; nothing secret is ever given to it.
 */
#ifndef HW_LOG_H
#define HW_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"

enum hw_log_level { HW_LOG_ERROR, HW_LOG_WARN, HW_LOG_INFO, HW_LOG_DEBUG };
enum hw_log_format { HW_LOG_LOGFMT, HW_LOG_JSON };

/* Call before the first thread. The defaults are info and logfmt. */
void hw_log_setup(enum hw_log_level level, enum hw_log_format format);
enum hw_log_level hw_log_level(void);

struct hw_field {
    const char *key;
    enum { HW_FIELD_STRING, HW_FIELD_INT, HW_FIELD_LSN } type;
    union {
        const char *string; /* NULL prints as an empty value */
        int64_t integer;
        hw_lsn lsn;
    } value;
};

#define HW_S(k, v) ((struct hw_field){.key = (k), .type = HW_FIELD_STRING, .value.string = (v)})
#define HW_I(k, v) ((struct hw_field){.key = (k), .type = HW_FIELD_INT, .value.integer = (v)})
#define HW_L(k, v) ((struct hw_field){.key = (k), .type = HW_FIELD_LSN, .value.lsn = (v)})
/* The two fields of an error: error="<message>" status=<name>. */
#define HW_E(err) HW_S("error", (err)->message), HW_S("status", hw_status_name((err)->status))

void hw_log_fields(enum hw_log_level level, const char *msg, const struct hw_field *fields,
                   size_t count);

/* The first, empty element keeps the array legal when there are no fields. */
#define hw_log(level, msg, ...)                                                                    \
    do {                                                                                           \
        if ((level) <= hw_log_level()) {                                                           \
            const struct hw_field hw_fields_[] = {{.key = NULL}, ##__VA_ARGS__};                   \
            hw_log_fields((level), (msg), hw_fields_ + 1,                                          \
                          sizeof(hw_fields_) / sizeof(hw_fields_[0]) - 1);                         \
        }                                                                                          \
    } while (0)

#define hw_log_error(...) hw_log(HW_LOG_ERROR, __VA_ARGS__)
#define hw_log_warn(...)  hw_log(HW_LOG_WARN, __VA_ARGS__)
#define hw_log_info(...)  hw_log(HW_LOG_INFO, __VA_ARGS__)
#define hw_log_debug(...) hw_log(HW_LOG_DEBUG, __VA_ARGS__)

#endif
