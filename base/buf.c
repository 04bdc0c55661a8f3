#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

void hw_buf_reserve(struct hw_buf *buf, size_t more)
{
    const size_t need = buf->len + more + 1;

    if (need <= buf->cap)
        return;
    size_t cap = buf->cap > 0 ? buf->cap : 64;
    while (cap < need)
        cap += cap / 2 + 64;
    buf->data = hw_realloc(buf->data, cap);
    buf->cap = cap;
}

void hw_buf_add(struct hw_buf *buf, const void *bytes, size_t len)
{
    hw_buf_reserve(buf, len);
    if (len > 0)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void hw_buf_puts(struct hw_buf *buf, const char *s)
{
    hw_buf_add(buf, s, strlen(s));
}

void hw_buf_putc(struct hw_buf *buf, char c)
{
    hw_buf_add(buf, &c, 1);
}

void hw_buf_printf(struct hw_buf *buf, const char *fmt, ...)
{
    va_list args;

    hw_buf_reserve(buf, 128);
    for (;;) {
        const size_t room = buf->cap - buf->len;

        va_start(args, fmt);
        const int len = vsnprintf(buf->data + buf->len, room, fmt, args);
        va_end(args);
        if (len < 0)
            abort(); /* vsnprintf fails only for a format that the compiler has refused */
        if ((size_t)len < room) {
            buf->len += (size_t)len;
            return;
        }
        hw_buf_reserve(buf, (size_t)len);
    }
}

void hw_buf_json_string(struct hw_buf *buf, const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    const unsigned char *const end = p + len;

    hw_buf_reserve(buf, len + 2);
    hw_buf_putc(buf, '"');
    while (p < end) {
        const unsigned char *run = p;

        while (p < end && *p >= 0x20 && *p < 0x7F && *p != '"' && *p != '\\')
            p++;
        hw_buf_add(buf, run, (size_t)(p - run));
        if (p == end)
            break;
        const size_t n = hw_utf8_length((const char *)p, (size_t)(end - p));
        if (n > 1) {
            hw_buf_add(buf, p, n);
        } else if (n == 0) {
            hw_buf_puts(buf, "\xEF\xBF\xBD");
        } else if (*p == '"' || *p == '\\') {
            hw_buf_putc(buf, '\\');
            hw_buf_putc(buf, (char)*p);
        } else if (*p == '\n') {
            hw_buf_puts(buf, "\\n");
        } else if (*p == '\t') {
            hw_buf_puts(buf, "\\t");
        } else {
            hw_buf_printf(buf, "\\u%04x", *p);
        }
        p += n > 0 ? n : 1;
    }
    hw_buf_putc(buf, '"');
}

const char *hw_buf_str(const struct hw_buf *buf)
{
    return buf->data != NULL ? buf->data : "";
}

void hw_buf_reset(struct hw_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

void hw_buf_free(struct hw_buf *buf)
{
    free(buf->data);
    *buf = (struct hw_buf){0};
}
