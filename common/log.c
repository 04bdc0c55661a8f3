#include "common/log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "common/clock.h"
#include "common/stderr.h"

static atomic_int current_level = HW_LOG_INFO;
static atomic_int current_format = HW_LOG_LOGFMT;

enum hw_log_level hw_log_level(void)
{
    return (enum hw_log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

static const char *level_name(enum hw_log_level level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    return names[level];
}

/* logfmt leaves plain words bare and quotes the rest as JSON strings. */
static bool is_plain(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7F || strchr("\"=\\", *s) != NULL)
            return false;
    return true;
}

static void add_string(struct hw_buf *line, enum hw_log_format format, const char *key,
                       const char *value)
{
    if (value == NULL)
        value = "";
    if (format == HW_LOG_JSON) {
        hw_buf_puts(line, line->len > 1 ? "," : "");
        hw_buf_json_string(line, key, strlen(key));
        hw_buf_putc(line, ':');
        hw_buf_json_string(line, value, strlen(value));
        return;
    }
    hw_buf_printf(line, "%s%s=", line->len > 0 ? " " : "", key);
    if (is_plain(value))
        hw_buf_puts(line, value);
    else
        hw_buf_json_string(line, value, strlen(value));
}

static void add_int(struct hw_buf *line, enum hw_log_format format, const char *key, int64_t value)
{
    if (format == HW_LOG_JSON)
        hw_buf_printf(line, "%s\"%s\":%" PRId64, line->len > 1 ? "," : "", key, value);
    else
        hw_buf_printf(line, "%s%s=%" PRId64, line->len > 0 ? " " : "", key, value);
}

static void make_line(struct hw_buf *line, enum hw_log_level level, const char *msg,
                      const struct hw_field *fields, size_t count)
{
    const enum hw_log_format format = (enum hw_log_format)atomic_load(&current_format);
    char now[HW_CLOCK_MAX];

    hw_clock_format(hw_clock_now(), 3, now);
    if (format == HW_LOG_JSON)
        hw_buf_putc(line, '{');
    add_string(line, format, "ts", now);
    add_string(line, format, "level", level_name(level));
    for (size_t i = 0; i < count; i++) {
        switch (fields[i].type) {
        case HW_FIELD_STRING:
            add_string(line, format, fields[i].key, fields[i].value.string);
            break;
        case HW_FIELD_INT:
            add_int(line, format, fields[i].key, fields[i].value.integer);
            break;
        case HW_FIELD_LSN:
            add_string(line, format, fields[i].key, HW_LSN(fields[i].value.lsn));
            break;
        }
    }
    add_string(line, format, "msg", msg);
    hw_buf_puts(line, format == HW_LOG_JSON ? "}\n" : "\n");
}

void hw_log_fields(enum hw_log_level level, const char *msg, const struct hw_field *fields,
                   size_t count)
{
    struct hw_buf line = {0};

    make_line(&line, level, msg, fields, count);
    hw_stderr_write(line.data, line.len);
    hw_buf_free(&line);
}

static char *make_notice(uint64_t lost)
{
    const struct hw_field count = HW_I("lines", (int64_t)lost);
    struct hw_buf line = {0};

    make_line(&line, HW_LOG_WARN,
              "lines of this log are missing here: its reader did not take them in time, or they "
              "could not be written",
              &count, 1);
    return line.data;
}

void hw_log_setup(enum hw_log_level level, enum hw_log_format format)
{
    atomic_store(&current_level, (int)level);
    atomic_store(&current_format, (int)format);
    hw_stderr_on_loss(make_notice);
}
