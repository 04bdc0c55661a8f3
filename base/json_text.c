#include "base/json_text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"

enum {
    DIGITS_ENOUGH = 15,
    DIGITS_MOST = 17
}; /* digits of a decimal number that a double always keeps; digits that always suffice for a double
    */

#define MARK "\"\\u0000" /* the beginning of a kept number in a text for jansson */

enum { WHOLE_MOST = 131072, FRACTION_MOST = 16383 };

enum { GROWTH = sizeof(MARK "\"") - 1 }; /* of a text, by each number that is kept */

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
        if (hw_json_digits(value) != NULL)
            hw_buf_puts(out, hw_json_digits(value));
        else
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

/* ---- numbers that are kept ---- */

const char *hw_json_digits(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) > 1 &&
                   json_string_value(value)[0] == '\0'
               ? json_string_value(value) + 1
               : NULL;
}

bool hw_json_is_number(const json_t *value)
{
    return json_is_number(value) || hw_json_digits(value) != NULL;
}

bool hw_json_is_string(const json_t *value)
{
    return json_is_string(value) && hw_json_digits(value) == NULL;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)? */
static bool is_number(const char *p)
{
    static const char digits[] = "0123456789";
    size_t len;

    p += *p == '-';
    len = strspn(p, digits);
    if (len == 0 || (len > 1 && *p == '0'))
        return false;
    p += len;
    if (*p == '.') {
        len = strspn(++p, digits);
        if (len == 0)
            return false;
        p += len;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '-' || *p == '+';
        len = strspn(p, digits);
        if (len == 0)
            return false;
        p += len;
    }
    return *p == '\0';
}

/* Would the number be written otherwise once it was one of C? */
static bool changes(const char *token)
{
    struct hw_buf written = {0};
    bool same;

    errno = 0;
    if (strpbrk(token, ".eE") == NULL)
        hw_buf_printf(&written, "%lld", strtoll(token, NULL, 10));
    else
        add_real(&written, strtod(token, NULL));
    same = strcmp(hw_buf_str(&written), token) == 0;
    hw_buf_free(&written);
    return !same;
}

/* The end of the string that begins at p; *has_nul: it spells a NUL. */
static const char *after_string(const char *p, const char *end, bool *has_nul)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && end - p > 5 && memcmp(p, "\\u0000", 6) == 0)
            *has_nul = true;
        p += *p == '\\';
    }
    return p < end ? p + 1 : end;
}

/* Writes the text with marks around the numbers that are to be kept; at: where these stand now.
 * False where the text spells a NUL, which jansson is to refuse. */
static bool mark(struct hw_buf *out, struct hw_buf *at, const char *text, size_t len)
{
    const char *const end = text + len;
    bool has_nul = false;

    while (text < end) {
        const char *from = text;

        if (*text == '"') {
            text = after_string(text, end, &has_nul);
        } else if (*text == '-' || (*text >= '0' && *text <= '9')) {
            while (text < end && *text != '\0' && strchr("0123456789+-.eE", *text) != NULL)
                text++;
            HW_AUTO_FREE char *token = hw_strndup(from, (size_t)(text - from));

            if (is_number(token) && changes(token)) {
                hw_buf_add(at, &out->len, sizeof(out->len));
                hw_buf_printf(out, MARK "%s\"", token);
                continue;
            }
        } else {
            text++;
        }
        hw_buf_add(out, from, (size_t)(text - from));
    }
    return !has_nul;
}

/* Makes positions in the marked text those in the text itself. */
static void put_back(json_error_t *problem, const struct hw_buf *marked, const struct hw_buf *at)
{
    const size_t position = (size_t)problem->position, count = at->len / sizeof(size_t);

    for (size_t i = 0; i < count; i++) {
        size_t place;

        memcpy(&place, at->data + i * sizeof(place), sizeof(place));
        if (place >= position)
            break;
        problem->position -= GROWTH;
        if (memchr(marked->data + place, '\n', position - place) == NULL)
            problem->column -= GROWTH;
    }
}

json_t *hw_json_load(const char *text, size_t len, size_t flags, json_error_t *problem)
{
    struct hw_buf marked = {0}, at = {0};
    json_error_t own;
    json_t *value;

    if (problem == NULL)
        problem = &own;
    if (mark(&marked, &at, text, len) && at.len > 0) {
        value = json_loadb(marked.data, marked.len, flags | JSON_ALLOW_NUL, problem);
        put_back(problem, &marked, &at);
    } else {
        value = json_loadb(text, len, flags, problem);
    }
    hw_buf_free(&marked);
    hw_buf_free(&at);
    return value;
}

/* ---- numbers as decimals ---- */

/* digits times ten to the power of exponent; no zero at either end of the digits, none for 0. */
struct decimal {
    bool negative;
    char *digits;
    long long exponent;
};

/* What is beyond a billion stands for all of that: nobody holds such a number. */
static long long exponent_of(const char *text)
{
    const long long most = 1000000000, exponent = strtoll(text, NULL, 10);

    return exponent > most ? most : exponent < -most ? -most : exponent;
}

static struct decimal decimal_of(const json_t *number)
{
    HW_AUTO_FREE char *text = hw_json_text(number, false);
    struct decimal d = {.negative = *text == '-'};
    struct hw_buf digits = {0};
    bool in_fraction = false;
    const char *p = text + d.negative;

    hw_buf_puts(&digits, "");
    for (; *p != '\0' && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            in_fraction = true;
            continue;
        }
        d.exponent -= in_fraction;
        if (digits.len > 0 || *p != '0')
            hw_buf_putc(&digits, *p);
    }
    if (*p != '\0')
        d.exponent += exponent_of(p + 1);
    for (; digits.len > 0 && digits.data[digits.len - 1] == '0'; d.exponent++)
        digits.data[--digits.len] = '\0';
    d.digits = digits.data;
    if (digits.len == 0) {
        d.negative = false;
        d.exponent = 0;
    }
    return d;
}

bool hw_json_same_number(const json_t *a, const json_t *b)
{
    struct decimal one = decimal_of(a), other = decimal_of(b);
    const bool same = one.negative == other.negative && one.exponent == other.exponent &&
                      strcmp(one.digits, other.digits) == 0;

    free(one.digits);
    free(other.digits);
    return same;
}

char *hw_json_integer(const json_t *number)
{
    struct decimal d = decimal_of(number);
    char *text = NULL;

    if (d.exponent >= 0 && d.exponent < 19)
        text = hw_sprintf("%s%s%.*s", d.negative ? "-" : "", *d.digits != '\0' ? d.digits : "0",
                          (int)d.exponent, "000000000000000000");
    free(d.digits);
    errno = 0;
    if (text != NULL) {
        (void)strtoll(text, NULL, 10);
        if (errno != 0)
            free(HW_TAKE(text));
    }
    return text;
}

bool hw_json_number_fits(const json_t *number)
{
    HW_AUTO_FREE char *text = hw_json_text(number, false);
    const char *p = text + strspn(text, "-0"), *mark = strpbrk(text, "eE");
    const long long exponent = mark != NULL ? exponent_of(mark + 1) : 0;
    const size_t before = strspn(p, "0123456789");
    long long behind = 0, noughts = 0; /* digits behind the point, and noughts that begin them */

    if (p[before] == '.') {
        behind = (long long)strspn(p + before + 1, "0123456789");
        noughts = before > 0 ? 0 : (long long)strspn(p + 1, "0");
    }
    const bool is_nought = before == 0 && noughts == behind;

    return (is_nought || (long long)before - noughts + exponent <= WHOLE_MOST) &&
           behind - exponent <= FRACTION_MOST;
}
