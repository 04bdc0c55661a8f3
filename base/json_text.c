#include "base/json_text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum {
    DIGITS_ENOUGH = 15,
    DIGITS_MOST = 17
}; /* digits of a decimal number that a double always keeps; digits that always suffice for a double
    */

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
        hw_buf_puts(out, ".0"); /* so that it is read as a number with a fraction */
}

/* indent: the depth of the line; negative: all in one line. */
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
    json_object_foreach((json_t *)(uintptr_t)object, name, member) {
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
    json_array_foreach(array, i, element) {
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

char *hw_json_text(const json_t *value, bool pretty)
{
    struct hw_buf out = {0};

    add(&out, value, pretty ? 0 : -1);
    return out.data;
}
