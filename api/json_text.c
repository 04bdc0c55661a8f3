#include "api/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

enum { DIGITS_ENOUGH = 15, DIGITS_MOST = 17 }; /* of decimals that a double holds; that hold any */

static void add(struct hw_buf *out, json_t *value);

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

static void add_object(struct hw_buf *out, json_t *object)
{
    const char *name, *separator = "";
    json_t *member;

    hw_buf_putc(out, '{');
    json_object_foreach(object, name, member)
    {
        hw_buf_puts(out, separator);
        hw_buf_json_string(out, name, strlen(name));
        hw_buf_putc(out, ':');
        add(out, member);
        separator = ",";
    }
    hw_buf_putc(out, '}');
}

static void add_array(struct hw_buf *out, json_t *array)
{
    json_t *element;
    size_t i;

    hw_buf_putc(out, '[');
    json_array_foreach(array, i, element)
    {
        if (i > 0)
            hw_buf_putc(out, ',');
        add(out, element);
    }
    hw_buf_putc(out, ']');
}

static void add(struct hw_buf *out, json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        add_object(out, value);
        break;
    case JSON_ARRAY:
        add_array(out, value);
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

char *api_json_text(json_t *value)
{
    struct hw_buf out = {0};

    add(&out, value);
    return out.data;
}
