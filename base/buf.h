/* A growable byte buffer, always terminated by a NUL that len does not count. */
#ifndef HW_BUF_H
#define HW_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct hw_buf {
    char *data; /* NULL until something was added */
    size_t len;
    size_t cap;
};

void hw_buf_reserve(struct hw_buf *buf, size_t more);
void hw_buf_add(struct hw_buf *buf, const void *bytes, size_t len);
void hw_buf_puts(struct hw_buf *buf, const char *s);
void hw_buf_putc(struct hw_buf *buf, char c);
void hw_buf_printf(struct hw_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Adds s as a JSON string with its quotes (RFC 8259); bytes that are no UTF-8 become U+FFFD. */
void hw_buf_json_string(struct hw_buf *buf, const char *s, size_t len);

/* The bytes so far, or ""; never NULL. */
const char *hw_buf_str(const struct hw_buf *buf);

void hw_buf_reset(struct hw_buf *buf); /* keeps the memory */
void hw_buf_free(struct hw_buf *buf);  /* releases it; the buffer can be used again */

#endif
