#include "base/json.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/json_text.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$';
}

const char *hw_json_hint(const char *text, size_t len, const json_error_t *problem)
{
    size_t end = problem->position > 0 ? (size_t)problem->position : 0;
    size_t start, before;

    while (len > 0 && is_blank(text[len - 1]))
        len--;
    if (len == 0)
        return "; it is empty";
    if (end == 0 || end > len || strstr(problem->text, "end of file") != NULL)
        return "";
    if (end >= 3 && strncmp(text + end - 3, "\xE2\x80", 2) == 0)
        return "; strings have straight double quotes";
    /* Where the parser stopped: the word, or the single character, and the text before it. */
    start = end - 1;
    while (start > 0 && is_word(text[end - 1]) && is_word(text[start - 1]))
        start--;
    before = start;
    while (before > 0 && is_blank(text[before - 1]))
        before--;
    const char c = text[start], last = before > 0 ? text[before - 1] : '\0';
    if ((c == '}' || c == ']') && last == ',')
        return "; the comma before it is one too many";
    if (c == '\'')
        return "; strings have double quotes";
    if (c == '#' || c == '/')
        return "; JSON has no comments";
    if (is_word(c) && !isdigit((unsigned char)c) && (last == '{' || last == ','))
        return "; names are in double quotes";
    if (is_word(c) && !isdigit((unsigned char)c) && strstr(problem->text, "token") != NULL)
        return "; strings are in double quotes, and there are true, false and null";
    if (strncmp(problem->text, "'}' expected", 12) == 0 ||
        strncmp(problem->text, "']' expected", 12) == 0)
        return "; is a comma missing before it?";
    return "";
}

typedef json_t *load_fn(const char *text, size_t len, size_t flags, json_error_t *problem);

static enum hw_status parse_object(load_fn *load, const char *text, size_t len, json_t **object,
                                   struct hw_error *err)
{
    json_error_t problem;
    json_t *value = load(text, len, JSON_REJECT_DUPLICATES, &problem);

    if (value == NULL)
        return hw_fail(err, HW_EINVAL, "not valid JSON at line %d, column %d: %s%s", problem.line,
                       problem.column, problem.text, hw_json_hint(text, len, &problem));
    if (!json_is_object(value)) {
        json_decref(value);
        return hw_fail(err, HW_EINVAL, "not a JSON object");
    }
    *object = value;
    return HW_OK;
}

enum hw_status hw_json_parse_object(const char *text, size_t len, json_t **object,
                                    struct hw_error *err)
{
    return parse_object(json_loadb, text, len, object, err);
}

enum hw_status hw_json_parse_exact(const char *text, size_t len, json_t **object,
                                   struct hw_error *err)
{
    return parse_object(hw_json_load, text, len, object, err);
}

enum hw_status hw_json_unpack(json_t *object, struct hw_error *err, const char *fmt, ...)
{
    json_error_t problem;
    va_list args;
    int rc;

    va_start(args, fmt);
    rc = json_vunpack_ex(object, &problem, 0, fmt, args);
    va_end(args);
    if (rc != 0)
        return hw_fail(err, HW_EINVAL, "%s", problem.text);
    return HW_OK;
}

char *hw_json_dump(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}
