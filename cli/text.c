#include "cli/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "common/memory.h"
#include "common/utf8.h"

enum { DIGITS_ENOUGH = 15, DIGITS_MOST = 17 }; /* of decimals that a double holds; that hold any */

/* ---- characters ---- */

/* A valid character of n bytes. */
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

/* Line and paragraph separators, and marks that turn the writing around. */
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

static void add(struct hw_buf *out, const json_t *value, int indent);

static void add_real(struct hw_buf *out, double value)
{
    char text[32];

    for (int digits = DIGITS_ENOUGH; digits <= DIGITS_MOST; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    hw_buf_puts(out, text);
    if (strpbrk(text, ".e") == NULL)
        hw_buf_puts(out, ".0"); /* it stays a number with a fraction */
}

/* indent: of the line, in steps; negative: all in one line. */
static void add_break(struct hw_buf *out, int indent)
{
    if (indent >= 0)
        hw_buf_printf(out, "\n%*s", indent * 2, "");
}

static int deeper(int indent)
{
    return indent < 0 ? indent : indent + 1;
}

static void add_object(struct hw_buf *out, const json_t *object, int indent)
{
    const char *name, *separator = "";
    json_t *member;

    hw_buf_putc(out, '{');
    json_object_foreach((json_t *)(uintptr_t)object, name, member)
    {
        hw_buf_puts(out, separator);
        add_break(out, deeper(indent));
        hw_buf_json_string(out, name, strlen(name));
        hw_buf_puts(out, indent < 0 ? ":" : ": ");
        add(out, member, deeper(indent));
        separator = ",";
    }
    if (json_object_size(object) > 0)
        add_break(out, indent);
    hw_buf_putc(out, '}');
}

static void add_array(struct hw_buf *out, const json_t *array, int indent)
{
    json_t *element;
    size_t i;

    hw_buf_putc(out, '[');
    json_array_foreach(array, i, element)
    {
        if (i > 0)
            hw_buf_putc(out, ',');
        add_break(out, deeper(indent));
        add(out, element, deeper(indent));
    }
    if (json_array_size(array) > 0)
        add_break(out, indent);
    hw_buf_putc(out, ']');
}

static void add(struct hw_buf *out, const json_t *value, int indent)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        add_object(out, value, indent);
        break;
    case JSON_ARRAY:
        add_array(out, value, indent);
        break;
    case JSON_STRING:
        hw_buf_json_string(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        hw_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        add_real(out, json_real_value(value));
        break;
    case JSON_TRUE:
        hw_buf_puts(out, "true");
        break;
    case JSON_FALSE:
        hw_buf_puts(out, "false");
        break;
    case JSON_NULL:
        hw_buf_puts(out, "null");
        break;
    }
}

/* U+0080 to U+009F are there within strings only. */
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
    struct hw_buf out = {0};

    add(&out, value, pretty ? 0 : -1);
    if (memchr(out.data, 0xC2, out.len) != NULL) {
        char *escaped = escape_second_set(out.data, out.len);
        hw_buf_free(&out);
        return escaped;
    }
    return out.data;
}
