#include "tests/support/draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/openapi.h"

#define ANY(chance, list) (list)[chance_below(chance, (int)HW_COUNT(list))]

enum { REPEATS = 5, DEPTH_MAX = 4 };

/* ---- texts that match a pattern: of ECMA-262 what the description uses ---- */

static const char *add_alternative(struct chance *chance, struct hw_buf *out, const char *at);

static const char *after_class(const char *at)
{
    for (at++; *at != ']'; at++)
        at += *at == '\\';
    return at + 1;
}

static const char *after_atom(const char *at)
{
    int depth = 0;

    if (*at == '\\')
        return at + (at[1] == 'x' ? 4 : 2);
    if (*at == '[')
        return after_class(at);
    if (*at != '(')
        return at + 1;
    do {
        depth += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        at = *at == '(' || *at == ')' || *at == '|' ? at + 1 : after_atom(at);
    } while (depth > 0);
    return at;
}

/* The character at *at, written as itself or as an escape. */
static unsigned take_character(const char **at)
{
    const char *p = *at;

    *at = after_atom(p);
    if (*p != '\\')
        return (unsigned char)*p;
    if (p[1] == 'x') {
        const char digits[] = {p[2], p[3], '\0'};

        return (unsigned)strtoul(digits, NULL, 16);
    }
    return p[1] == 't' ? '\t' : (unsigned char)p[1];
}

static void add_character(struct hw_buf *out, unsigned c)
{
    if (c < 0x80) {
        hw_buf_putc(out, (char)c);
        return;
    }
    hw_buf_putc(out, (char)(0xc0 | c >> 6));
    hw_buf_putc(out, (char)(0x80 | (c & 0x3f)));
}

static void add_of_class(struct chance *chance, struct hw_buf *out, const char *at)
{
    const bool inverted = at[1] == '^';
    bool in[256] = {false};
    unsigned c;

    for (at += inverted ? 2 : 1; *at != ']';) {
        const unsigned low = take_character(&at);
        unsigned high = low;

        if (at[0] == '-' && at[1] != ']') {
            at++;
            high = take_character(&at);
        }
        for (c = low; c <= high; c++)
            in[c] = true;
    }
    do
        c = (unsigned)chance_between(chance, inverted ? ' ' : 1, inverted ? '~' : 255);
    while (in[c] == inverted);
    add_character(out, c);
}

static void add_atom(struct chance *chance, struct hw_buf *out, const char *at)
{
    if (*at == '(')
        add_alternative(chance, out, at + 1);
    else if (*at == '[')
        add_of_class(chance, out, at);
    else if (*at == '\\' && at[1] == 'd')
        add_character(out, (unsigned)chance_between(chance, '0', '9'));
    else if (*at != '^' && *at != '$')
        add_character(out, take_character(&at));
}

/* The bounds of the quantifier at *at, which may be none. */
static void take_bounds(const char **at, int *least, int *most)
{
    char *end;

    *least = **at == '*' || **at == '?' ? 0 : 1;
    *most = **at == '*' || **at == '+' ? *least + REPEATS : 1;
    if (**at == '{') {
        *least = (int)strtol(*at + 1, &end, 10);
        *most = *end != ','     ? *least
                : end[1] == '}' ? *least + REPEATS
                                : (int)strtol(end + 1, &end, 10);
        *at = strchr(*at, '}');
    }
    if (**at != '\0' && strchr("*+?}", **at) != NULL)
        ++*at;
}

static const char *add_sequence(struct chance *chance, struct hw_buf *out, const char *at)
{
    while (*at != '\0' && *at != '|' && *at != ')') {
        const char *atom = at;
        int least, most;

        at = after_atom(at);
        take_bounds(&at, &least, &most);
        if (most > least + REPEATS)
            most = least + REPEATS;
        for (int n = chance_between(chance, least, most); n > 0; n--)
            add_atom(chance, out, atom);
    }
    return at;
}

/* One of the alternatives that begin at at, and end with the pattern or the group. */
static const char *add_alternative(struct chance *chance, struct hw_buf *out, const char *at)
{
    const char *starts[16];
    int count = 0;

    starts[count++] = at;
    while (*at != '\0' && *at != ')') {
        if (*at == '|' && count < (int)HW_COUNT(starts))
            starts[count++] = at + 1;
        at = *at == '|' ? at + 1 : after_atom(at);
    }
    add_sequence(chance, out, starts[chance_below(chance, count)]);
    return at;
}

/* ---- values ---- */

static const char *const names[] = {"example", "unused", "checked", "idle", "failing",
                                    "absent",  "a.b",    "1",       "2"};

static json_t *draw(struct chance *chance, json_t *schema, int depth);

static json_t *draw_string(struct chance *chance, const json_t *schema)
{
    static const char *const texts[] = {
        "x",       "text", "\xc3\xa9",   "application/json",     "aGVsbG8=",
        "30d",     "name", "site=north", "{\"site\":\"north\"}", "{\"a\": 1e2}",
        "example", "true"};
    const char *pattern = test_openapi_text(schema, "pattern");
    const char *format = test_openapi_text(schema, "format");
    struct hw_buf text = {0};
    json_t *string;

    if (pattern == NULL)
        return json_string(format != NULL && strcmp(format, "date-time") == 0
                               ? "2026-01-31T12:00:00Z"
                               : ANY(chance, texts));
    add_alternative(chance, &text, pattern);
    string = json_string(hw_buf_str(&text));
    hw_buf_free(&text);
    return string;
}

static json_t *draw_integer(struct chance *chance, const json_t *schema)
{
    const json_t *minimum = json_object_get(schema, "minimum");
    const json_t *maximum = json_object_get(schema, "maximum");
    const json_int_t low = minimum != NULL ? json_integer_value(minimum) : -5;
    const json_int_t high = maximum != NULL ? json_integer_value(maximum) : 2147483647;

    return json_integer(chance_in(chance, 5) ? high : low + chance_below(chance, 4));
}

static json_t *draw_object(struct chance *chance, const json_t *schema, int depth)
{
    const json_t *additional = json_object_get(schema, "additionalProperties"), *name;
    json_t *object = json_object(), *properties = json_object_get(schema, "properties"), *member;
    const char *key;
    size_t i;

    json_array_foreach(json_object_get(schema, "required"), i, name) {
        key = json_string_value(name);
        json_object_set_new(object, key, draw(chance, json_object_get(properties, key), depth + 1));
    }
    json_object_foreach(properties, key, member) {
        if (json_object_get(object, key) == NULL && chance_in(chance, 2))
            json_object_set_new(object, key, draw(chance, member, depth + 1));
    }
    if (json_is_true(additional) && !chance_in(chance, 4))
        json_object_set_new(object, "site", json_string("north"));
    if (json_is_true(additional) && chance_in(chance, 3))
        json_object_set_new(object, "slot", json_pack("{s:[i,f]}", "a", 3, 0.1));
    return object;
}

static json_t *draw_anything(struct chance *chance)
{
    switch (chance_below(chance, 6)) {
    case 0:
        return json_integer(1);
    case 1:
        return json_string("x");
    case 2:
        return json_null();
    case 3:
        return json_pack("[i,n]", 1);
    default:
        return json_pack("{s:i,s:{s:i}}", "rate_hz", chance_below(chance, 9), "a", "b", 2);
    }
}

static json_t *draw(struct chance *chance, json_t *given, int depth)
{
    const char *ref = test_openapi_text(given, "$ref"), *type;
    json_t *schema = test_openapi_resolve(given), *list;
    const json_t *kinds;

    if (ref != NULL && strcmp(strrchr(ref, '/'), "/Name") == 0 && !chance_in(chance, 4))
        return json_string(ANY(chance, names));
    if ((list = json_object_get(schema, "enum")) != NULL)
        return json_incref(
            json_array_get(list, (size_t)chance_below(chance, (int)json_array_size(list))));
    if ((list = json_object_get(schema, "oneOf")) != NULL)
        return draw(chance,
                    json_array_get(list, (size_t)chance_below(chance, (int)json_array_size(list))),
                    depth);
    if ((list = json_object_get(schema, "allOf")) != NULL)
        return draw(chance, json_array_get(list, 0), depth);
    kinds = json_object_get(schema, "type");
    if (json_is_array(kinds))
        kinds = json_array_get(kinds, (size_t)chance_below(chance, (int)json_array_size(kinds)));
    type = json_string_value(kinds);
    if (type == NULL)
        return draw_anything(chance);
    if (strcmp(type, "string") == 0)
        return draw_string(chance, schema);
    if (strcmp(type, "integer") == 0)
        return draw_integer(chance, schema);
    if (strcmp(type, "number") == 0)
        return json_real(chance_below(chance, 100) / 8.0);
    if (strcmp(type, "boolean") == 0)
        return json_boolean(chance_in(chance, 2));
    if (strcmp(type, "object") == 0)
        return draw_object(chance, schema, depth);
    if (strcmp(type, "null") == 0)
        return json_null();
    list = json_array();
    for (int n = depth < DEPTH_MAX ? chance_below(chance, 4) : 0; n > 0; n--)
        json_array_append_new(list, draw(chance, json_object_get(schema, "items"), depth + 1));
    return list;
}

json_t *draw_value(struct chance *chance, json_t *schema)
{
    return draw(chance, schema, 0);
}

/* ---- what does not fit ---- */

/* Within a value, a number as text: the description's strings never begin so. */
#define RAW "\x01"

static const char *const hostile_numbers[] = {
    RAW "1e400",
    RAW "-1e400",
    RAW "1e-400",
    RAW "9007199254740993.0",
    RAW "1.0",
    RAW "-0",
    RAW "0.1000000000000000055511151231257827",
    RAW "99999999999999999999",
    RAW "1e1000000",
    RAW "-9223372036854775809",
};

const char *draw_hostile_text(struct chance *chance)
{
    static const char *const texts[] = {
        "",
        "%",
        "'; DROP TABLE x; --",
        "../..",
        "{}",
        "[]",
        "-1",
        "0",
        "1.0",
        "1e400",
        "99999999999999999999",
        "18446744073709551616",
        "null",
        "true",
        "\xe2\x80\xae",
        "\xf0\x9f\x92\xa5",
        "\r\nX: y",
        " ",
        "\t",
        "*",
        "\"",
        "W/\"1\"",
        "\"1\", *",
        "0/0",
        "FFFFFFFF/FFFFFFFF",
        "infinity",
        "2026-02-30T00:00:00Z",
        "{\"a\":1e400}",
        "\x7f",
        "\\u0000",
        "/~2",
        "99999999999999999-1",
    };
    static char longest[4096];

    if (*longest == '\0')
        memset(longest, 'a', sizeof(longest) - 1);
    return chance_in(chance, 12) ? longest : ANY(chance, texts);
}

static json_t *draw_hostile(struct chance *chance)
{
    switch (chance_below(chance, 9)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(chance_in(chance, 2));
    case 2:
        return json_real(1.5);
    case 3:
        return json_integer(-1);
    case 4:
        return json_pack("[n]");
    case 5:
        return json_pack("{s:n}", "a");
    case 6:
    case 7:
        return json_string(ANY(chance, hostile_numbers));
    default: {
        json_t *string = json_string(draw_hostile_text(chance));

        return string != NULL ? string : json_string("");
    }
    }
}

static json_t *spoil_member(struct chance *chance, json_t *object)
{
    static const char *const strange[] = {"unknown", "__proto__", "name", "", "kind"};
    int chosen = chance_below(chance, (int)json_object_size(object) + 1);
    const char *key;
    json_t *member;

    json_object_foreach(object, key, member) {
        if (chosen-- == 0)
            break;
    }
    if (key == NULL)
        key = ANY(chance, strange);
    HW_AUTO_FREE char *name = hw_strdup(key);
    json_t *old = json_incref(json_object_get(object, name));

    if (old != NULL && chance_in(chance, 4)) {
        json_object_del(object, name);
        json_decref(old);
    } else if (old != NULL && !chance_in(chance, 3)) {
        json_object_del(object, name);
        json_object_set_new(object, name, draw_spoilt(chance, old));
    } else {
        json_decref(old);
        json_object_set_new(object, name, draw_hostile(chance));
    }
    return object;
}

json_t *draw_spoilt(struct chance *chance, json_t *value)
{
    if (json_is_object(value) && !chance_in(chance, 6))
        return spoil_member(chance, value);
    if (json_array_size(value) > 0 && !chance_in(chance, 6)) {
        const size_t at = (size_t)chance_below(chance, (int)json_array_size(value));
        json_t *item = json_deep_copy(json_array_get(value, at));

        json_array_set_new(value, at, draw_spoilt(chance, item));
        return value;
    }
    json_decref(value);
    return draw_hostile(chance);
}

char *draw_dump(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), *from = text, *to = text;

    if (text == NULL)
        return hw_strdup("");
    while (*from != '\0') { /* "\u0001…" loses its quotes and its mark */
        if (strncmp(from, "\"\\u0001", 7) == 0) {
            for (from += 7; *from != '"'; from++)
                *to++ = *from;
            from++;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return text;
}

char *draw_text(struct chance *chance, json_t *schema)
{
    json_t *value = draw_value(chance, schema);
    char *text = json_is_string(value) ? hw_strdup(json_string_value(value)) : draw_dump(value);

    json_decref(value);
    return text;
}
