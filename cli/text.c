#include "cli/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/json_text.h"
#include "base/utf8.h"

/* ---- characters ---- */

/* The code point of a valid character of n bytes. */
static uint32_t code_point(const char *p, size_t n)
{
    static const unsigned char lead[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t c = (unsigned char)*p & lead[n];

    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)p[i] & 0x3F);
    return c;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

/* Is it a separator of lines or paragraphs, or a mark that changes the direction of writing? */
static bool is_disguise(uint32_t c)
{
    return c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

size_t cli_text_add(struct hw_buf *out, const char *text, size_t len, bool lines)
{
    size_t columns = 0;

    for (size_t at = 0, n; at < len; at += n) {
        n = hw_utf8_length(text + at, len - at);
        if (n == 0) {
            hw_buf_puts(out, "\xEF\xBF\xBD");
            columns++;
            n = 1;
            continue;
        }
        const uint32_t c = code_point(text + at, n);
        const int width = wcwidth((wchar_t)c);
        if (lines && (c == '\n' || c == '\t')) {
            hw_buf_putc(out, (char)c);
        } else if (is_control(c) || is_disguise(c)) {
            hw_buf_printf(out, "\\u%04x", c);
            columns += 6;
        } else {
            hw_buf_add(out, text + at, n);
            columns += width > 0 ? (size_t)width : 0;
        }
    }
    return columns;
}

/* ---- JSON ---- */

/* JSON has U+0080 to U+009F within strings only, so an escape is right wherever they stand. */
static char *escape_second_set(const char *text, size_t len)
{
    struct hw_buf out = {0};
    const char *end = text + len, *p;

    while ((p = memchr(text, 0xC2, (size_t)(end - text))) != NULL) {
        const unsigned char c = (unsigned char)p[1]; /* the text ends with a NUL at least */

        hw_buf_add(&out, text, (size_t)(p - text));
        if (c < 0xA0)
            hw_buf_printf(&out, "\\u%04x", c);
        else
            hw_buf_add(&out, p, 2);
        text = p + 2;
    }
    hw_buf_add(&out, text, (size_t)(end - text));
    return out.data;
}

char *cli_json_text(const json_t *value, bool pretty)
{
    char *text = hw_json_text(value, pretty);
    char *escaped;

    if (strchr(text, 0xC2) == NULL)
        return text;
    escaped = escape_second_set(text, strlen(text));
    free(text);
    return escaped;
}
